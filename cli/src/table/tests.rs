//! Tables as people see them. The time is always 1 000 000 s after the epoch.

use super::*;
use berth_proto::v1;
use insta::assert_snapshot;

const NOW_MS: u64 = 1_000_000_000;

fn pod_ref(name: &str) -> Option<v1::PodRef> {
    Some(v1::PodRef { namespace: "shop".to_owned(), name: name.to_owned() })
}

fn grant() -> v1::AddressGrant {
    v1::AddressGrant {
        pool: "blue".to_owned(),
        address: "10.0.0.7/24".to_owned(),
        gateway: Some("10.0.0.1".to_owned()),
    }
}

fn exclusive(cpus: &str) -> Option<v1::CpuBinding> {
    use v1::cpu_binding::Binding;
    let binding = Binding::Exclusive(v1::ExclusiveCpus { cpus: cpus.to_owned(), mems: "1".to_owned() });
    Some(v1::CpuBinding { binding: Some(binding) })
}

fn control(file: &str, ordered: &str, read: Option<v1::control::Read>) -> v1::Control {
    v1::Control { file: file.to_owned(), ordered: ordered.to_owned(), read }
}

fn applied() -> v1::Applied {
    use v1::control::Read;
    v1::Applied {
        cgroup: "berth.slice/berth-p0.slice".to_owned(),
        controls: vec![
            control("cpuset.cpus", "2-3", Some(Read::Text("2-3".to_owned()))),
            control("memory.max", "536870912", Some(Read::Text("max".to_owned()))),
            control("io.max 8:0", "wbps=1048576", Some(Read::Unreadable("no such device".to_owned()))),
            control("pids.max", "200", None),
        ],
    }
}

fn pod_status() -> v1::PodStatus {
    use v1::container_phase::{ExitedTask, Phase, RunningTask};
    let container = |name: &str, phase| v1::ContainerStatus {
        name: name.to_owned(),
        id: Some(format!("{name}-0123456789")),
        attempt: 2,
        image_digest: Some("sha256:abc".to_owned()),
        phase: Some(v1::ContainerPhase { phase: Some(phase) }),
        applied: None,
        readiness: Some(v1::ProbeAnswer { ready: name == "web", why: "status 503".to_owned() }),
    };
    v1::PodStatus {
        pod: pod_ref("web"),
        incarnation: 3,
        generation: 1,
        phase: v1::PodPhase::Degraded.into(),
        message: "container log: exited with 137".to_owned(),
        sandbox_id: Some("f00d".to_owned()),
        addresses: vec![grant()],
        containers: vec![
            container("web", Phase::Running(RunningTask { started_at_ns: 1, pid: 4711 })),
            container(
                "log",
                Phase::Exited(ExitedTask { code: 137, finished_at_ns: 2, reason: "OOMKilled".to_owned() }),
            ),
        ],
        applied: Some(applied()),
        open_order: None,
    }
}

fn spec() -> v1::PodSpec {
    v1::PodSpec {
        hostname: "web".to_owned(),
        class: v1::AppClass::LatencyCritical.into(),
        cpu: exclusive("2-3"),
        addresses: vec![grant()],
        ..Default::default()
    }
}

fn order(name: &str) -> v1::Order {
    use v1::pod_order::{Evict, Verb};
    let evict = Verb::Evict(Evict { grace_ms: 30_000, release: true });
    let target =
        v1::PodOrder { pod: pod_ref(name), incarnation: 3, generation: 1, seq: 5, verb: Some(evict) };
    v1::Order {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        term: 1,
        node: "node-1".to_owned(),
        reason: "node goes out of service".to_owned(),
        deadline_ms: 60_000,
        target: Some(v1::order::Target::Pod(target)),
    }
}

fn refused() -> v1::Outcome {
    let reason = v1::Reason {
        code: "CpuConflict".to_owned(),
        message: "CPUs 2-3 belong to shop/db".to_owned(),
        details: [].into(),
    };
    v1::Outcome { outcome: Some(v1::outcome::Outcome::Refused(reason)) }
}

fn platform_pods() -> Vec<v1::Pod> {
    let containers = vec![v1::ContainerRequest {
        name: "web".to_owned(),
        image: "registry.example/web:1".to_owned(),
        ..Default::default()
    }];
    let class = v1::AppClass::LatencyCritical.into();
    let web = v1::Pod {
        pod: pod_ref("web"),
        request: Some(v1::PodRequest { class, containers, ..Default::default() }),
        incarnation: 3,
        generation: 1,
        seq: 5,
        state: v1::PodState::Running.into(),
        node: Some("node-1".to_owned()),
        spec: Some(spec()),
        status: Some(pod_status()),
        message: String::new(),
        revision: None,
        kept: Vec::new(),
        orders: vec![order("web")],
    };
    let gone = v1::Pod {
        pod: pod_ref("database"),
        state: v1::PodState::Evicted.into(),
        incarnation: 1,
        message: "evicted\nby \u{1b}[31morder".to_owned(),
        ..Default::default()
    };
    vec![web, gone]
}

fn topology_fixture() -> v1::Topology {
    let node = |id: u32, cpus: &str, distances: [u32; 2]| v1::MemoryNode {
        id,
        cpus: cpus.to_owned(),
        memory_bytes: 1 << 30,
        distances: distances.to_vec(),
        huge_pages: vec![v1::HugePages { page_size_bytes: 2 << 20, total: 8, free: 6 }],
    };
    let core = |id: u32, socket: u32| v1::Core { id, socket, l3: socket, cpus: id.to_string() };
    v1::Topology {
        nodes: vec![node(0, "0-1", [10, 20]), node(1, "2-3", [20, 10])],
        cores: vec![core(0, 0), core(1, 0), core(2, 1), core(3, 1)],
        online_cpus: "0-3".to_owned(),
    }
}

fn host() -> v1::NodeFacts {
    v1::NodeFacts {
        boot_id: "b007".to_owned(),
        kernel: "6.12.0".to_owned(),
        os: "Debian GNU/Linux 13".to_owned(),
        architecture: "x86_64".to_owned(),
        runtime: "containerd 1.7.24".to_owned(),
        agent_version: "0.1.0".to_owned(),
        addresses: vec!["192.0.2.1".to_owned()],
        topology: Some(topology_fixture()),
        capabilities: vec!["swap".to_owned(), "hugetlb.2MB".to_owned()],
        labels: [("rack".to_owned(), "r1".to_owned()), ("room".to_owned(), "a".to_owned())].into(),
        memory_bytes: 2 << 30,
        reserved_memory_bytes: 256 << 20,
        reserved_cpus: "0".to_owned(),
        reserved_pids: 1_000,
        mount_points: vec!["/".to_owned(), "/data".to_owned()],
        host_network: true,
        host_paths: [("/srv/models".to_owned(), v1::Access::ReadOnly.into())].into(),
        peer_port: 7445,
        devices: vec![v1::Device {
            address: "0000:3b:00.0".to_owned(),
            class: v1::device::Class::Gpu.into(),
            vendor: 0x10de,
            device: 0x20b5,
            memory_node: Some(1),
            driver: "nvidia".to_owned(),
            names: vec!["/dev/dri/renderD128".to_owned()],
        }],
    }
}

fn node_records() -> Vec<v1::NodeRecord> {
    let ready = v1::NodeRecord {
        fenced: Vec::new(),
        certificates_from_ms: 0,
        name: "node-1".to_owned(),
        state: v1::NodeState::Ready.into(),
        last_heartbeat_at_ms: NOW_MS - 4_000,
        facts: Some(host()),
        pods: 2,
        free_cpus: "1".to_owned(),
        requested_memory_bytes: 512 << 20,
        shared_pools: vec![v1::SharedPool {
            pool: "default".to_owned(),
            cpus: "1".to_owned(),
            mems: "0".to_owned(),
            generation: 2,
        }],
    };
    let joined = v1::NodeRecord {
        name: "node-2".to_owned(),
        state: v1::NodeState::Joined.into(),
        ..Default::default()
    };
    vec![ready, joined]
}

#[test]
fn lists_of_pods() {
    assert_snapshot!("pods", pods(&platform_pods(), Width::Narrow, Style::Plain));
    assert_snapshot!("pods_wide", pods(&platform_pods(), Width::Wide, Style::Plain));
    assert_snapshot!("pods_none", pods(&[], Width::Narrow, Style::Plain));
}

#[test]
fn one_pod() {
    assert_snapshot!("pod", pod(&platform_pods()[0], Style::Plain));
    assert_snapshot!("pod_evicted", pod(&platform_pods()[1], Style::Plain));
}

#[test]
fn colours_only_when_asked_for() {
    assert!(!pods(&platform_pods(), Width::Narrow, Style::Plain).contains('\u{1b}'));
    assert!(pods(&platform_pods(), Width::Narrow, Style::Coloured).contains("\u{1b}["));
    // What a node says never reaches the terminal as a command.
    assert!(!pod(&platform_pods()[1], Style::Coloured).contains("\u{1b}[31m"));
}

#[test]
fn events() {
    use v1::pod_event::{Event, Synced};
    let line = |event| pod_event(&v1::PodEvent { event: Some(event) });
    assert_snapshot!(
        "events",
        [
            line(Event::Changed(platform_pods().remove(0))).unwrap(),
            line(Event::Changed(platform_pods().remove(1))).unwrap(),
            line(Event::Released(pod_ref("web").unwrap())).unwrap(),
        ]
        .join("\n")
    );
    assert_eq!(line(Event::Synced(Synced {})), None);
}

#[test]
fn orders_of_the_fleet() {
    let record = |state: &str, outcome| v1::OrderRecord {
        order: Some(order("web")),
        state: state.to_owned(),
        outcome,
        created_at_ms: NOW_MS - 90_000,
        ended_at_ms: None,
    };
    let pull = v1::node_order::PullImage { image: "a.example/b:1".to_owned(), digest: None };
    let pull = v1::NodeOrder { verb: Some(v1::node_order::Verb::PullImage(pull)) };
    let mut pulled =
        record("done", Some(v1::Outcome { outcome: Some(v1::outcome::Outcome::Done(v1::outcome::Done {})) }));
    pulled.order = Some(v1::Order { target: Some(v1::order::Target::NodeOrder(pull)), ..order("web") });
    let records = [record("accepted", None), record("refused", Some(refused())), pulled];
    assert_snapshot!("orders", orders(&records, NOW_MS, Style::Plain));
}

#[test]
fn nodes_of_the_fleet() {
    assert_snapshot!("nodes", nodes(&node_records(), NOW_MS, Style::Plain));
    assert_snapshot!("node", node(&node_records()[0], NOW_MS, Style::Plain));
    assert_snapshot!("node_joined", node(&node_records()[1], NOW_MS, Style::Plain));
}

#[test]
fn address_pools() {
    let pool = v1::AddressPool {
        name: "blue".to_owned(),
        network: "10.0.0.0/24".to_owned(),
        first: "10.0.0.10".to_owned(),
        last: "10.0.0.11".to_owned(),
        gateway: None,
        size: 2,
        assigned: 2,
    };
    let assignment =
        v1::Assignment { pool: "blue".to_owned(), address: "10.0.0.10".to_owned(), pod: pod_ref("web") };
    let response = v1::ListPoolsResponse { pools: vec![pool], assignments: vec![assignment] };
    assert_snapshot!("pools", pools(&response, Style::Plain));
}

#[test]
fn status_of_the_node() {
    let node = v1::NodeStatus {
        node: "node-1".to_owned(),
        agent_version: "0.1.0".to_owned(),
        control: "control.example:7443".to_owned(),
        connected: false,
        link_message: "connection refused".to_owned(),
        term: 1,
        facts: Some(host()),
        pods: 2,
        open_orders: 1,
        certificate_subject: "spiffe://berth.example/node/node-1".to_owned(),
        certificate_expires_at_ms: NOW_MS + 3_600_000,
        started_at_ms: NOW_MS - 300_000,
    };
    assert_snapshot!("status", status(&node, NOW_MS, Style::Plain));
}

#[test]
fn pods_of_the_node() {
    let pod = v1::LocalPod {
        status: Some(pod_status()),
        spec: Some(spec()),
        run_state: v1::RunState::Running.into(),
        seq: 5,
        next_step: "CreateContainer log: its task has ended".to_owned(),
    };
    assert_snapshot!("local_pods", local_pods(std::slice::from_ref(&pod), Style::Plain));
    assert_snapshot!("local_pod", local_pod(&pod, Style::Plain));
    let host_network = v1::PodSpec { host_network: true, addresses: Vec::new(), ..v1::PodSpec::default() };
    let shared = v1::LocalPod { spec: Some(host_network), status: None, ..pod };
    assert_snapshot!("local_pod_in_the_hosts_network", local_pod(&shared, Style::Plain));
}

#[test]
fn orders_of_the_node() {
    let open = v1::LocalOrder {
        order: Some(order("web")),
        outcome: None,
        step: "StopContainer web".to_owned(),
        accepted_at_ms: NOW_MS - 3_000,
    };
    let ended = v1::LocalOrder { outcome: Some(refused()), step: String::new(), ..open.clone() };
    assert_snapshot!("local_orders", local_orders(&[open, ended.clone()], NOW_MS, Style::Plain));
    assert_snapshot!("local_order", local_order(&ended, NOW_MS, Style::Plain));
}

#[test]
fn topology_of_the_node() {
    let holder = |holder: &str, exclusive| v1::CpuHolder {
        holder: holder.to_owned(),
        cpus: "2-3".to_owned(),
        mems: "1".to_owned(),
        exclusive,
    };
    let node = v1::NodeTopology {
        topology: Some(topology_fixture()),
        reserved_cpus: "0".to_owned(),
        holders: vec![holder("shop/web", true), holder("pool default", false)],
    };
    assert_snapshot!("topology", topology(&node, Style::Plain));
}

#[test]
fn ordered_and_kernel_side_by_side() {
    let statistics = [("memory.current", "1048576"), ("cpu.stat usage_usec", "42")];
    let statistics = statistics.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let pod = v1::CgroupView { of: "pod".to_owned(), applied: Some(applied()), statistics };
    let container = v1::CgroupView { of: "web".to_owned(), applied: Some(applied()), statistics: [].into() };
    let response = v1::GetCgroupResponse { cgroups: vec![pod, container] };
    assert_snapshot!("cgroup", cgroup(&response, Style::Plain));
}

#[test]
fn leases_of_the_node() {
    let lease = v1::AddressLease {
        pod: pod_ref("web"),
        incarnation: 3,
        grants: vec![
            grant(),
            v1::AddressGrant {
                pool: "blue6".to_owned(),
                address: "2001:db8::7/64".to_owned(),
                gateway: None,
            },
        ],
        attachments: vec![v1::Attachment {
            sandbox_id: "0123456789abcdef".to_owned(),
            interface: "eth0".to_owned(),
        }],
    };
    assert_snapshot!("leases", leases(&[lease], Style::Plain));
}

#[test]
fn the_worst_finding_comes_first() {
    use v1::finding::Level;
    let finding = |check: &str, level: Level, found: &str, remedy: &str| v1::Finding {
        check: check.to_owned(),
        level: level.into(),
        found: found.to_owned(),
        remedy: remedy.to_owned(),
        ..v1::Finding::default()
    };
    let found = [
        finding("containerd", Level::Ok, "1.7.24", ""),
        finding("cgroup driver", Level::Error, "cgroupfs", "set SystemdCgroup = true"),
        finding("clock", Level::Warning, "not synchronised", "timedatectl set-ntp true"),
    ];
    assert_snapshot!("findings", findings(&found, Style::Plain));
}
