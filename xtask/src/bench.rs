//! `cargo xtask bench`: figures beside a floor from the same run, as a table and in `target/bench`.

use crate::prereqs::{self, Need};
use crate::run::{cargo, succeed};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the plugin is compared with.
const REFERENCE: &[Need] = &[("dpkg-dev", "unpacks the reference plugin")];
/// How often each call is made.
const ROUNDS: &str = "300";

/// The CNI plugin beside host-local. Ends with an error when a median is above its budget.
pub(crate) fn cni(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    let reference = host_local(root)?;
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

/// As installed, or from the package, which is only unpacked.
fn host_local(root: &Path) -> Result<PathBuf> {
    let installed = PathBuf::from("/usr/lib/cni/host-local");
    if installed.exists() {
        return Ok(installed);
    }
    let folder = root.join("target/tools/containernetworking-plugins");
    let unpacked = folder.join("usr/lib/cni/host-local");
    if unpacked.exists() {
        return Ok(unpacked);
    }
    prereqs::ensure(REFERENCE)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    succeed(
        download.args(["download", "-q", "containernetworking-plugins"]).current_dir(&folder),
        "download",
    )?;
    let mut packages = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = packages.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.context("apt-get downloaded nothing")?;
    succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(&folder), "unpack the reference plugin")?;
    ensure!(unpacked.exists(), "the package has no {}", unpacked.display());
    Ok(unpacked)
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
