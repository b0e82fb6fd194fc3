//! The search: filter, stop at enough, score, choose.

use crate::explain::{Explanation, NodeRefusal, Predicate};
use crate::node::NodeView;
use crate::{predicate, score, split};
use berth_model::{Bytes, ContainerName, CpuRequest, CpuSet, MemSet, NodeName, PodRequest, PoolName};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// Where to look, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// All nodes, in an order that stays the same from one search to the next.
    pub nodes: &'a [NodeView],
    /// Where the last search ended; any number will do for the first.
    pub cursor: usize,
    /// The search stops at so many feasible nodes.
    pub enough: NonZeroUsize,
    /// Decides among equally good nodes: a random number.
    pub seed: u64,
}

/// CPUs that a pod asks for, for itself alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuDemand<'a> {
    /// So many, wherever they are best.
    Count {
        /// At least one.
        count: u32,
        /// What the pod reserves, to be free on the memory nodes that go with them.
        memory: Bytes,
    },
    /// These.
    Exact {
        /// At least one.
        cpus: &'a CpuSet,
        /// The memory nodes to go with them; those of the CPUs when absent.
        mems: Option<&'a MemSet>,
    },
}

/// CPUs and memory nodes that a node can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuAssignment {
    /// A subset of the node's free CPUs.
    pub cpus: CpuSet,
    /// Where their memory comes from.
    pub mems: MemSet,
    /// The largest distance between them (ACPI SLIT); 10 is local.
    pub distance: u32,
}

/// Knows the topology of the nodes.
pub trait AssignCpus {
    /// Chooses exact CPUs on a node.
    ///
    /// # Errors
    /// Why the topology cannot give them, for people.
    fn assign(&self, node: &NodeView, demand: CpuDemand<'_>) -> Result<CpuAssignment, String>;
}

/// The CPUs of a placed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuPlacement {
    /// Its own.
    Exclusive {
        /// The pod's.
        cpus: CpuSet,
        /// The pod's.
        mems: MemSet,
        /// Each container's part; empty when all share all.
        containers: BTreeMap<ContainerName, CpuSet>,
    },
    /// A pool's.
    Shared {
        /// Which.
        pool: PoolName,
    },
}

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeName,
    /// Its CPUs there.
    pub cpu: CpuPlacement,
    /// Where the next search begins.
    pub cursor: usize,
    /// The nodes that were ruled out on the way.
    pub explanation: Explanation,
}

/// No node will do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node will do: {explanation}")]
pub struct Unplaced {
    /// Why, node by node.
    pub explanation: Explanation,
    /// Where the next search begins.
    pub cursor: usize,
}

struct Candidate {
    node: NodeName,
    cpu: CpuPlacement,
    score: u64,
}

/// Chooses a node and the CPUs on it.
///
/// # Errors
/// When no node is feasible, with the first reason of each.
pub fn place(
    request: &PodRequest,
    search: &Search<'_>,
    cpus: &impl AssignCpus,
) -> Result<Placement, Unplaced> {
    let count = search.nodes.len();
    let start = search.cursor.checked_rem(count).unwrap_or(0);
    let mut explanation = Explanation::default();
    let mut feasible = Vec::new();
    let mut looked_at = 0;
    for node in search.nodes[start..].iter().chain(&search.nodes[..start]) {
        looked_at += 1;
        match fit(request, node, cpus) {
            Ok(candidate) => feasible.push(candidate),
            Err(refusal) => explanation.refusals.push(refusal),
        }
        if feasible.len() == search.enough.get() {
            break;
        }
    }
    let cursor = (start + looked_at).checked_rem(count).unwrap_or(0);
    match choose(feasible, search.seed) {
        Some(Candidate { node, cpu, .. }) => Ok(Placement { node, cpu, cursor, explanation }),
        None => Err(Unplaced { explanation, cursor }),
    }
}

fn fit(request: &PodRequest, node: &NodeView, cpus: &impl AssignCpus) -> Result<Candidate, NodeRefusal> {
    predicate::filter(request, node)?;
    let numa = |why| NodeRefusal { node: node.name.clone(), predicate: Predicate::NumaFit, why };
    let demand = match &request.cpu {
        CpuRequest::Shared { pool, .. } => {
            return Ok(Candidate {
                node: node.name.clone(),
                cpu: CpuPlacement::Shared { pool: pool.clone() },
                score: score::score(request, node, None),
            });
        }
        CpuRequest::Exclusive { count } => {
            CpuDemand::Count { count: *count, memory: predicate::memory_demand(request) }
        }
        CpuRequest::Exact { cpus, mems } => CpuDemand::Exact { cpus, mems: mems.as_ref() },
    };
    let assigned = cpus.assign(node, demand).map_err(numa)?;
    let containers = split::split(request, &assigned.cpus).map_err(numa)?;
    Ok(Candidate {
        node: node.name.clone(),
        score: score::score(request, node, Some(&assigned)),
        cpu: CpuPlacement::Exclusive { cpus: assigned.cpus, mems: assigned.mems, containers },
    })
}

fn choose(feasible: Vec<Candidate>, seed: u64) -> Option<Candidate> {
    let best = feasible.iter().map(|candidate| candidate.score).max()?;
    let mut ties: Vec<Candidate> = feasible.into_iter().filter(|candidate| candidate.score == best).collect();
    // The remainder is below the number of ties, which is a usize.
    let index = usize::try_from(seed % ties.len() as u64).unwrap_or_default();
    Some(ties.swap_remove(index))
}

#[cfg(test)]
mod tests;
