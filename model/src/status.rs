//! Facts that a node reports.

use crate::{
    AddressGrant, Attempt, ContainerName, Digest, Failure, Generation, Incarnation, OrderId, PodId,
    ProbeAnswer, Refusal,
};

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What it wanted is so.
    Done,
    /// It was accepted and did not get there.
    Failed(Failure),
    /// It did not get there, and everything is again as it was before.
    RolledBack(Failure),
    /// It was refused and changed nothing.
    Refused(Refusal),
}

/// Where a pod is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodPhase {
    /// On its way to running.
    Pending,
    /// All its containers run.
    Running,
    /// It should run, and at least one container does not.
    Degraded,
    /// Stopped by order.
    Stopped,
    /// On its way off the node.
    Evicting,
    /// Off the node; its disks may be kept.
    Gone,
    /// It cannot be known: the runtime does not answer.
    Unknown,
    /// Down since the host rebooted; its charter has it wait for the control plane's word, which is a Start.
    Held,
}

impl PodPhase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Degraded,
        Self::Stopped,
        Self::Evicting,
        Self::Gone,
        Self::Unknown,
        Self::Held,
    ];
}

/// Where a container is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContainerPhase {
    /// Not created yet.
    Absent,
    /// Created, never started.
    Created,
    /// Its task runs.
    Running {
        /// Since when, nanoseconds after the epoch, as the runtime says.
        started_at_ns: u64,
        /// Process id of its first process on the host.
        pid: u32,
    },
    /// Its task has ended.
    Exited {
        /// Exit code; 128 + n for signal n.
        code: i32,
        /// When, nanoseconds after the epoch, as the runtime says.
        finished_at_ns: u64,
        /// Whether the kernel's OOM killer ended it, or what else the runtime names.
        reason: String,
    },
    /// It cannot be known; counts as live.
    Unknown,
}

/// One container of a pod, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Which.
    pub name: ContainerName,
    /// The runtime's id, if it has one.
    pub id: Option<String>,
    /// Which of its successive containers this is.
    pub attempt: Attempt,
    /// The image that it was made from.
    pub image_digest: Option<Digest>,
    /// Where it is.
    pub phase: ContainerPhase,
    /// What it is held to.
    pub applied: Option<Applied>,
    /// What its readiness probe last said; none without one, or as long as it has not been asked.
    pub readiness: Option<ProbeAnswer>,
}

/// A control of a cgroup: what was ordered, and what the kernel says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Control {
    /// The file, such as `cpu.max`; for a per-device file the key is appended: `io.max 8:0`.
    pub file: String,
    /// What was ordered, as the kernel would print it.
    pub ordered: String,
    /// What was read back.
    pub read: ControlValue,
}

/// What reading a control gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ControlValue {
    /// Its text, trimmed.
    Text(String),
    /// It could not be read.
    Unreadable(String),
}

impl Control {
    /// Whether the kernel has what was ordered.
    pub fn holds(&self) -> bool {
        matches!(&self.read, ControlValue::Text(text) if *text == self.ordered)
    }
}

/// All controls of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Applied {
    /// Path below the cgroup mount.
    pub cgroup: String,
    /// What was ordered and what is so, file by file.
    pub controls: Vec<Control>,
}

/// One pod, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodStatus {
    /// Which.
    pub pod: PodId,
    /// Its placement.
    pub incarnation: Incarnation,
    /// Revision of its spec.
    pub generation: Generation,
    /// In one word.
    pub phase: PodPhase,
    /// What it waits for or what is wrong, for people; empty if nothing.
    pub message: String,
    /// The runtime's id of its sandbox.
    pub sandbox_id: Option<String>,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<AddressGrant>,
    /// Its containers, in the order of the spec.
    pub containers: Vec<ContainerStatus>,
    /// What the pod as a whole is held to.
    pub applied: Option<Applied>,
    /// The order that is being carried out.
    pub open_order: Option<OrderId>,
}

impl PodStatus {
    /// Says one more thing for people.
    pub fn add_word(&mut self, word: &str) {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(word);
    }
}
