//! What holds of every assignment, on random machines with random CPUs free.

use super::machines::{GIB, machine_with};
use crate::{CpuDemand, Free, NoFit, Sharing, Topology, assign, nodes_of, split};
use berth_model::{Bytes, CpuSet, MemSet};
use proptest::prelude::*;

/// Up to four nodes with up to two caches of up to four cores of one or two threads; some nodes have no CPUs, some
/// no memory, but the first has both.
fn machines() -> impl Strategy<Value = Topology> {
    let node = (prop::collection::vec(prop::collection::vec(1..=2_usize, 1..=4), 0..=2), 0..=2_u64);
    (prop::collection::vec(node, 1..=4), prop::collection::vec(11..60_u32, 16)).prop_map(
        |(mut nodes, far)| {
            let count = nodes.len();
            nodes[0].0.push(vec![1]);
            nodes[0].1 += 1;
            let rows: Vec<_> = (0..count)
                .map(|from| {
                    let row = |to: usize| if to == from { 10 } else { far[from.min(to) * 4 + from.max(to)] };
                    (nodes[from].1 * GIB, (0..count).map(row).collect())
                })
                .collect();
            machine_with(&describe(&nodes), &rows)
        },
    )
}

fn describe(nodes: &[(Vec<Vec<usize>>, u64)]) -> String {
    let mut next = 0;
    let mut core = |threads: &usize| {
        let numbers: Vec<String> = (next..next + threads).map(|cpu| cpu.to_string()).collect();
        next += threads;
        numbers.join(",")
    };
    let mut texts = Vec::new();
    for (groups, _) in nodes {
        let groups: Vec<String> =
            groups.iter().map(|cores| cores.iter().map(&mut core).collect::<Vec<_>>().join(" ")).collect();
        texts.push(groups.join("|"));
    }
    texts.join(";")
}

#[derive(Debug, Clone)]
struct Case {
    topology: Topology,
    free: Free,
    demand: CpuDemand,
}

fn cases() -> impl Strategy<Value = Case> {
    let demand = (1..=20_u32, 0..=5_u64, prop::bool::ANY);
    (machines(), any::<u64>(), prop::collection::vec(0..=3_u64, 4), demand).prop_map(
        |(topology, mask, memory, (count, gib, never))| {
            let online = topology.online().iter();
            let cpus = online.filter(|cpu| mask >> (cpu % 64) & 1 == 1);
            let cpus = CpuSet::try_from_iter(cpus).unwrap();
            let memory = (0..).zip(memory.into_iter().map(|gib| Bytes(gib * GIB))).collect();
            Case {
                topology,
                free: Free { cpus, memory },
                demand: CpuDemand {
                    count,
                    memory: Bytes(gib * GIB),
                    sharing: if never { Sharing::Never } else { Sharing::Allowed },
                },
            }
        },
    )
}

fn free_memory(case: &Case, mems: &MemSet) -> u64 {
    let nodes = case.topology.nodes().iter().filter(|node| mems.contains(node.id));
    nodes
        .map(|node| case.free.memory.get(&node.id).map_or(node.memory, |free| *free.min(&node.memory)).0)
        .sum()
}

fn whole_cores(case: &Case, cpus: &CpuSet) -> bool {
    let cores = case.topology.cores().iter();
    cores
        .map(|core| core.cpus.intersection(cpus).len())
        .zip(case.topology.cores())
        .all(|(taken, core)| taken == 0 || taken == core.cpus.len())
}

/// Lowers the demand to what the node with the most free CPUs can meet alone, counted without any cleverness.
fn for_one_node(case: &Case) -> Option<CpuDemand> {
    let on_node = |node: &crate::MemoryNode| node.cpus.intersection(&case.free.cpus).len();
    let largest = case.topology.nodes().iter().max_by_key(|node| on_node(node))?;
    let mems = MemSet::try_from_iter([largest.id]).ok()?;
    let count = case.demand.count.min(u32::try_from(on_node(largest)).ok()?);
    (count > 0).then_some(CpuDemand {
        count,
        memory: case.demand.memory.min(Bytes(free_memory(case, &mems))),
        sharing: Sharing::Allowed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_assignment_is_what_was_asked_for(case in cases()) {
        let Ok(given) = assign(&case.topology, &case.free, &case.demand) else { return Ok(()) };
        prop_assert_eq!(given.cpus.len(), case.demand.count as usize);
        prop_assert!(given.cpus.is_subset(&case.free.cpus));
        prop_assert!(!given.mems.is_empty());
        prop_assert!(given.mems.is_subset(&case.topology.memory_nodes()));
        prop_assert!(free_memory(&case, &given.mems) >= case.demand.memory.0);
        if case.demand.sharing == Sharing::Never {
            prop_assert!(whole_cores(&case, &given.cpus));
        }
        // The memory of every CPU whose own node has memory is among them.
        for node in case.topology.nodes().iter().filter(|node| node.memory.0 > 0) {
            if !node.cpus.intersection(&given.cpus).is_empty() {
                prop_assert!(given.mems.contains(node.id));
            }
        }
    }

    #[test]
    fn one_node_is_never_passed_over(case in cases()) {
        let Some(demand) = for_one_node(&case) else { return Ok(()) };
        let given = assign(&case.topology, &case.free, &demand).unwrap();
        let used = case.topology.nodes().iter().filter(|node| !node.cpus.intersection(&given.cpus).is_empty());
        prop_assert_eq!(used.count(), 1);
        prop_assert_eq!(given.mems.len(), 1);
    }

    #[test]
    fn refused_only_for_a_reason_that_is_so(case in cases()) {
        let available = case.free.cpus.intersection(case.topology.online()).len();
        match assign(&case.topology, &case.free, &case.demand) {
            Ok(_) => {}
            Err(NoFit::Nothing) => prop_assert_eq!(case.demand.count, 0),
            Err(NoFit::Cpus { .. }) => prop_assert!(available < case.demand.count as usize),
            Err(NoFit::WholeCores { .. }) => prop_assert_eq!(case.demand.sharing, Sharing::Never),
            Err(NoFit::Memory { .. }) => {
                let all = case.topology.memory_nodes();
                prop_assert!(free_memory(&case, &all) < case.demand.memory.0);
            }
        }
    }

    #[test]
    fn the_same_again_gives_the_same(case in cases()) {
        let once = assign(&case.topology, &case.free, &case.demand);
        prop_assert_eq!(assign(&case.topology.clone(), &case.free, &case.demand), once);
    }

    #[test]
    fn parts_are_disjoint_and_inside(case in cases(), cuts in prop::collection::vec(1..=4_u32, 0..5)) {
        let Ok(whole) = assign(&case.topology, &case.free, &case.demand) else { return Ok(()) };
        let asked: u32 = cuts.iter().sum();
        let Ok(parts) = split(&case.topology, &whole, &cuts) else {
            prop_assert!(asked > case.demand.count);
            return Ok(());
        };
        let mut seen = CpuSet::new();
        for (part, count) in parts.iter().zip(&cuts) {
            prop_assert_eq!(part.cpus.len(), *count as usize);
            prop_assert!(part.cpus.is_subset(&whole.cpus));
            prop_assert!(part.mems.is_subset(&whole.mems) && !part.mems.is_empty());
            prop_assert!(part.cpus.intersection(&seen).is_empty());
            seen = seen.union(&part.cpus);
        }
        prop_assert_eq!(parts.len(), cuts.len());
    }

    #[test]
    fn memory_nodes_of_cpus_have_memory(case in cases()) {
        let mems = nodes_of(&case.topology, &case.free.cpus).unwrap();
        prop_assert!(mems.is_subset(&case.topology.memory_nodes()));
        prop_assert_eq!(mems.is_empty(), case.free.cpus.is_empty());
    }
}
