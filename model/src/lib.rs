//! The vocabulary of Berth: identities, specs, orders, resources, CPU sets, statuses, reasons.
//!
//! Everything that crosses a boundary (wire, ledger, YAML) is parsed into these types once, at that boundary,
//! and is valid from then on: a [`PodId`] is two DNS labels, a [`CpuSet`] holds no CPU above [`CpuSet::MAX_CPU`],
//! a [`Limits`] has passed [`Limits::validate`]. Start with [`PodRequest`] (what a platform asks for),
//! [`PodSpec`] (what a node is told, with nothing left to choose) and [`Order`].
//!
//! This crate does no I/O, reads no clock, and is not `Serialize`: wire and disk have types of their own.
#![forbid(unsafe_code)]

mod config;
mod cpuset;
mod disk;
mod host_path;
mod id;
mod image;
mod invalid_spec;
mod lifecycle;
mod limits;
mod net;
mod order;
mod pod;
mod probe;
mod quantity;
mod reason;
mod request;
mod role;
mod security;
mod status;
mod sysctl;
mod ulimit;

pub use config::{
    ConfigFile, ConfigFolder, ConfigMode, InvalidConfig, MAX_CONFIG_BYTES, MAX_CONFIG_FILES,
    MAX_CONFIG_FOLDERS,
};
pub use cpuset::{CpuSet, MemSet, ParseSetError};
pub use disk::{
    Access, DataDisk, DeviceId, DiskLife, DiskMount, DiskSource, Filesystem, InvalidDisks, MAX_DISKS,
    MAX_MOUNTS,
};
pub use host_path::{HostPath, InvalidHostPath, MAX_HOST_PATHS, SharedPaths, is_shareable};
pub use id::{
    Attempt, ContainerName, DiskName, Generation, Incarnation, InvalidName, NodeName, OrderId, PodId,
    PoolName, RolloutName, Seq, Term,
};
pub use image::{Digest, ImageName, InvalidImage};
pub use invalid_spec::InvalidSpec;
pub use lifecycle::{InvalidLifecycle, Lifecycle, Signal};
pub use limits::{
    AppClass, CpuMax, CpuWeight, HugetlbLimit, InvalidLimits, IoLimit, IoWeight, Limits, MemoryLimits,
    SwapLimit,
};
pub use net::{AddressGrant, Cidr, InvalidCidr};
pub use order::{
    Disk, DiskFetch, DiskOffer, EvictDisposition, MAX_PEER_ADDRESSES, NodeOrder, NodeVerb, Order, PodOrder,
    PodVerb, Target,
};
pub use pod::{
    ContainerSpec, CpuBinding, DiskPolicy, DnsConfig, EnvVar, MAX_CONTAINERS, PodNetwork, PodSpec,
    RecoveryPolicy, RestartPolicy, RunState, User,
};
pub use probe::{Probe, ProbeAction, ProbeAnswer};
pub use quantity::{Bytes, InvalidQuantity, MilliCpu};
pub use reason::{Failure, Refusal};
pub use request::{ContainerRequest, CpuRequest, PodRequest, validate_requested_disks};
pub use role::ContainerRole;
pub use security::{
    Capabilities, Capability, InvalidSecurity, MAX_GROUPS, PrivilegeGain, Profile, ProfileName,
    SECCOMP_FOLDER, Security,
};
pub use status::{
    Applied, ContainerPhase, ContainerStatus, Control, ControlValue, Outcome, PodPhase, PodStatus,
};
pub use sysctl::{InvalidSysctl, MAX_SYSCTLS, Sysctls};
pub use ulimit::{InvalidUlimit, Rlimit, Ulimit};
