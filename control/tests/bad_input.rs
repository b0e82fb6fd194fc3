//! Bad input: a clear error that names the field, and nothing changes.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::platform_client::PlatformClient;
use common::*;
use tonic::Code::{self, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted};
use tonic::transport::Channel;

type Change = fn(&mut v1::PodRequest);

fn limits(pod: &mut v1::PodRequest) -> &mut v1::Limits {
    pod.limits.get_or_insert_default()
}

fn security(pod: &mut v1::PodRequest) -> &mut v1::Security {
    pod.containers[0].security.get_or_insert_default()
}

fn probe(pod: &mut v1::PodRequest) -> &mut v1::Probe {
    let probe = || v1::Probe { period_ms: 1_000, timeout_ms: 1_000, ..v1::Probe::default() };
    pod.containers[0].readiness.get_or_insert_with(probe)
}

fn lifecycle(pod: &mut v1::PodRequest) -> &mut v1::Lifecycle {
    pod.containers[0].lifecycle.get_or_insert_default()
}

fn exact(cpus: &str, mems: Option<&str>) -> Option<v1::CpuRequest> {
    let request = v1::cpu_request::Request::Exact(v1::ExactCpuRequest {
        cpus: cpus.to_owned(),
        mems: mems.map(str::to_owned),
    });
    Some(v1::CpuRequest { request: Some(request) })
}

fn shared(pool: &str, milli_cpu: u32) -> Option<v1::CpuRequest> {
    let pool = pool.to_owned();
    let request = v1::cpu_request::Request::Shared(v1::SharedCpuRequest { pool, milli_cpu });
    Some(v1::CpuRequest { request: Some(request) })
}

fn file(pod: &mut v1::PodRequest) -> &mut v1::ConfigFile {
    let file = v1::ConfigFile { name: "web.conf".to_owned(), ..v1::ConfigFile::default() };
    let folder = v1::ConfigFolder { path: "/etc/web".to_owned(), files: vec![file] };
    let config = &mut pod.containers[0].config;
    config.push(folder);
    &mut config[0].files[0]
}

const PODS: &[(Change, Code, &str)] = &[
    (|pod| file(pod).mode = 0o644, InvalidArgument, "containers[0].config[0].files[0].mode: mode 0644"),
    (|pod| file(pod).name = "../x".into(), InvalidArgument, "\"../x\" of /etc/web is no name of a file"),
    (|pod| file(pod).content = vec![0; 200 << 10], InvalidArgument, "at most 131072 are possible"),
    (|pod| pod.pod = None, InvalidArgument, "pod"),
    (|pod| pod.pod.as_mut().unwrap().name = "Web".into(), InvalidArgument, "name \"Web\" is no DNS label"),
    (|pod| pod.pod.as_mut().unwrap().namespace = "../etc".into(), InvalidArgument, "name \"../etc\""),
    (|pod| pod.pod.as_mut().unwrap().name = "a".repeat(64), InvalidArgument, "longer than 63 bytes"),
    (|pod| pod.hostname = Some("a.b".into()), InvalidArgument, "hostname \"a.b\" is no DNS label"),
    (|pod| pod.class = 77, InvalidArgument, "class"),
    (|pod| pod.containers.clear(), InvalidArgument, "containers"),
    (|pod| pod.containers.push(pod.containers[0].clone()), InvalidArgument, "given twice"),
    (|pod| pod.containers[0].name = String::new(), InvalidArgument, "containers[0].name: name is empty"),
    (|pod| pod.containers[0].image = "redis".into(), InvalidArgument, "containers[0].image: image \"redis\""),
    (|pod| pod.containers[0].image = String::new(), InvalidArgument, "containers[0].image"),
    (|pod| pod.containers[0].digest = Some("sha256:1".into()), InvalidArgument, "containers[0].digest"),
    (
        |pod| {
            pod.containers[0].image = format!("registry.example/web@sha256:{}", "a".repeat(64));
            pod.containers[0].digest = Some(format!("sha256:{}", "b".repeat(64)));
        },
        InvalidArgument,
        "name different images",
    ),
    (|pod| pod.containers[0].working_dir = Some("etc".into()), InvalidArgument, "working directory \"etc\""),
    (
        |pod| pod.containers[0].env.push(v1::EnvVar { name: "A=B".into(), value: String::new() }),
        InvalidArgument,
        "environment variable \"A=B\"",
    ),
    (
        |pod| pod.containers[0].ulimits.push(v1::Ulimit { rlimit: "nofiles".into(), soft: 1, hard: 1 }),
        InvalidArgument,
        "ulimit \"nofiles\" is unknown",
    ),
    (
        |pod| pod.containers[0].ulimits.push(v1::Ulimit { rlimit: "nofile".into(), soft: 2, hard: 1 }),
        InvalidArgument,
        "soft 2 is above hard 1",
    ),
    (|pod| limits(pod).cpu_weight = Some(0), InvalidArgument, "cpu weight 0 is outside"),
    (|pod| limits(pod).pids_max = Some(0), InvalidArgument, "pids.max is 0"),
    (
        |pod| {
            limits(pod).memory_min_bytes = Some(2);
            limits(pod).memory_max_bytes = Some(1);
        },
        InvalidArgument,
        "memory.min is 2 and above memory.max",
    ),
    (
        |pod| limits(pod).io.push(v1::IoLimit { mount_point: "data".into(), ..v1::IoLimit::default() }),
        InvalidArgument,
        "io mount point \"data\"",
    ),
    (
        |pod| limits(pod).io.push(v1::IoLimit { mount_point: "/data".into(), ..v1::IoLimit::default() }),
        ResourceExhausted,
        "n1: MountPoints: no block device is beneath mount point /data",
    ),
    (
        |pod| limits(pod).hugetlb.push(v1::HugetlbLimit { page_size_bytes: 3, max_bytes: 3 }),
        InvalidArgument,
        "no power of two",
    ),
    (|pod| pod.memory_request_bytes = Some(u64::MAX), ResourceExhausted, "MemoryFit: the pod asks for"),
    (|pod| pod.stop_grace_ms = Some(u64::MAX), InvalidArgument, "grace_ms"),
    (
        |pod| (pod.host_network, pod.hostname) = (true, Some("web".into())),
        InvalidArgument,
        "host_network: a pod in its host's network has no host name of its own",
    ),
    (
        |pod| {
            pod.host_network = true;
            pod.sysctls.insert("net.core.somaxconn".into(), "1".into());
        },
        InvalidArgument,
        "has no kernel parameter net.core.somaxconn of its own",
    ),
    (
        |pod| pod.host_network = true,
        ResourceExhausted,
        "n1: HostNetwork: the host does not share its network",
    ),
    (
        |pod| drop(pod.sysctls.insert("vm.swappiness".into(), "1".into())),
        InvalidArgument,
        "sysctls: kernel parameter",
    ),
    (
        |pod| security(pod).add_capabilities = vec!["NET".into()],
        InvalidArgument,
        "security.add_capabilities: capab",
    ),
    (
        |pod| lifecycle(pod).stop_signal = Some("TERMINATE".into()),
        InvalidArgument,
        "lifecycle.stop_signal: signal",
    ),
    (|pod| lifecycle(pod).pre_stop = vec![String::new()], InvalidArgument, "names no program"),
    (|pod| pod.containers[0].role = 9, InvalidArgument, "role: 9 is unknown"),
    (
        |pod| pod.containers[0].role = v1::ContainerRole::Sidecar.into(),
        InvalidArgument,
        "no container has the role Main",
    ),
    (
        |pod| probe(pod).tcp = Some(v1::TcpProbe { port: 70_000 }),
        InvalidArgument,
        "tcp.port: 70000 is no port",
    ),
    (
        |pod| {
            probe(pod).exec = vec!["true".into()];
            probe(pod).tcp = Some(v1::TcpProbe { port: 7 });
        },
        InvalidArgument,
        "readiness: asks in more than one way",
    ),
    (|pod| probe(pod).exec.clear(), InvalidArgument, "names no program"),
    (|pod| security(pod).groups = vec![1, 1], InvalidArgument, "supplementary group 1 is given twice"),
    (|pod| pod.dns.get_or_insert_default().servers.push("dns".into()), InvalidArgument, "dns"),
    (|pod| pod.cpu = exact("1,x", None), InvalidArgument, "cpu.exact.cpus"),
    (|pod| pod.cpu = exact("", None), InvalidArgument, "cpu.exact.cpus: names no CPU"),
    (|pod| pod.cpu = exact("1", Some("")), InvalidArgument, "cpu.exact.mems: names no memory node"),
    (
        |pod| pod.cpu = exact("1", Some("7")),
        ResourceExhausted,
        "memory nodes 7 do not exist there (present: 0-1)",
    ),
    (|pod| pod.cpu = exact("9", None), ResourceExhausted, "CPUs 9 are not free there (free: 1-3)"),
    (|pod| pod.cpu = exact("0", None), ResourceExhausted, "CPUs 0 are not free there (free: 1-3)"),
    (|pod| pod.cpu = exact("1-3", None), ResourceExhausted, "asks for 3 CPUs of its own, 2 of the free ones"),
    (|pod| pod.cpu = exact("99999", None), InvalidArgument, "above the highest possible"),
    (|pod| pod.cpu = exclusive_pod("x", 0).cpu, InvalidArgument, "exclusive.count"),
    (|pod| pod.cpu = exclusive_pod("x", u32::MAX).cpu, ResourceExhausted, "asks for 4294967295 CPUs"),
    (|pod| pod.cpu = shared("batch", 1), ResourceExhausted, "no shared CPU pool batch is set there"),
    (|pod| pod.cpu = shared("default", 3_001), ResourceExhausted, "asks for 3001m CPUs of pool default"),
    (
        |pod| pod.containers[0].exclusive_cpus = Some(1),
        InvalidArgument,
        "containers.exclusive_cpus: a container",
    ),
    (
        |pod| {
            pod.cpu = exclusive_pod("x", 1).cpu;
            pod.containers[0].exclusive_cpus = Some(2);
        },
        InvalidArgument,
        "add up to 2, the pod asks for 1",
    ),
    (
        |pod| pod.disks = vec![device("/dev/disk/by-id/virtio-data")],
        InvalidArgument,
        "disks: data disk on device /dev/disk/by-id/virtio-data: the request must name the node",
    ),
    (|pod| pod.disks = vec![device("/dev/vdb")], InvalidArgument, "disks[0].device.id: device \"/dev/vdb\""),
    (
        |pod| {
            let memory =
                v1::data_disk::Source::Memory(v1::MemoryDisk { size_bytes: 4096, page_size_bytes: None });
            pod.disks = vec![v1::DataDisk { source: Some(memory), ..device("x") }];
        },
        InvalidArgument,
        "disks: data disk raw is memory, which lasts no longer than its pod",
    ),
    (
        |pod| pod.disks = vec![v1::DataDisk { movable: true, scratch: true, ..device("/dev/disk/by-id/x") }],
        InvalidArgument,
        "disks[0].movable: scratch does not go along",
    ),
    (
        |pod| pod.containers[0].system_disk_bytes = Some(0),
        InvalidArgument,
        "disks: the system disk of container web has a size of 0",
    ),
    (|pod| pod.node = Some("n9".into()), InvalidArgument, "node: there is no node n9"),
    (|pod| pod.node = Some("N9".into()), InvalidArgument, "node: name \"N9\""),
    (
        |pod| drop(pod.node_labels.insert("zone".into(), "west".into())),
        ResourceExhausted,
        "NodeAffinity: the pod asks for label zone=west, the node has zone=east",
    ),
    (
        |pod| pod.address_pools = vec!["wan".into()],
        InvalidArgument,
        "there is no address pool wan (there are: lan)",
    ),
    (
        |pod| {
            let args = &mut pod.containers[0].args;
            args.push("x".repeat(300_000));
        },
        InvalidArgument,
        "at most 262144 are accepted",
    ),
];

fn device(id: &str) -> v1::DataDisk {
    let device = v1::DeviceDisk { id: id.to_owned(), ..v1::DeviceDisk::default() };
    let source = Some(v1::data_disk::Source::Device(device));
    v1::DataDisk { name: "raw".to_owned(), source, movable: false, scratch: false }
}

async fn fleet_with_pool() -> (Fleet, FakeNode, PlatformClient<Channel>) {
    let fleet = Fleet::start().await;
    let (_, node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    platform.put_pool(address_pool("lan")).await.unwrap();
    (fleet, node, platform)
}

#[tokio::test]
async fn pods() {
    let (_fleet, _node, mut platform) = fleet_with_pool().await;
    for (change, code, text) in PODS {
        let mut pod = shared_pod("web");
        change(&mut pod);
        assert_denied(submit(&mut platform, pod).await, *code, text);
    }
    let pods = platform.list_pods(v1::ListPodsRequest::default()).await.unwrap().into_inner().pods;
    assert_eq!(pods, []);
    let pools = platform.list_pools(v1::ListPoolsRequest { assignments: true }).await.unwrap().into_inner();
    assert_eq!((pools.pools[0].size, pools.pools[0].assigned, pools.assignments.len()), (2, 0, 0));
    let orders = platform.list_orders(v1::ListOrdersRequest::default()).await.unwrap().into_inner().orders;
    assert_eq!(orders.len(), 1, "only the order for the default pool");
}

#[tokio::test]
async fn pools() {
    let (_fleet, _node, mut platform) = fleet_with_pool().await;
    let mut check = async |change: fn(&mut v1::AddressPool), code: Code, text: &str| {
        let mut pool = address_pool("lan");
        change(&mut pool);
        assert_denied(platform.put_pool(pool).await, code, text);
    };
    check(|pool| pool.name = "LAN".into(), InvalidArgument, "name: name \"LAN\"").await;
    check(|pool| pool.network = "10.88.0.0".into(), InvalidArgument, "network: \"10.88.0.0\"").await;
    check(|pool| pool.network = "10.88.0.0/33".into(), InvalidArgument, "network").await;
    check(|pool| pool.first = "x".into(), InvalidArgument, "first: \"x\" is no address").await;
    check(|pool| pool.first = "10.89.0.1".into(), InvalidArgument, "first address 10.89.0.1").await;
    check(|pool| pool.last = "10.88.0.9".into(), InvalidArgument, "is above last address").await;
    check(|pool| pool.gateway = Some("10.88.0.255".into()), InvalidArgument, "gateway address").await;
    check(|pool| pool.name = "other".into(), FailedPrecondition, "overlaps 10.88.0.0/24 of pool lan").await;
    let unknown = v1::DeletePoolRequest { name: "wan".to_owned() };
    assert_denied(platform.delete_pool(unknown).await, NotFound, "there is no address pool wan");
}

#[tokio::test]
async fn a_pool_that_is_used_up_or_in_use() {
    let (_fleet, _node, mut platform) = fleet_with_pool().await;
    let with_address =
        |name: &str| v1::PodRequest { address_pools: vec!["lan".to_owned()], ..shared_pod(name) };
    submit(&mut platform, with_address("a")).await.unwrap();
    submit(&mut platform, with_address("b")).await.unwrap();
    let none_left = submit(&mut platform, with_address("c")).await;
    assert_denied(none_left, ResourceExhausted, "all 2 addresses of 10.88.0.10 to 10.88.0.11 are assigned");
    assert_denied(get(&mut platform, "c").await, NotFound, "no pod");
    let smaller = v1::AddressPool { last: "10.88.0.10".to_owned(), ..address_pool("lan") };
    assert_denied(
        platform.put_pool(smaller).await,
        FailedPrecondition,
        "10.88.0.11 is not assigned from this pool",
    );
    let moved = v1::AddressPool { gateway: Some("10.88.0.2".to_owned()), ..address_pool("lan") };
    assert_denied(platform.put_pool(moved).await, FailedPrecondition, "network and gateway cannot change");
    let larger = v1::AddressPool { last: "10.88.0.12".to_owned(), ..address_pool("lan") };
    assert_eq!(platform.put_pool(larger).await.unwrap().into_inner().assigned, 2);
    submit(&mut platform, with_address("c")).await.unwrap();
}

#[tokio::test]
async fn pods_that_are_there() {
    let (_fleet, _node, mut platform) = fleet_with_pool().await;
    submit(&mut platform, exclusive_pod("web", 1)).await.unwrap();
    let other = submit(&mut platform, exclusive_pod("web", 2)).await;
    assert_denied(other, AlreadyExists, "pod shop/web is placed with another content");
    let release = v1::ReleasePodRequest { pod: Some(pod_ref("web")), reason: String::new() };
    assert_denied(
        platform.release_pod(release).await,
        FailedPrecondition,
        "is placed on node n1: evict it first",
    );
    let mut set = async |cpus: &str, code: Code, text: &str| {
        let request = v1::SetSharedCpusRequest {
            node: "n1".to_owned(),
            pool: "default".to_owned(),
            cpus: cpus.to_owned(),
        };
        assert_denied(platform.set_shared_cpus(request).await, code, text);
    };
    set("", FailedPrecondition, "a pool has at least one CPU").await;
    set("0-1", FailedPrecondition, "CPUs 0 are not there for pods").await;
    set("1-2", FailedPrecondition, "CPUs 1 belong to pod shop/web").await;
    set("7", FailedPrecondition, "CPUs 7 are not there for pods").await;
    set("2-1", InvalidArgument, "cpus: range \"2-1\"").await;
    // A pod that no node has heard of goes without an order.
    let gone = evict(&mut platform, "web", false).await.unwrap();
    assert_eq!(gone.state(), v1::PodState::Evicted);
}
