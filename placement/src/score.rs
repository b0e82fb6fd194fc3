//! How well a feasible node suits a pod. Higher is better; only nodes that passed every predicate are scored.

use crate::node::NodeView;
use crate::predicate::memory_demand;
use crate::search::CpuAssignment;
use berth_model::{CpuRequest, PodRequest};

/// The best score of one part.
const FULL: u64 = 1_000;
/// Distance to local memory (ACPI SLIT).
const LOCAL_DISTANCE: u32 = 10;
/// What each unit of distance beyond local costs: one hop (distance 20) outweighs an empty node.
const DISTANCE_COST: u64 = 200;

/// Least allocated wins, as the mean of memory and CPU left afterwards; CPUs apart from their memory cost.
pub(crate) fn score(request: &PodRequest, node: &NodeView, assigned: Option<&CpuAssignment>) -> u64 {
    let spread = u64::midpoint(memory_left(request, node), cpu_left(request, node));
    let distance = assigned.map_or(LOCAL_DISTANCE, |assigned| assigned.distance);
    let cost = u64::from(distance.saturating_sub(LOCAL_DISTANCE)) * DISTANCE_COST;
    // Twice the full score is added first, so that distance can be told apart beyond zero.
    (spread + 2 * FULL).saturating_sub(cost)
}

fn memory_left(request: &PodRequest, node: &NodeView) -> u64 {
    let left = node.free_memory().0.saturating_sub(memory_demand(request).0);
    share(left, node.memory_capacity.0)
}

fn cpu_left(request: &PodRequest, node: &NodeView) -> u64 {
    match &request.cpu {
        CpuRequest::Shared { pool, request } => node.pools.get(pool).map_or(0, |pool| {
            let left = pool.free_milli().saturating_sub(u64::from(request.0));
            share(left, pool.capacity_milli())
        }),
        CpuRequest::Exclusive { count } => exclusive_left(node, u64::from(*count)),
        CpuRequest::Exact { cpus, .. } => exclusive_left(node, cpus.len() as u64),
    }
}

fn exclusive_left(node: &NodeView, asked: u64) -> u64 {
    let free = node.free_cpus.len() as u64;
    share(free.saturating_sub(asked), free)
}

fn share(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let scaled = u128::from(part) * u128::from(FULL) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(FULL).min(FULL)
}
