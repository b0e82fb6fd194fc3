//! Which of its pod's exclusive CPUs each container gets.

use berth_model::{ContainerName, CpuSet, PodRequest};
use std::collections::BTreeMap;

/// Gives containers that ask for CPUs of their own that many, lowest first in the order of the request, and what
/// is left to all others together. Empty when no container asks: all of them share all of the pod's.
pub(crate) fn split(request: &PodRequest, cpus: &CpuSet) -> Result<BTreeMap<ContainerName, CpuSet>, String> {
    let mut shares = BTreeMap::new();
    if request.containers.iter().all(|container| container.exclusive_cpus.is_none()) {
        return Ok(shares);
    }
    let mut left = cpus.clone();
    for container in &request.containers {
        let Some(count) = container.exclusive_cpus else {
            continue;
        };
        let taken = lowest(&left, count).ok_or_else(|| {
            format!(
                "container {} asks for {count} of the pod's {} CPUs, {} are left",
                container.name,
                cpus.len(),
                left.len()
            )
        })?;
        left = left.difference(&taken);
        shares.insert(container.name.clone(), taken);
    }
    for container in request.containers.iter().filter(|c| c.exclusive_cpus.is_none()) {
        if left.is_empty() {
            return Err(format!(
                "container {} is left without a CPU: the others ask for all {} of the pod",
                container.name,
                cpus.len()
            ));
        }
        shares.insert(container.name.clone(), left.clone());
    }
    Ok(shares)
}

fn lowest(cpus: &CpuSet, count: u32) -> Option<CpuSet> {
    let taken = CpuSet::try_from_iter(cpus.iter().take(count as usize)).ok()?;
    (count > 0 && taken.len() == count as usize).then_some(taken)
}
