//! Whether pods get a network: the list that containerd takes, and the plugins that it names.

use super::{CNI_LISTS, Check, Finding, Mend};
use crate::network::{IPAM, first_list, plugins};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What containerd itself brings up in each sandbox.
const LOOPBACK: &str = "loopback";

/// The network list in `lists`, and its plugins in one of the `folders`.
pub(super) fn network(lists: &Path, folders: &[PathBuf]) -> Vec<Finding> {
    let remedy = "install a network list whose ipam is berth-ipam; the package brings 10-berth.conflist";
    let wrong = |found: String| vec![Finding::error(Check::CniConfiguration, found, remedy)];
    let first = match first_list(lists) {
        Ok(Some(path)) => path,
        Ok(None) => return vec![no_list(lists, remedy)],
        Err(error) => return wrong(format!("read {}: {error}", lists.display())),
    };
    let named = match std::fs::read(&first).and_then(|text| Ok(named(&serde_json::from_slice(&text)?))) {
        Ok(named) => named,
        Err(error) => return wrong(format!("read {}: {error}", first.display())),
    };
    if !named.contains(IPAM) {
        return wrong(format!("{} comes first and does not name {IPAM}", first.display()));
    }
    vec![Finding::ok(Check::CniConfiguration, first.display().to_string()), installed(&named, folders)]
}

/// Another one than ours is somebody's will; where there is none, and nobody moved the folder, ours is missing.
fn no_list(lists: &Path, remedy: &str) -> Finding {
    let found = format!("{} holds no network list", lists.display());
    let finding = Finding::error(Check::CniConfiguration, found, remedy);
    match lists == Path::new(CNI_LISTS) {
        true => finding.mended_by(Mend::InstallNetworkList),
        false => finding,
    }
}

/// The programs that a list, or a single network, has run.
fn named(list: &Value) -> BTreeSet<String> {
    let plugins = plugins(list);
    let types = plugins.iter().flat_map(|plugin| [&plugin["type"], &plugin["ipam"]["type"]]);
    types.filter_map(Value::as_str).chain([LOOPBACK]).map(str::to_owned).collect()
}

fn installed(named: &BTreeSet<String>, folders: &[PathBuf]) -> Finding {
    let is_there = |name: &&String| folders.iter().any(|folder| folder.join(name.as_str()).exists());
    let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let (names, folders) = (named.iter().map(String::as_str).collect::<Vec<_>>(), folders.join(", "));
    match missing.is_empty() {
        true => Finding::ok(Check::CniPlugins, format!("{} in {folders}", names.join(", "))),
        false => Finding::error(
            Check::CniPlugins,
            format!("{folders} has no {}", missing.join(", ")),
            "install the packages containernetworking-plugins and berth-node, or have containerd look where they are \
             (cni.bin_dir in /etc/containerd/config.toml, bin_dirs from containerd 2.1 on)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::Level;

    /// What is found with these lists and plugins: how bad the worst is, and a part of what it says.
    fn check(lists: &[(&str, &str)], plugins: &[&str], expected: (Level, &str)) {
        let (conf, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        lists.iter().for_each(|(name, text)| std::fs::write(conf.path().join(name), text).unwrap());
        plugins.iter().for_each(|name| std::fs::write(bin.path().join(name), "").unwrap());
        let folders = [PathBuf::from("/does/not/exist"), bin.path().to_owned()];
        let findings = network(conf.path(), &folders);
        let worst = findings.iter().max_by_key(|finding| finding.level).unwrap();
        assert_eq!(worst.level, expected.0, "{worst:?}");
        assert!(worst.found.contains(expected.1), "{worst:?} does not say {:?}", expected.1);
        assert_eq!(worst.remedy.is_empty(), worst.level == Level::Ok);
    }

    #[test]
    fn the_first_list_counts_and_names_its_plugins() {
        let ours = r#"{"plugins":[{"type":"macvlan","ipam":{"type":"berth-ipam"}},{"type":"tuning"}]}"#;
        let all = ["berth-ipam", "loopback", "macvlan", "tuning"];
        check(&[], &all, (Level::Error, "no network list"));
        check(&[("10-berth.conflist", ours)], &all, (Level::Ok, ""));
        check(&[("10-berth.conflist", ours)], &all[..3], (Level::Error, "has no tuning"));
        check(&[("10-berth.conflist", ours)], &all[2..], (Level::Error, "has no berth-ipam, loopback"));
        check(
            &[("10-berth.conflist", ours), ("05-other.conf", "{}")],
            &all,
            (Level::Error, "05-other.conf comes first"),
        );
        check(&[("10-berth.conflist", "{")], &all, (Level::Error, "10-berth.conflist: EOF"));
        let single = r#"{"type":"bridge","ipam":{"type":"berth-ipam"}}"#;
        check(&[("10-berth.conf", single)], &all, (Level::Error, "has no bridge"));
    }
}
