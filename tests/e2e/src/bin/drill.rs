//! `cargo xtask drill`: brings virtual hosts up, takes them through a drill, and says what came of it.

use anyhow::{Context, Result};
use berth_e2e::drill::{CrashSpec, PowerSpec, RebootSpec, Victim, crash, power, reboot};
use berth_e2e::{Report, hold_suite_to_cases};
use berth_lab::Suite;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Hosts go through what hosts go through, and what comes back is judged.
#[derive(Parser)]
struct Arguments {
    /// The lab's name.
    #[arg(long, default_value = "drill")]
    lab: String,
    /// Where the values go, as JSON.
    #[arg(long)]
    out: PathBuf,
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Subcommand)]
enum Drill {
    /// Off in good order, and back with another kernel, with nothing of Berth but the host itself.
    Reboot {
        /// How many pods.
        #[arg(long, default_value_t = 10)]
        pods: usize,
    },
    /// The power is cut while orders run and pods write; the host comes back on what its disks then have.
    Power {
        /// How many cuts.
        #[arg(long, default_value_t = 4)]
        count: u32,
        /// Decides the moments, the orders, and what is left of what was not flushed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Agent, runtime and control plane are killed at every point of running, stopping, starting, evicting and releasing.
    Crash {
        /// Takes every so many-th point of each way.
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// Kills only this one, or these.
        #[arg(long, value_enum, default_values_t = Victim::ALL)]
        victim: Vec<Victim>,
    },
    /// The runtime of a suite's host is held to the cases that the agent's tests lean on.
    Runtime {
        /// Which suite.
        #[arg(long)]
        suite: Suite,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(wrongs) if wrongs.is_empty() => ExitCode::SUCCESS,
        Ok(wrongs) => {
            eprintln!("drill: {} things are wrong:\n  {}", wrongs.len(), wrongs.join("\n  "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("drill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<Vec<String>> {
    let (name, report) = match arguments.drill {
        Drill::Reboot { pods } => ("reboot", reboot(&RebootSpec { lab: arguments.lab, pods })?),
        Drill::Crash { every, victim } => {
            ("crash", crash(&CrashSpec { lab: arguments.lab, every, victims: victim })?)
        }
        Drill::Runtime { suite } => {
            hold_suite_to_cases(&arguments.lab, suite)?;
            return Ok(Vec::new());
        }
        Drill::Power { count, seed } => ("power", power(&PowerSpec { lab: arguments.lab, count, seed })?),
    };
    show(name, &report, &arguments.out)?;
    Ok(report.wrongs())
}

fn show(name: &str, report: &Report, out: &std::path::Path) -> Result<()> {
    print!("{}", report.table());
    let file = out.join(format!("{name}.json"));
    report.save(&file).with_context(|| format!("keep the values of the {name} drill"))?;
    println!("drill: values are in {}", file.display());
    Ok(())
}
