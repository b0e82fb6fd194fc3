//! `cargo xtask drill`: hosts go through what hosts go through. Packages are built; everything else happens in
//! `tests/e2e`.

use crate::run::{program, stage, succeed};
use crate::{e2e, lab};
use anyhow::Result;
use clap::Subcommand;
use std::path::Path;
use std::process::Command;

/// The lab that drills use; each drill has it for itself.
const LAB: &str = "drill";

/// A drill.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Drill {
    /// Reboot a host with pods into the other kernel, with control plane and registry stopped.
    Reboot {
        /// How many pods, at least 2.
        #[arg(long, default_value_t = 10)]
        pods: usize,
    },
    /// Cut a host's power while orders run and pods write.
    Power {
        /// How many cuts.
        #[arg(long, default_value_t = 4)]
        count: u32,
        /// Decides the moments, the orders, and what is left of what was not flushed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Kill agent, runtime and control plane at every point of running, stopping, starting, evicting and releasing a pod.
    Crash {
        /// Takes every so many-th point of each way.
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// Kills only this one of berthd, containerd and berth-control; each of them if none is named.
        #[arg(long, value_parser = ["berthd", "containerd", "berth-control"])]
        victim: Vec<String>,
    },
    /// Hold the runtime of a suite's host to the cases that the agent's tests lean on.
    Runtime {
        /// Which release of Debian: bookworm, trixie or forky.
        #[arg(long, default_value = "trixie")]
        suite: String,
    },
}

impl Drill {
    fn words(&self) -> Vec<String> {
        let words = |words: &[&dyn ToString]| words.iter().map(|word| word.to_string()).collect();
        match self {
            Self::Reboot { pods } => words(&[&"reboot", &"--pods", pods]),
            Self::Power { count, seed } => words(&[&"power", &"--count", count, &"--seed", seed]),
            Self::Crash { every, victim } => {
                let chosen = victim.iter().flat_map(|name| words(&[&"--victim", name]));
                words(&[&"crash", &"--every", every]).into_iter().chain(chosen).collect()
            }
            Self::Runtime { suite } => words(&[&"runtime", &"--suite", suite]),
        }
    }
}

/// Builds what a drill needs, and runs it.
pub(crate) fn run(root: &Path, drill: &Drill) -> Result<()> {
    e2e::prepare(root)?;
    match drill {
        Drill::Runtime { .. } | Drill::Crash { .. } => e2e::build_test_programs(root)?,
        Drill::Reboot { .. } | Drill::Power { .. } => {}
    }
    play(root, drill)
}

/// Runs a drill, and takes its lab down whatever came of it.
pub(crate) fn play(root: &Path, drill: &Drill) -> Result<()> {
    let down = || lab::run(root, &["--name".to_owned(), LAB.to_owned(), "down".to_owned()]);
    down()?;
    let words = drill.words();
    let result = stage(&format!("drill {}", words.join(" ")), || {
        let mut command = Command::new(program(root, "berth-drill")?);
        command.current_dir(root).args(["--lab", LAB, "--out"]).arg(root.join("target/drill")).args(&words);
        succeed(&mut command, "drill")
    });
    down().and(result)
}
