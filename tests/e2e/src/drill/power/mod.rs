//! The power drill: while orders run and pods write and flush numbered records, the power is cut; the host comes back on
//! what its disks then have, and is judged against what the control plane, and whoever read the records, had been told.

mod judge;
mod leaks;
mod load;
mod records;
mod view;

use super::random::Random;
use crate::measure::{Measure, Report};
use crate::raw_cri::Cri;
use crate::{Fleet, FleetSpec, Footprint};
use anyhow::{Context, Result};
use berth_lab::{CutReport, Guest, Machine, Suite, Writes, wait_until};
use load::Load;
use records::Reader;
use std::fs;
use std::time::{Duration, Instant};
use view::{ControlView, NodeView};

/// From the boot until no order is open and every pod is as ordered.
const SETTLE_LIMIT: Duration = Duration::from_secs(900);
/// What has ended is gone within this time, once everything has settled.
const LINGER_LIMIT: Duration = Duration::from_secs(60);
/// The power is cut this long after the load began, at least and at most, milliseconds.
const MOMENT_MS: (u64, u64) = (10_000, 45_000);
/// A step of the load takes this long at most, on top of the moment.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// Which drill.
#[derive(Debug, Clone)]
pub struct PowerSpec {
    /// The lab's name.
    pub lab: String,
    /// How many cuts.
    pub count: u32,
    /// Decides the moments, the orders, and what is left of what was not flushed.
    pub seed: u64,
}

/// Runs the drill.
///
/// # Errors
/// When it cannot be carried through; what was lost is in the report.
pub fn power(spec: &PowerSpec) -> Result<Report> {
    let fleet = Fleet::up(&FleetSpec { name: spec.lab.clone(), guests: 1, joined: 1, suite: Suite::Trixie })?;
    let guest = fleet.lab().guest(0);
    let logged = Machine { writes: Writes::Logged, ..Machine::default() };
    let clean = Footprint::of(&guest)?;
    println!("drill: boot with a log of all writes; run the pods that write");
    guest.reboot_into(&logged)?;
    fleet.wait_ready(&guest)?;
    fleet.apply(&load::writers(), &["--wait", "--timeout", "10m"])?;
    let mut drill = Drill { fleet, guest, clean, random: Random::new(spec.seed), report: Report::default() };
    for cut in 1..=spec.count {
        let begun = Instant::now();
        let seed = drill.random.next();
        println!("drill: cut {cut} of {}, seed {seed:#018x}", spec.count);
        drill.cut(cut, seed).with_context(|| format!("cut {cut}, seed {seed:#018x} of {}", spec.seed))?;
        println!(
            "drill: cut {cut}: {} faults so far, {:.0} s",
            drill.report.faults.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    let faults = drill.report.faults.len();
    #[allow(clippy::cast_precision_loss)]
    drill.report.add("faults over all cuts", faults as f64, "faults");
    Ok(drill.report)
}

struct Drill {
    fleet: Fleet,
    guest: Guest,
    /// The node before it had any pod.
    clean: Footprint,
    random: Random,
    report: Report,
}

impl Drill {
    /// Load, cut, boot, judge.
    fn cut(&mut self, cut: u32, seed: u64) -> Result<()> {
        let reader =
            Reader::start(&self.guest, self.fleet.lab().directory().join(format!("records-{cut}.log")))?;
        let moment = Duration::from_millis(self.random.between(MOMENT_MS.0, MOMENT_MS.1));
        let mut load = Load::new(&self.fleet, self.random.next());
        let begun = Instant::now();
        wait_until("the moment of the cut", moment + STEP_LIMIT, || {
            load.step()?;
            Ok((begun.elapsed() >= moment).then_some(()))
        })?;
        let steps = load.steps();
        let left = self.guest.cut_power(seed)?;
        // The node is off: what the control plane says now is what it had been told.
        let told = ControlView::of(&self.fleet)?;
        let acknowledged = reader.finish()?;
        self.guest.boot(&Machine { writes: Writes::Logged, ..Machine::default() })?;
        self.fleet.wait_ready(&self.guest)?;
        let booted = Instant::now();
        self.note(cut, &left, steps, &told);
        self.judge(cut, &told, &acknowledged)?;
        self.report.add(
            format!("cut {cut}: from ready to settled and judged"),
            booted.elapsed().as_secs_f64(),
            "s",
        );
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn note(&mut self, cut: u32, left: &[CutReport], steps: u32, told: &ControlView) {
        let sum = |of: fn(&CutReport) -> usize| left.iter().map(of).sum::<usize>() as f64;
        let acknowledged = told.acknowledged().count() as f64;
        for (metric, value, unit) in [
            ("requests to the platform", f64::from(steps), "requests"),
            ("orders acknowledged so far", acknowledged, "orders"),
            ("writes kept", sum(|left| left.kept), "writes"),
            ("writes lost", sum(|left| left.lost), "writes"),
            ("writes torn", sum(|left| left.torn), "writes"),
        ] {
            self.report.add(format!("cut {cut}: {metric}"), value, unit);
        }
    }

    fn judge(&mut self, cut: u32, told: &ControlView, acknowledged: &records::Counts) -> Result<()> {
        let mut cri = Cri::connect(&self.guest)?;
        let settled = wait_until("everything to settle", SETTLE_LIMIT, || {
            let control = ControlView::of(&self.fleet)?;
            let node = NodeView::of(&self.guest)?;
            let running = cri.running()?;
            Ok(judge::unsettled(&control, &node, &running).is_empty().then_some(()))
        });
        let (control, node) = (ControlView::of(&self.fleet)?, NodeView::of(&self.guest)?);
        let running = cri.running()?;
        let mut faults = Vec::new();
        if settled.is_err() {
            faults.extend(judge::unsettled(&control, &node, &running));
        }
        faults.extend(judge::orders(told, &control, &node));
        faults.extend(judge::addresses(told, &control));
        let there = records::there(&self.guest, &running)?;
        faults.extend(records::lost(acknowledged, &there.counts));
        faults.extend(judge::addresses_inside(&control, &there.addresses));
        faults.extend(self.leaks(&node, control.kept_disks())?);
        let records: u64 = acknowledged.values().sum();
        #[allow(clippy::cast_precision_loss)]
        self.report.measures.push(Measure {
            metric: format!("cut {cut}: acknowledged records; floor: those there"),
            value: records as f64,
            unit: "records",
            floor: Some(there.counts.values().sum::<u64>() as f64),
            budget: Some(1.0),
        });
        if !faults.is_empty() {
            self.keep_evidence(cut)?;
        }
        let faults = faults.into_iter().map(|fault| format!("cut {cut}: {fault}"));
        self.report.faults.extend(faults.inspect(|fault| println!("drill: {fault}")));
        Ok(())
    }

    /// Keeps what the guest can say of a cut with faults: the next boot takes its journal away.
    fn keep_evidence(&self, cut: u32) -> Result<()> {
        let look =
            "ps -eo pid,ppid,lstart,args; ctr -n k8s.io tasks ls; journalctl -b --no-pager -o short-precise";
        let file = self.fleet.lab().directory().join(format!("evidence-{cut}.log"));
        fs::write(&file, self.guest.run_ok(look)?).with_context(|| format!("write {}", file.display()))?;
        println!("drill: cut {cut}: what the guest says is in {}", file.display());
        Ok(())
    }

    /// What belongs to no pod and stays: shims and mounts of what has just ended take a while to go.
    fn leaks(&self, node: &NodeView, kept_disks: usize) -> Result<Vec<String>> {
        let mut last = Vec::new();
        let gone = wait_until("what has ended to be gone", LINGER_LIMIT, || {
            last = leaks::leaks(&Footprint::of(&self.guest)?, &self.clean, node, kept_disks);
            Ok(last.is_empty().then_some(()))
        });
        Ok(if gone.is_ok() { Vec::new() } else { last })
    }
}
