//! What the ledger knows of a pod: its charter, and the intent that cannot be seen in the world.

use berth_model::{
    Attempt, ContainerName, CpuSet, Digest, EvictDisposition, Failure, Generation, Incarnation, MemSet,
    OrderId, PodId, PodSpec, PodVerb, PoolName, RunState, Seq,
};
use std::collections::BTreeMap;

/// One pod in the ledger. It outlives the pod: seq and incarnation are remembered for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// Which.
    pub pod: PodId,
    /// The newest incarnation seen.
    pub incarnation: Incarnation,
    /// Of the charter.
    pub generation: Generation,
    /// The highest accepted.
    pub seq: Seq,
    /// What is to be so; none when the pod is not on this node.
    pub charter: Option<Charter>,
    /// Of the newest sandbox that was asked for.
    pub sandbox_attempt: Attempt,
    /// The sandbox that was stopped to be replaced: a stop leaves no trace that could be seen.
    pub stopped_sandbox: Option<Attempt>,
    /// What is known of each container beyond its spec.
    pub containers: BTreeMap<ContainerName, ContainerRecord>,
    /// The order being carried out.
    pub open: Option<OpenOrder>,
    /// System disks of evicted incarnations.
    pub kept: Vec<KeptDisk>,
}

/// The standing order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// The accepted spec.
    pub spec: PodSpec,
    /// Whether it is meant to run.
    pub run_state: RunState,
    /// Set once the pod is on its way off the node; nothing brings it back.
    pub leaving: Option<Leaving>,
}

/// How a pod leaves its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Between SIGTERM and SIGKILL, milliseconds.
    pub grace_ms: u64,
    /// What becomes of its disks.
    pub disposition: EvictDisposition,
}

/// What is known of one container beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRecord {
    /// Of the newest container that was asked for.
    pub attempt: Attempt,
    /// What `attempt` was when an order last said that it must run: a dead container up to here is started again
    /// whatever the restart policy says, and back-off counts from here.
    pub ordered: Attempt,
    /// What its image name was resolved to, once; the same image comes back from then on.
    pub digest: Option<Digest>,
    /// The key of the snapshot that is its system disk, once there is one worth keeping.
    /// Which container names it at the moment is seen, not remembered: so no crash can make the two disagree.
    pub disk: Option<String>,
}

/// The system disk of an evicted incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDisk {
    /// Which incarnation left it.
    pub incarnation: Incarnation,
    /// Whose it was.
    pub container: ContainerName,
    /// The snapshot's key.
    pub key: String,
    /// The image it is made upon.
    pub digest: Option<Digest>,
}

/// An accepted order without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Which.
    pub id: OrderId,
    /// What it wants.
    pub verb: PodVerb,
    /// How long it may take from receipt, milliseconds.
    pub deadline_ms: u64,
    /// When it fails, on the node's monotonic clock, milliseconds. Only Run and Start can be late: what stops or
    /// leaves is not abandoned half-way.
    pub deadline_at_ms: u64,
    /// Why it will have failed once it is undone: a Run either gets there or is undone.
    pub failure: Option<Failure>,
}

/// A pool of CPUs that several pods share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPool {
    /// Which.
    pub name: PoolName,
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its memory nodes.
    pub mems: MemSet,
    /// Its revision.
    pub generation: Generation,
}

impl PodRecord {
    /// The key of `container`'s system disk.
    pub fn disk(&self, container: &ContainerName) -> Option<&str> {
        self.containers.get(container)?.disk.as_deref()
    }

    /// Whether `key` is the system disk of one of the pod's containers.
    pub fn owns_disk(&self, key: &str) -> bool {
        self.containers.values().any(|container| container.disk.as_deref() == Some(key))
    }

    /// Whether `key` must outlive the pod's leaving, as `leaving` has it.
    pub(crate) fn survives(&self, key: &str, leaving: &Leaving) -> bool {
        let undone = self.open.as_ref().is_some_and(|open| open.failure.is_some());
        let kept_before = self.kept.iter().any(|kept| kept.key == key);
        match (undone, leaving.disposition) {
            // Undoing a Run gives back what it began with, and nothing else.
            (true, EvictDisposition::Keep | EvictDisposition::Release) => kept_before,
            (false, EvictDisposition::Keep) => self.owns_disk(key) || kept_before,
            (false, EvictDisposition::Release) => false,
        }
    }
}
