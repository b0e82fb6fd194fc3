//! Reading what a kernel shows, from a directory made for it.

use crate::{Topology, read_sysfs};
use berth_model::Bytes;
use std::fs;
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn write_cpu(root: &Path, cpu: u32, socket: &str, siblings: &str, l3: Option<&str>) {
    let directory = format!("sys/devices/system/cpu/cpu{cpu}");
    write(root, &format!("{directory}/topology/physical_package_id"), socket);
    write(root, &format!("{directory}/topology/thread_siblings_list"), siblings);
    write(root, &format!("{directory}/cache/index0/level"), "1\n");
    write(root, &format!("{directory}/cache/index0/shared_cpu_list"), siblings);
    if let Some(sharers) = l3 {
        write(root, &format!("{directory}/cache/index3/level"), "3\n");
        write(root, &format!("{directory}/cache/index3/shared_cpu_list"), sharers);
    }
}

fn write_node(root: &Path, node: u32, cpus: &str, kib: u64, distances: &str) {
    let directory = format!("sys/devices/system/node/node{node}");
    write(root, &format!("{directory}/cpulist"), cpus);
    write(root, &format!("{directory}/distance"), distances);
    let meminfo = format!("Node {node} MemTotal:       {kib} kB\nNode {node} MemFree:        1 kB\n");
    write(root, &format!("{directory}/meminfo"), &meminfo);
    for (size_kib, total, free) in [(1_048_576, "0", "0"), (2_048, "64", "60")] {
        let pages = format!("{directory}/hugepages/hugepages-{size_kib}kB");
        write(root, &format!("{pages}/nr_hugepages"), total);
        write(root, &format!("{pages}/free_hugepages"), free);
    }
}

/// Two sockets of two cores with two threads; CPU 7 is offline, node 0 has no memory, node 2 no CPUs.
fn two_sockets() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    write(at, "sys/devices/system/cpu/online", "0-6\n");
    write(at, "sys/devices/system/node/online", "0-2\n");
    for (cpu, socket, siblings, l3) in [
        (0, "0", "0,4", "0-1,4-5"),
        (1, "0", "1,5", "0-1,4-5"),
        (2, "1", "2,6", "2-3,6"),
        (3, "1", "3", "2-3,6"),
        (4, "0", "0,4", "0-1,4-5"),
        (5, "0", "1,5", "0-1,4-5"),
        (6, "1", "2,6", "2-3,6"),
    ] {
        write_cpu(at, cpu, socket, siblings, Some(l3));
    }
    fs::create_dir_all(at.join("sys/devices/system/cpu/cpu7")).unwrap();
    write_node(at, 0, "0-1,4-5\n", 0, "10 21 17\n");
    write_node(at, 1, "2-3,6\n", 1_024, "21 10 28\n");
    write_node(at, 2, "\n", 2_048, "17 28 10\n");
    root
}

fn cores(topology: &Topology) -> Vec<(u32, u32, u32, String)> {
    let cores = topology.cores().iter();
    cores.map(|core| (core.id, core.socket, core.l3, core.cpus.to_string())).collect()
}

#[test]
fn offline_cpus_and_nodes_without_memory_or_cpus() {
    let topology = read_sysfs(two_sockets().path()).unwrap();
    assert_eq!(topology.online().to_string(), "0-6");
    let nodes: Vec<_> = topology
        .nodes()
        .iter()
        .map(|node| (node.id, node.cpus.to_string(), node.memory, node.distances.clone()))
        .collect();
    assert_eq!(
        nodes,
        [
            (0, "0-1,4-5".to_owned(), Bytes(0), vec![10, 21, 17]),
            (1, "2-3,6".to_owned(), Bytes(1 << 20), vec![21, 10, 28]),
            (2, String::new(), Bytes(2 << 20), vec![17, 28, 10]),
        ]
    );
    let core = |id, socket, l3, cpus: &str| (id, socket, l3, cpus.to_owned());
    assert_eq!(
        cores(&topology),
        [core(0, 0, 0, "0,4"), core(1, 0, 0, "1,5"), core(2, 1, 2, "2,6"), core(3, 1, 2, "3")]
    );
    let pages = &topology.nodes()[1].huge_pages;
    let pages: Vec<_> = pages.iter().map(|p| (p.page_size.to_string(), p.total, p.free)).collect();
    assert_eq!(pages, [("2Mi".to_owned(), 64, 60), ("1Gi".to_owned(), 0, 0)]);
    assert_eq!(topology.huge_page_sizes().len(), 2);
}

#[test]
fn without_numa_and_without_shared_caches() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/devices/system/cpu/online", "0-3\n");
    for cpu in 0..4 {
        write_cpu(root.path(), cpu, "-1\n", &format!("{cpu}\n"), None);
    }
    write(root.path(), "proc/meminfo", "MemTotal:        2048 kB\nMemFree: 3 kB\n");
    let topology = read_sysfs(root.path()).unwrap();
    assert_eq!(topology.nodes().len(), 1);
    assert_eq!(topology.nodes()[0].cpus.to_string(), "0-3");
    assert_eq!(topology.memory(), Bytes(2 << 20));
    assert_eq!(topology.l3_groups().len(), 1);
    assert_eq!(topology.sockets().len(), 1);
}

fn check_broken(path: &str, text: Option<&str>, expected: &str) {
    let root = two_sockets();
    match text {
        Some(text) => write(root.path(), path, text),
        None => fs::remove_file(root.path().join(path)).unwrap(),
    }
    let error = read_sysfs(root.path()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let said = format!("{error}: {}", source.unwrap_or_default());
    assert!(said.contains(expected), "{path} {text:?}: {said}");
}

#[test]
fn what_is_wrong_is_named() {
    check_broken("sys/devices/system/cpu/online", None, "cpu/online");
    check_broken("sys/devices/system/cpu/online", Some("x"), "cpu/online is no list");
    check_broken("sys/devices/system/node/node1/meminfo", Some("MemTotal: many"), "has no MemTotal in kB");
    check_broken("sys/devices/system/node/node1/distance", Some("10 x"), "has no row of distances");
    check_broken("sys/devices/system/node/node1/distance", Some("10"), "node 1 has 1 distances");
    check_broken("sys/devices/system/node/node1/cpulist", Some("2"), "memory nodes hold CPUs");
    check_broken(
        "sys/devices/system/cpu/cpu2/topology/physical_package_id",
        Some("a"),
        "has no socket number",
    );
    check_broken("sys/devices/system/cpu/cpu2/cache/index3/level", None, "cache/index3/level");
}

#[test]
fn this_machine_can_be_read() {
    let topology = read_sysfs(Path::new("/")).unwrap();
    assert!(!topology.online().is_empty());
    assert!(topology.memory().0 > 0);
}
