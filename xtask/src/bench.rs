//! `cargo xtask bench`: figures beside a floor from the same run, as a table and in `target/bench`.

use crate::prereqs;
use crate::reference::host_local;
use crate::run::{cargo, succeed};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// How often each call is made.
const ROUNDS: &str = "300";

/// The CNI plugin beside host-local. Ends with an error when a median is above its budget.
pub(crate) fn cni(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    let reference = host_local()?;
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--locked", "--release", "--package", "berth-cni"]);
    succeed(build.args(["--bin", "berth-ipam", "--example", "latency"]), "build the plugin and its bench")?;
    let release = root.join("target/release");
    let mut bench = Command::new(release.join("examples/latency"));
    let output = bench.arg(release.join("berth-ipam")).arg(reference).arg(ROUNDS).output();
    let output = output.context("run the bench")?;
    ensure!(output.status.success(), "the bench: {}", String::from_utf8_lossy(&output.stderr));
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).context("understand the bench")?;
    report(&figures, &root.join("target/bench"), "cni")
}

fn report(figures: &[Value], folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, format!("{:#}\n", Value::Array(figures.to_vec())))
        .with_context(|| format!("write {}", path.display()))?;
    println!("{:<16} {:>9} {:>9} {:>6} {:>6}", "METRIC", "VALUE", "FLOOR", "RATIO", "BUDGET");
    let number = |figure: &Value, key: &str| figure[key].as_f64().unwrap_or(f64::NAN);
    let mut above = Vec::new();
    for figure in figures {
        let (metric, unit) =
            (figure["metric"].as_str().unwrap_or("?"), figure["unit"].as_str().unwrap_or(""));
        let (ratio, budget) = (number(figure, "ratio"), number(figure, "budget"));
        println!(
            "{metric:<16} {:>6.2} {unit} {:>6.2} {unit} {ratio:>6.2} {budget:>6.2}",
            number(figure, "value"),
            number(figure, "floor")
        );
        // A 99th percentile of one run on a shared machine says more of the machine.
        if metric.ends_with("p50") && ratio > budget {
            above.push(metric);
        }
    }
    println!("written to {}", path.display());
    ensure!(above.is_empty(), "above budget: {}", above.join(", "));
    Ok(())
}
