//! What the agent takes of a host that has pods: memory, and CPU time while nothing is ordered.

use super::{discard, manifest, node};
use crate::Report;
use crate::measure::Beside;
use anyhow::Result;
use berth_lab::Guest;

/// How many pods the host has, one after the other.
const PODS: [u32; 3] = [0, 10, 30];
/// The budget: 30 MiB, and 60 KiB for each pod.
const BASE_KIB: f64 = 30.0 * 1024.0;
const POD_KIB: f64 = 60.0;
/// For so long CPU time is counted: two rounds of looks at every pod.
const IDLE_S: u32 = 60;
/// From the last order to the beginning of that.
const SETTLE_S: u32 = 10;

/// What the agent's process has used.
struct Usage {
    pss_kib: f64,
    cpu_s: f64,
}

/// Runs the bench.
///
/// # Errors
/// When a pod does not start, or the kernel does not say.
pub fn footprint(lab: &str) -> Result<Report> {
    let fleet = node(lab)?;
    let guest = fleet.lab().guest(0);
    let (mut report, mut there, mut empty) = (Report::default(), 0, None);
    for pods in PODS {
        for number in there..pods {
            fleet.apply(&manifest(&format!("pod-{number}"), ""), &["--wait"])?;
        }
        there = pods;
        guest.run_ok(&format!("sleep {SETTLE_S}"))?;
        let before = usage(&guest)?;
        guest.run_ok(&format!("sleep {IDLE_S}"))?;
        let after = usage(&guest)?;
        let floor = *empty.get_or_insert(after.pss_kib);
        let budget = (BASE_KIB + POD_KIB * f64::from(pods)) / floor;
        report.compare(
            format!("memory with {pods} pods; floor: none"),
            after.pss_kib,
            "KiB",
            Beside { floor, budget },
        );
        let percent = (after.cpu_s - before.cpu_s) / f64::from(IDLE_S) * 100.0;
        report.add(format!("idle CPU with {pods} pods, of an emulated core"), percent, "%");
    }
    for number in 0..there {
        discard(&fleet, &format!("pod-{number}"))?;
    }
    Ok(report)
}

/// Proportional set size (proc_pid_smaps(5)) and CPU time (proc_pid_stat(5)) of the agent.
fn usage(guest: &Guest) -> Result<Usage> {
    let said = guest.run_ok(
        "pid=$(systemctl show berthd --value -p MainPID); sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' \
         /proc/$pid/smaps_rollup; sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f12,13 | tr ' ' '\\n'; getconf CLK_TCK",
    )?;
    let numbers: Vec<f64> = said.lines().map_while(|line| line.trim().parse().ok()).collect();
    let [pss_kib, user, system, ticks] = numbers.as_slice() else {
        anyhow::bail!("the kernel says {said:?} of the agent");
    };
    Ok(Usage { pss_kib: *pss_kib, cpu_s: (user + system) / ticks })
}
