use super::*;
use crate::node::{Readiness, SharedPoolView};
use berth_model::{
    Access, AppClass, ContainerRequest, ContainerRole, DataDisk, DiskLife, DiskPolicy, DiskSource, DnsConfig,
    HostPath, HugetlbLimit, IoLimit, Lifecycle, Limits, MilliCpu, PodId, PodNetwork, RecoveryPolicy,
    RestartPolicy, Security, Sysctls,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Gives the lowest free CPUs, from memory node 0.
struct Lowest;

impl AssignCpus for Lowest {
    fn assign(&self, node: &NodeView, demand: CpuDemand<'_>) -> Result<CpuAssignment, String> {
        let cpus = match demand {
            CpuDemand::Count { count, .. } => {
                CpuSet::try_from_iter(node.free_cpus.iter().take(count as usize)).unwrap()
            }
            CpuDemand::Exact { cpus, .. } => cpus.clone(),
        };
        Ok(CpuAssignment {
            cpus,
            mems: "0".parse().unwrap(),
            distance: if node.labels.contains_key("far") { 20 } else { 10 },
        })
    }
}

/// Knows no topology.
struct Nothing;

impl AssignCpus for Nothing {
    fn assign(&self, _: &NodeView, _: CpuDemand<'_>) -> Result<CpuAssignment, String> {
        Err("no memory node has them all".to_owned())
    }
}

fn node(name: &str) -> NodeView {
    let default = SharedPoolView { cpus: "1-3".parse().unwrap(), requested: MilliCpu(500) };
    NodeView {
        name: NodeName::new(name).unwrap(),
        readiness: Readiness::Ready,
        labels: BTreeMap::from([("zone".to_owned(), "east".to_owned())]),
        pools: BTreeMap::from([(PoolName::new("default").unwrap(), default)]),
        free_cpus: "1-3".parse().unwrap(),
        kept_back_cpus: 1,
        memory_capacity: Bytes(4 << 30),
        memory_requested: Bytes(1 << 30),
        mount_points: BTreeSet::from(["/".to_owned()]),
        host_network: false,
        host_paths: BTreeMap::from([("/srv/models".to_owned(), Access::ReadOnly)]),
        page_sizes: BTreeSet::from([Bytes(2 << 20)]),
        pods: 0,
        max_pods: 10,
    }
}

fn container(name: &str, exclusive_cpus: Option<u32>) -> ContainerRequest {
    ContainerRequest {
        name: ContainerName::new(name).unwrap(),
        role: ContainerRole::Main,
        image: "registry.example/web:1".parse().unwrap(),
        digest: None,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        security: Security::default(),
        lifecycle: Lifecycle::default(),
        mounts: Vec::new(),
        config: Vec::new(),
        host_paths: Vec::new(),
        system_disk_size: None,
        limits: Limits::default(),
        exclusive_cpus,
        ulimits: Vec::new(),
        readiness: None,
    }
}

fn request() -> PodRequest {
    PodRequest {
        labels: BTreeMap::new(),
        pod: PodId::new("shop", "web").unwrap(),
        hostname: None,
        class: AppClass::Standard,
        priority: 0,
        containers: vec![container("web", None)],
        disks: Vec::new(),
        cpu: CpuRequest::Shared { pool: PoolName::new("default").unwrap(), request: MilliCpu(0) },
        memory_request: None,
        limits: Limits::default(),
        network: PodNetwork::Own,
        address_pools: Vec::new(),
        node: None,
        node_labels: BTreeMap::new(),
        dns: DnsConfig::default(),
        sysctls: Sysctls::new(),
        restart: RestartPolicy::Always,
        disk: DiskPolicy::Reuse,
        recovery: RecoveryPolicy::Offline,
        stop_grace_ms: PodRequest::DEFAULT_STOP_GRACE_MS,
    }
}

fn exclusive(count: u32) -> CpuRequest {
    CpuRequest::Exclusive { count }
}

fn search(nodes: &[NodeView], cursor: usize, enough: usize, seed: u64) -> Search<'_> {
    Search { nodes, cursor, enough: NonZeroUsize::new(enough).unwrap(), seed }
}

fn check(change: impl FnOnce(&mut PodRequest, &mut NodeView), expected: &str) {
    let (mut request, mut node) = (request(), node("n1"));
    change(&mut request, &mut node);
    let said = match place(&request, &search(&[node], 0, 1, 0), &Lowest) {
        Ok(placement) => match placement.cpu {
            CpuPlacement::Exclusive { cpus, mems, .. } => format!("{cpus} on {mems}"),
            CpuPlacement::Shared { pool } => format!("pool {pool}"),
        },
        Err(unplaced) => {
            let refusal = &unplaced.explanation.refusals[0];
            format!("{}: {}", refusal.predicate, refusal.why)
        }
    };
    assert_eq!(said, expected);
}

#[test]
fn one_node() {
    check(|_, _| (), "pool default");
    check(|_, node| node.readiness = Readiness::NotReady { why: "silent".into() }, "NodeReady: silent");
    check(
        |request, _| request.node = Some(NodeName::new("n2").unwrap()),
        "NodeName: the pod asks for node n2",
    );
    check(
        |request, _| drop(request.node_labels.insert("zone".into(), "west".into())),
        "NodeAffinity: the pod asks for label zone=west, the node has zone=east",
    );
    check(
        |request, _| drop(request.node_labels.insert("gpu".into(), "yes".into())),
        "NodeAffinity: the pod asks for label gpu=yes, the node has no gpu",
    );
    check(|_, node| node.pods = 10, "PodCount: 10 pods are there, at most 10 are placed");
    check(
        |request, _| request.memory_request = Some(Bytes((3 << 30) + 1)),
        "MemoryFit: the pod asks for 3221225473 of memory, 3Gi of 4Gi are free",
    );
    check(
        |request, _| request.limits.memory.max = Some(Bytes(4 << 30)),
        "MemoryFit: the pod asks for 4Gi of memory, 3Gi of 4Gi are free",
    );
    check(|_, node| node.memory_requested = Bytes(u64::MAX), "pool default");
}

#[test]
fn cpus_of_one_node() {
    let shared = |pool: &str, milli| CpuRequest::Shared {
        pool: PoolName::new(pool).unwrap(),
        request: MilliCpu(milli),
    };
    let exact = |cpus: &str| CpuRequest::Exact { cpus: cpus.parse().unwrap(), mems: None };
    check(|request, _| request.cpu = shared("default", 2_500), "pool default");
    check(
        |request, _| request.cpu = shared("default", 2_501),
        "SharedCpuFit: the pod asks for 2501m CPUs of pool default, 2500m of 3000m are free",
    );
    check(
        |request, _| request.cpu = shared("batch", 0),
        "SharedCpuFit: no shared CPU pool batch is set there",
    );
    check(|request, _| request.cpu = exclusive(2), "1-2 on 0");
    check(
        |request, _| request.cpu = exclusive(3),
        "ExclusiveCpuFit: the pod asks for 3 CPUs of its own, 2 of the free ones (1-3) can be given away",
    );
    check(|request, _| request.cpu = exact("2"), "2 on 0");
    check(|request, _| request.cpu = exact("0,2"), "ExclusiveCpuFit: CPUs 0 are not free there (free: 1-3)");
    check(
        |request, node| {
            request.cpu = exclusive(1);
            node.free_cpus = CpuSet::new();
        },
        "ExclusiveCpuFit: the pod asks for 1 CPUs of its own, 0 of the free ones (none) can be given away",
    );
}

#[test]
fn devices_of_one_node() {
    let io = |path: &str| IoLimit {
        mount_point: path.to_owned(),
        read_bytes_per_sec: None,
        write_bytes_per_sec: Some(1),
        read_ops_per_sec: None,
        write_ops_per_sec: None,
        weight: None,
    };
    let huge = |size| HugetlbLimit { page_size: Bytes(size), max: Bytes(size) };
    check(|request, _| request.limits.io = vec![io("/")], "pool default");
    check(
        |request, _| request.containers[0].limits.io = vec![io("/"), io("/data")],
        "MountPoints: no block device is beneath mount point /data",
    );
    let shared = |access| HostPath { source: "/srv/models".to_owned(), path: "/models".to_owned(), access };
    check(|request, _| request.containers[0].host_paths = vec![shared(Access::ReadOnly)], "pool default");
    check(
        |request, _| request.containers[0].host_paths = vec![shared(Access::ReadWrite)],
        "HostPaths: /srv/models is shared by this host for reading only",
    );
    let in_the_hosts = |request: &mut PodRequest| request.network = PodNetwork::Host;
    check(|request, _| in_the_hosts(request), "HostNetwork: the host does not share its network with pods");
    check(
        |request, node| {
            in_the_hosts(request);
            node.host_network = true;
        },
        "pool default",
    );
    check(|request, _| request.limits.hugetlb = vec![huge(2 << 20)], "pool default");
    let memory = DiskSource::Memory { size: Bytes(1 << 30), page_size: Some(Bytes(1 << 30)) };
    let disk = DataDisk { name: "huge".parse().unwrap(), source: memory, life: DiskLife::Scratch };
    check(|request, _| request.disks = vec![disk.clone()], "HugePages: the kernel has no huge pages of 1Gi");
    check(
        |request, _| request.limits.hugetlb = vec![huge(1 << 30)],
        "HugePages: the kernel has no huge pages of 1Gi",
    );
}

#[test]
fn containers_get_their_part() {
    let check = |parts: &[Option<u32>], expected: &str| {
        let mut request = request();
        request.cpu = exclusive(2);
        request.containers =
            parts.iter().enumerate().map(|(index, part)| container(&format!("c{index}"), *part)).collect();
        let said = match place(&request, &search(&[node("n1")], 0, 1, 0), &Lowest) {
            Ok(Placement { cpu: CpuPlacement::Exclusive { containers, .. }, .. }) => {
                containers.iter().map(|(name, cpus)| format!("{name}={cpus}")).collect::<Vec<_>>().join(" ")
            }
            other => other.unwrap_err().explanation.refusals[0].why.clone(),
        };
        assert_eq!(said, expected, "{parts:?}");
    };
    check(&[None], "");
    check(&[None, None], "");
    check(&[Some(1), None], "c0=1 c1=2");
    check(&[Some(1), Some(1)], "c0=1 c1=2");
    check(&[Some(2), None], "container c1 is left without a CPU: the others ask for all 2 of the pod");
    check(&[Some(1), Some(2)], "container c1 asks for 2 of the pod's 2 CPUs, 1 are left");
    check(&[Some(0)], "container c0 asks for 0 of the pod's 2 CPUs, 2 are left");
}

#[test]
fn every_refusal_is_explained() {
    let mut silent = node("n2");
    silent.readiness = Readiness::NotReady { why: "silent".into() };
    let mut request = request();
    request.cpu = exclusive(1);
    let nodes = [node("n1"), silent];
    let unplaced = place(&request, &search(&nodes, 0, 1, 0), &Nothing).unwrap_err();
    assert_eq!(
        unplaced.to_string(),
        "no node will do: 0 of 2 nodes fit (1 NodeReady, 1 NumaFit); n1: NumaFit: no memory node has them all; \
         n2: NodeReady: silent"
    );
    let nobody = place(&request, &search(&[], 7, 1, 0), &Nothing).unwrap_err();
    assert_eq!(nobody.to_string(), "no node will do: there are no nodes");
    let many: Vec<NodeView> = (0..25).map(|number| node(&format!("n{number}"))).collect();
    let text = place(&request, &search(&many, 0, 1, 0), &Nothing).unwrap_err().to_string();
    assert!(text.ends_with("; and 5 more"), "{text}");
}

#[test]
fn the_emptier_and_nearer_wins() {
    let mut full = node("a-full");
    full.memory_requested = Bytes(3 << 30);
    let mut far = node("b-far");
    far.labels.insert("far".into(), String::new());
    far.memory_requested = Bytes(0);
    let nodes = [full, far, node("c")];
    for seed in 0..5 {
        let mut shared = request();
        shared.memory_request = Some(Bytes(1 << 20));
        assert_eq!(place(&shared, &search(&nodes, 0, 3, seed), &Lowest).unwrap().node.as_str(), "b-far");
        let mut own = request();
        own.cpu = exclusive(1);
        assert_eq!(place(&own, &search(&nodes, 0, 3, seed), &Lowest).unwrap().node.as_str(), "c");
    }
}

#[test]
fn ties_are_broken_by_the_seed() {
    let nodes: Vec<NodeView> = (0..4).map(|number| node(&format!("n{number}"))).collect();
    let chosen: BTreeSet<NodeName> =
        (0..4).map(|seed| place(&request(), &search(&nodes, 0, 4, seed), &Lowest).unwrap().node).collect();
    assert_eq!(chosen.len(), 4);
}

proptest! {
    #[test]
    fn the_cursor_is_fair(count in 1usize..30, enough in 1usize..10, start in any::<usize>()) {
        let nodes: Vec<NodeView> = (0..count).map(|number| node(&format!("n{number}"))).collect();
        let mut seen: BTreeMap<NodeName, usize> = BTreeMap::new();
        let mut cursor = start;
        // With one feasible node a search, `count` searches visit every node exactly once.
        for seed in 0..count {
            let placed = place(&request(), &search(&nodes, cursor, 1, seed as u64), &Lowest).unwrap();
            *seen.entry(placed.node).or_default() += 1;
            cursor = placed.cursor;
        }
        prop_assert!(seen.len() == count && seen.values().all(|times| *times == 1));
        let placed = place(&request(), &search(&nodes, cursor, enough, 0), &Lowest).unwrap();
        prop_assert_eq!(placed.cursor, (cursor + enough.min(count)) % count);
    }

    #[test]
    fn exclusive_cpus_never_overlap(demands in prop::collection::vec((1u32..5, any::<u64>()), 1..40)) {
        let mut nodes: Vec<NodeView> = (0..3).map(|number| {
            let mut node = node(&format!("n{number}"));
            node.free_cpus = "0-15".parse().unwrap();
            node.max_pods = 100;
            node
        }).collect();
        let mut cursor = 0;
        let mut given: BTreeMap<NodeName, CpuSet> = BTreeMap::new();
        for (count, seed) in demands {
            let mut request = request();
            request.cpu = exclusive(count);
            match place(&request, &search(&nodes, cursor, 2, seed), &Lowest) {
                Err(unplaced) => {
                    cursor = unplaced.cursor;
                    prop_assert!(nodes.iter().all(|node| node.lendable_cpus() < count as usize));
                }
                Ok(placed) => {
                    cursor = placed.cursor;
                    let CpuPlacement::Exclusive { cpus, .. } = placed.cpu else { panic!("shared") };
                    prop_assert_eq!(cpus.len(), count as usize);
                    let others = given.entry(placed.node.clone()).or_default();
                    prop_assert!(others.intersection(&cpus).is_empty());
                    *others = others.union(&cpus);
                    let node = nodes.iter_mut().find(|node| node.name == placed.node).unwrap();
                    node.free_cpus = node.free_cpus.difference(&cpus);
                    prop_assert!(node.free_cpus.len() >= node.kept_back_cpus as usize);
                }
            }
        }
    }
}
