//! `berth-lab`: the lab from the command line. `cargo xtask lab` installs what it needs, and calls it.

use anyhow::{Context, Result};
use berth_lab::{Guest, Kernel, Lab, LabSpec, Machine, Suite, Topology, Writes};
use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

/// Virtual hosts, a registry and a network of their own, for trying Berth out.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which lab; labs of different names do not know of each other.
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring the lab up. The first time this makes the guests' image, which takes some minutes.
    Up {
        /// How many guests.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// What the guests are made from.
        #[arg(long, value_enum, default_value_t)]
        suite: Suite,
    },
    /// Take the lab down, with everything that runs in it.
    Down,
    /// Say what runs.
    Status,
    /// A shell in a guest, or one command.
    Ssh {
        /// Number of the guest.
        #[arg(default_value_t = 1, value_parser = parse_guest)]
        guest: u8,
        /// What to run there.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Power a guest off in good order, and boot it again on the same disks.
    Reboot {
        /// Number of the guest.
        #[arg(default_value_t = 1, value_parser = parse_guest)]
        guest: u8,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Cut the power of a guest that was rebooted with --log-writes, and boot it from what is left on its disks.
    CutPower {
        /// Number of the guest.
        #[arg(default_value_t = 1, value_parser = parse_guest)]
        guest: u8,
        /// Decides what is left of the writes that were not flushed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Run a command beside the guests, in the lab's network.
    Run {
        /// Program and arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// What `up` starts.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        nodes: u8,
        #[arg(long, value_enum)]
        suite: Suite,
    },
}

/// What the machine is like afterwards.
#[derive(clap::Args)]
struct MachineArgs {
    /// Which kernel.
    #[arg(long, value_enum, default_value_t)]
    kernel: Kernel,
    /// Which processors and memory nodes.
    #[arg(long, value_enum, default_value_t)]
    topology: Topology,
    /// Log the writes to its disks, for a power cut.
    #[arg(long)]
    log_writes: bool,
}

impl MachineArgs {
    fn machine(&self) -> Machine {
        let writes = if self.log_writes { Writes::Logged } else { Writes::Kept };
        Machine { kernel: self.kernel, topology: self.topology, writes }
    }
}

/// `2`, or `node-2`.
fn parse_guest(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix("node-").unwrap_or(text).parse();
    number
        .ok()
        .filter(|number| (1..=9).contains(number))
        .ok_or_else(|| format!("{text:?} is no guest, such as node-1"))
}

fn main() -> Result<()> {
    let Arguments { name, action } = Arguments::parse();
    match action {
        Action::Up { nodes, suite } => {
            Lab::up(&LabSpec { name, nodes, suite })?;
            println!(
                "lab: up; `cargo xtask lab ssh` opens a shell in node-1, `cargo xtask lab down` ends it"
            );
            Ok(())
        }
        Action::Down => Lab::down(&name),
        Action::Status => status(&name),
        Action::Ssh { guest, command } => {
            let mut ssh = Lab::find(&name)?.guest(guest - 1).ssh();
            if command.is_empty() {
                ssh.arg("-t");
            }
            Err(ssh.args(command).exec()).context("run ssh")
        }
        Action::Reboot { guest, machine } => reboot(&Lab::find(&name)?.guest(guest - 1), &machine),
        Action::CutPower { guest, seed, machine } => {
            cut_power(&Lab::find(&name)?.guest(guest - 1), seed, &machine)
        }
        Action::Run { command } => {
            let (program, arguments) = command.split_first().context("what is to be run")?;
            Err(Lab::find(&name)?.command(program).args(arguments).exec()).context("run nsenter")
        }
        Action::Supervise { directory, nodes, suite } => berth_lab::supervise(&directory, nodes, suite),
    }
}

fn reboot(guest: &Guest, machine: &MachineArgs) -> Result<()> {
    guest.reboot_into(&machine.machine())?;
    println!("lab: {} is up again, with kernel {}", guest.name(), guest.run_ok("uname -r")?.trim());
    Ok(())
}

fn cut_power(guest: &Guest, seed: u64, machine: &MachineArgs) -> Result<()> {
    for left in guest.cut_power(seed)? {
        println!(
            "lab: {} disk: {} requests kept, {} torn, {} lost",
            left.disk, left.kept, left.torn, left.lost
        );
    }
    guest.boot(&machine.machine())?;
    println!("lab: {} is up again", guest.name());
    Ok(())
}

fn status(name: &str) -> Result<()> {
    let lab = Lab::find(name)?;
    println!("lab {name} is up, its files are in {}", lab.directory().display());
    for guest in lab.guests() {
        println!("  {} {}", guest.name(), guest.address());
    }
    println!("  beside them: {}", lab.processes()?.join(", "));
    Ok(())
}
