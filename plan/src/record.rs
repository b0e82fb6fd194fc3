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
    /// Why, when it leaves because its Run could not be carried out: Run either gets there or is undone.
    pub failure: Option<Failure>,
}

/// What is known of one container beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRecord {
    /// Of the newest container that was asked for.
    pub attempt: Attempt,
    /// What its image name was resolved to, once; the same image comes back from then on.
    pub digest: Option<Digest>,
    /// Its system disk, once there is one worth keeping.
    pub disk: Option<SystemDisk>,
}

/// A container's writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemDisk {
    /// The snapshot's key.
    pub key: String,
    /// The attempt that holds it.
    pub owner: Attempt,
    /// The attempt that it is being handed to: written before the first half of the adoption,
    /// and made owner after the last.
    pub heir: Option<Attempt>,
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
    /// When it fails, on the node's monotonic clock, milliseconds.
    pub deadline_at_ms: u64,
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
