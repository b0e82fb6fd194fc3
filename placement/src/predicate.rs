//! The predicates that need no topology, cheapest first.

use crate::explain::{NodeRefusal, Predicate};
use crate::node::{NodeView, Readiness};
use berth_model::{Bytes, CpuRequest, CpuSet, DataDisk, Limits, MilliCpu, PodNetwork, PodRequest, PoolName};

/// What a pod reserves on its node: `memory_request`, or its `memory.max`, or nothing.
pub fn memory_demand(request: &PodRequest) -> Bytes {
    request.memory_request.or(request.limits.memory.max).unwrap_or_default()
}

type Verdict = Result<(), String>;
type Question = fn(&PodRequest, &NodeView) -> Verdict;

/// Asks one node all cheap questions; the first that fails ends it.
pub(crate) fn filter(request: &PodRequest, node: &NodeView) -> Result<(), NodeRefusal> {
    const CHEAPEST_FIRST: [(Predicate, Question); 11] = [
        (Predicate::NodeReady, ready),
        (Predicate::NodeName, name),
        (Predicate::NodeAffinity, affinity),
        (Predicate::PodCount, pod_count),
        (Predicate::MemoryFit, memory),
        (Predicate::SharedCpuFit, shared_cpu),
        (Predicate::MountPoints, mount_points),
        (Predicate::HostNetwork, host_network),
        (Predicate::HostPaths, host_paths),
        (Predicate::HugePages, huge_pages),
        (Predicate::ExclusiveCpuFit, exclusive_cpu),
    ];
    CHEAPEST_FIRST.iter().try_for_each(|(predicate, ask)| {
        ask(request, node).map_err(|why| NodeRefusal { node: node.name.clone(), predicate: *predicate, why })
    })
}

fn ready(_: &PodRequest, node: &NodeView) -> Verdict {
    match &node.readiness {
        Readiness::Ready => Ok(()),
        Readiness::NotReady { why } => Err(why.clone()),
    }
}

fn name(request: &PodRequest, node: &NodeView) -> Verdict {
    match &request.node {
        Some(wanted) if *wanted != node.name => Err(format!("the pod asks for node {wanted}")),
        Some(_) | None => Ok(()),
    }
}

fn affinity(request: &PodRequest, node: &NodeView) -> Verdict {
    let missing = request.node_labels.iter().find(|(key, value)| node.labels.get(*key) != Some(value));
    match missing {
        None => Ok(()),
        Some((key, value)) => Err(match node.labels.get(key) {
            Some(has) => format!("the pod asks for label {key}={value}, the node has {key}={has}"),
            None => format!("the pod asks for label {key}={value}, the node has no {key}"),
        }),
    }
}

fn pod_count(_: &PodRequest, node: &NodeView) -> Verdict {
    if node.pods < node.max_pods {
        return Ok(());
    }
    Err(format!("{} pods are there, at most {} are placed", node.pods, node.max_pods))
}

fn memory(request: &PodRequest, node: &NodeView) -> Verdict {
    let asked = memory_demand(request);
    let free = node.free_memory();
    if asked == Bytes(0) || asked <= free {
        return Ok(());
    }
    Err(format!("the pod asks for {asked} of memory, {free} of {} are free", node.memory_capacity))
}

fn shared_cpu(request: &PodRequest, node: &NodeView) -> Verdict {
    match &request.cpu {
        CpuRequest::Exclusive { .. } | CpuRequest::Exact { .. } => Ok(()),
        CpuRequest::Shared { pool, request } => shared_pool(pool, *request, node),
    }
}

fn shared_pool(name: &PoolName, asked: MilliCpu, node: &NodeView) -> Verdict {
    let Some(pool) = node.pools.get(name) else {
        return Err(format!("no shared CPU pool {name} is set there"));
    };
    let free = pool.free_milli();
    if asked == MilliCpu(0) || u64::from(asked.0) <= free {
        return Ok(());
    }
    Err(format!(
        "the pod asks for {asked} CPUs of pool {name}, {free}m of {}m are free",
        pool.capacity_milli()
    ))
}

fn all_limits(request: &PodRequest) -> impl Iterator<Item = &Limits> {
    std::iter::once(&request.limits).chain(request.containers.iter().map(|container| &container.limits))
}

fn mount_points(request: &PodRequest, node: &NodeView) -> Verdict {
    let missing = all_limits(request)
        .flat_map(|limits| &limits.io)
        .find(|io| !node.mount_points.contains(&io.mount_point));
    match missing {
        Some(io) => Err(format!("no block device is beneath mount point {}", io.mount_point)),
        None => Ok(()),
    }
}

fn host_network(request: &PodRequest, node: &NodeView) -> Verdict {
    match (request.network, node.host_network) {
        (PodNetwork::Own, _) | (PodNetwork::Host, true) => Ok(()),
        (PodNetwork::Host, false) => Err("the host does not share its network with pods".to_owned()),
    }
}

fn host_paths(request: &PodRequest, node: &NodeView) -> Verdict {
    let mut wanted = request.containers.iter().flat_map(|container| &container.host_paths);
    let withheld = wanted.find_map(|path| Some((path, path.withheld(&node.host_paths)?)));
    match withheld {
        Some((path, why)) => Err(format!("{} {why}", path.source)),
        None => Ok(()),
    }
}

fn huge_pages(request: &PodRequest, node: &NodeView) -> Verdict {
    let limited = all_limits(request).flat_map(|limits| &limits.hugetlb).map(|huge| huge.page_size);
    let mut wanted = limited.chain(request.disks.iter().filter_map(DataDisk::page_size));
    match wanted.find(|size| !node.page_sizes.contains(size)) {
        Some(size) => Err(format!("the kernel has no huge pages of {size}")),
        None => Ok(()),
    }
}

fn exclusive_cpu(request: &PodRequest, node: &NodeView) -> Verdict {
    let enough = |asked: usize| {
        if asked <= node.lendable_cpus() {
            return Ok(());
        }
        Err(format!(
            "the pod asks for {asked} CPUs of its own, {} of the free ones ({}) can be given away",
            node.lendable_cpus(),
            display(&node.free_cpus)
        ))
    };
    match &request.cpu {
        CpuRequest::Shared { .. } => Ok(()),
        CpuRequest::Exclusive { count } => enough(*count as usize),
        CpuRequest::Exact { cpus, .. } if cpus.is_subset(&node.free_cpus) => enough(cpus.len()),
        CpuRequest::Exact { cpus, .. } => Err(format!(
            "CPUs {} are not free there (free: {})",
            cpus.difference(&node.free_cpus),
            display(&node.free_cpus)
        )),
    }
}

fn display(cpus: &CpuSet) -> String {
    if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() }
}
