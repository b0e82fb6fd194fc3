//! Machines described in a line.

use crate::{Core, MemoryNode, Topology};
use berth_model::{Bytes, CpuSet};

/// One memory node in tests.
pub(crate) const GIB: u64 = 1 << 30;

/// Makes a machine. Nodes are divided by `;`, last caches by `|`, cores by spaces, threads by commas. A node of
/// nothing has no CPUs. Each has 1 GiB of memory, and all are 20 apart.
pub(crate) fn machine(description: &str) -> Topology {
    let nodes: Vec<&str> = description.split(';').collect();
    let rows: Vec<(u64, Vec<u32>)> = (0..nodes.len())
        .map(|node| (GIB, (0..nodes.len()).map(|to| if to == node { 10 } else { 20 }).collect()))
        .collect();
    machine_with(description, &rows)
}

/// The same, with memory and distances of each node.
pub(crate) fn machine_with(description: &str, rows: &[(u64, Vec<u32>)]) -> Topology {
    let mut nodes = Vec::new();
    let mut cores = Vec::new();
    for (id, (text, (memory, distances))) in (0..).zip(description.split(';').zip(rows)) {
        let mut cpus = CpuSet::new();
        for group in text.split('|') {
            let parsed: Vec<CpuSet> = group.split_whitespace().map(|core| core.parse().unwrap()).collect();
            let Some(l3) = parsed.first().and_then(|core| core.iter().next()) else {
                continue;
            };
            for core in parsed {
                cpus = cpus.union(&core);
                let id_of_core = core.iter().next().unwrap();
                cores.push(Core { id: id_of_core, socket: id, l3, cpus: core });
            }
        }
        nodes.push(MemoryNode {
            id,
            cpus,
            memory: Bytes(*memory),
            huge_pages: Vec::new(),
            distances: distances.clone(),
        });
    }
    let online = nodes.iter().fold(CpuSet::new(), |all, node| all.union(&node.cpus));
    Topology::new(&nodes, cores, online).unwrap()
}
