//! `berth-lab`: the lab from the command line. `cargo xtask lab` installs what it needs, and calls it.

use anyhow::{Context, Result};
use berth_lab::{Lab, LabSpec, Suite};
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
        Action::Run { command } => {
            let (program, arguments) = command.split_first().context("what is to be run")?;
            Err(Lab::find(&name)?.command(program).args(arguments).exec()).context("run nsenter")
        }
        Action::Supervise { directory, nodes, suite } => berth_lab::supervise(&directory, nodes, suite),
    }
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
