//! What was seen when the daemon looked: at CRI, at containerd's own records, at tasks, cgroups and images.

use berth_model::{Attempt, ContainerName, Digest, DiskName, Generation, Incarnation};
use std::collections::{BTreeMap, BTreeSet};

/// Everything seen of one pod in one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Every sandbox that carries the pod's identity, of any incarnation.
    pub sandboxes: Vec<ObservedSandbox>,
    /// Every container that carries the pod's identity, of any incarnation.
    pub containers: Vec<ObservedContainer>,
    /// The image of each container in the charter.
    pub images: BTreeMap<ContainerName, ImageState>,
    /// Every data disk of the charter, and every other one of the identity that is on the node.
    pub disks: BTreeMap<DiskName, DiskState>,
    /// Data disks that end when the pod leaves the node, and are here, whether or not the charter has them.
    pub scratch: BTreeSet<DiskName>,
    /// The pod's slice.
    pub slice: SliceState,
    /// Runtime ids of containers whose controls were written in this look already (the empty id is the slice):
    /// values are written once a look, and what still differs then is reported.
    pub rewritten: BTreeSet<String>,
    /// What of the charter the host cannot honour as it is now, such as a CPU that is gone.
    pub obstacle: Option<String>,
    /// Set once the host shuts down.
    pub shutdown: Option<Shutdown>,
    /// When, on the node's monotonic clock, milliseconds.
    pub now_ms: u64,
}

/// The host shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long it waits for us, milliseconds.
    pub left_ms: u64,
}

/// Whether something may still run. Only proof counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// No task exists and its cgroup is gone or not populated: seen in this look.
    Dead,
    /// A task exists or its cgroup is populated.
    Live,
    /// It cannot be known; treated as live.
    Unknown,
}

/// What containerd says of a container, beside its liveness.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Created, not started: the only state that StartContainer accepts.
    Created,
    /// Started.
    Running,
    /// Ended.
    Exited {
        /// Exit code.
        code: i32,
        /// How long ago, milliseconds.
        ago_ms: u64,
    },
    /// The runtime could not start it: it has never run, and never will.
    StartFailed {
        /// How long ago, milliseconds.
        ago_ms: u64,
    },
    /// Ended while nobody looked: with the host, or with the runtime.
    Interrupted {
        /// How long ago, milliseconds.
        ago_ms: u64,
    },
    /// The runtime does not know.
    Unknown,
}

impl TaskState {
    /// Whether its program has not run at all.
    pub fn has_not_run(&self) -> bool {
        matches!(self, Self::Created | Self::StartFailed { .. })
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The runtime's id.
    pub id: String,
    /// Its name in the pod.
    pub name: ContainerName,
    /// Which placement it belongs to.
    pub incarnation: Incarnation,
    /// The pod's generation whose spec it was made by.
    pub generation: Generation,
    /// Which of its successive containers it is.
    pub attempt: Attempt,
    /// The sandbox it lies in.
    pub sandbox_id: String,
    /// What containerd says.
    pub state: TaskState,
    /// How long it has been running, milliseconds, if it is.
    pub running_ms: Option<u64>,
    /// What tasks and cgroups prove.
    pub liveness: Liveness,
    /// The snapshot that its record names, if any.
    pub disk_key: Option<String>,
    /// Whether its spec carries what CRI cannot say (ulimits).
    pub amended: bool,
    /// Whether its cgroup holds what was ordered.
    pub controls: Controls,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// The runtime's id.
    pub id: String,
    /// Which placement it belongs to.
    pub incarnation: Incarnation,
    /// Which of the pod's successive sandboxes it is.
    pub attempt: Attempt,
    /// Whether the runtime calls it ready.
    pub ready: bool,
    /// Of its own task (pause) and cgroup.
    pub liveness: Liveness,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// It is here.
    Present {
        /// What the name, or the charter's digest, resolves to here.
        digest: Digest,
    },
    /// It is not.
    Absent,
}

/// One data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// It is not there.
    Absent,
    /// It is there, as the charter has it if it is in the charter.
    Present,
    /// It is there, and otherwise than the charter has it.
    Wrong {
        /// What is different, for people.
        why: String,
    },
}

/// The pod's slice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SliceState {
    /// There is none.
    #[default]
    Absent,
    /// There is one.
    Present {
        /// Whether it holds what was ordered.
        controls: Controls,
        /// Whether anything runs in it.
        liveness: Liveness,
    },
}

/// Whether a cgroup holds what was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Controls {
    /// Every control reads back as ordered.
    InOrder,
    /// These files do not.
    Drifted(Vec<String>),
    /// There is no cgroup yet, or no more.
    Absent,
}
