//! `cargo xtask`: everything that is done to this repository by a command. It depends on none of our crates.

mod bench;
mod drill;
mod e2e;
mod fuzz;
mod lab;
mod layers;
mod package;
mod pause_image;
mod prereqs;
mod reference;
mod run;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Builds, tests and tries out Berth. What is missing of Debian's packages is installed, each named as it is.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a real redis and a real postgresql in pods of a virtual host, and show what the kernel says.
    Demo,
    /// Everything that a change must pass: format, lints, layers, unit tests, and the cases in virtual hosts.
    Test {
        /// Longer property tests, a minute of each fuzzer, and the other Debian releases.
        #[arg(long)]
        long: bool,
        /// Leave out the cases in virtual hosts.
        #[arg(long)]
        fast: bool,
    },
    /// Measure something beside a floor of the same run; values are in target/bench.
    Bench {
        /// What.
        what: Bench,
    },
    /// Fuzz what comes from outside, by libFuzzer; findings are in target/fuzz/findings.
    Fuzz(fuzz::Fuzz),
    /// Check that no crate uses what its floor must not.
    Layers,
    /// Make the Debian packages, in target/debian.
    Package,
    /// Take a virtual host through a reboot or power cuts, and judge what comes back.
    Drill {
        #[command(subcommand)]
        drill: drill::Drill,
    },
    /// Virtual hosts to try things out: up, down, status, ssh.
    Lab {
        /// See `cargo xtask lab help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What is measured.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// The CNI plugin, beside host-local.
    Cni,
    /// A restart of the agent with 500 pods, its memory and its idle CPU time, over a runtime in memory.
    Adopt,
    /// From an order to its container's start, beside the runtime's bare calls, in a virtual host.
    Start,
    /// From a container's death to the report of it, beside containerd's own event, in a virtual host.
    Exit,
    /// The agent's memory and idle CPU time with 0, 10 and 30 pods, in a virtual host.
    Footprint,
}

fn main() -> Result<()> {
    let root = root();
    match Arguments::parse().task {
        Task::Demo => e2e::demo(&root),
        Task::Test { long, fast } => test::run(&root, long, fast),
        Task::Bench { what } => match what {
            Bench::Cni => bench::cni(&root),
            Bench::Adopt => bench::adopt(&root),
            Bench::Start => bench::in_a_host(&root, "start"),
            Bench::Exit => bench::in_a_host(&root, "exit"),
            Bench::Footprint => bench::in_a_host(&root, "footprint"),
        },
        Task::Fuzz(fuzz) => fuzz::run(&root, &fuzz),
        Task::Layers => layers::run(&root),
        Task::Package => {
            prereqs::ensure(prereqs::BUILD)?;
            for package in package::run(&root)? {
                println!("{}", package.display());
            }
            Ok(())
        }
        Task::Drill { drill } => drill::run(&root, &drill),
        Task::Lab { arguments } => lab::run(&root, &arguments),
    }
}

/// The repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
