//! The command line of `berthctl`.

use crate::output::Format;
use crate::program::Generate;
use berth_model::{ContainerName, OrderId, PodId};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  berthctl status                      the link to the control plane, the host, the certificate
  berthctl pods                        pods, and what berthd would do next with each
  berthctl facts                       what the host is and has, as upstream is told
  berthctl why shop/web                what it waits for, and what is not as it was ordered
  berthctl cgroup shop/web             what was ordered and what the kernel has, side by side
  berthctl top                         what pods use, who uses most of the CPUs first
  berthctl logs shop/web -f --tail 20
  berthctl events -f                   what happens, as it happens
  berthctl doctor                      what is wrong here, and what to do about it
  berthctl doctor --fix 'pause image'  mend that, as root

Exit codes:
  0  done
  1  refused, or failed; doctor: something is wrong
  2  asked wrongly
  3  berthd cannot be reached

berthctl changes no pod: that is ordered by the control plane. `doctor --fix` changes the host.";

const LOGS_EXAMPLES: &str = "\
Examples:
  berthctl logs shop/web
  berthctl logs shop/web -c sidecar -f --tail 20";

/// Look at this node as its daemon sees it.
///
/// berthctl asks berthd over its Unix socket. It works without the control plane, and it changes no pod.
#[derive(Debug, Parser)]
#[command(name = "berthctl", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// berthd's socket
    #[arg(
        long,
        global = true,
        env = "BERTHD_SOCKET",
        hide_env_values = true,
        default_value = "/run/berth/berthd.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,
    /// How to write the answer
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the link to the control plane, the host and the certificate
    Status,
    /// Show what this node tells the control plane of its host
    Facts,
    /// Show pods, and what berthd would do next with each
    Pods,
    /// Show all that this node knows of a pod
    Pod(OnePod),
    /// Show what a pod waits for, and what is not as it was ordered: its next step, controls that differ, its orders, what has
    /// happened to it, and what is wrong with the host
    Why(OnePod),
    /// Show open orders and recent outcomes
    Orders,
    /// Show one order
    Order(OneOrder),
    /// Show memory nodes, cores, and who holds which CPUs
    Topology,
    Cgroup(Cgroup),
    Top(Top),
    Leases(Leases),
    /// Show data disks and system disks, those that are kept included, and what they hold
    Disks,
    /// Show images, the largest first, and the pods that are made from them
    Images,
    Logs(Logs),
    Events(Events),
    Doctor(Doctor),
    /// Write manual pages and completions, for packages
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

/// Look for what is wrong here, and say what to do about it
///
/// Exits with 1 when a finding is an error, or is not mended.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Mend what this check found, or `all` that can be; needs root, and says what it runs. Pods keep running
    #[arg(long, value_name = "CHECK")]
    pub fix: Vec<String>,
}

/// A pod.
#[derive(Debug, Args)]
pub(crate) struct OnePod {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
}

/// An order.
#[derive(Debug, Args)]
pub(crate) struct OneOrder {
    /// Which order, a ULID
    pub id: OrderId,
}

/// Show what was ordered and what the kernel has, side by side, and statistics
///
/// The pod's cgroup comes first, then each container's. DIFFERS says that something else has written the file since
/// berthd did; UNREADABLE that it cannot be read, mostly because a container does not run.
#[derive(Debug, Args)]
pub(crate) struct Cgroup {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
}

/// Show what pods use, who uses most of the CPUs first
///
/// Looks twice, and tells what was used between.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Show containers instead of pods
    #[arg(short, long)]
    pub containers: bool,
    /// How long to look
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    pub seconds: u64,
}

/// Show address grants and the interfaces that have them
#[derive(Debug, Args)]
pub(crate) struct Leases {
    /// Show who had which address when instead, the newest first; the last 4096 are remembered
    #[arg(long)]
    pub history: bool,
}

/// Show what has happened on this node since berthd started: starts and ends of containers, OOM kills, pressure
///
/// The newest 2048 events are kept; the journal has all of them (journalctl -u berthd), unless `log` of berthd.toml
/// leaves them out. Each is told once: how things are now is what berthctl pods shows.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only of this pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: Option<PodId>,
    /// Go on as more happens
    #[arg(short, long)]
    pub follow: bool,
}

/// Show what a container has written to its standard output and error
#[derive(Debug, Args)]
#[command(after_long_help = LOGS_EXAMPLES)]
pub(crate) struct Logs {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    /// Which container; may be left out when the pod has one
    #[arg(short, long)]
    pub container: Option<ContainerName>,
    /// Go on as more is written
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
}
