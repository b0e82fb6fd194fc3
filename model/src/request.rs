//! What a platform asks for; placement turns it into a [`PodSpec`](crate::PodSpec).

use crate::disk::{ContainerDisks, validate_disks};
use crate::{
    AppClass, ContainerRole, CpuSet, DiskPolicy, DnsConfig, EnvVar, ImageName, Lifecycle, Limits, MemSet,
    MilliCpu, NodeName, PodId, PodNetwork, PoolName, RecoveryPolicy, RestartPolicy, Security, Sysctls,
    Ulimit, User,
};
use crate::{
    Bytes, ConfigFolder, ContainerName, DataDisk, Digest, DiskMount, DiskSource, HostPath, InvalidDisks,
    InvalidSpec, Probe,
};
use std::collections::BTreeMap;

/// How a pod wants its CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuRequest {
    /// So many for itself alone, on the best memory node.
    Exclusive {
        /// At least one.
        count: u32,
    },
    /// Exactly these for itself alone.
    Exact {
        /// At least one.
        cpus: CpuSet,
        /// The memory nodes to go with them; those of the CPUs when absent.
        mems: Option<MemSet>,
    },
    /// A pool shared with others, of which it expects to use so much.
    Shared {
        /// Name of the pool on the node.
        pool: PoolName,
        /// What is reserved for it in the pool's accounts.
        request: MilliCpu,
    },
}

/// One container of a requested pod. See [`ContainerSpec`](crate::ContainerSpec) for the fields of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// Unique in the pod.
    pub name: ContainerName,
    /// When it starts and ends among the others.
    pub role: ContainerRole,
    /// Where the image comes from.
    pub image: ImageName,
    /// The exact image, if the platform pins it.
    pub digest: Option<Digest>,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment.
    pub env: Vec<EnvVar>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<User>,
    /// What its processes may do.
    pub security: Security,
    /// How it is asked to end.
    pub lifecycle: Lifecycle,
    /// Where it sees the pod's data disks.
    pub mounts: Vec<DiskMount>,
    /// Its configuration.
    pub config: Vec<ConfigFolder>,
    /// What it has of its host; only a host that shares it will do.
    pub host_paths: Vec<HostPath>,
    /// Its system disk is held to so much; as large as the node's disk when absent.
    pub system_disk_size: Option<Bytes>,
    /// What the container alone is held to.
    pub limits: Limits,
    /// So many of the pod's exclusive CPUs for this container alone; it may use all of them when absent.
    pub exclusive_cpus: Option<u32>,
    /// Resource limits of the container's processes.
    pub ulimits: Vec<Ulimit>,
    /// How to tell that it can do its work.
    pub readiness: Option<Probe>,
}

/// A pod as a platform submits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRequest {
    /// Who it is.
    pub pod: PodId,
    /// What it is selected by; no node hears of them.
    pub labels: BTreeMap<String, String>,
    /// The pod's name when absent; a pod in its host's network has its host's.
    pub hostname: Option<String>,
    /// What kind of application it is; decides the CPU weight where `limits` names none.
    pub class: AppClass,
    /// Placed and recovered first when higher.
    pub priority: u32,
    /// At least one.
    pub containers: Vec<ContainerRequest>,
    /// Its data disks.
    pub disks: Vec<DataDisk>,
    /// How it wants its CPUs.
    pub cpu: CpuRequest,
    /// What is reserved for it on the node; its `memory.max` when absent.
    pub memory_request: Option<Bytes>,
    /// What all its containers together are held to.
    pub limits: Limits,
    /// Whose network it is in.
    pub network: PodNetwork,
    /// Where its addresses come from, at most one pool of each family. In a network of its own it needs one.
    pub address_pools: Vec<PoolName>,
    /// Only this node will do.
    pub node: Option<NodeName>,
    /// Only nodes that carry all these labels will do.
    pub node_labels: BTreeMap<String, String>,
    /// Its name service.
    pub dns: DnsConfig,
    /// Kernel parameters of its own namespaces.
    pub sysctls: Sysctls,
    /// When dead containers are started again.
    pub restart: RestartPolicy,
    /// What they find then.
    pub disk: DiskPolicy,
    /// What a reboot needs.
    pub recovery: RecoveryPolicy,
    /// How long a container has between SIGTERM and SIGKILL where an order does not say, milliseconds.
    pub stop_grace_ms: u64,
}

impl PodRequest {
    /// The default of [`PodRequest::stop_grace_ms`]; Kubernetes has the same.
    pub const DEFAULT_STOP_GRACE_MS: u64 = 30_000;

    /// Checks that a pod in its host's network asks for none of its own.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate_network(&self) -> Result<(), InvalidSpec> {
        match (self.network, self.address_pools.is_empty(), &self.hostname) {
            (PodNetwork::Own, _, _) | (PodNetwork::Host, true, None) => Ok(()),
            (PodNetwork::Host, false, _) => Err(InvalidSpec::HostNetwork("addresses".to_owned())),
            (PodNetwork::Host, true, Some(_)) => Err(InvalidSpec::HostNetwork("host name".to_owned())),
        }
    }

    /// Checks disks and mounts, as far as a request can know them.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate_disks(&self) -> Result<(), InvalidDisks> {
        validate_requested_disks(&self.disks, &self.containers, self.node.as_ref())
    }
}

/// Checks disks and mounts, as far as a request can know them. A device is on one node, so the request has to name
/// that node.
///
/// # Errors
/// The first thing found wrong.
pub fn validate_requested_disks(
    disks: &[DataDisk],
    containers: &[ContainerRequest],
    node: Option<&NodeName>,
) -> Result<(), InvalidDisks> {
    let containers = containers.iter().map(|container| ContainerDisks {
        container: &container.name,
        mounts: &container.mounts,
        system_disk_size: container.system_disk_size,
    });
    validate_disks(disks, containers)?;
    let device = disks.iter().find_map(|disk| match &disk.source {
        DiskSource::Device { id, .. } => Some(id),
        DiskSource::Directory { .. } | DiskSource::Memory { .. } => None,
    });
    match (device, node) {
        (Some(device), None) => Err(InvalidDisks::NoNode(device.clone())),
        (Some(_), Some(_)) | (None, _) => Ok(()),
    }
}
