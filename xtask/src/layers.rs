//! `cargo xtask layers`: what a crate may use, by its floor, checked over `cargo metadata`.

use crate::run::cargo;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Our crates and their floors: a crate uses only lower ones.
const FLOORS: [(&str, u8); 18] = [
    ("berth-model", 0),
    ("berth-plan", 1),
    ("berth-placement", 1),
    ("berth-proto", 1),
    ("berth-cgroup", 1),
    ("berth-numa", 1),
    ("berth-cni", 2),
    ("berth-tls", 2),
    ("berth-metrics", 2),
    ("berth-access", 2),
    ("berthd", 3),
    ("berth-control", 3),
    ("berth-cli", 3),
    ("berth-containerd-config", 3),
    ("berth-lab", 4),
    ("berth-fuzz", 4),
    ("berth-e2e", 5),
    ("xtask", 0),
];
/// The pure crates, and what must not be beneath them: no async runtime, no network, no system calls.
const PURE: [&str; 3] = ["berth-model", "berth-plan", "berth-placement"];
const IMPURE: [&str; 9] = ["tokio", "tonic", "nix", "rustix", "libc", "mio", "rusqlite", "serde", "tempfile"];
/// What only tests may use, as a dev-dependency.
const FOR_TESTS: &str = "berth-access";
/// The cases in virtual hosts know Berth by its wire only.
const E2E_MAY_USE: [&str; 3] = ["berth-model", "berth-proto", "berth-lab"];

/// What each crate depends on, dev-dependencies left out.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Checks the workspace.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut metadata = cargo(root);
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let output = metadata.output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).context("understand cargo metadata")?;
    let mut violations = homeless(&members(&metadata).context("understand cargo metadata's members")?);
    violations.extend(self::violations(&graph(&metadata).context("understand cargo metadata")?));
    ensure!(violations.is_empty(), "layers:\n  {}", violations.join("\n  "));
    println!("layers: {} crates keep to their floors", FLOORS.len());
    Ok(())
}

fn graph(metadata: &Value) -> Option<Graph> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()?
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array()? {
        let name = names.get(node["id"].as_str()?)?;
        let uses = graph.entry((*name).to_owned()).or_default();
        for dependency in node["deps"].as_array()? {
            let kinds = dependency["dep_kinds"].as_array()?;
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                uses.insert((*names.get(dependency["pkg"].as_str()?)?).to_owned());
            }
        }
    }
    Some(graph)
}

/// The names of the workspace's members.
fn members(metadata: &Value) -> Option<BTreeSet<String>> {
    let packages = metadata["packages"].as_array()?;
    let name = |id: &Value| {
        let package = packages.iter().find(|package| package["id"] == *id)?;
        package["name"].as_str().map(str::to_owned)
    };
    metadata["workspace_members"].as_array()?.iter().map(name).collect()
}

/// Members without a floor, which nothing else would check, and floors without a member.
fn homeless(members: &BTreeSet<String>) -> Vec<String> {
    let without = members.iter().filter(|name| floor(name).is_none());
    let gone = FLOORS.iter().filter(|(name, _)| !members.contains(*name));
    without
        .map(|name| format!("{name} is in the workspace and on no floor: add it to FLOORS"))
        .chain(gone.map(|(name, floor)| format!("{name} (floor {floor}) is not in the workspace")))
        .collect()
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, own) in FLOORS {
        for used in graph.get(name).into_iter().flatten() {
            if floor(used).is_some_and(|theirs| theirs >= own) {
                found.push(format!("{name} (floor {own}) uses {used}, which is not below it"));
            }
        }
    }
    for name in PURE {
        found.extend(
            IMPURE
                .iter()
                .filter_map(|bad| path(graph, name, bad))
                .map(|path| format!("{name} is pure: {path}")),
        );
    }
    for (name, uses) in graph {
        if uses.contains(FOR_TESTS) {
            found.push(format!("{name} uses {FOR_TESTS}, which is for tests alone"));
        }
    }
    for used in graph.get("berth-e2e").into_iter().flatten() {
        if floor(used).is_some() && !E2E_MAY_USE.contains(&used.as_str()) {
            found.push(format!("berth-e2e knows Berth by its wire only, and uses {used}"));
        }
    }
    found
}

/// The shortest way from one crate to another, as `a → b → c`.
fn path(graph: &Graph, from: &str, to: &str) -> Option<String> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut queue = VecDeque::from([vec![from.to_owned()]]);
    while let Some(way) = queue.pop_front() {
        let last = way.last()?;
        if last == to {
            return Some(way.join(" → "));
        }
        for next in graph.get(last).into_iter().flatten() {
            if seen.insert(next.clone()) {
                queue.push_back(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edges: &[(&str, &str)], expected: &[&str]) {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        assert_eq!(violations(&graph), expected);
    }

    #[test]
    fn floors() {
        check(&[("berthd", "berth-plan"), ("berth-plan", "berth-model"), ("berthd", "tokio")], &[]);
        check(
            &[("berth-plan", "berth-placement")],
            &["berth-plan (floor 1) uses berth-placement, which is not below it"],
        );
        check(
            &[("berth-model", "serde_json"), ("serde_json", "serde")],
            &["berth-model is pure: berth-model → serde_json → serde"],
        );
        check(&[("berth-e2e", "berthd")], &["berth-e2e knows Berth by its wire only, and uses berthd"]);
        check(&[("berthd", "berth-access")], &["berthd uses berth-access, which is for tests alone"]);
        check(&[("xtask", "berth-model")], &["xtask (floor 0) uses berth-model, which is not below it"]);
    }

    #[test]
    fn every_member_has_a_floor_and_every_floor_its_member() {
        let metadata = |extra: &str| {
            let names =
                FLOORS.iter().map(|(name, _)| *name).chain(Some(extra).filter(|name| !name.is_empty()));
            let packages: Vec<_> =
                names.map(|name| serde_json::json!({"id": format!("{name} 0.1.0"), "name": name})).collect();
            let ids: Vec<_> = packages.iter().map(|package| package["id"].clone()).collect();
            serde_json::json!({"packages": packages, "workspace_members": ids})
        };
        let check = |metadata: &Value, expected: &[&str]| {
            assert_eq!(homeless(&members(metadata).unwrap()), expected);
        };
        check(&metadata(""), &[]);
        check(&metadata("berth-new"), &["berth-new is in the workspace and on no floor: add it to FLOORS"]);
        let mut fewer = metadata("");
        fewer["workspace_members"].as_array_mut().unwrap().remove(0);
        check(&fewer, &["berth-model (floor 0) is not in the workspace"]);
        assert_eq!(members(&serde_json::json!({"packages": [], "workspace_members": ["x"]})), None);
    }

    #[test]
    fn dev_dependencies_do_not_count() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"}],
            "resolve": {"nodes": [
                {"id": "1", "deps": [
                    {"pkg": "2", "dep_kinds": [{"kind": null}]},
                    {"pkg": "3", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "2", "deps": []},
                {"id": "3", "deps": []},
            ]},
        });
        let graph = graph(&metadata).unwrap();
        assert_eq!(graph["a"], BTreeSet::from(["b".to_owned()]));
    }
}
