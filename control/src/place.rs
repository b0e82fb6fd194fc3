//! Exact CPUs and memory nodes: where placement, which knows no topology, meets `berth-numa`, which knows no nodes.

use crate::facts::Facts;
use crate::state::{DEFAULT_POOL, State};
use berth_model::{Bytes, CpuBinding, CpuSet, MemSet, NodeName};
use berth_numa::{Free, Sharing, Topology, assign, distance_of, nodes_of};
use berth_placement::{AssignCpus, CpuAssignment, CpuDemand, NodeView};
use std::collections::BTreeMap;

/// The topologies of all nodes, and who has what of their memory.
pub(crate) struct Topologies<'a>(pub &'a State);

impl AssignCpus for Topologies<'_> {
    fn assign(&self, node: &NodeView, demand: CpuDemand<'_>) -> Result<CpuAssignment, String> {
        let facts = self.facts(&node.name).ok_or("its topology is unknown")?;
        match demand {
            CpuDemand::Count { count, memory } => {
                let mut free =
                    Free { cpus: node.free_cpus.clone(), memory: self.free_memory(&node.name, facts) };
                let best = count_of(&facts.topology, &free, count, memory)?;
                if check_lender(node, &best.cpus).is_ok() {
                    return Ok(best);
                }
                // The best CPUs are the last of the pool that lends them: the next best leave it enough.
                free.cpus = free.cpus.difference(&kept_for_lender(node));
                count_of(&facts.topology, &free, count, memory)
            }
            CpuDemand::Exact { cpus, mems } => {
                let assigned = exactly(&facts.topology, cpus, mems)?;
                check_lender(node, &assigned.cpus)?;
                Ok(assigned)
            }
        }
    }
}

impl Topologies<'_> {
    fn facts(&self, node: &NodeName) -> Option<&Facts> {
        self.0.nodes.get(node)?.facts.as_ref()
    }

    /// What pods that are bound to memory nodes have left of each. Memory of pods on shared CPUs may be anywhere; it
    /// counts for the host as a whole only.
    fn free_memory(&self, node: &NodeName, facts: &Facts) -> BTreeMap<u32, Bytes> {
        let nodes = facts.topology.nodes().iter();
        let mut free: BTreeMap<u32, Bytes> = nodes.map(|node| (node.id, node.memory)).collect();
        let pods = self.0.nodes.get(node).into_iter().flat_map(|node| &node.pods);
        for pod in pods.filter_map(|id| self.0.pods.get(id)) {
            let Some(CpuBinding::Exclusive { mems, .. }) = pod.spec.as_ref().map(|spec| &spec.cpu) else {
                continue;
            };
            let share = pod.memory().0.div_ceil(mems.len().max(1) as u64);
            for id in mems.iter() {
                if let Some(left) = free.get_mut(&id) {
                    left.0 = left.0.saturating_sub(share);
                }
            }
        }
        free
    }
}

fn count_of(topology: &Topology, free: &Free, count: u32, memory: Bytes) -> Result<CpuAssignment, String> {
    let demand = berth_numa::CpuDemand { count, memory, sharing: Sharing::Allowed };
    let assigned = assign(topology, free, &demand).map_err(|error| error.to_string())?;
    Ok(CpuAssignment { cpus: assigned.cpus, mems: assigned.mems, distance: assigned.distance })
}

fn exactly(topology: &Topology, cpus: &CpuSet, mems: Option<&MemSet>) -> Result<CpuAssignment, String> {
    let own = nodes_of(topology, cpus).map_err(|error| error.to_string())?;
    let present = topology.memory_nodes();
    let mems = match mems {
        None => own,
        Some(mems) if mems.is_subset(&present) => mems.clone(),
        Some(mems) => {
            return Err(format!(
                "memory nodes {} do not exist there (present: {present})",
                mems.difference(&present)
            ));
        }
    };
    Ok(CpuAssignment { distance: distance_of(topology, cpus, &mems), cpus: cpus.clone(), mems })
}

/// The CPUs of the pool that lends: all free ones before it is set.
fn lender(node: &NodeView) -> &CpuSet {
    let pool = node.pools.iter().find(|(name, _)| name.as_str() == DEFAULT_POOL);
    pool.map_or(&node.free_cpus, |(_, pool)| &pool.cpus)
}

/// So many of the lender's CPUs as it needs for those who stay in it: the lowest.
fn kept_for_lender(node: &NodeView) -> CpuSet {
    let lowest = lender(node).iter().take(node.kept_back_cpus as usize);
    // They come out of a set, so none is too high for one.
    CpuSet::try_from_iter(lowest).unwrap_or_default()
}

/// What is left of the pool that lends the CPUs has to suffice for those who stay in it.
fn check_lender(node: &NodeView, taken: &CpuSet) -> Result<(), String> {
    let left = lender(node).difference(taken);
    if left.len() >= node.kept_back_cpus as usize {
        return Ok(());
    }
    Err(format!(
        "CPUs {taken} would leave {} to the shared pool {DEFAULT_POOL}, which needs {}",
        left.len(),
        node.kept_back_cpus
    ))
}
