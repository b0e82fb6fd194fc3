//! `cargo xtask bench`: figures beside a floor from the same run, as a table and in `target/bench`.

use crate::reference::host_local;
use crate::run::{cargo, program, succeed, target};
use crate::{e2e, lab, prereqs};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The lab that benches use; each has it for itself.
const LAB: &str = "bench";
/// How often each call is made.
const ROUNDS: &str = "300";

/// The CNI plugin beside host-local. Ends with an error when a median is above its budget.
pub(crate) fn cni(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    let reference = host_local()?;
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--locked", "--release", "--package", "berth-cni"]);
    succeed(build.args(["--bin", "berth-ipam", "--example", "latency"]), "build the plugin and its bench")?;
    let release = target(root).join("release");
    let mut bench = Command::new(release.join("examples/latency"));
    bench.arg(release.join("berth-ipam")).arg(reference).arg(ROUNDS);
    report(&figures(&mut bench)?, &root.join("target/bench"), "cni")
}

/// The agent with many pods. Ends with an error when a figure is above its budget.
pub(crate) fn adopt(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--locked", "--release", "--package", "berthd", "--features", "fake"]);
    succeed(build.args(["--example", "many_pods"]), "build the bench")?;
    let folder = root.join("target/bench/adopt");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    let mut bench = Command::new(target(root).join("release/examples/many_pods"));
    let figures = figures(bench.arg("--state").arg(&folder))?;
    report(&figures, &root.join("target/bench"), "adopt")
}

/// One of those that take a virtual host; takes it down whatever came of it.
pub(crate) fn in_a_host(root: &Path, what: &str) -> Result<()> {
    e2e::prepare(root)?;
    raw_pod(root)?;
    let down = || lab::run(root, &["--name".to_owned(), LAB.to_owned(), "down".to_owned()]);
    down()?;
    let mut bench = Command::new(program(root, "berth-bench")?);
    bench.current_dir(root).args(["--lab", LAB, "--out"]).arg(root.join("target/bench")).arg(what);
    let result = succeed(&mut bench, "bench");
    down().and(result)
}

/// The client of bare calls for the virtual host: optimized, since what it is compared with is; stripped, since it goes
/// over ssh.
fn raw_pod(root: &Path) -> Result<()> {
    let mut build = cargo(root);
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "berth-e2e",
        "--bin",
        "berth-raw-pod",
    ]);
    succeed(&mut build, "build the client of bare calls")?;
    let folder = root.join("target/e2e");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::copy(target(root).join("release/berth-raw-pod"), folder.join("berth-raw-pod"))
        .context("keep the client of bare calls")
        .map(drop)
}

/// What a bench prints.
fn figures(bench: &mut Command) -> Result<Vec<Value>> {
    let output = bench.output().context("run the bench")?;
    ensure!(output.status.success(), "the bench: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("understand the bench")
}

fn report(figures: &[Value], folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, format!("{:#}\n", Value::Array(figures.to_vec())))
        .with_context(|| format!("write {}", path.display()))?;
    println!("{:<28} {:>11} {:>11} {:>6} {:>6}", "METRIC", "VALUE", "FLOOR", "RATIO", "BUDGET");
    let number = |figure: &Value, key: &str| figure[key].as_f64().unwrap_or(f64::NAN);
    let mut above = Vec::new();
    for figure in figures {
        let (metric, unit) =
            (figure["metric"].as_str().unwrap_or("?"), figure["unit"].as_str().unwrap_or(""));
        let (ratio, budget) = (number(figure, "ratio"), number(figure, "budget"));
        println!(
            "{metric:<28} {:>11} {:>11} {ratio:>6.2} {budget:>6.2}",
            format!("{:.2} {unit}", number(figure, "value")),
            figure["floor"].as_f64().map_or_else(|| "-".to_owned(), |floor| format!("{floor:.2} {unit}"))
        );
        // A 99th percentile of one run on a shared machine says more of the machine.
        if !metric.ends_with("p99") && ratio > budget {
            above.push(metric);
        }
    }
    println!("written to {}", path.display());
    ensure!(above.is_empty(), "above budget: {}", above.join(", "));
    Ok(())
}
