//! Which CPUs and memory nodes are chosen, case by case.

use super::machines::{GIB, machine, machine_with};
use crate::{Assignment, CpuDemand, Free, Sharing, Topology, assign, distance_of, nodes_of, split};
use berth_model::Bytes;

/// Two sockets, each with two last caches of two cores of two threads.
const TWO_SOCKETS: &str = "0,8 1,9 | 2,10 3,11 ; 4,12 5,13 | 6,14 7,15";

fn free(cpus: &str) -> Free {
    Free { cpus: cpus.parse().unwrap(), ..Free::default() }
}

fn demand(count: u32) -> CpuDemand {
    CpuDemand { count, ..CpuDemand::default() }
}

fn show(result: Result<Assignment, impl std::fmt::Display>) -> String {
    match result {
        Ok(Assignment { cpus, mems, distance }) => format!("{cpus} on {mems} at {distance}"),
        Err(error) => error.to_string(),
    }
}

fn check_on(topology: &Topology, cpus: &str, demand: CpuDemand, expected: &str) {
    let said = show(assign(topology, &free(cpus), &demand));
    assert_eq!(said, expected, "{demand:?} of {cpus}");
}

fn check(cpus: &str, count: u32, expected: &str) {
    check_on(&machine(TWO_SOCKETS), cpus, demand(count), expected);
}

#[test]
fn whole_cores_of_one_cache_of_one_node() {
    check("0-15", 1, "0 on 0 at 10");
    check("0-15", 2, "0,8 on 0 at 10");
    check("0-15", 3, "0-1,8 on 0 at 10");
    check("0-15", 4, "0-1,8-9 on 0 at 10");
    check("0-15", 6, "0-2,8-10 on 0 at 10");
    check("0-15", 8, "0-3,8-11 on 0 at 10");
}

#[test]
fn the_tightest_fit() {
    // Node 1 has fewer left.
    check("0-4,8-12", 2, "4,12 on 1 at 10");
    // Both caches of node 0 are broken into; the one with a single whole core left is filled up.
    check("0-2,8-10,12", 2, "2,10 on 0 at 10");
    // Alone, a thread of a core that is shared anyway goes before a whole core is broken.
    check("0-3,8-10", 1, "3 on 0 at 10");
}

#[test]
fn cores_are_not_shared_while_whole_ones_are_free() {
    // Node 1 would fit tighter, with two halves of cores.
    check("0-3,8-11,4-5", 2, "0,8 on 0 at 10");
    // Nothing whole is left.
    check("0-1,4-7", 2, "0-1 on 0 at 10");
    check("0,4-7", 2, "4-5 on 1 at 10");
}

#[test]
fn several_nodes_only_if_one_does_not_do() {
    check("0-15", 9, "0-4,8-11 on 0-1 at 20");
    check("0-15", 16, "0-15 on 0-1 at 20");
    check("0-1,4-5,12", 4, "0,4-5,12 on 0-1 at 20");
}

#[test]
fn what_cannot_be() {
    check("0-15", 0, "0 CPUs were asked for");
    check("0-1", 3, "3 CPUs are wanted, 2 are free (0-1)");
    // Offline CPUs are not given, whoever says that they are free.
    check("0,100-200", 2, "2 CPUs are wanted, 1 are free (0)");
}

#[test]
fn never_sharing() {
    let never = |count| CpuDemand { count, sharing: Sharing::Never, ..CpuDemand::default() };
    let topology = machine(TWO_SOCKETS);
    check_on(&topology, "0-15", never(4), "0-1,8-9 on 0 at 10");
    let odd = "3 CPUs in whole cores are wanted, whole free cores offer 16 and must add up exactly";
    check_on(&topology, "0-15", never(3), odd);
    let halves = "2 CPUs in whole cores are wanted, whole free cores offer 0 and must add up exactly";
    check_on(&topology, "0-7", never(2), halves);
    // A core whose sibling is offline is whole.
    let hybrid = machine("0,1 2,3 4 5");
    check_on(&hybrid, "0-5", never(3), "0-1,4 on 0 at 10");
    check_on(&hybrid, "0-5", never(1), "4 on 0 at 10");
}

#[test]
fn the_nearest_nodes() {
    let rows = [
        (GIB, vec![10, 30, 21, 30]),
        (GIB, vec![30, 10, 30, 16]),
        (GIB, vec![21, 30, 10, 30]),
        (GIB, vec![30, 16, 30, 10]),
    ];
    let topology = machine_with("0 1 ; 2 3 ; 4 5 ; 6 7", &rows);
    check_on(&topology, "0-7", demand(3), "2-3,6 on 1,3 at 16");
    check_on(&topology, "0-5", demand(3), "0-1,4 on 0,2 at 21");
    check_on(&topology, "0-7", demand(5), "0-3,6 on 0-1,3 at 30");
}

#[test]
fn memory_has_to_fit_too() {
    let topology = machine("0 1 ; 2 3 ;");
    let with_memory = |count, gib_tenths: u64| CpuDemand {
        count,
        memory: Bytes(GIB / 10 * gib_tenths),
        ..CpuDemand::default()
    };
    check_on(&topology, "0-3", with_memory(2, 5), "0-1 on 0 at 10");
    // The node without CPUs lends its memory first: nobody's CPUs are robbed of theirs.
    check_on(&topology, "0-3", with_memory(2, 15), "0-1 on 0,2 at 20");
    check_on(&topology, "0-3", with_memory(2, 25), "0-1 on 0-2 at 20");
    let too_much = assign(&topology, &free("0-3"), &with_memory(2, 35)).unwrap_err();
    assert!(too_much.to_string().ends_with("3221225472 are free on all memory nodes together"));
    // Node 0 has CPUs, and its memory is taken.
    let mut taken = free("0-3");
    taken.memory.insert(0, Bytes(0));
    let said = show(assign(&topology, &taken, &with_memory(2, 5)));
    assert_eq!(said, "2-3 on 1 at 10");
    // What is said to be free is never more than there is.
    taken.memory.insert(0, Bytes(u64::MAX));
    let said = show(assign(&topology, &taken, &with_memory(2, 15)));
    assert_eq!(said, "0-1 on 0,2 at 20");
}

#[test]
fn nodes_without_memory_or_without_cpus() {
    // Node 0 has no memory, node 2 no CPUs; node 2 is nearer to node 0.
    let rows = [(0, vec![10, 21, 14]), (GIB, vec![21, 10, 24]), (GIB, vec![14, 24, 10])];
    let topology = machine_with("0 1 ; 2 3 ;", &rows);
    check_on(&topology, "0-1", demand(2), "0-1 on 2 at 14");
    check_on(&topology, "0-3", demand(3), "0-2 on 1 at 21");
    let mems = nodes_of(&topology, &"0-3".parse().unwrap()).unwrap();
    assert_eq!(mems.to_string(), "1-2");
    let missing = nodes_of(&topology, &"3-4".parse().unwrap()).unwrap_err();
    assert_eq!(missing.to_string(), "CPUs 4 do not exist or are offline (online: 0-3)");
    assert_eq!(topology.memory_nodes().to_string(), "1-2");
}

#[test]
fn distances_between_cpus_and_memory() {
    let topology = machine(TWO_SOCKETS);
    for (cpus, mems, expected) in [("0", "0", 10), ("0", "1", 20), ("0,4", "0", 20), ("", "0", 10)] {
        let found = distance_of(&topology, &cpus.parse().unwrap(), &mems.parse().unwrap());
        assert_eq!(found, expected, "{cpus} with {mems}");
    }
}

fn check_split(cpus: &str, mems: &str, counts: &[u32], expected: &[&str]) {
    let topology = machine(TWO_SOCKETS);
    let (cpus, mems) = (cpus.parse().unwrap(), mems.parse().unwrap());
    let whole = Assignment { distance: distance_of(&topology, &cpus, &mems), cpus, mems };
    let said = match split(&topology, &whole, counts) {
        Ok(parts) => parts.into_iter().map(|part| show(Ok::<_, String>(part))).collect(),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(said, expected, "{counts:?} of {whole:?}");
}

#[test]
fn carved_up() {
    check_split("0-3,8-11", "0", &[2, 4], &["2,10 on 0 at 10", "0-1,8-9 on 0 at 10"]);
    check_split("0-15", "0-1", &[8, 8], &["0-3,8-11 on 0 at 10", "4-7,12-15 on 1 at 10"]);
    check_split("0-3", "0", &[], &[]);
    // Memory that was given apart from the CPUs stays as it was given.
    check_split("0,8", "1", &[1, 1], &["0 on 1 at 20", "8 on 1 at 20"]);
    check_split("0-3", "0", &[3, 2], &["the parts ask for 5 CPUs together, there are 4 (0-3)"]);
    check_split("0-3", "0", &[1, 0], &["part 1 asks for 0 CPUs"]);
    check_split("0,99", "0", &[1], &["CPUs 99 of the assignment are not online"]);
}
