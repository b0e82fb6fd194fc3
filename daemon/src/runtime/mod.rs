//! Effects on containerd, systemd and the kernel, typed by warrant, and the look at what is there.
//!
//! [`Runtime`] is what a pod's task needs; [`crate::pod`] owns the trait's meaning, the real one here talks CRI and
//! containerd's own API over one socket, systemd over D-Bus, and cgroup files; a stateful, unkind fake serves the tests.

mod account;
mod answers;
#[cfg(any(test, feature = "fake"))]
pub mod cases;
mod client;
mod cni_cache;
mod config_files;
mod containerd;
mod controls;
mod cri;
mod data_disk;
mod disk;
mod error;
mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod files;
mod full_disks;
mod host_path;
mod identity;
mod image;
mod kernel;
mod listed;
mod liveness;
mod logs;
mod lost_leases;
mod lost_shims;
mod observe;
mod pause;
mod prlimit;
mod probe;
mod proof;
mod real;
mod rlimits;
mod status;
mod stopping;
mod system_disk;
mod systemd;

pub use account::Account;
pub use answers::{Answers, Seen};
pub use events::{Exit, Hint, UNSAID};
pub use identity::{ROOT_SLICE, pod_hash, pod_uid, slice_name, slice_path};
pub use image::SeenImage;
pub use kernel::KernelRoots;
pub use listed::Listed;
pub use logs::{Follow, Keeper as LogKeeper, LogError, LogLimits, LogQuery, read_logs};
pub use lost_shims::LostShims;
pub use pause::PAUSE_IMAGE;
pub use prlimit::shows as limits_show;
pub use proof::DeathProof;
pub use real::{CONTAINERD_ROOT, ContainerdRuntime, RuntimePaths};

use crate::ledger::{LifeWarrant, OrderWarrant, Warrant};
use berth_model::{
    Attempt, ContainerName, CpuSet, Digest, DiskName, Generation, ImageName, Incarnation, MemSet, PodId,
    PodSpec, PodStatus, Probe, ProbeAnswer,
};
use berth_plan::{Observed, PodLimits, PodRecord};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;

/// A pod as it is ordered: the charter's spec, and the CPUs and memory nodes with any shared pool resolved.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// Which.
    pub pod: PodId,
    /// Its placement; CRI's pod uid is derived from both.
    pub incarnation: Incarnation,
    /// The exact spec.
    pub spec: PodSpec,
    /// Exclusive ones, or the shared pool's at the moment.
    pub cpus: CpuSet,
    /// Likewise.
    pub mems: MemSet,
    /// The spec that an open Upgrade or Resize comes from, or that it had wanted: ulimits that it had otherwise are changed.
    pub other: Option<Box<PodSpec>>,
    /// As [`PodRecord::former_limits`]: those that the spec does not order are undone.
    pub former: PodLimits,
}

/// Which container of its name is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    /// Which of its successive containers.
    pub attempt: Attempt,
    /// The pod's generation that its spec is of.
    pub generation: Generation,
    /// Its image.
    pub digest: Digest,
}

/// Why an effect did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Trying again may help: the runtime does not answer, or is busy.
    #[error("{what}: {why}")]
    Transient {
        /// What we tried, with the id.
        what: String,
        /// What was said.
        why: String,
    },
    /// Trying again will not help.
    #[error("{what}: {why}")]
    Permanent {
        /// What we tried, with the id.
        what: String,
        /// What was said.
        why: String,
    },
    /// The name stands for another image than the one ordered. Trying again will not help.
    #[error("image {image} is {found}, ordered was {ordered}")]
    WrongDigest {
        /// Its name.
        image: String,
        /// What the registry has.
        found: String,
        /// What was ordered.
        ordered: String,
    },
}

/// Everything that a pod's task can do, and see.
pub trait Runtime: Send + Sync + 'static {
    /// Looks at everything of one pod: CRI, containerd's containers, tasks and snapshots, cgroups, images.
    fn observe(
        &self,
        record: &PodRecord,
        ordered: Option<&Ordered>,
    ) -> impl Future<Output = Result<Observed, RuntimeError>> + Send;

    /// The pod as it is reported: from the same look, with every control read back.
    fn status(
        &self,
        record: &PodRecord,
        ordered: Option<&Ordered>,
        observed: &Observed,
    ) -> impl Future<Output = PodStatus> + Send;

    /// Looks again, and proves these containers and sandboxes dead, or says which is not.
    fn prove_dead(
        &self,
        pod: &PodId,
        ids: BTreeSet<String>,
    ) -> impl Future<Output = Result<DeathProof, RuntimeError>> + Send;

    /// Pulls the image unless it is here; answers its digest.
    fn ensure_image(
        &self,
        image: &ImageName,
        digest: Option<&Digest>,
    ) -> impl Future<Output = Result<Digest, RuntimeError>> + Send;

    /// Makes the pod's data disks and holds them to their sizes.
    fn ensure_disks(&self, ordered: &Ordered) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Makes the pod's slice and holds it to the pod's limits; writes them again if they drifted.
    fn ensure_slice(&self, ordered: &Ordered) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Makes the sandbox; answers its id.
    fn run_sandbox(
        &self,
        ordered: &Ordered,
        attempt: Attempt,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// Makes a container, not started; answers its id and its snapshot's key.
    fn create_container(
        &self,
        ordered: &Ordered,
        sandbox_id: &str,
        container: &ContainerName,
        making: &Making,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// Hands the disk `key` to the created container `to_id`, detaching it from the dead `from_id` first.
    /// `proof` shows that `from_id` is dead. Each half is idempotent; what was done is read back.
    fn adopt_disk(
        &self,
        proof: Option<&DeathProof>,
        from_id: Option<&str>,
        to_id: &str,
        key: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Takes the disk `key` off the dead `from_id`, and pins it.
    fn detach_disk(
        &self,
        proof: &DeathProof,
        from_id: &str,
        key: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Writes ulimits into a created container's spec.
    fn amend_spec(
        &self,
        ordered: &Ordered,
        container: &ContainerName,
        id: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Starts a created container.
    fn start_container(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Writes a running container's controls to its scope: unit properties, and files where systemd models nothing.
    fn update_resources(
        &self,
        ordered: &Ordered,
        container: &ContainerName,
        id: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Puts a readiness probe's question to a container once; over the network, at this address.
    fn probe(
        &self,
        id: &str,
        address: IpAddr,
        probe: &Probe,
    ) -> impl Future<Output = Result<ProbeAnswer, RuntimeError>> + Send;

    /// Ends it as it was made to be ended: its own command, its own signal or SIGTERM, and SIGKILL after the grace.
    fn stop_container(
        &self,
        warrant: &LifeWarrant,
        id: &str,
        grace_ms: u64,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Removes a container and the disk that it names.
    fn remove_container(
        &self,
        warrant: &Warrant,
        id: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Stops a sandbox and whatever is inside.
    fn stop_sandbox(
        &self,
        warrant: &Warrant,
        id: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Removes a sandbox and whatever is inside.
    fn remove_sandbox(
        &self,
        warrant: &Warrant,
        id: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Stops and removes the pod's slice.
    fn remove_slice(
        &self,
        warrant: &Warrant,
        pod: &PodId,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Removes kept snapshots, and gives up data disks.
    fn release_disks(
        &self,
        warrant: &OrderWarrant,
        keys: &[String],
        data: &BTreeSet<DiskName>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Gives up scratch of these names, and nothing that is kept under the same ones.
    fn release_scratch(
        &self,
        warrant: &OrderWarrant,
        disks: &BTreeSet<DiskName>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}
