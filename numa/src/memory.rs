//! Where the memory of CPUs is, and how far.

use crate::topology::{LOCAL_DISTANCE, Topology, mem_set};
use berth_model::{CpuSet, MemSet};

/// CPUs that are not online.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CPUs {cpus} do not exist or are offline (online: {online})")]
pub struct NoSuchCpus {
    /// Those.
    pub cpus: CpuSet,
    /// What is online.
    pub online: CpuSet,
}

/// The memory nodes to go with CPUs: their own, and for a CPU whose node has no memory the nearest that has, the
/// lowest of several.
///
/// # Errors
/// When a CPU is not online.
pub fn nodes_of(topology: &Topology, cpus: &CpuSet) -> Result<MemSet, NoSuchCpus> {
    let missing = cpus.difference(topology.online());
    if !missing.is_empty() {
        return Err(NoSuchCpus { cpus: missing, online: topology.online().clone() });
    }
    let used = used_nodes(topology, cpus);
    Ok(mem_set(
        used.into_iter()
            .filter_map(|node| memory_of_node(topology, node))
            .map(|node| topology.nodes()[node].id),
    ))
}

/// The largest distance between any two of the nodes that CPUs and memory come from: [`LOCAL_DISTANCE`] if all are
/// on one. Nodes and CPUs that do not exist count for nothing.
pub fn distance_of(topology: &Topology, cpus: &CpuSet, mems: &MemSet) -> u32 {
    let nodes = topology.nodes();
    let involved: Vec<usize> = (0..nodes.len())
        .filter(|&node| mems.contains(nodes[node].id) || uses(topology, node, cpus))
        .collect();
    span(topology, &involved).largest
}

/// How far apart nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// The largest distance, in either direction.
    pub(crate) largest: u32,
    /// All distances together.
    pub(crate) sum: u64,
}

/// Of nodes given by their places.
pub(crate) fn span(topology: &Topology, nodes: &[usize]) -> Span {
    let pairs = nodes.iter().flat_map(|&from| nodes.iter().map(move |&to| (from, to)));
    let distances = pairs.map(|(from, to)| topology.distance(from, to));
    distances.fold(Span { largest: LOCAL_DISTANCE, sum: 0 }, |span, distance| Span {
        largest: span.largest.max(distance),
        sum: span.sum + u64::from(distance),
    })
}

/// The node itself if it has memory, else the nearest that has.
pub(crate) fn memory_of_node(topology: &Topology, node: usize) -> Option<usize> {
    let with_memory = (0..topology.nodes().len()).filter(|&other| topology.nodes()[other].memory.0 > 0);
    with_memory.min_by_key(|&other| (other != node, topology.distance(node, other), other))
}

/// Places of the nodes that CPUs are on.
pub(crate) fn used_nodes(topology: &Topology, cpus: &CpuSet) -> Vec<usize> {
    (0..topology.nodes().len()).filter(|&node| uses(topology, node, cpus)).collect()
}

fn uses(topology: &Topology, node: usize, cpus: &CpuSet) -> bool {
    topology.nodes()[node].cpus.iter().any(|cpu| cpus.contains(cpu))
}
