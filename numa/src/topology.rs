//! What a host is made of.

use berth_model::{Bytes, CpuSet, MemSet};
use std::collections::{BTreeMap, BTreeSet};

/// The distance of a memory node to itself, by definition (ACPI System Locality Information Table). Twice as far is
/// twice as much.
pub const LOCAL_DISTANCE: u32 = 10;

/// Huge pages of one size on one memory node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HugePages {
    /// Size of one.
    pub page_size: Bytes,
    /// How many there are.
    pub total: u64,
    /// How many nobody uses.
    pub free: u64,
}

/// A memory node. It may have no CPUs (memory expanders), or no memory (a socket without memory modules).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemoryNode {
    /// Its number, as in `cpuset.mems`.
    pub id: u32,
    /// Its CPUs that are online.
    pub cpus: CpuSet,
    /// Its memory.
    pub memory: Bytes,
    /// Its huge pages, by size.
    pub huge_pages: Vec<HugePages>,
    /// How far it is to every node of the topology, in its order; [`LOCAL_DISTANCE`] to itself.
    pub distances: Vec<u32>,
}

/// A physical core.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Core {
    /// Unique in the topology: the lowest of its CPUs.
    pub id: u32,
    /// The socket that it is in.
    pub socket: u32,
    /// The group of cores that it shares its last cache with; unique in the topology.
    pub l3: u32,
    /// Its hardware threads that are online, at least one.
    pub cpus: CpuSet,
}

/// Why parts make no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopology {
    /// There is nothing to run on.
    #[error("no CPU is online")]
    NoCpu,
    /// There is nothing to run in.
    #[error("no node has memory")]
    NoMemory,
    /// A number that no kernel uses.
    #[error("memory node {0} is above the highest possible, {max}", max = MemSet::MAX_NODE)]
    NodeTooHigh(u32),
    /// Two nodes or two cores of one number.
    #[error("{what} {id} is there twice")]
    Twice {
        /// `memory node` or `core`.
        what: &'static str,
        /// Its number.
        id: u32,
    },
    /// A CPU in two nodes or in two cores.
    #[error("CPUs {cpus} are in more than one {what}")]
    Shared {
        /// `memory node` or `core`.
        what: &'static str,
        /// Those.
        cpus: CpuSet,
    },
    /// CPUs that are online and in no node or no core, or the reverse.
    #[error("the {what}s hold CPUs {found}, online are {online}")]
    NotOnline {
        /// `memory node` or `core`.
        what: &'static str,
        /// What they hold.
        found: CpuSet,
        /// What is online.
        online: CpuSet,
    },
    /// A core whose threads are in several memory nodes.
    #[error("core {core} with CPUs {cpus} lies in more than one memory node")]
    AcrossNodes {
        /// Which core.
        core: u32,
        /// Its CPUs.
        cpus: CpuSet,
    },
    /// A row of the distance matrix that does not fit.
    #[error("memory node {node} has {count} distances, there are {nodes} nodes")]
    Distances {
        /// Whose row.
        node: u32,
        /// Its length.
        count: usize,
        /// What it should be.
        nodes: usize,
    },
}

/// A host's memory nodes and cores, as far as they are online. Nodes and cores ascend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topology {
    nodes: Vec<MemoryNode>,
    cores: Vec<Core>,
    /// For each core, the place of its memory node among `nodes`.
    core_nodes: Vec<usize>,
    online: CpuSet,
}

impl Topology {
    /// Puts parts together. Every node's distances must be in the order in which the nodes are given.
    ///
    /// # Errors
    /// When they contradict each other: what a host reports is checked like any other input.
    pub fn new(nodes: &[MemoryNode], mut cores: Vec<Core>, online: CpuSet) -> Result<Self, InvalidTopology> {
        validate(nodes, &cores, &online)?;
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|&index| nodes[index].id);
        let ascending = |node: &MemoryNode| MemoryNode {
            distances: order.iter().map(|&index| node.distances[index]).collect(),
            ..node.clone()
        };
        let nodes: Vec<MemoryNode> = order.iter().map(|&index| ascending(&nodes[index])).collect();
        cores.sort();
        let node_of = |core: &Core| nodes.iter().position(|node| core.cpus.is_subset(&node.cpus));
        let core_nodes = cores.iter().filter_map(node_of).collect();
        Ok(Self { nodes, cores, core_nodes, online })
    }

    /// Its memory nodes, ascending.
    pub fn nodes(&self) -> &[MemoryNode] {
        &self.nodes
    }

    /// Its cores, ascending.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// All CPUs that are online.
    pub fn online(&self) -> &CpuSet {
        &self.online
    }

    /// The memory nodes that have memory: those that `cpuset.mems` can name.
    pub fn memory_nodes(&self) -> MemSet {
        mem_set(self.nodes.iter().filter(|node| node.memory.0 > 0).map(|node| node.id))
    }

    /// All memory.
    pub fn memory(&self) -> Bytes {
        Bytes(self.nodes.iter().fold(0, |sum, node| sum.saturating_add(node.memory.0)))
    }

    /// Sizes of huge pages that any node has.
    pub fn huge_page_sizes(&self) -> BTreeSet<Bytes> {
        let all = self.nodes.iter().flat_map(|node| &node.huge_pages);
        all.map(|pages| pages.page_size).collect()
    }

    /// Cores by the last cache that they share.
    pub fn l3_groups(&self) -> BTreeMap<u32, CpuSet> {
        self.groups(|core| core.l3)
    }

    /// Cores by socket.
    pub fn sockets(&self) -> BTreeMap<u32, CpuSet> {
        self.groups(|core| core.socket)
    }

    fn groups(&self, key: impl Fn(&Core) -> u32) -> BTreeMap<u32, CpuSet> {
        let mut groups: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for core in &self.cores {
            let group = groups.entry(key(core)).or_default();
            *group = group.union(&core.cpus);
        }
        groups
    }

    /// Its cores, each with the place of its memory node in [`Topology::nodes`].
    pub(crate) fn cores_with_nodes(&self) -> impl Iterator<Item = (&Core, usize)> {
        self.cores.iter().zip(self.core_nodes.iter().copied())
    }

    /// How far it is between two nodes, given by their place in [`Topology::nodes`].
    pub(crate) fn distance(&self, from: usize, to: usize) -> u32 {
        self.nodes[from].distances[to]
    }
}

/// Numbers that were checked when the topology was made.
pub(crate) fn mem_set(ids: impl IntoIterator<Item = u32>) -> MemSet {
    MemSet::try_from_iter(ids).unwrap_or_default()
}

fn validate(nodes: &[MemoryNode], cores: &[Core], online: &CpuSet) -> Result<(), InvalidTopology> {
    if online.is_empty() {
        return Err(InvalidTopology::NoCpu);
    }
    if nodes.iter().all(|node| node.memory.0 == 0) {
        return Err(InvalidTopology::NoMemory);
    }
    if let Some(node) = nodes.iter().find(|node| node.id > MemSet::MAX_NODE) {
        return Err(InvalidTopology::NodeTooHigh(node.id));
    }
    if let Some(node) = nodes.iter().find(|node| node.distances.len() != nodes.len()) {
        return Err(InvalidTopology::Distances {
            node: node.id,
            count: node.distances.len(),
            nodes: nodes.len(),
        });
    }
    validate_parts("memory node", nodes.iter().map(|node| (node.id, &node.cpus)), online)?;
    validate_parts("core", cores.iter().map(|core| (core.id, &core.cpus)), online)?;
    let in_one_node = |core: &Core| nodes.iter().any(|node| core.cpus.is_subset(&node.cpus));
    match cores.iter().find(|core| !in_one_node(core)) {
        Some(core) => Err(InvalidTopology::AcrossNodes { core: core.id, cpus: core.cpus.clone() }),
        None => Ok(()),
    }
}

fn validate_parts<'a>(
    what: &'static str,
    parts: impl Iterator<Item = (u32, &'a CpuSet)>,
    online: &CpuSet,
) -> Result<(), InvalidTopology> {
    let mut ids = BTreeSet::new();
    let mut found = CpuSet::new();
    for (id, cpus) in parts {
        if !ids.insert(id) {
            return Err(InvalidTopology::Twice { what, id });
        }
        let shared = found.intersection(cpus);
        if !shared.is_empty() {
            return Err(InvalidTopology::Shared { what, cpus: shared });
        }
        found = found.union(cpus);
    }
    match found == *online {
        true => Ok(()),
        false => Err(InvalidTopology::NotOnline { what, found, online: online.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    fn node(id: u32, cpus: &str, gib: u64, distances: &[u32]) -> MemoryNode {
        MemoryNode {
            id,
            cpus: set(cpus),
            memory: Bytes(gib << 30),
            huge_pages: Vec::new(),
            distances: distances.to_vec(),
        }
    }

    fn core(id: u32, cpus: &str) -> Core {
        Core { id, socket: 0, l3: 0, cpus: set(cpus) }
    }

    fn check(nodes: &[MemoryNode], cores: &[Core], online: &str, expected: &str) {
        let said = match Topology::new(nodes, cores.to_vec(), set(online)) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{nodes:?} {cores:?} {online}: {said}");
    }

    #[test]
    fn parts() {
        let one = [node(0, "0-1", 1, &[10])];
        check(&one, &[core(0, "0-1")], "0-1", "ok");
        check(&one, &[core(0, "0-1")], "", "no CPU is online");
        check(&[node(0, "0-1", 0, &[10])], &[core(0, "0-1")], "0-1", "no node has memory");
        check(&one, &[core(0, "0")], "0-1", "the cores hold CPUs 0, online are 0-1");
        check(&one, &[core(0, "0-1")], "0-2", "the memory nodes hold CPUs 0-1, online are 0-2");
        check(&one, &[core(0, "0-1"), core(1, "1")], "0-1", "CPUs 1 are in more than one core");
        check(&one, &[core(0, "0"), core(0, "1")], "0-1", "core 0 is there twice");
        check(&[node(0, "0-1", 1, &[10, 20])], &[core(0, "0-1")], "0-1", "has 2 distances");
        check(&[node(1_024, "0", 1, &[10])], &[core(0, "0")], "0", "above the highest possible");
        let two = [node(0, "0", 1, &[10, 20]), node(1, "1", 1, &[20, 10])];
        check(&two, &[core(0, "0"), core(1, "1")], "0-1", "ok");
        check(&two, &[core(0, "0-1")], "0-1", "lies in more than one memory node");
    }

    #[test]
    fn nodes_ascend_and_take_their_distances_along() {
        let nodes = [node(1, "1", 1, &[10, 21]), node(0, "0", 2, &[22, 10])];
        let topology = Topology::new(&nodes, vec![core(1, "1"), core(0, "0")], set("0-1")).unwrap();
        let rows: Vec<_> = topology.nodes().iter().map(|n| (n.id, n.distances.clone())).collect();
        assert_eq!(rows, [(0, vec![10, 22]), (1, vec![21, 10])]);
        assert_eq!(topology.cores()[0].id, 0);
        assert_eq!(topology.memory(), Bytes(3 << 30));
    }
}
