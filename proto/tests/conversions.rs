//! What goes over the wire comes back as it went; what is malformed is refused by the name of its field.

#![allow(clippy::unwrap_used)] // Helpers of tests are not recognised as tests.

use berth_model::{
    Access, AddressGrant, Attempt, Bytes, Capabilities, ConfigFile, ConfigFolder, ConfigMode, ContainerPhase,
    ContainerRole, ContainerSpec, ContainerStatus, CpuBinding, CpuMax, CpuWeight, DataDisk, Disk, DiskFetch,
    DiskLife, DiskMount, DiskOffer, DiskPolicy, DiskSource, EnvVar, EvictDisposition, Failure, Filesystem,
    Generation, HostPath, HugetlbLimit, Incarnation, IoLimit, IoWeight, Lifecycle, Limits, NodeOrder,
    NodeVerb, Order, PodNetwork, PodOrder, PodPhase, PodRequest, PodSpec, PodStatus, PodVerb, PrivilegeGain,
    Probe, ProbeAction, ProbeAnswer, Profile, Rlimit, Security, Seq, SwapLimit, Sysctls, Target, Term,
    Ulimit, User,
};
use berth_proto::{Addressed, failure_from, v1};
use proptest::prelude::*;
use prost::Message;

fn limits() -> Limits {
    let io = |mount_point: &str| IoLimit {
        mount_point: mount_point.to_owned(),
        read_bytes_per_sec: Some(1),
        write_bytes_per_sec: Some(2),
        read_ops_per_sec: None,
        write_ops_per_sec: Some(4),
        weight: Some(IoWeight::new(300).unwrap()),
    };
    let mut limits = Limits {
        cpu_weight: Some(CpuWeight::new(250).unwrap()),
        cpu_max: Some(CpuMax { quota_us: 50_000, period_us: 100_000 }),
        swap_max: Some(SwapLimit(Bytes(0))),
        pids_max: Some(77),
        io: vec![io("/"), io("/data")],
        hugetlb: vec![HugetlbLimit { page_size: Bytes(2 << 20), max: Bytes(4 << 20) }],
        ..Limits::default()
    };
    limits.memory.max = Some(Bytes(64 << 20));
    limits.memory.low = Some(Bytes(1 << 20));
    limits
}

fn security() -> Security {
    let set = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    Security {
        groups: vec![7, 8],
        capabilities: Capabilities { add: set(&["NET_ADMIN"]), drop: set(&["ALL"]) },
        seccomp: Profile::Localhost("audit.json".parse().unwrap()),
        apparmor: Profile::Unconfined,
        root: Access::ReadOnly,
        gain: PrivilegeGain::Forbidden,
    }
}

fn action(name: &str) -> ProbeAction {
    match name {
        "web" => ProbeAction::Exec(vec!["/bin/true".to_owned()]),
        "http" => ProbeAction::Http { port: 80, path: "/ready".to_owned() },
        "tcp" => ProbeAction::Tcp { port: 5432 },
        _ => ProbeAction::Grpc { port: 65_535, service: "shop.Cart".to_owned() },
    }
}

fn container(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.parse().unwrap(),
        role: if name == "side" { ContainerRole::Sidecar } else { ContainerRole::Main },
        image: "registry.example/shop/web:1".parse().unwrap(),
        digest: Some(format!("sha256:{}", "0a".repeat(32)).parse().unwrap()),
        command: vec!["/bin/web".to_owned()],
        args: vec!["--port=80".to_owned(), String::new()],
        env: vec![EnvVar { name: "A".to_owned(), value: "b=c".to_owned() }],
        working_dir: Some("/srv".to_owned()),
        user: Some(User::Id { uid: 33, gid: Some(33) }),
        security: security(),
        lifecycle: Lifecycle {
            pre_stop: vec!["/bin/drain".to_owned(), String::new()],
            stop_signal: Some("RTMIN+3".parse().unwrap()),
        },
        mounts: vec![
            DiskMount { disk: "db".parse().unwrap(), path: "/data".to_owned(), access: Access::ReadWrite },
            DiskMount { disk: "raw".parse().unwrap(), path: "/raw".to_owned(), access: Access::ReadOnly },
        ],
        config: vec![ConfigFolder {
            path: "/etc/web".to_owned(),
            files: vec![ConfigFile {
                name: "web.conf".to_owned(),
                content: vec![0, 255],
                mode: ConfigMode::new(0o440).unwrap(),
            }],
        }],
        host_paths: vec![HostPath {
            source: "/dev/fuse".to_owned(),
            path: "/dev/inner".to_owned(),
            access: Access::ReadOnly,
        }],
        system_disk_size: Some(Bytes(1 << 30)),
        limits: limits(),
        cpus: Some("0".parse().unwrap()),
        ulimits: vec![Ulimit { rlimit: Rlimit::Nofile, soft: 10, hard: Ulimit::UNLIMITED }],
        readiness: Some(Probe { action: action(name), period_ms: 500, timeout_ms: 600 }),
    }
}

fn disks() -> Vec<DataDisk> {
    let id = "/dev/disk/by-id/virtio-data".parse().unwrap();
    vec![
        DataDisk {
            name: "db".parse().unwrap(),
            source: DiskSource::Directory { size: Some(Bytes(4 << 20)) },
            life: DiskLife::Movable,
        },
        DataDisk {
            name: "raw".parse().unwrap(),
            source: DiskSource::Device { id, filesystem: Filesystem::Xfs },
            life: DiskLife::Kept,
        },
        DataDisk {
            name: "shm".parse().unwrap(),
            source: DiskSource::Memory { size: Bytes(4 << 20), page_size: Some(Bytes(2 << 20)) },
            life: DiskLife::Scratch,
        },
    ]
}

fn spec() -> PodSpec {
    PodSpec {
        hostname: "web".to_owned(),
        class: berth_model::AppClass::Batch,
        priority: 7,
        containers: ["web", "side", "http", "tcp"].map(container).to_vec(),
        disks: disks(),
        cpu: CpuBinding::Exclusive { cpus: "0-1".parse().unwrap(), mems: "0".parse().unwrap() },
        limits: limits(),
        network: PodNetwork::Own,
        addresses: vec![
            AddressGrant {
                pool: "blue".parse().unwrap(),
                address: "10.0.0.7/24".parse().unwrap(),
                gateway: Some("10.0.0.1".parse().unwrap()),
            },
            AddressGrant {
                pool: "blue6".parse().unwrap(),
                address: "2001:db8::7/64".parse().unwrap(),
                gateway: None,
            },
        ],
        dns: berth_model::DnsConfig {
            servers: vec!["10.0.0.2".parse().unwrap()],
            searches: vec!["example".to_owned()],
            options: vec!["ndots:2".to_owned()],
        },
        sysctls: Sysctls::from([("net.core.somaxconn".to_owned(), "4096".to_owned())]),
        restart: berth_model::RestartPolicy::OnFailure,
        disk: DiskPolicy::Rebuild,
        recovery: berth_model::RecoveryPolicy::Confirmed,
        stop_grace_ms: 5_000,
    }
}

fn addressed(target: Target) -> Addressed {
    Addressed {
        node: "node-1".parse().unwrap(),
        order: Order {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            term: Term(3),
            reason: "because".to_owned(),
            deadline_ms: 60_000,
            target,
        },
    }
}

fn pod_order(verb: PodVerb) -> Addressed {
    addressed(Target::Pod(PodOrder {
        pod: "shop/web".parse().unwrap(),
        incarnation: Incarnation(1),
        generation: Generation(2),
        seq: Seq(3),
        verb,
    }))
}

fn every_order() -> Vec<Addressed> {
    let node = |verb| addressed(Target::Node(NodeOrder { verb }));
    let evict = |disposition| pod_order(PodVerb::Evict { grace_ms: 9, disposition });
    vec![
        pod_order(PodVerb::Run { spec: Box::new(spec()), disk: Disk::Fresh }),
        pod_order(PodVerb::Run { spec: Box::new(spec()), disk: Disk::Kept { incarnation: Incarnation(4) } }),
        pod_order(PodVerb::Stop { grace_ms: 1 }),
        pod_order(PodVerb::Start),
        evict(EvictDisposition::Keep),
        evict(EvictDisposition::Release),
        pod_order(PodVerb::Release),
        pod_order(PodVerb::Restart { disk: DiskPolicy::Rebuild, grace_ms: 3 }),
        pod_order(PodVerb::Upgrade { spec: Box::new(spec()), settle_ms: 4 }),
        pod_order(PodVerb::Resize { spec: Box::new(spec()) }),
        node(NodeVerb::SetSharedCpus {
            pool: "default".parse().unwrap(),
            cpus: "0-3".parse().unwrap(),
            mems: "0-1".parse().unwrap(),
            generation: Generation(8),
        }),
        node(NodeVerb::PullImage { image: "registry.example/shop/web:1".parse().unwrap(), digest: None }),
        node(NodeVerb::Inspect),
        node(NodeVerb::OfferDisks(DiskOffer {
            pod: "shop/web".parse().unwrap(),
            incarnation: Incarnation(4),
            disks: ["data".parse().unwrap(), "logs".parse().unwrap()].into(),
            to: "node-2".parse().unwrap(),
        })),
        node(NodeVerb::WithdrawDisks { pod: "shop/web".parse().unwrap() }),
        node(NodeVerb::FetchDisk(Box::new(DiskFetch {
            pod: "shop/web".parse().unwrap(),
            incarnation: Incarnation(4),
            disk: "data".parse().unwrap(),
            size: Some(Bytes(1 << 20)),
            from: "node-1".parse().unwrap(),
            at: vec!["10.0.0.7:7445".parse().unwrap(), "[2001:db8::7]:7445".parse().unwrap()],
        }))),
    ]
}

#[test]
fn orders_come_back_as_they_went() {
    for order in every_order() {
        let bytes = v1::Order::from(&order).encode_to_vec();
        let back = Addressed::try_from(v1::Order::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(back, order);
    }
}

#[test]
fn statuses_come_back_as_they_went() {
    let phases = [
        ContainerPhase::Absent,
        ContainerPhase::Created,
        ContainerPhase::Running { started_at_ns: 5, pid: 6 },
        ContainerPhase::Exited { code: 137, finished_at_ns: 7, reason: "OOMKilled".to_owned() },
        ContainerPhase::Unknown,
    ];
    let containers = phases.into_iter().map(|phase| ContainerStatus {
        name: "web".parse().unwrap(),
        readiness: Some(ProbeAnswer::NotReady("status 503".to_owned())),
        id: Some("abc".to_owned()),
        attempt: Attempt(2),
        image_digest: None,
        phase,
        applied: Some(berth_model::Applied {
            cgroup: "berth.slice".to_owned(),
            controls: vec![berth_model::Control {
                file: "pids.max".to_owned(),
                ordered: "77".to_owned(),
                read: berth_model::ControlValue::Text("77".to_owned()),
            }],
        }),
    });
    let status = PodStatus {
        pod: "shop/web".parse().unwrap(),
        incarnation: Incarnation(1),
        generation: Generation(2),
        phase: PodPhase::Degraded,
        message: "m".to_owned(),
        sandbox_id: Some("s".to_owned()),
        addresses: spec().addresses,
        containers: containers.collect(),
        applied: None,
        open_order: None,
    };
    assert_eq!(PodStatus::try_from(v1::PodStatus::from(&status)).unwrap(), status);
}

#[test]
fn failures_come_back_as_they_went() {
    let text = || "x".to_owned();
    let failures = [
        Failure::DeadlineExceeded { deadline_ms: 5, last: text() },
        Failure::Image { image: text(), why: text() },
        Failure::WrongDigest { image: text(), found: text(), ordered: text() },
        Failure::Effect { step: text(), why: text() },
        Failure::Superseded { by: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap() },
    ];
    for failure in failures {
        assert_eq!(failure_from(&(&failure).into()), failure);
    }
    let newer = v1::Reason { code: "Newer".to_owned(), message: "said".to_owned(), ..Default::default() };
    assert_eq!(failure_from(&newer), Failure::Effect { step: "Newer".to_owned(), why: "said".to_owned() });
}

/// Spoils a good Run order, and expects an error that names the field and says why.
fn check(spoil: impl FnOnce(&mut v1::Order, &mut v1::PodSpec), expected: &str) {
    let mut wire = v1::Order::from(&every_order()[0]);
    let mut spec = v1::PodSpec::from(&spec());
    spoil(&mut wire, &mut spec);
    if let Some(v1::order::Target::Pod(order)) = &mut wire.target
        && let Some(v1::pod_order::Verb::Run(run)) = &mut order.verb
    {
        run.spec = Some(spec);
    }
    let said = Addressed::try_from(wire).unwrap_err().chain();
    assert!(said.contains(expected), "{said:?} does not contain {expected:?}");
}

#[test]
fn malformed_orders_are_refused_by_the_name_of_the_field() {
    check(|order, _| order.id = "x".to_owned(), "id: order id \"x\" is no ULID");
    check(|order, _| order.node = "Node".to_owned(), "node: name \"Node\" is no DNS label");
    check(|order, _| order.target = None, "target: is missing");
    check(|_, spec| spec.cpu = None, "pod.run.spec.cpu: is missing");
    check(|_, spec| spec.class = 99, "pod.run.spec.class: 99 is unknown");
    check(|_, spec| spec.containers.clear(), "pod.run.spec: pod has no container");
    check(|_, spec| spec.containers[1].name = "web".to_owned(), "name web is given twice");
    check(|_, spec| spec.containers[1].image = "web".to_owned(), "containers[1].image: image \"web\"");
    check(|_, spec| spec.containers[0].cpus = Some("5".to_owned()), "asks for CPUs 5, the pod has 0-1");
    check(
        |_, spec| spec.containers[0].ulimits[0].hard = 1,
        "containers[0].ulimits: ulimit nofile: soft 10 is above hard 1",
    );
    check(
        |_, spec| spec.limits.as_mut().unwrap().io[1].weight = Some(0),
        "pod.run.spec.limits.io[1].weight: io weight 0",
    );
    check(|_, spec| spec.limits.as_mut().unwrap().memory_low_bytes = Some(u64::MAX), "memory.low");
    check(|_, spec| spec.addresses[1].address = "10.0.0.7".to_owned(), "addresses[1].address:");
    check(
        |_, spec| spec.addresses[1].address = "10.0.0.8/24".to_owned(),
        "10.0.0.7/24 and 10.0.0.8/24 are of one family",
    );
    check(|_, spec| spec.disks.clear(), "container web mounts data disk db, which the pod does not have");
    check(
        |_, spec| spec.containers[0].mounts[0].path = "/".to_owned(),
        "mount path \"/\" is the system disk's",
    );
    check(|_, spec| spec.hostname = "a.b".to_owned(), "hostname \"a.b\" is no DNS label");
}

/// A request goes over the wire and comes back; answers what is said of it if it does not.
fn submit(spoil: impl FnOnce(&mut v1::PodRequest)) -> Result<PodRequest, String> {
    let container = v1::ContainerRequest {
        name: "web".to_owned(),
        image: "registry.example/web:1".to_owned(),
        mounts: spec().containers[0].mounts.iter().map(Into::into).collect(),
        system_disk_bytes: Some(1 << 30),
        ..Default::default()
    };
    let mut wire = v1::PodRequest {
        pod: Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() }),
        containers: vec![container],
        disks: disks().iter().map(Into::into).collect(),
        node: Some("node-1".to_owned()),
        ..Default::default()
    };
    spoil(&mut wire);
    PodRequest::try_from(wire).map_err(|error| error.chain())
}

#[test]
fn disks_of_a_request_come_back_as_they_went() {
    let request = submit(|_| {}).unwrap();
    assert_eq!(request.disks, disks());
    assert_eq!(request.containers[0].mounts, spec().containers[0].mounts);
    assert_eq!(PodRequest::try_from(v1::PodRequest::from(&request)).unwrap(), request);
    let check = |spoil: fn(&mut v1::PodRequest), expected: &str| {
        let said = submit(spoil).unwrap_err();
        assert!(said.contains(expected), "{said:?} does not contain {expected:?}");
    };
    check(
        |wire| wire.node = None,
        "disks: data disk on device /dev/disk/by-id/virtio-data: the request must",
    );
    check(|wire| wire.disks[0].source = None, "disks[0].source: is missing");
    check(|wire| wire.disks[1].name = "db".to_owned(), "disks: data disk db is given twice");
    check(|wire| wire.containers[0].mounts[0].access = 9, "containers[0].mounts[0].access: 9 is unknown");
}

#[test]
fn the_hosts_network_comes_back_as_it_went() {
    let request = submit(|wire| wire.host_network = true).unwrap();
    assert_eq!(request.network, PodNetwork::Host);
    assert_eq!(PodRequest::try_from(v1::PodRequest::from(&request)).unwrap(), request);
    let own = submit(|wire| (wire.host_network, wire.address_pools) = (true, vec!["blue".to_owned()]));
    let own = own.unwrap_err();
    assert!(own.contains("host_network: a pod in its host's network has no addresses of its own"), "{own}");

    let spec =
        PodSpec { network: PodNetwork::Host, addresses: Vec::new(), sysctls: Sysctls::new(), ..spec() };
    assert_eq!(PodSpec::try_from(v1::PodSpec::from(&spec)).unwrap(), spec);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(wire) = v1::Order::decode(bytes.as_slice()) {
            let _ = Addressed::try_from(wire);
        }
        if let Ok(wire) = v1::PodStatus::decode(bytes.as_slice()) {
            let _ = PodStatus::try_from(wire);
        }
        if let Ok(wire) = v1::PodRequest::decode(bytes.as_slice()) {
            let _ = PodRequest::try_from(wire);
        }
    }
}
