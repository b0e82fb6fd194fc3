//! The one thing to do next.

use berth_model::{Attempt, ContainerName, Digest, DiskName, Failure, ImageName, OrderId, Probe};
use std::collections::BTreeSet;

/// What permits an effect on something that may hold a life or a disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cover {
    /// An open order: may stop what is live.
    Order(OrderId),
    /// The charter: only what is freshly proven dead, every container inside included.
    Charter,
    /// The host shuts down: may stop what is live, and removes nothing.
    HostShutdown,
}

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Look again at this time at the latest, on the node's monotonic clock, milliseconds;
    /// none: at the next event or periodic look.
    pub until_ms: Option<u64>,
    /// What for, for people.
    pub why: String,
}

/// One step. Every step is idempotent: doing it again after a crash does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Pull an image, or find it here, and note its digest in the ledger.
    EnsureImage {
        /// Whose.
        container: ContainerName,
        /// Where from.
        image: ImageName,
        /// What it must be.
        digest: Option<Digest>,
    },
    /// Make the charter's data disks, and hold them to their sizes.
    EnsureDisks,
    /// Make the pod's slice and hold it to the pod's limits.
    EnsureSlice,
    /// Make the sandbox. The ledger notes the attempt first.
    RunSandbox {
        /// Which of the pod's successive sandboxes.
        attempt: Attempt,
    },
    /// Make a container in the sandbox, not started. The ledger notes the attempt first.
    CreateContainer {
        /// The sandbox's id.
        sandbox_id: String,
        /// Which.
        container: ContainerName,
        /// Which of its successors.
        attempt: Attempt,
    },
    /// Hand a system disk to the new attempt, detaching it from the old one first.
    AdoptSystemDisk {
        /// Which container.
        container: ContainerName,
        /// The runtime's id of the dead holder; none when no container names the disk.
        from_id: Option<String>,
        /// The runtime's id of the heir, created and not started.
        to_id: String,
        /// The snapshot's key.
        key: String,
    },
    /// Take a system disk off the container that names it, so that removing the container leaves it.
    DetachSystemDisk {
        /// Which container.
        container: ContainerName,
        /// The runtime's id of the dead holder.
        from_id: String,
        /// The snapshot's key.
        key: String,
    },
    /// Write into a created container's spec what CRI cannot say (ulimits).
    AmendSpec {
        /// Which.
        container: ContainerName,
        /// The runtime's id.
        id: String,
    },
    /// Start a created container.
    StartContainer {
        /// Which.
        container: ContainerName,
        /// The runtime's id.
        id: String,
    },
    /// Write the ordered limits of a running container to its cgroup, again if something overwrote them.
    UpdateResources {
        /// Which; none for the pod's slice.
        container: Option<ContainerName>,
        /// The runtime's id; empty for the slice.
        id: String,
    },
    /// Find out whether a running container can do its work.
    AwaitReady {
        /// Which.
        container: ContainerName,
        /// The runtime's id.
        id: String,
        /// How to tell.
        probe: Probe,
    },
    /// Its own command and signal or SIGTERM, and SIGKILL after the grace. A charter does not cover this.
    StopContainer {
        /// The runtime's id.
        id: String,
        /// Between the two signals, milliseconds.
        grace_ms: u64,
        /// What permits it.
        cover: Cover,
    },
    /// Remove a container that is dead, with the disk it names.
    RemoveContainer {
        /// The runtime's id.
        id: String,
        /// What permits it.
        cover: Cover,
    },
    /// Stop a sandbox: its pause task and network, and whatever is inside.
    StopSandbox {
        /// The runtime's id.
        id: String,
        /// What permits it.
        cover: Cover,
    },
    /// Remove a stopped sandbox, and whatever is inside.
    RemoveSandbox {
        /// The runtime's id.
        id: String,
        /// What permits it.
        cover: Cover,
    },
    /// Stop and remove the pod's slice.
    RemoveSlice {
        /// What permits it.
        cover: Cover,
    },
    /// Give up what was kept: system disks and data disks.
    ReleaseDisks {
        /// The keys of the system disks' snapshots.
        keys: Vec<String>,
        /// The data disks.
        data: BTreeSet<DiskName>,
        /// The order that gives them up.
        order: OrderId,
    },
    /// Give up the scratch of a pod that leaves; what is kept stays.
    ReleaseScratch {
        /// The data disks.
        disks: BTreeSet<DiskName>,
        /// The order by which the pod leaves.
        order: OrderId,
    },
    /// End the address grant and drop the charter: the pod is off the node.
    EndGrant {
        /// The order that says so.
        order: OrderId,
    },
    /// The world is as the record says; an open order is done, or its Run is undone.
    Settled,
    /// Nothing can be done now.
    Wait(Wait),
    /// The open order cannot be carried out.
    Refuse {
        /// Why.
        why: Failure,
    },
}

impl Step {
    /// The step in a few words, for people and logs.
    pub fn describe(&self) -> String {
        match self {
            Self::EnsureImage { container, image, .. } => {
                format!("pull image {image} of container {container}")
            }
            Self::EnsureDisks => "make the pod's data disks".to_owned(),
            Self::EnsureSlice => "make the pod's slice".to_owned(),
            Self::RunSandbox { attempt } => format!("make sandbox, attempt {attempt}"),
            Self::CreateContainer { container, attempt, .. } => {
                format!("make container {container}, attempt {attempt}")
            }
            Self::AdoptSystemDisk { container, key, to_id, .. } => {
                format!("hand system disk {key} of container {container} to {to_id}")
            }
            Self::DetachSystemDisk { container, key, from_id } => {
                format!("take system disk {key} of container {container} off {from_id}")
            }
            Self::AmendSpec { container, .. } => format!("write ulimits of container {container}"),
            Self::StartContainer { container, .. } => format!("start container {container}"),
            Self::UpdateResources { container: Some(container), .. } => {
                format!("write limits of container {container}")
            }
            Self::UpdateResources { container: None, .. } => "write limits of the pod's slice".to_owned(),
            Self::AwaitReady { container, .. } => format!("wait until container {container} is ready"),
            Self::StopContainer { id, .. } => format!("stop container {id}"),
            Self::RemoveContainer { id, .. } => format!("remove container {id}"),
            Self::StopSandbox { id, .. } => format!("stop sandbox {id}"),
            Self::RemoveSandbox { id, .. } => format!("remove sandbox {id}"),
            Self::RemoveSlice { .. } => "remove the pod's slice".to_owned(),
            Self::ReleaseDisks { keys, data, .. } => {
                let data = data.iter().map(ToString::to_string);
                format!("remove disks {}", keys.iter().cloned().chain(data).collect::<Vec<_>>().join(", "))
            }
            Self::ReleaseScratch { disks, .. } => {
                format!(
                    "remove scratch {}",
                    disks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                )
            }
            Self::EndGrant { .. } => "end the address grant".to_owned(),
            Self::Settled => "nothing".to_owned(),
            Self::Wait(wait) => format!("wait: {}", wait.why),
            Self::Refuse { why } => format!("give up: {why}"),
        }
    }
}
