//! The topology as hwloc sees it: a second opinion on `sysfs`, and hosts made of a line of text for tests.
//!
//! hwloc does not say how many huge pages are free: all count as free here.

use crate::caches::{NO_SHARED_CACHE, name_groups_without_cache};
use crate::topology::{Core, HugePages, InvalidTopology, LOCAL_DISTANCE, MemoryNode, Topology};
use berth_model::{Bytes, CpuSet};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder};
use std::fmt::Display;

/// Between two nodes, where nothing is known: the kernel's `REMOTE_DISTANCE`.
const REMOTE_DISTANCE: u32 = 20;

/// Why there is no topology by hwloc.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HwlocError {
    /// hwloc failed.
    #[error("{doing}: {why}")]
    Hwloc {
        /// At what.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// A number is missing or too large.
    #[error("hwloc gives a {what} without a usable number")]
    Number {
        /// Of what kind of object.
        what: &'static str,
    },
    /// Its parts contradict each other.
    #[error("the topology that hwloc shows contradicts itself")]
    Contradiction(#[from] InvalidTopology),
}

/// This machine's, including what the caller itself may not use.
///
/// # Errors
/// When hwloc cannot say.
pub fn from_hwloc() -> Result<Topology, HwlocError> {
    let builder = TopologyBuilder::new()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(failed("set hwloc's flags"))?;
    build(builder)
}

/// One described as in hwloc's manual, for instance `pack:2 [numa(memory=1GB)] l3:1 core:4 pu:2`.
///
/// # Errors
/// When the description is not understood.
pub fn from_hwloc_synthetic(description: &str) -> Result<Topology, HwlocError> {
    let builder =
        TopologyBuilder::new().from_synthetic(description).map_err(failed("read synthetic description"))?;
    build(builder)
}

/// One exported by `lstopo --of xml`.
///
/// # Errors
/// When the text is not understood.
pub fn from_hwloc_xml(xml: &str) -> Result<Topology, HwlocError> {
    let builder = TopologyBuilder::new().from_xml(xml).map_err(failed("read hwloc XML"))?;
    build(builder)
}

fn failed<E: Display>(doing: &'static str) -> impl Fn(E) -> HwlocError {
    move |error| HwlocError::Hwloc { doing, why: error.to_string() }
}

fn build(builder: TopologyBuilder) -> Result<Topology, HwlocError> {
    let hwloc = builder.build().map_err(failed("load hwloc's topology"))?;
    let online = cpus(hwloc.cpuset().iter_set().map(usize::from))?;
    let mut objects: Vec<&TopologyObject> = hwloc.objects_with_type(ObjectType::NUMANode).collect();
    objects.sort_by_key(|object| object.os_index());
    let distances = distances(&hwloc, &objects);
    let mut nodes = Vec::new();
    let mut taken = CpuSet::new();
    for (object, distances) in objects.into_iter().zip(distances) {
        let node = node(object, distances, &taken)?;
        taken = taken.union(&node.cpus);
        nodes.push(node);
    }
    let mut cores = hwloc.objects_with_type(ObjectType::Core).map(core).collect::<Result<Vec<_>, _>>()?;
    cores.sort();
    name_groups_without_cache(&mut cores);
    Ok(Topology::new(&nodes, cores, online)?)
}

/// hwloc gives a node without CPUs those that it is nearest to: they belong to the node that had them first.
fn node(object: &TopologyObject, distances: Vec<u32>, taken: &CpuSet) -> Result<MemoryNode, HwlocError> {
    let near = object_cpus(object)?;
    let (memory, huge_pages) = match object.attributes() {
        Some(ObjectAttributes::NUMANode(attributes)) => {
            // The first is the ordinary page.
            let huge = attributes.page_types().iter().skip(1).map(|pages| HugePages {
                page_size: Bytes(pages.size().get()),
                total: pages.count(),
                free: pages.count(),
            });
            (attributes.local_memory().map_or(0, u64::from), huge.collect())
        }
        _ => (0, Vec::new()),
    };
    Ok(MemoryNode {
        id: number(object, "memory node")?,
        cpus: near.difference(taken),
        memory: Bytes(memory),
        huge_pages,
        distances,
    })
}

fn core(object: &TopologyObject) -> Result<Core, HwlocError> {
    let cpus = object_cpus(object)?;
    let id = cpus.iter().next();
    let socket = object.first_ancestor_with_type(ObjectType::Package);
    Ok(Core {
        id: id.ok_or(HwlocError::Number { what: "core" })?,
        socket: socket.map_or(Ok(0), |socket| number(socket, "package"))?,
        l3: last_cache(object, &cpus)?,
        cpus,
    })
}

fn last_cache(core: &TopologyObject, own: &CpuSet) -> Result<u32, HwlocError> {
    // Ancestors go upwards: the last cache found is the outermost.
    let outermost = core.ancestors().filter(|object| object.object_type().is_cpu_cache()).last();
    let sharers = outermost.map(object_cpus).transpose()?.unwrap_or_default();
    Ok(match sharers.is_subset(own) {
        true => NO_SHARED_CACHE,
        false => sharers.iter().next().unwrap_or(NO_SHARED_CACHE),
    })
}

/// A row for each of the nodes given.
fn distances(hwloc: &hwlocality::Topology, nodes: &[&TopologyObject]) -> Vec<Vec<u32>> {
    let known = hwloc.distances_with_type(None, ObjectType::NUMANode).unwrap_or_default();
    let between = |from: &TopologyObject, to: &TopologyObject| -> Option<u32> {
        let same = |object: Option<&TopologyObject>, node: &TopologyObject| {
            object.is_some_and(|object| object.os_index() == node.os_index())
        };
        let matrix = known.first()?;
        let (_, distance) = matrix.object_distances().find(|((a, b), _)| same(*a, from) && same(*b, to))?;
        u32::try_from(distance).ok()
    };
    let row = |from: &&TopologyObject| {
        nodes
            .iter()
            .map(|to| {
                let unknown = match from.os_index() == to.os_index() {
                    true => LOCAL_DISTANCE,
                    false => REMOTE_DISTANCE,
                };
                between(from, to).unwrap_or(unknown)
            })
            .collect()
    };
    nodes.iter().map(row).collect()
}

fn number(object: &TopologyObject, what: &'static str) -> Result<u32, HwlocError> {
    object.os_index().and_then(|index| u32::try_from(index).ok()).ok_or(HwlocError::Number { what })
}

fn object_cpus(object: &TopologyObject) -> Result<CpuSet, HwlocError> {
    match object.cpuset() {
        Some(set) => cpus(set.iter_set().map(usize::from)),
        None => Ok(CpuSet::new()),
    }
}

fn cpus(numbers: impl Iterator<Item = usize>) -> Result<CpuSet, HwlocError> {
    let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    CpuSet::try_from_iter(numbers).map_err(|_| HwlocError::Number { what: "CPU" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_sysfs;
    use std::path::Path;

    fn check(description: &str, nodes: &[&str], cores: &[&str], l3: &[&str]) {
        let topology = from_hwloc_synthetic(description).unwrap();
        let found: Vec<_> = topology.nodes().iter().map(|n| n.cpus.to_string()).collect();
        assert_eq!(found, nodes, "{description}: nodes");
        let found: Vec<_> = topology.cores().iter().map(|c| c.cpus.to_string()).collect();
        assert_eq!(found, cores, "{description}: cores");
        let found: Vec<_> = topology.l3_groups().values().map(ToString::to_string).collect();
        assert_eq!(found, l3, "{description}: last caches");
    }

    #[test]
    fn described_in_a_line() {
        check("[numa(memory=1GB)] core:2 pu:1", &["0-1"], &["0", "1"], &["0-1"]);
        check(
            "pack:2 [numa(memory=1GB)] l3:1 core:2 pu:2",
            &["0-3", "4-7"],
            &["0-1", "2-3", "4-5", "6-7"],
            &["0-3", "4-7"],
        );
        check("[numa(memory=1GB)] l3:2 core:1 pu:2", &["0-3"], &["0-1", "2-3"], &["0-3"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(from_hwloc_synthetic("nonsense:x").is_err());
        assert!(from_hwloc_xml("<topology").is_err());
    }

    #[test]
    fn this_machine_looks_the_same_in_both_mirrors() {
        let (sysfs, hwloc) = (read_sysfs(Path::new("/")).unwrap(), from_hwloc().unwrap());
        assert_eq!(sysfs.online(), hwloc.online());
        let cpus = |topology: &Topology| -> Vec<(u32, CpuSet, Vec<u32>)> {
            let nodes = topology.nodes().iter();
            nodes.map(|n| (n.id, n.cpus.clone(), n.distances.clone())).collect()
        };
        assert_eq!(cpus(&sysfs), cpus(&hwloc));
        let threads = |topology: &Topology| -> Vec<CpuSet> {
            topology.cores().iter().map(|core| core.cpus.clone()).collect()
        };
        assert_eq!(threads(&sysfs), threads(&hwloc));
    }
}
