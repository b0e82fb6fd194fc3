//! Why a spec was not accepted.

use crate::{
    ContainerName, CpuSet, Digest, InvalidConfig, InvalidDisks, InvalidHostPath, InvalidLifecycle,
    InvalidLimits, InvalidSecurity, InvalidSysctl, InvalidUlimit,
};
use std::net::IpAddr;

/// Why a spec was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A pod without containers.
    #[error("pod has no container")]
    NoContainer,
    /// Nothing but containers that prepare or serve.
    #[error("no container has the role Main: init containers and sidecars have nothing to serve")]
    NoMainContainer,
    /// More containers than a pod may have.
    #[error("pod has {0} containers, at most 64 are possible")]
    TooManyContainers(usize),
    /// Two containers of one name.
    #[error("container name {0} is given twice")]
    DuplicateContainer(ContainerName),
    /// The host name is no DNS label.
    #[error("hostname {0:?} is no DNS label")]
    Hostname(String),
    /// An exclusive binding to nothing.
    #[error("exclusive binding names no {0}")]
    EmptyBinding(&'static str),
    /// A container of a pod on shared CPUs asks for CPUs of its own.
    #[error("container {0} asks for CPUs of its own, but the pod runs on shared ones")]
    CpusWithoutExclusive(ContainerName),
    /// A container asks for CPUs that are not its pod's.
    #[error("container {container} asks for CPUs {asked}, the pod has {granted}")]
    OutsidePod {
        /// Which container.
        container: ContainerName,
        /// What it asks for.
        asked: CpuSet,
        /// What its pod has.
        granted: CpuSet,
    },
    /// An environment variable that no process could have.
    #[error("container {container}: environment variable {name:?} is empty or holds = or NUL")]
    Env {
        /// Which container.
        container: ContainerName,
        /// The variable's name.
        name: String,
    },
    /// A string that holds NUL, which no argument can.
    #[error("container {container}: {what} holds a NUL byte")]
    Nul {
        /// Which container.
        container: ContainerName,
        /// Where.
        what: &'static str,
    },
    /// A readiness probe that cannot be run.
    #[error("container {container}: readiness probe {why}")]
    Readiness {
        /// Which container.
        container: ContainerName,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A readiness probe of a container that is ready once it has ended.
    #[error("container {0}: an init container has no readiness probe, it has to end with exit code 0")]
    ReadinessOfInit(ContainerName),
    /// A working directory that is no clean absolute path.
    #[error("container {container}: working directory {path:?} is no absolute path without . and ..")]
    WorkingDir {
        /// Which container.
        container: ContainerName,
        /// The path.
        path: String,
    },
    /// Security that makes no sense.
    #[error("security of container {container}")]
    Security {
        /// Which container.
        container: ContainerName,
        /// Why.
        source: InvalidSecurity,
    },
    /// A way to end that makes no sense.
    #[error("lifecycle of container {container}")]
    Lifecycle {
        /// Which container.
        container: ContainerName,
        /// Why.
        source: InvalidLifecycle,
    },
    /// Kernel parameters that are not the pod's, or make no sense.
    #[error("sysctls")]
    Sysctls(#[from] InvalidSysctl),
    /// Limits that make no sense.
    #[error("limits of {of}")]
    Limits {
        /// The pod, or a container.
        of: String,
        /// Why.
        source: InvalidLimits,
    },
    /// Ulimits that make no sense.
    #[error("ulimits of container {container}")]
    Ulimits {
        /// Which container.
        container: ContainerName,
        /// Why.
        source: InvalidUlimit,
    },
    /// Disks or mounts that make no sense.
    #[error("disks")]
    Disks(#[from] InvalidDisks),
    /// Configuration that makes no sense.
    #[error("configuration of {of}")]
    Config {
        /// The pod, or a container.
        of: String,
        /// Why.
        source: InvalidConfig,
    },
    /// Paths of the host that make no sense.
    #[error("container {container}")]
    HostPaths {
        /// Which container.
        container: ContainerName,
        /// Why.
        source: InvalidHostPath,
    },
    /// Name service that resolv.conf cannot say.
    #[error("dns: {0}")]
    Dns(String),
    /// Something of its own that only a pod with a network of its own can have.
    #[error("a pod in its host's network has no {0} of its own")]
    HostNetwork(String),
    /// Two addresses of one family.
    #[error("{0} and {1} are of one family, and a pod has at most one address of each")]
    TwoOfAFamily(String, String),
    /// A gateway outside the address's network.
    #[error("gateway {gateway} is not in the network of {address}")]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The address.
        address: String,
    },
    /// Image name and digest disagree.
    #[error("container {container}: image {image} and digest {digest} name different images")]
    DigestMismatch {
        /// Which container.
        container: ContainerName,
        /// The name.
        image: String,
        /// The digest.
        digest: Digest,
    },
}
