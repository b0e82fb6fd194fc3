//! From an order's arrival at the node to the start of its container, beside the same pod by the runtime's bare calls.

use super::{NAMESPACE, discard, manifest, node, percentile};
use crate::measure::Beside;
use crate::raw_cri::{Cri, with_raw_network};
use crate::{Fleet, Report, image};
use anyhow::{Context, Result, ensure};
use berth_lab::Guest;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The highest time over that of the bare calls: what the agent adds.
const BUDGET: f64 = 1.10;
/// Pods of each kind in a block; one more before it counts for nothing.
const BLOCK: u32 = 6;
/// Which kind after which: what a guest slows down by meanwhile is in both.
const BLOCKS: [Kind; 4] = [Kind::Raw, Kind::Berth, Kind::Berth, Kind::Raw];
/// Where the program for bare calls is on the node.
const RAW_POD: &str = "/usr/local/bin/berth-raw-pod";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Berth,
}

/// Runs the bench.
///
/// # Errors
/// When a pod does not start.
pub fn start(lab: &str) -> Result<Report> {
    let fleet = node(lab)?;
    let guest = fleet.lab().guest(0);
    let program = raw_pod_program()?;
    let program = std::fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    guest.put_file(RAW_POD, &program)?;
    guest.run_ok(&format!("chmod 755 {RAW_POD}"))?;
    let (mut raw, mut berth) = (Vec::new(), Vec::new());
    for kind in BLOCKS {
        let (all, times) = match kind {
            Kind::Raw => (&mut raw, raw_block(&guest)?),
            Kind::Berth => (&mut berth, berth_block(&fleet, &guest)?),
        };
        println!("bench: {kind:?} {times:.3?} s");
        // The first of a block finds everything cold.
        all.extend_from_slice(&times[1..]);
    }
    let mut report = Report::default();
    let floor = percentile(&raw, 50);
    report.compare(
        "start p50; floor: bare CRI calls",
        percentile(&berth, 50),
        "s",
        Beside { floor, budget: BUDGET },
    );
    report.add("start, longest", percentile(&berth, 100), "s");
    report.add("bare CRI calls, longest", percentile(&raw, 100), "s");
    Ok(report)
}

/// Optimized, as the agent is.
fn raw_pod_program() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace")?;
    let path = workspace.join("target/e2e/berth-raw-pod");
    ensure!(path.exists(), "{} is missing: `cargo xtask bench start` makes it", path.display());
    Ok(path)
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// The agent is away meanwhile: it would look at what it hears of.
fn raw_block(guest: &Guest) -> Result<Vec<f64>> {
    guest.run_ok("systemctl stop berthd")?;
    let times = with_raw_network(guest, || raw_times(guest));
    guest.run_ok("systemctl start berthd")?;
    times
}

fn raw_times(guest: &Guest) -> Result<Vec<f64>> {
    let said = guest.run_ok(&format!("{RAW_POD} {} {}", image("busybox"), BLOCK + 1))?;
    let time = |line: &str| line.parse().map(seconds).with_context(|| format!("{line:?} is no time"));
    said.lines().map(time).collect()
}

fn berth_block(fleet: &Fleet, guest: &Guest) -> Result<Vec<f64>> {
    // As the runtime is in the other kind of block.
    guest.run_ok("systemctl restart containerd")?;
    fleet.wait_ready(guest)?;
    let mut cri = Cri::connect(guest)?;
    (0..=BLOCK)
        .map(|number| {
            let name = format!("start-{number}");
            fleet.apply(&manifest(&name, ""), &["--wait"])?;
            let id = format!("{NAMESPACE}/{name}");
            let started = cri.running()?.into_iter().find(|container| container.pod == id);
            let started = started.with_context(|| format!("{id} does not run"))?.started_at_ns;
            let arrived = arrival_ns(fleet, guest, &id)?;
            ensure!(started > arrived, "{id} started before its order came");
            discard(fleet, &name)?;
            Ok(seconds(started - arrived))
        })
        .collect()
}

/// When the Run of a pod came, by the node's clock: the agent says when it has admitted it, and how long that took.
fn arrival_ns(fleet: &Fleet, guest: &Guest, pod: &str) -> Result<i64> {
    let records = fleet.berth_json(&["orders", "--pod", pod])?;
    let ids = records.as_array().into_iter().flatten().filter_map(|record| record["order"]["id"].as_str());
    let order = ids.max().with_context(|| format!("{pod} was never ordered to run"))?;
    let said = guest.run_ok(&format!("journalctl -u berthd -o json F_ORDER={order} --no-pager"))?;
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["F_ADMITTED_IN_US"].is_string());
    let line = line.with_context(|| format!("the journal knows nothing of order {order}"))?;
    let number = |key: &str| line[key].as_str().and_then(|text| text.parse::<i64>().ok());
    // When it was said, and not when the journal came to it.
    let times = number("_SOURCE_REALTIME_TIMESTAMP").zip(number("F_ADMITTED_IN_US"));
    let (at, took) = times.with_context(|| format!("no times in {line}"))?;
    Ok((at - took) * 1_000)
}
