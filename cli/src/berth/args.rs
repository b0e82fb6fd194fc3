//! The command line of `berth`.

use crate::config::ConnectionArgs;
use crate::manifest::parse_duration_ms;
use crate::output::Format;
use crate::program::Generate;
use berth_model::{Digest, ImageName, NodeName, PodId, PoolName};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  berth apply --example > web.yaml     a complete manifest, every field explained
  berth explain spec.recovery          one field of it
  berth apply -f web.yaml --wait       submit it and wait until it runs
  berth get                            all pods
  berth get shop/web                   one pod: containers, controls, open orders
  berth describe shop/web              that, its last orders, and what has happened to it
  berth get -o json | jq -r '.[] | select(.state == \"Failed\") | .message'
  berth evict shop/web --wait          off its node; identity and address stay
  berth release shop/web               give up address, disks and identity
  berth upgrade shop/web --image web=registry.example/shop/web:2 --wait
  berth resize shop/web --memory-max 1Gi
  berth rollout start front-2 -l tier=front --image web=registry.example/shop/web:2
  berth migrate shop/web --to node-2 --wait

Exit codes:
  0  done
  1  refused, or failed
  2  asked wrongly; nothing was sent
  3  the control plane cannot be reached, or cannot be trusted

Configuration (~/.config/berth/config.toml; flags and BERTH_* win over it):
  server = \"control.example:7443\"
  ca     = \"ca.crt\"        # relative to the file
  cert   = \"client.crt\"
  key    = \"client.key\"
berth-control platform-cert NAME --out DIR writes such a file and what it names.";

const APPLY_EXAMPLES: &str = "\
Examples:
  berth apply --example                print a manifest with every field explained
  berth apply -f web.yaml --check      only check it
  berth apply -f web.yaml --wait --timeout 2m
  generate | berth apply -f -";

const GET_EXAMPLES: &str = "\
Examples:
  berth get                    all pods
  berth get -n shop -o wide    those of a namespace, with more columns
  berth get shop/web           one pod: containers, controls as the kernel has them, open orders";

const EVICT_EXAMPLES: &str = "\
Examples:
  berth evict shop/web --reason \"node-3 goes out of service\" --wait
  berth evict shop/web --release       gives up address, disks and identity, too";

const EVENTS_EXAMPLES: &str = "\
Examples:
  berth events                         what is remembered, the oldest first
  berth events shop/web -f             one pod's, and what comes
  berth events --node node-1 -f -o json | jq -c 'select(.code == \"OomKill\")'";

const PULL_EXAMPLES: &str = "\
Examples:
  berth pull node-1 registry.example:5000/library/redis:7 --wait";

/// Drive Berth as a platform or its operator.
///
/// berth speaks with the control plane: it submits pods, looks at them, and takes them off their nodes. The control
/// plane decides where a pod runs and orders the node to run it; a node does nothing by itself.
#[derive(Debug, Parser)]
#[command(name = "berth", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// How to write the answer
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Apply(Apply),
    Get(Get),
    Describe(super::describe::Describe),
    Explain(super::explain::Explain),
    Watch(Watch),
    Evict(Evict),
    Release(Release),
    Stop(Stop),
    Start(Start),
    Restart(super::in_place::Restart),
    Upgrade(super::in_place::Upgrade),
    Resize(super::in_place::Resize),
    #[command(subcommand)]
    Rollout(super::rollout::Rollout),
    Migrate(super::migrate::Migrate),
    #[command(subcommand)]
    Node(super::node::Node),
    Nodes(Nodes),
    Inspect(Inspect),
    Pools(Pools),
    DeletePool(DeletePool),
    Orders(Orders),
    Events(Events),
    Pull(Pull),
    /// Write manual pages and completions, for packages
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

/// Submit what a manifest describes
///
/// The manifest is checked whole before anything is sent: every error names line, column and field. Documents are
/// then submitted in their order. Submitting the same content again changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = APPLY_EXAMPLES)]
pub(crate) struct Apply {
    /// The manifest; - is standard input
    #[arg(short, long, value_name = "FILE", required_unless_present = "example")]
    pub file: Option<PathBuf>,
    /// Print a manifest with every field explained, and do nothing
    #[arg(long, conflicts_with_all = ["file", "wait", "check"])]
    pub example: bool,
    /// Check the manifest and send nothing
    #[arg(long, conflicts_with = "wait")]
    pub check: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Waiting.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WaitArgs {
    /// Wait until it is done, showing how it goes
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this; nothing is undone by that
    #[arg(long, requires = "wait", default_value = "5m", value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: u64,
}

/// Which pods.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only pods of this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only pods on this node
    #[arg(long)]
    pub node: Option<NodeName>,
}

/// Show pods, or one pod
#[derive(Debug, Args)]
#[command(after_long_help = GET_EXAMPLES, override_usage = "berth get [OPTIONS] [pods] [NAMESPACE/NAME]")]
pub(crate) struct Get {
    /// The word pods, which may be left out, and one pod
    #[arg(num_args = 0..=2, value_name = "NAMESPACE/NAME")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Show pods as they are, and then every change
///
/// With -o json each line is one event: {"changed": {...}}, {"released": {...}}, or {"synced": {}} once all that was
/// there has been sent.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Take a pod off its node
///
/// Its containers are stopped. Its identity, its address and (without --release) its disks are kept for a later
/// placement.
#[derive(Debug, Args)]
#[command(after_long_help = EVICT_EXAMPLES)]
pub(crate) struct Evict {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    /// Give up its address, disks and identity, too
    #[arg(long)]
    pub release: bool,
    #[command(flatten)]
    pub stop: StopArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// How containers are stopped, and why.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Between SIGTERM and SIGKILL [default: the pod's stopGrace]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub grace: Option<u64>,
    /// Why, for people; it goes into the order
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Give up an evicted pod's address, disks and identity
///
/// This cannot be undone. The pod must have been evicted.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    /// Why, for people; it goes into the order
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Stop a pod's containers and keep everything; it stays stopped over a reboot
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    #[command(flatten)]
    pub stop: StopArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Start a stopped pod again, or one that waits for this word since its host rebooted
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
    /// Why, for people; it goes into the order
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Show nodes, or one node
///
/// Silent says that a node's lease has run out, and no more than that: its pods may well run.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Only this one, with all that is known of it
    pub node: Option<NodeName>,
}

/// Order a node to look at everything again and to report it whole
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Which node
    pub node: NodeName,
}

/// Show address pools
#[derive(Debug, Args)]
pub(crate) struct Pools {
    /// Show who holds which address, too
    #[arg(short, long)]
    pub assignments: bool,
    /// Show who held which address from when until when instead
    #[arg(long, conflicts_with = "assignments")]
    pub history: bool,
    /// Only the history of this pod
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "history")]
    pub pod: Option<PodId>,
}

/// Delete an address pool that nothing is assigned from
#[derive(Debug, Args)]
pub(crate) struct DeletePool {
    /// Which pool
    pub pool: PoolName,
}

/// Show orders and how they ended
#[derive(Debug, Args)]
pub(crate) struct Orders {
    /// Only those for this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<PodId>,
    /// Only those for this node
    #[arg(long)]
    pub node: Option<NodeName>,
}

/// Show what has happened on nodes: starts and ends of containers, OOM kills, pressure, what nobody ordered
///
/// The control plane remembers the newest since it started, at most 256 of each node and 32768 in all. How things are now is
/// what berth get shows. With -f and -o json each line is one event; what is read again after a break has the same id.
#[derive(Debug, Args)]
#[command(after_long_help = EVENTS_EXAMPLES)]
pub(crate) struct Events {
    /// Only of this pod
    #[arg(value_name = "NAMESPACE/NAME", conflicts_with = "namespace")]
    pub pod: Option<PodId>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Go on as more happens
    #[arg(short, long)]
    pub follow: bool,
}

/// Order a node to have an image
#[derive(Debug, Args)]
#[command(after_long_help = PULL_EXAMPLES)]
pub(crate) struct Pull {
    /// Which node
    pub node: NodeName,
    /// Full name: registry, repository, and tag or digest
    pub image: ImageName,
    /// What it must be, sha256:...
    #[arg(long)]
    pub digest: Option<Digest>,
    #[command(flatten)]
    pub wait: WaitArgs,
}
