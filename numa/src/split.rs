//! Carving an assignment up among the parts of what it was made for.

use crate::assign::{Assignment, CpuDemand, Free, Sharing, assign};
use crate::memory::{distance_of, nodes_of};
use crate::topology::Topology;
use berth_model::{Bytes, CpuSet};
use std::collections::BTreeMap;

/// Why an assignment cannot be carved up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotSplit {
    /// The parts are more than the whole.
    #[error("the parts ask for {wanted} CPUs together, there are {given} ({cpus})")]
    TooFew {
        /// Sum of the parts.
        wanted: u64,
        /// What there is.
        given: usize,
        /// These.
        cpus: CpuSet,
    },
    /// A part of nothing.
    #[error("part {index} asks for 0 CPUs")]
    Nothing {
        /// Its place, from 0.
        index: usize,
    },
    /// CPUs of the assignment that are not online.
    #[error("CPUs {cpus} of the assignment are not online")]
    NotOnline {
        /// Those.
        cpus: CpuSet,
    },
}

/// Carves disjoint parts out of an assignment, each as `assign` would choose it, the largest first, since the large
/// ones are the hardest to keep together. The answer is in the order of `counts`.
///
/// A part's memory nodes are those of its CPUs, if memory follows the CPUs in the whole; where the whole was given
/// other memory nodes (for want of memory, or by order), each part keeps all of them.
///
/// # Errors
/// When the parts do not add up.
pub fn split(
    topology: &Topology,
    whole: &Assignment,
    counts: &[u32],
) -> Result<Vec<Assignment>, CannotSplit> {
    check(topology, whole, counts)?;
    let memory_follows = nodes_of(topology, &whole.cpus).is_ok_and(|mems| mems == whole.mems);
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(counts[index]), index));
    let mut left = whole.cpus.clone();
    let mut parts = BTreeMap::new();
    for index in order {
        let part = carve(topology, &left, counts[index]).ok_or_else(|| too_few(whole, counts))?;
        left = left.difference(&part.cpus);
        let mems = if memory_follows { part.mems } else { whole.mems.clone() };
        let part = Assignment { distance: distance_of(topology, &part.cpus, &mems), cpus: part.cpus, mems };
        parts.insert(index, part);
    }
    Ok(parts.into_values().collect())
}

fn carve(topology: &Topology, left: &CpuSet, count: u32) -> Option<Assignment> {
    let free = Free { cpus: left.clone(), memory: BTreeMap::new() };
    let demand = CpuDemand { count, memory: Bytes(0), sharing: Sharing::Allowed };
    assign(topology, &free, &demand).ok()
}

fn check(topology: &Topology, whole: &Assignment, counts: &[u32]) -> Result<(), CannotSplit> {
    let offline = whole.cpus.difference(topology.online());
    if !offline.is_empty() {
        return Err(CannotSplit::NotOnline { cpus: offline });
    }
    if let Some(index) = counts.iter().position(|&count| count == 0) {
        return Err(CannotSplit::Nothing { index });
    }
    match total(counts) > whole.cpus.len() as u64 {
        true => Err(too_few(whole, counts)),
        false => Ok(()),
    }
}

fn total(counts: &[u32]) -> u64 {
    counts.iter().map(|&count| u64::from(count)).sum()
}

fn too_few(whole: &Assignment, counts: &[u32]) -> CannotSplit {
    CannotSplit::TooFew { wanted: total(counts), given: whole.cpus.len(), cpus: whole.cpus.clone() }
}
