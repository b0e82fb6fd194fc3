//! Exact CPUs and memory nodes: where placement, which knows no topology, meets `berth-numa`, which knows no nodes.

use crate::facts::Facts;
use crate::state::{DEFAULT_POOL, State};
use berth_model::{Bytes, CpuBinding, CpuSet, MemSet, NodeName, PodId, PodSpec};
use berth_numa::{Free, Sharing, Topology, assign, distance_of, nodes_of};
use berth_placement::{AssignCpus, CpuAssignment, CpuDemand, NodeView};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The topologies of all nodes, and who has what of their memory.
pub(crate) struct Topologies<'a>(pub &'a State);

impl AssignCpus for Topologies<'_> {
    fn assign(&self, node: &NodeView, demand: CpuDemand<'_>) -> Result<CpuAssignment, String> {
        let facts = self.facts(&node.name).ok_or("its topology is unknown")?;
        match demand {
            CpuDemand::Count { count, memory } => {
                let memory_left = self.free_memory(&node.name, facts, None);
                let mut free = Free { cpus: node.free_cpus.clone(), memory: memory_left };
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

    /// What pods that are bound to memory nodes have left of each, apart from one of them. Memory of pods on shared CPUs
    /// may be anywhere; it counts for the host as a whole only.
    fn free_memory(&self, node: &NodeName, facts: &Facts, except: Option<&PodId>) -> BTreeMap<u32, Bytes> {
        let nodes = facts.topology.nodes().iter();
        let mut free: BTreeMap<u32, Bytes> = nodes.map(|node| (node.id, node.memory)).collect();
        let pods = self.0.nodes.get(node).into_iter().flat_map(|node| &node.pods);
        let others = pods.filter(|id| Some(*id) != except);
        let here = others.filter_map(|id| self.0.pods.get(id)).filter_map(|pod| {
            let mems = pod.specs().filter_map(mems_of).cloned();
            Some((mems.reduce(|all, mems| all.union(&mems))?, pod.memory()))
        });
        let coming = self.0.reserved_on(node).filter_map(|(_, migration, spec)| {
            Some((mems_of(spec)?.clone(), berth_placement::memory_demand(&migration.request)))
        });
        for (mems, memory) in here.chain(coming) {
            let share = memory.0.div_ceil(mems.len().max(1) as u64);
            for id in mems.iter() {
                if let Some(left) = free.get_mut(&id) {
                    left.0 = left.0.saturating_sub(share);
                }
            }
        }
        free
    }
}

fn mems_of(spec: &PodSpec) -> Option<&MemSet> {
    match &spec.cpu {
        CpuBinding::Exclusive { mems, .. } => Some(mems),
        CpuBinding::Shared { .. } => None,
    }
}

/// CPUs for a pod that stays on its node: as many as can be of those that it has, so that little memory has to move.
pub(crate) struct Staying<'a> {
    /// All nodes. The view that is searched must be without the pod.
    pub all: Topologies<'a>,
    /// Which pod.
    pub pod: &'a PodId,
    /// What it has for itself.
    pub has: Option<(CpuSet, MemSet)>,
}

impl AssignCpus for Staying<'_> {
    fn assign(&self, node: &NodeView, demand: CpuDemand<'_>) -> Result<CpuAssignment, String> {
        let (CpuDemand::Count { count, memory }, Some((cpus, mems))) = (demand, &self.has) else {
            return self.all.assign(node, demand);
        };
        let facts = self.all.facts(&node.name).ok_or("its topology is unknown")?;
        let memory_left = self.all.free_memory(&node.name, facts, Some(self.pod));
        let kept = match (count as usize).cmp(&cpus.len()) {
            Ordering::Equal => exactly(&facts.topology, cpus, Some(mems)),
            Ordering::Less => {
                let free = Free { cpus: cpus.clone(), memory: memory_left.clone() };
                count_of(&facts.topology, &free, count, memory)
            }
            Ordering::Greater => grown(&facts.topology, node, cpus, count),
        };
        let fits = |found: &CpuAssignment| {
            let left = found.mems.iter().filter_map(|id| memory_left.get(&id));
            left.map(|bytes| bytes.0).fold(0, u64::saturating_add) >= memory.0
                && check_lender(node, &found.cpus).is_ok()
        };
        match kept.ok().filter(fits) {
            Some(kept) => Ok(kept),
            None => self.all.assign(node, demand),
        }
    }
}

/// What it has, and more: near by if there is any.
fn grown(topology: &Topology, node: &NodeView, has: &CpuSet, count: u32) -> Result<CpuAssignment, String> {
    let more = count - u32::try_from(has.len()).unwrap_or(count);
    let free = node.free_cpus.difference(has).difference(&kept_for_lender(node));
    let own = nodes_of(topology, has).map_err(|error| error.to_string())?;
    let local = topology.nodes().iter().filter(|node| own.contains(node.id));
    let local = local.fold(CpuSet::new(), |all, node| all.union(&node.cpus));
    // Memory is looked at once both parts are known.
    let any = |cpus: CpuSet| count_of(topology, &Free { cpus, memory: BTreeMap::new() }, more, Bytes(0));
    let added = any(free.intersection(&local)).or_else(|_| any(free.clone()))?;
    exactly(topology, &has.union(&added.cpus), None)
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
