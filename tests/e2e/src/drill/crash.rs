//! The crash drill: while a pod is run, stopped, started, evicted and released, the agent, the runtime or the control plane
//! is killed, at every point that the agent itself says it passes on that way; each time the pod gets to where it was
//! ordered, and nothing else has changed.

use crate::measure::Report;
use crate::{CrashPoints, Fleet, FleetSpec, Footprint, Kernel, PodProcess, image};
use anyhow::{Context, Result, bail, ensure};
use berth_lab::{Guest, Suite, wait_until};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// From an order until it is carried out, whoever dies meanwhile.
const CARRIED_OUT_LIMIT: Duration = Duration::from_secs(240);
/// From then until nothing superfluous is left.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Says on its own disk that it was started.
const PROGRAM: &str = "echo start >> /starts; sync /starts; trap 'exit 0' TERM; while :; do sleep 1; done";

/// Of its unit's processes the daemon alone: the shims are there too, and are nobody's to die with it.
const KILL_CONTAINERD: &str = "systemctl kill --kill-whom=main -s KILL containerd";

/// Which drill.
#[derive(Debug, Clone)]
pub struct CrashSpec {
    /// The lab's name.
    pub lab: String,
    /// Of the points on each way every so many-th is taken; 1 is all of them.
    pub every: usize,
    /// Who dies, one after the other.
    pub victims: Vec<Victim>,
}

/// What the pod is ordered to, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Run,
    Stop,
    Start,
    Evict,
    Release,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Run, Self::Stop, Self::Start, Self::Evict, Self::Release];

    /// What the control plane calls the pod once it is carried out; none once it knows no such pod.
    fn state(self) -> Option<&'static str> {
        match self {
            Self::Run | Self::Start => Some("Running"),
            Self::Stop => Some("Stopped"),
            Self::Evict => Some("Evicted"),
            Self::Release => None,
        }
    }

    /// How often the pod's program has been started by then, where it runs.
    fn starts(self) -> Option<u32> {
        match self {
            Self::Run => Some(1),
            Self::Start => Some(2),
            Self::Stop | Self::Evict | Self::Release => None,
        }
    }
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Victim {
    /// The agent.
    Berthd,
    /// The runtime, but not the shims.
    Containerd,
    /// The control plane.
    #[value(name = "berth-control")]
    Control,
}

impl Victim {
    /// Everybody.
    pub const ALL: [Self; 3] = [Self::Berthd, Self::Containerd, Self::Control];

    fn name(self) -> &'static str {
        match self {
            Self::Berthd => "berthd",
            Self::Containerd => "containerd",
            Self::Control => "berth-control",
        }
    }
}

/// Runs the drill.
///
/// # Errors
/// When it cannot be carried through; what is not as it must be is in the report.
pub fn crash(spec: &CrashSpec) -> Result<Report> {
    ensure!(spec.every > 0, "every 0th point is none");
    let fleet = Fleet::up(&FleetSpec { name: spec.lab.clone(), guests: 1, joined: 1, suite: Suite::Trixie })?;
    let mut drill = Drill::begin(&fleet)?;
    let ways = drill.ways()?;
    for victim in spec.victims.iter().copied() {
        let cycles = ways.values().map(Vec::len).max().unwrap_or(0);
        for cycle in (0..cycles).step_by(spec.every) {
            for verb in Verb::ALL {
                let point = ways[&verb].get(cycle).map(String::as_str);
                drill.act(verb, victim, point)?;
            }
        }
    }
    drill.conclude(&spec.victims)
}

struct Drill<'a> {
    fleet: &'a Fleet,
    guest: Guest,
    kernel: Kernel,
    node: CrashPoints,
    /// A pod that nobody orders anything of.
    witness: PodProcess,
    clean: Footprint,
    /// What the node has of the pod beyond that once each verb is carried out.
    left: BTreeMap<Verb, BTreeMap<&'static str, usize>>,
    deaths: BTreeMap<&'static str, u32>,
    report: Report,
}

fn manifest(name: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{namespace: drill, name: {name}}}\nspec:\n  addressPool: pods\n  stopGrace: 5s\n  \
         disks: [{{name: data, size: 4Mi}}]\n  containers:\n  - name: main\n    image: {}\n    \
         command: [sh, -c, \"{PROGRAM}\"]\n    env: [{{name: CASE, value: {name}}}]\n    \
         mounts: [{{disk: data, path: /data}}]\n",
        image("busybox")
    )
}

impl<'a> Drill<'a> {
    fn begin(fleet: &'a Fleet) -> Result<Self> {
        let kernel = fleet.kernel(0);
        let guest = kernel.guest().clone();
        let node = CrashPoints::install(&guest)?;
        println!("drill: the program has {} points", node.known());
        fleet.wait_connected(&guest)?;
        fleet.apply(&manifest("witness"), &["--wait"])?;
        let witness = kernel.process("witness")?;
        let clean = Footprint::of(&guest)?;
        let (left, deaths, report) = (BTreeMap::new(), BTreeMap::new(), Report::default());
        Ok(Self { fleet, guest, kernel, node, witness, clean, left, deaths, report })
    }

    /// Goes once through everything without a death: the points that are passed on each way, and what is left then.
    fn ways(&mut self) -> Result<BTreeMap<Verb, Vec<String>>> {
        let mut ways = BTreeMap::new();
        for verb in Verb::ALL {
            self.node.begin_trace()?;
            self.order(verb)?;
            self.await_carried_out(verb)?;
            let left = self.settled()?;
            let points = self.node.trace()?;
            ensure!(!points.is_empty(), "no point was passed by {verb:?}");
            println!("drill: {verb:?} passes {} points, and leaves {left:?}", points.len());
            self.left.insert(verb, left);
            ways.insert(verb, points);
        }
        Ok(ways)
    }

    /// What is there of the pod once it has been the same for two looks.
    fn settled(&self) -> Result<BTreeMap<&'static str, usize>> {
        let mut last = None;
        wait_until("the node to be the same for two looks", SETTLE_LIMIT, || {
            let now = Footprint::of(&self.guest)?.counts_beyond(&self.clean);
            let same = last.as_ref() == Some(&now);
            last = Some(now.clone());
            Ok(same.then_some(now))
        })
    }

    fn order(&self, verb: Verb) -> Result<()> {
        match verb {
            Verb::Run => self.fleet.apply(&manifest("mortal"), &[]).map(drop),
            Verb::Stop => self.fleet.berth_ok(&["stop", "drill/mortal"]).map(drop),
            Verb::Start => self.fleet.berth_ok(&["start", "drill/mortal"]).map(drop),
            Verb::Evict => self.fleet.berth_ok(&["evict", "drill/mortal"]).map(drop),
            Verb::Release => self.fleet.berth_ok(&["release", "drill/mortal"]).map(drop),
        }
    }

    /// Waits for the control plane's word; one that is just away is asked again.
    fn await_carried_out(&self, verb: Verb) -> Result<()> {
        let what = format!("{verb:?} to be carried out");
        wait_until(&what, CARRIED_OUT_LIMIT, || {
            let said = self.fleet.berth(&["-o", "json", "get", "drill/mortal"])?;
            let is_so = match verb.state() {
                Some(state) => said.success() && said.stdout.contains(&format!("\"state\": \"{state}\"")),
                None => !said.success() && said.stderr.contains("drill/mortal"),
            };
            Ok(is_so.then_some(()))
        })
    }

    /// Has the pod ordered, and the victim die on the way.
    fn act(&mut self, verb: Verb, victim: Victim, point: Option<&str>) -> Result<()> {
        let begun = Instant::now();
        let Some(point) = point else {
            self.order(verb)?;
            return self.await_carried_out(verb);
        };
        match victim {
            Victim::Berthd => self.node.order(&[point])?,
            Victim::Containerd => self.node.order_command(point, KILL_CONTAINERD)?,
            Victim::Control => self.node.order_hold(point)?,
        }
        self.order(verb)?;
        let died = match victim {
            Victim::Control => self.kill_control_at_the_point()?,
            Victim::Berthd | Victim::Containerd => true,
        };
        let carried_out = self.await_carried_out(verb);
        let reached = !self.node.take_back()? && died;
        let faults = match carried_out {
            Ok(()) => self.faults(verb)?,
            Err(error) => bail!("{verb:?}, {} died {point}: {error:#}", victim.name()),
        };
        let word = match (reached, faults.is_empty()) {
            (false, true) => "not passed this time",
            (true, true) => "as ordered",
            (_, false) => "WRONG",
        };
        println!(
            "crash {:<8} {point:<28} {:<14} {:>4} s  {word}",
            format!("{verb:?}"),
            victim.name(),
            begun.elapsed().as_secs()
        );
        if reached {
            *self.deaths.entry(victim.name()).or_default() += 1;
        }
        let named = |fault: String| format!("{verb:?}, {} died {point}: {fault}", victim.name());
        self.report.faults.extend(faults.into_iter().map(named).inspect(|fault| println!("drill: {fault}")));
        Ok(())
    }

    /// Whether the agent came to the point.
    fn kill_control_at_the_point(&self) -> Result<bool> {
        let held = wait_until("the agent to be held", CARRIED_OUT_LIMIT / 4, || {
            Ok(self.node.is_held()?.then_some(()))
        });
        if held.is_err() {
            return Ok(false);
        }
        self.fleet.kill_control()?;
        self.node.release()?;
        Ok(true)
    }

    /// All that is not as it must be once a verb is carried out.
    fn faults(&self, verb: Verb) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let expected = &self.left[&verb];
        let mut left = BTreeMap::new();
        let settled = wait_until("the node to settle", SETTLE_LIMIT, || {
            // A runtime that is killed once the verb is carried out is away for a moment.
            let Ok(now) = Footprint::of(&self.guest) else { return Ok(None) };
            left = now.counts_beyond(&self.clean);
            Ok((left == *expected).then_some(()))
        });
        if settled.is_err() {
            faults.push(format!("the node has {left:?} of the pod, not {expected:?}"));
        }
        if let Some(starts) = verb.starts() {
            let process = self.kernel.process("mortal")?;
            let said = self.kernel.inside(&process, "wc -l < /starts")?.stdout;
            if said.trim() != starts.to_string() {
                faults.push(format!("its program was started {} times, not {starts}", said.trim()));
            }
        }
        if self.kernel.process("witness").ok().as_ref() != Some(&self.witness) {
            faults.push("a pod that nobody ordered anything of is not as it was".to_owned());
        }
        Ok(faults)
    }

    fn conclude(mut self, victims: &[Victim]) -> Result<Report> {
        for victim in victims.iter().copied().map(Victim::name) {
            let deaths = self.deaths.get(victim).copied().unwrap_or_default();
            self.report.add(format!("deaths of {victim}"), f64::from(deaths), "deaths");
            if deaths == 0 {
                self.report.faults.push(format!("{victim} was never killed"));
            }
        }
        let faults = u32::try_from(self.report.faults.len()).context("count the faults")?;
        self.report.add("faults over all deaths", f64::from(faults), "faults");
        Ok(self.report)
    }
}
