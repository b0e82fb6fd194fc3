//! Why an order was refused before any effect, or failed after it was accepted.

use crate::{
    Cidr, ContainerName, CpuSet, DeviceId, Generation, Incarnation, MemSet, NodeName, OrderId, PodId,
    PoolName, ProfileName, Seq, Term,
};

/// Why an order was refused. A refused order changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The order's term is below the highest seen.
    #[error("term {given} is older than {seen}, the highest seen")]
    StaleTerm {
        /// The order's.
        given: Term,
        /// The highest seen.
        seen: Term,
    },
    /// The order's incarnation is older than the one known here.
    #[error("incarnation {given} is older than {known}, which this node has seen")]
    StaleIncarnation {
        /// The order's.
        given: Incarnation,
        /// The one known here.
        known: Incarnation,
    },
    /// A newer incarnation arrives while an older one lives here.
    #[error("incarnation {living} still lives here: evict it first")]
    IncarnationLives {
        /// The one that lives.
        living: Incarnation,
    },
    /// The order's generation is older than the charter's.
    #[error("generation {given} is older than {known}, the charter's")]
    StaleGeneration {
        /// The order's.
        given: Generation,
        /// The charter's.
        known: Generation,
    },
    /// The order's seq was passed by another order.
    #[error("seq {given} is not above {seen}, the highest accepted for this pod")]
    StaleSeq {
        /// The order's.
        given: Seq,
        /// The highest accepted.
        seen: Seq,
    },
    /// An order id that is known with another content.
    #[error("order {0} is known with another content")]
    ChangedContent(OrderId),
    /// The order is for another node.
    #[error("the order is for node {0}")]
    WrongNode(NodeName),
    /// There is no such pod here.
    #[error("pod {0} is not on this node")]
    NoSuchPod(PodId),
    /// The pod runs already, under another order.
    #[error("pod {0} has a charter already: evict it first")]
    HasCharter(PodId),
    /// Release of a pod that is still on the node.
    #[error("pod {0} is still on this node: evict it first")]
    StillHere(PodId),
    /// Only a running pod is upgraded or resized.
    #[error("pod {0} is stopped: start it first")]
    Stopped(PodId),
    /// An Upgrade of what lives on the sandbox.
    #[error("{0} cannot be changed in place: evict the pod and run it anew")]
    NotInPlace(String),
    /// A Resize of what a running container cannot take on.
    #[error("{0} cannot be changed while the pod runs: upgrade it")]
    NotLive(String),
    /// An order that ends containers is half-way.
    #[error("order {order} ({verb}) is under way: wait for its end, or stop or evict the pod")]
    UnderWay {
        /// Which.
        order: OrderId,
        /// What it does.
        verb: &'static str,
    },
    /// Nothing was kept of that incarnation.
    #[error("no disk of incarnation {0} is kept here")]
    NoKeptDisk(Incarnation),
    /// CPUs that are someone else's.
    #[error("CPUs {cpus} belong to {holder}")]
    CpuConflict {
        /// Those in conflict.
        cpus: CpuSet,
        /// A pod, or a shared pool.
        holder: String,
    },
    /// CPUs that do not exist or are offline.
    #[error("CPUs {cpus} do not exist here or are offline (online: {online})")]
    NoSuchCpu {
        /// Those missing.
        cpus: CpuSet,
        /// Those that are online.
        online: CpuSet,
    },
    /// CPUs that no pod has.
    #[error("CPUs {cpus} are kept for the system's own services (reserved_cpus of berthd: {reserved})")]
    ReservedCpus {
        /// Those that were asked for.
        cpus: CpuSet,
        /// All that are kept.
        reserved: CpuSet,
    },
    /// Memory nodes that do not exist.
    #[error("memory nodes {mems} do not exist here (present: {present})")]
    NoSuchMemoryNode {
        /// Those missing.
        mems: MemSet,
        /// Those that have memory.
        present: MemSet,
    },
    /// A shared pool that was never set.
    #[error("shared CPU pool {0} is not set on this node")]
    NoSuchPool(PoolName),
    /// An address that is granted to another pod here.
    #[error("address {address} is granted to {holder}")]
    AddressConflict {
        /// The address.
        address: Cidr,
        /// Who has it.
        holder: PodId,
    },
    /// A limit on a mount point that no block device is beneath.
    #[error("mount point {mount_point} has no block device beneath: {why}")]
    NoSuchDevice {
        /// The path in the order.
        mount_point: String,
        /// What was found.
        why: String,
    },
    /// Huge pages of a size the kernel does not have.
    #[error("no huge pages of {0} on this node")]
    NoSuchPageSize(crate::Bytes),
    /// A profile that the host does not have.
    #[error("container {container}: {what} profile {name} is not on this host ({why})")]
    NoSuchProfile {
        /// Which container.
        container: ContainerName,
        /// `seccomp` or `AppArmor`.
        what: &'static str,
        /// The profile.
        name: ProfileName,
        /// Where it was looked for.
        why: String,
    },
    /// A path of the host that its administrator does not share.
    #[error("container {container}: {path} {why}")]
    NoSuchHostPath {
        /// Which container.
        container: ContainerName,
        /// The path on the host.
        path: String,
        /// What about it.
        why: &'static str,
    },
    /// A disk cannot be held to a size on this node.
    #[error("{what} cannot be held to a size on this node: {why}")]
    QuotaUnsupported {
        /// Which disk.
        what: String,
        /// Why.
        why: String,
    },
    /// A device that is another pod's data disk.
    #[error("device {device} is a data disk of pod {holder}")]
    DeviceConflict {
        /// Which.
        device: DeviceId,
        /// Whose it is.
        holder: PodId,
    },
    /// The node's kernel or runtime cannot do that.
    #[error("this node cannot do that: {0}")]
    Unsupported(String),
    /// The deadline had passed before the order could be taken.
    #[error("the deadline of {deadline_ms} ms has passed")]
    Expired {
        /// The order's.
        deadline_ms: u64,
    },
    /// The order is malformed.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A queue of the node is full: try again.
    #[error("{what} is full at {limit}: try again later")]
    Busy {
        /// Which.
        what: String,
        /// Its bound.
        limit: u64,
    },
}

impl Refusal {
    /// The variant's name, stable for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StaleTerm { .. } => "StaleTerm",
            Self::StaleIncarnation { .. } => "StaleIncarnation",
            Self::IncarnationLives { .. } => "IncarnationLives",
            Self::StaleGeneration { .. } => "StaleGeneration",
            Self::StaleSeq { .. } => "StaleSeq",
            Self::ChangedContent(_) => "ChangedContent",
            Self::WrongNode(_) => "WrongNode",
            Self::NoSuchPod(_) => "NoSuchPod",
            Self::HasCharter(_) => "HasCharter",
            Self::StillHere(_) => "StillHere",
            Self::Stopped(_) => "Stopped",
            Self::NotInPlace(_) => "NotInPlace",
            Self::NotLive(_) => "NotLive",
            Self::UnderWay { .. } => "UnderWay",
            Self::NoKeptDisk(_) => "NoKeptDisk",
            Self::CpuConflict { .. } => "CpuConflict",
            Self::NoSuchCpu { .. } => "NoSuchCpu",
            Self::ReservedCpus { .. } => "ReservedCpus",
            Self::NoSuchMemoryNode { .. } => "NoSuchMemoryNode",
            Self::NoSuchPool(_) => "NoSuchPool",
            Self::AddressConflict { .. } => "AddressConflict",
            Self::NoSuchDevice { .. } => "NoSuchDevice",
            Self::NoSuchPageSize(_) => "NoSuchPageSize",
            Self::NoSuchProfile { .. } => "NoSuchProfile",
            Self::NoSuchHostPath { .. } => "NoSuchHostPath",
            Self::QuotaUnsupported { .. } => "QuotaUnsupported",
            Self::DeviceConflict { .. } => "DeviceConflict",
            Self::Unsupported(_) => "Unsupported",
            Self::Expired { .. } => "Expired",
            Self::Invalid(_) => "Invalid",
            Self::Busy { .. } => "Busy",
        }
    }
}

/// Why an accepted order did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Time ran out.
    #[error("not done within {deadline_ms} ms; last: {last}")]
    DeadlineExceeded {
        /// The order's.
        deadline_ms: u64,
        /// What stood in the way last.
        last: String,
    },
    /// The image is not to be had.
    #[error("image {image}: {why}")]
    Image {
        /// Its name.
        image: String,
        /// What the runtime said.
        why: String,
    },
    /// The image is another one than ordered.
    #[error("image {image} is {found}, ordered was {ordered}")]
    WrongDigest {
        /// Its name.
        image: String,
        /// What the registry has.
        found: String,
        /// What was ordered.
        ordered: String,
    },
    /// The runtime refused an effect in a way that trying again will not mend.
    #[error("{step}: {why}")]
    Effect {
        /// Which step.
        step: String,
        /// What was said.
        why: String,
    },
    /// A container did not become ready, or ended before it was.
    #[error("container {container} did not become ready: {why}")]
    NotReady {
        /// Which.
        container: ContainerName,
        /// What was seen of it.
        why: String,
    },
    /// What was ordered cannot be honoured on this host as it is now.
    #[error("the host has changed: {why}")]
    Unhonourable {
        /// What is missing.
        why: String,
    },
    /// A later order of the same pod replaced this one.
    #[error("replaced by order {by}")]
    Superseded {
        /// The later one.
        by: OrderId,
    },
}

impl Failure {
    /// The variant's name, stable for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::Image { .. } => "Image",
            Self::WrongDigest { .. } => "WrongDigest",
            Self::Effect { .. } => "Effect",
            Self::NotReady { .. } => "NotReady",
            Self::Unhonourable { .. } => "Unhonourable",
            Self::Superseded { .. } => "Superseded",
        }
    }
}
