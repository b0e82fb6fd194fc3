//! A node, as far as placement needs to know it.

use berth_model::{Bytes, CpuSet, MilliCpu, NodeName, PoolName, SharedPaths};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a node takes new pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not.
    NotReady {
        /// Why, for people.
        why: String,
    },
}

/// A pool of shared CPUs on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedPoolView {
    /// Its CPUs; each counts 1000 milli-CPUs.
    pub cpus: CpuSet,
    /// What its members have reserved.
    pub requested: MilliCpu,
}

/// What placement looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Which node.
    pub name: NodeName,
    /// Whether it takes new pods.
    pub readiness: Readiness,
    /// What a request's `node_labels` are compared with.
    pub labels: BTreeMap<String, String>,
    /// The shared pools that are set on it.
    pub pools: BTreeMap<PoolName, SharedPoolView>,
    /// CPUs that a pod could have for itself alone, those that a shared pool would lend included.
    pub free_cpus: CpuSet,
    /// So many of the free CPUs have to stay behind for the pods of the pool that lends them.
    pub kept_back_cpus: u32,
    /// Memory for pods.
    pub memory_capacity: Bytes,
    /// What its pods have reserved.
    pub memory_requested: Bytes,
    /// Mount points with a block device beneath.
    pub mount_points: BTreeSet<String>,
    /// Whether it shares its network with pods.
    pub host_network: bool,
    /// What it shares with containers.
    pub host_paths: SharedPaths,
    /// Sizes of huge pages.
    pub page_sizes: BTreeSet<Bytes>,
    /// Pods on it.
    pub pods: u32,
    /// Most pods that are placed on it.
    pub max_pods: u32,
}

impl NodeView {
    /// How many CPUs it can give away for exclusive use.
    pub fn lendable_cpus(&self) -> usize {
        self.free_cpus.len().saturating_sub(self.kept_back_cpus as usize)
    }

    /// Memory that nobody has reserved. Zero on a node that carries more than fits.
    pub fn free_memory(&self) -> Bytes {
        Bytes(self.memory_capacity.0.saturating_sub(self.memory_requested.0))
    }
}

impl SharedPoolView {
    /// What nobody has reserved, in thousandths of a CPU. Zero on a pool that carries more than fits.
    pub fn free_milli(&self) -> u64 {
        self.capacity_milli().saturating_sub(u64::from(self.requested.0))
    }

    /// What the pool's CPUs add up to, in thousandths of a CPU.
    pub fn capacity_milli(&self) -> u64 {
        self.cpus.len() as u64 * 1_000
    }
}
