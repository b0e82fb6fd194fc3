//! Orders: the one thing that upstream tells a node to do.

use crate::{
    Bytes, CpuSet, Digest, DiskName, DiskPolicy, Generation, ImageName, Incarnation, MemSet, NodeName,
    OrderId, PodId, PodSpec, PoolName, Seq, Term,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its identity; the same id again is the same order.
    pub id: OrderId,
    /// The term of the control plane that gave it.
    pub term: Term,
    /// Why, for people.
    pub reason: String,
    /// How long the node may take, from receipt on its monotonic clock, milliseconds.
    pub deadline_ms: u64,
    /// To what, and what to do.
    pub target: Target,
}

impl Order {
    /// The data disk that it has the node copy from another one, if it does.
    pub fn fetched_disk(&self) -> Option<(PodId, DiskName)> {
        let Target::Node(order) = &self.target else { return None };
        match &order.verb {
            NodeVerb::FetchDisk(fetch) => Some((fetch.pod.clone(), fetch.disk.clone())),
            NodeVerb::SetSharedCpus { .. }
            | NodeVerb::PullImage { .. }
            | NodeVerb::Inspect
            | NodeVerb::OfferDisks(_)
            | NodeVerb::WithdrawDisks { .. } => None,
        }
    }
}

/// What an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One pod.
    Pod(PodOrder),
    /// The node itself.
    Node(NodeOrder),
}

/// An order for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOrder {
    /// Which.
    pub pod: PodId,
    /// Its placement.
    pub incarnation: Incarnation,
    /// Revision of its spec.
    pub generation: Generation,
    /// Its place among the identity's orders.
    pub seq: Seq,
    /// What to do.
    pub verb: PodVerb,
}

/// What a freshly placed pod finds on its system disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disk {
    /// The image, fresh.
    Fresh,
    /// What an earlier incarnation on this node was told to keep.
    Kept {
        /// Which one.
        incarnation: Incarnation,
    },
}

/// What becomes of an evicted pod's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvictDisposition {
    /// They stay for a later incarnation.
    Keep,
    /// They go.
    Release,
}

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodVerb {
    /// Run it by this spec, from now on.
    Run {
        /// The charter-to-be.
        spec: Box<PodSpec>,
        /// What is on its system disks.
        disk: Disk,
    },
    /// Stop its containers and keep everything; survives a reboot.
    Stop {
        /// Between SIGTERM and SIGKILL, milliseconds.
        grace_ms: u64,
    },
    /// Start it again after a stop.
    Start,
    /// Replace every container by a new attempt, in the sandbox that there is; a stopped pod runs again by it.
    Restart {
        /// What the new attempts find on their system disks.
        disk: DiskPolicy,
        /// Between SIGTERM and SIGKILL, milliseconds.
        grace_ms: u64,
    },
    /// Replace, in place, those containers that differ from `spec`: address, hostname, sandbox, slice and the other
    /// containers stay. Whatever does not become ready is taken back to what it was.
    Upgrade {
        /// The charter-to-be; what lives on the sandbox must be as it is.
        spec: Box<PodSpec>,
        /// How long a container without a readiness probe must run to count as ready, milliseconds.
        settle_ms: u64,
    },
    /// Hold the running pod to other limits, without replacing anything; all of them, or none.
    Resize {
        /// The charter-to-be; only limits, ulimits, CPUs and memory nodes may differ.
        spec: Box<PodSpec>,
    },
    /// Stop it and take it off this node.
    Evict {
        /// Between SIGTERM and SIGKILL, milliseconds.
        grace_ms: u64,
        /// What becomes of its disks.
        disposition: EvictDisposition,
    },
    /// Give up what was kept of it: disks and assignment. It must not run here.
    Release,
}

impl PodVerb {
    /// The verb's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run { .. } => "Run",
            Self::Stop { .. } => "Stop",
            Self::Start => "Start",
            Self::Restart { .. } => "Restart",
            Self::Upgrade { .. } => "Upgrade",
            Self::Resize { .. } => "Resize",
            Self::Evict { .. } => "Evict",
            Self::Release => "Release",
        }
    }
}

/// An order for the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOrder {
    /// What to do.
    pub verb: NodeVerb,
}

/// What to do on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeVerb {
    /// These are the CPUs and memory nodes of a shared pool from now on: all its members are rewritten.
    SetSharedCpus {
        /// Which pool.
        pool: PoolName,
        /// Its CPUs, at least one.
        cpus: CpuSet,
        /// Its memory nodes, at least one.
        mems: MemSet,
        /// Revision of the pool; an older one changes nothing.
        generation: Generation,
    },
    /// Have this image here.
    PullImage {
        /// Where from.
        image: ImageName,
        /// What it must be.
        digest: Option<Digest>,
    },
    /// Look at everything again and report it whole.
    Inspect,
    /// Let another node copy data disks of a pod that has left this one.
    OfferDisks(DiskOffer),
    /// Take an offer back; one that is not there is taken back.
    WithdrawDisks {
        /// Of which pod.
        pod: PodId,
    },
    /// Copy a data disk that another node offers, and put it in the place of whatever is here under its name.
    FetchDisk(Box<DiskFetch>),
}

/// Data disks of a pod that is not on its node any more, for one other node. It holds until it is withdrawn, or the pod
/// runs here again, or is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOffer {
    /// Whose disks.
    pub pod: PodId,
    /// The placement that left them here.
    pub incarnation: Incarnation,
    /// Which: directories, at least one.
    pub disks: BTreeSet<DiskName>,
    /// Who may have them.
    pub to: NodeName,
}

/// One data disk to be copied from another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFetch {
    /// Whose disk.
    pub pod: PodId,
    /// The placement that left it there.
    pub incarnation: Incarnation,
    /// Which: a directory.
    pub disk: DiskName,
    /// What the copy is held to; as large as the node's disk when absent.
    pub size: Option<Bytes>,
    /// Who has it.
    pub from: NodeName,
    /// Where that node serves its peers, to be tried in this order; at least one.
    pub at: Vec<SocketAddr>,
}

/// Most addresses of a node that a copy tries: a host has a few networks, not hundreds.
pub const MAX_PEER_ADDRESSES: usize = 32;

impl NodeVerb {
    /// The verb's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetSharedCpus { .. } => "SetSharedCpus",
            Self::PullImage { .. } => "PullImage",
            Self::Inspect => "Inspect",
            Self::OfferDisks(_) => "OfferDisks",
            Self::WithdrawDisks { .. } => "WithdrawDisks",
            Self::FetchDisk(_) => "FetchDisk",
        }
    }
}
