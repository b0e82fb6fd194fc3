//! The reboot drill: a host goes off in good order and comes back with another kernel, while control plane and registry
//! are away. Every pod returns as it was.

use super::pods::{DrillPod, manifest, pods};
use super::{databases, sight};
use crate::measure::{Beside, Report};
use crate::raw_cri::{Cri, with_raw_network};
use crate::{Fleet, FleetSpec};
use anyhow::{Context, Result, ensure};
use berth_lab::{Guest, Kernel, Machine, Suite, wait_until};
use std::time::Duration;

/// From the boot until all pods are back.
const RETURN_LIMIT: Duration = Duration::from_secs(900);
/// From the wish to evict all pods until they are gone.
const EVICT_LIMIT: Duration = Duration::from_secs(600);
/// Recovery does more than the bare calls: it stops what was left of the old sandboxes, hands the disks on, removes
/// what held them, and looks at everything in between. So much longer than the bare calls alone it may take.
const BUDGET: f64 = 2.0;

/// Which drill.
#[derive(Debug, Clone)]
pub struct RebootSpec {
    /// The lab's name.
    pub lab: String,
    /// How many pods, at least 2.
    pub pods: usize,
}

/// Runs the drill.
///
/// # Errors
/// When it cannot be carried through; what the pods came to is in the report.
pub fn reboot(spec: &RebootSpec) -> Result<Report> {
    ensure!(spec.pods >= 2, "the drill has at least 2 pods, not {}", spec.pods);
    let fleet = Fleet::up(&FleetSpec { name: spec.lab.clone(), guests: 1, joined: 1, suite: Suite::Trixie })?;
    let (guest, kernel) = (fleet.lab().guest(0), fleet.kernel(0));
    let pods = pods(spec.pods);
    println!("drill: run {} pods", pods.len());
    fleet.apply(&manifest(&pods), &["--wait", "--timeout", "15m"])?;
    let mut cri = Cri::connect(&guest)?;
    databases::tell_redis(&kernel)?;
    sight::mark(&guest, &mut cri)?;
    let before = sight::look(&guest, &mut cri)?;
    ensure!(before.len() == pods.len(), "{} pods run, {} were ordered", before.len(), pods.len());
    let release = guest.run_ok("uname -r")?;

    println!("drill: control plane and registry away; off and on again with the other kernel");
    fleet.stop_control()?;
    fleet.lab().stop("registry")?;
    let writer = databases::Writer::start(&kernel, fleet.lab().directory().join("rows.log"))?;
    guest.power_off()?;
    let acknowledged = writer.finish()?;
    guest.boot(&Machine { kernel: Kernel::Oldest, ..Machine::default() })?;
    let other = guest.run_ok("uname -r")?;
    ensure!(other != release, "the host came back with the same kernel, {}", other.trim());
    println!("drill: kernel {} → {}", release.trim(), other.trim());

    let mut cri = Cri::connect(&guest)?;
    let mut report = Report::default();
    let returned = wait_until("all pods to be back", RETURN_LIMIT, || {
        Ok(cri.count_running().filter(|count| *count >= pods.len()))
    });
    if let Err(error) = returned {
        report.faults.push(format!("{error:#}"));
    }
    println!("drill: look at what came back");
    report.faults.extend(sight::differences(&before, &sight::look(&guest, &mut cri)?));
    let rows = databases::rows(&kernel, acknowledged)?;
    if rows != acknowledged {
        report.faults.push(format!("postgresql has {rows} of {acknowledged} acknowledged rows"));
    }
    report.faults.extend(databases::redis_fault(&kernel)?);
    let times = recovery_times(&guest, &mut cri)?;
    let raw = raw_time(&fleet, &guest, &pods)?;
    fill(&mut report, &times, raw, rows, acknowledged);
    Ok(report)
}

fn fill(report: &mut Report, times: &[(String, f64)], raw: Duration, rows: u64, acknowledged: u64) {
    let total = times.iter().map(|(_, time)| *time).fold(0.0, f64::max);
    #[allow(clippy::cast_precision_loss)]
    let (count, rows, acknowledged) = (times.len() as f64, rows as f64, acknowledged as f64);
    for (pod, time) in times {
        report.add(format!("{pod}: from the agent's start to the container's"), *time, "s");
    }
    let raw = raw.as_secs_f64();
    report.compare("all pods back; floor: bare CRI calls", total, "s", Beside { floor: raw, budget: BUDGET });
    report.compare(
        "time per pod; floor: bare CRI calls",
        total / count,
        "s",
        Beside { floor: raw / count, budget: BUDGET },
    );
    report.compare(
        "rows there; floor: rows acknowledged",
        rows,
        "rows",
        Beside { floor: acknowledged, budget: 1.0 },
    );
}

/// Of each pod: from the start of the agent's process to that of the container, seconds.
fn recovery_times(guest: &Guest, cri: &mut Cri) -> Result<Vec<(String, f64)>> {
    let said = guest.run_ok(
        "systemctl show berthd --value -p ExecMainStartTimestampMonotonic; cut -d' ' -f1 /proc/uptime; date +%s.%N",
    )?;
    let numbers: Vec<f64> = said.lines().map_while(|line| line.trim().parse().ok()).collect();
    let [started_us, uptime, now] = numbers.as_slice() else {
        anyhow::bail!("the guest's clocks say {said:?}");
    };
    let agent_started = now - uptime + started_us / 1e6;
    #[allow(clippy::cast_precision_loss)]
    let since = |started_at_ns: i64| started_at_ns as f64 / 1e9 - agent_started;
    let mut times: Vec<_> =
        cri.running()?.into_iter().map(|container| (container.pod, since(container.started_at_ns))).collect();
    times.sort_by(|one, other| one.1.total_cmp(&other.1));
    Ok(times)
}

/// How long the same pods take by bare calls, in the same guest, once it has no others.
fn raw_time(fleet: &Fleet, guest: &Guest, pods: &[DrillPod]) -> Result<Duration> {
    println!("drill: the same pods by bare calls of the runtime");
    fleet.run_control()?;
    fleet.wait_ready(guest)?;
    for pod in pods {
        fleet.berth_ok(&["evict", &pod.id(), "--release", "--grace", "5s"])?;
    }
    let mut cri = Cri::connect(guest)?;
    wait_until("all pods to be evicted", EVICT_LIMIT, || {
        Ok(cri.count_running().filter(|count| *count == 0))
    })?;
    let raw: Vec<_> = pods.iter().map(DrillPod::raw).collect();
    with_raw_network(guest, || Cri::connect(guest)?.time_raw(&raw).context("time the bare calls"))
}
