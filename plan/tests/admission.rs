//! Admission: every way in which an order is refused, and that a refused one would change nothing.

#![allow(clippy::unwrap_used)]

mod fixtures;

use berth_model::{
    Access, AddressGrant, Bytes, ConfigFolder, ContainerSpec, CpuBinding, Disk, DiskFetch, DiskOffer,
    EvictDisposition, Generation, HostPath, HugetlbLimit, Incarnation, IoLimit, IoWeight, NodeOrder,
    NodeVerb, Order, OrderId, PodNetwork, PodOrder, PodSpec, PodVerb, PoolName, Profile, Seq, SwapLimit,
    Target, Term,
};
use berth_plan::{
    Accepted, Admission, Change, HostView, Known, LedgerView, Observed, PodRecord, ProfileView, QuotaView,
    SharedPool, Step, admit, after, conclude,
};
use std::collections::BTreeMap;

/// A ledger in which `shop/web` runs with CPU 0, and a pool `default` has CPUs 2 and 3.
struct Ledger {
    pods: BTreeMap<berth_model::PodId, PodRecord>,
    pools: BTreeMap<PoolName, SharedPool>,
    offers: BTreeMap<berth_model::PodId, DiskOffer>,
    fetches: BTreeMap<(berth_model::PodId, berth_model::DiskName), OrderId>,
}

impl Ledger {
    fn new() -> Self {
        let pool = SharedPool {
            name: "default".parse().unwrap(),
            cpus: "2-3".parse().unwrap(),
            mems: "0".parse().unwrap(),
            generation: Generation(4),
        };
        let mut ledger = Self {
            pods: BTreeMap::new(),
            pools: BTreeMap::from([(pool.name.clone(), pool)]),
            offers: BTreeMap::new(),
            fetches: BTreeMap::new(),
        };
        let accepted = ledger.answer(&pod_order("shop/web", [3, 2, 5], run(fixtures_spec())));
        let Admission::Accept(Accepted { change: Change::Pod(record), .. }) = accepted else {
            panic!("{accepted:?}")
        };
        ledger.pods.insert(record.pod.clone(), *record);
        ledger
    }

    fn answer(&self, order: &Order) -> Admission {
        admit(&self.view(None), &host(), order, 1_000)
    }

    fn view<'a>(&'a self, known: Option<Known<'a>>) -> LedgerView<'a> {
        let Self { pods, pools, offers, fetches } = self;
        LedgerView { term: Term(5), pods, pools, offers, fetches, known }
    }
}

fn host() -> HostView {
    HostView {
        online_cpus: "0-4".parse().unwrap(),
        reserved_cpus: "4".parse().unwrap(),
        possible_cpus: "0-4".parse().unwrap(),
        mount_points: ["/".to_owned()].into(),
        page_sizes: [Bytes(2 << 20)].into(),
        io_weight: false,
        swap: false,
        system_disk_quota: QuotaView::Unsupported { why: "no prjquota".to_owned() },
        host_network: true,
        host_paths: [("/srv/models".to_owned(), Access::ReadOnly)].into(),
        profiles: ProfileView {
            seccomp: ["web.json".parse().unwrap()].into(),
            apparmor: Some(["web".parse().unwrap()].into()),
        },
        ..fixtures::host()
    }
}

fn local(name: &str) -> Profile {
    Profile::Localhost(name.parse().unwrap())
}

fn fixtures_spec() -> PodSpec {
    fixtures::spec(berth_model::DiskPolicy::Reuse, 0)
}

fn run(spec: PodSpec) -> PodVerb {
    PodVerb::Run { spec: Box::new(spec), disk: Disk::Fresh }
}

fn order(target: Target) -> Order {
    Order {
        id: OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        term: Term(5),
        reason: String::new(),
        deadline_ms: 1_000,
        target,
    }
}

/// An order for a pod, with its incarnation, generation and seq.
fn pod_order(pod: &str, [incarnation, generation, seq]: [u64; 3], verb: PodVerb) -> Order {
    order(Target::Pod(PodOrder {
        pod: pod.parse().unwrap(),
        incarnation: Incarnation(incarnation),
        generation: Generation(generation),
        seq: Seq(seq),
        verb,
    }))
}

fn pool_order(pool: &str, cpus: &str, mems: &str, generation: u64) -> Order {
    order(Target::Node(NodeOrder {
        verb: NodeVerb::SetSharedCpus {
            pool: pool.parse().unwrap(),
            cpus: cpus.parse().unwrap(),
            mems: mems.parse().unwrap(),
            generation: Generation(generation),
        },
    }))
}

/// Another pod, with an address and a CPU of its own, changed in some way.
fn other(change: impl FnOnce(&mut PodSpec)) -> Order {
    let mut spec = fixtures_spec();
    spec.addresses[0].address = "10.0.0.8/24".parse().unwrap();
    spec.cpu = CpuBinding::Exclusive { cpus: "1".parse().unwrap(), mems: "0".parse().unwrap() };
    spec.disks[1].source = fixtures::device("virtio-other");
    change(&mut spec);
    pod_order("shop/other", [1, 1, 1], run(spec))
}

fn exclusive(cpus: &str, mems: &str) -> CpuBinding {
    CpuBinding::Exclusive { cpus: cpus.parse().unwrap(), mems: mems.parse().unwrap() }
}

fn io(mount_point: &str, weight: Option<u64>) -> IoLimit {
    IoLimit {
        mount_point: mount_point.to_owned(),
        read_bytes_per_sec: Some(1),
        write_bytes_per_sec: None,
        read_ops_per_sec: None,
        write_ops_per_sec: None,
        weight: weight.map(|weight| IoWeight::new(weight).unwrap()),
    }
}

/// What is said to an order: `accept`, or the code and text of the refusal.
fn check(ledger: &Ledger, order: &Order, expected: &str) {
    let said = match ledger.answer(order) {
        Admission::Accept(_) => "accept".to_owned(),
        Admission::Already(_) => "already".to_owned(),
        Admission::Refuse(refusal) => format!("{}: {refusal}", refusal.code()),
    };
    assert!(said.starts_with(expected), "{said:?} is not {expected:?}: {order:?}");
}

#[test]
fn the_old_never_wins() {
    let ledger = Ledger::new();
    let stop = || PodVerb::Stop { grace_ms: 1 };
    let web = |counters, verb| pod_order("shop/web", counters, verb);
    check(&ledger, &web([3, 2, 6], stop()), "accept");
    check(&ledger, &Order { term: Term(4), ..web([3, 2, 6], stop()) }, "StaleTerm: term 4 is older than 5");
    check(&ledger, &web([2, 2, 6], stop()), "StaleIncarnation");
    check(&ledger, &web([3, 1, 6], stop()), "StaleGeneration");
    check(&ledger, &web([3, 9, 6], stop()), "Invalid: invalid: generation 9 is unknown here");
    check(&ledger, &web([3, 2, 5], stop()), "StaleSeq: seq 5 is not above 5");
    check(&ledger, &web([4, 1, 6], run(fixtures_spec())), "IncarnationLives: incarnation 3 still lives here");
    check(&ledger, &web([3, 2, 6], run(fixtures_spec())), "HasCharter");
    check(&ledger, &web([4, 1, 6], stop()), "NoSuchPod");
    check(&ledger, &web([3, 2, 6], PodVerb::Release), "StillHere");
    check(&ledger, &pod_order("shop/none", [1, 1, 1], stop()), "NoSuchPod");
    check(&ledger, &pod_order("shop/none", [1, 1, 1], PodVerb::Release), "NoSuchPod");
    check(&ledger, &Order { deadline_ms: 0, ..web([3, 2, 6], stop()) }, "Expired");
}

#[test]
fn the_same_order_again_is_known_and_another_content_is_not() {
    let ledger = Ledger::new();
    let given = pod_order("shop/web", [3, 2, 6], PodVerb::Start);
    let answer = |again: &Order| {
        let known = Some(Known { order: &given, outcome: None });
        admit(&ledger.view(known), &host(), again, 0)
    };
    assert_eq!(answer(&given), Admission::Already(None));
    assert_eq!(
        answer(&Order { term: Term(1), ..given.clone() }),
        Admission::Already(None),
        "whoever says it"
    );
    let changed = answer(&pod_order("shop/web", [3, 2, 6], PodVerb::Stop { grace_ms: 1 }));
    assert!(matches!(changed, Admission::Refuse(refusal) if refusal.code() == "ChangedContent"));
}

#[test]
fn a_run_needs_the_profiles_that_it_names() {
    let ledger = Ledger::new();
    let change_first = |spec: &mut PodSpec, change: fn(&mut ContainerSpec)| change(&mut spec.containers[0]);
    let seccomp = other(|spec| change_first(spec, |c| c.security.seccomp = local("audit.json")));
    check(&ledger, &seccomp, "NoSuchProfile: container web: seccomp profile audit.json is not on this host");
    let apparmor = other(|spec| change_first(spec, |c| c.security.apparmor = local("audit.json")));
    check(&ledger, &apparmor, "NoSuchProfile: container web: AppArmor profile audit.json");
    let there = other(|spec| {
        change_first(spec, |c| c.security.seccomp = local("web.json"));
        change_first(spec, |c| c.security.apparmor = local("web"));
    });
    check(&ledger, &there, "accept");
}

#[test]
fn a_run_needs_the_cpus_it_names() {
    let ledger = Ledger::new();
    check(&ledger, &other(|_| {}), "accept");
    check(&ledger, &other(|spec| spec.cpu = exclusive("1,64", "0")), "NoSuchCpu: CPUs 64 do not exist");
    check(&ledger, &other(|spec| spec.cpu = exclusive("1,4", "0")), "ReservedCpus: CPUs 4 are kept for");
    check(&ledger, &other(|spec| spec.cpu = exclusive("1", "7")), "NoSuchMemoryNode: memory nodes 7");
    check(
        &ledger,
        &other(|spec| spec.cpu = exclusive("0-1", "0")),
        "CpuConflict: CPUs 0 belong to pod shop/web",
    );
    check(
        &ledger,
        &other(|spec| spec.cpu = exclusive("1-2", "0")),
        "CpuConflict: CPUs 2 belong to pool default",
    );
    let shared = |pool: &str| CpuBinding::Shared { pool: pool.parse().unwrap() };
    check(&ledger, &other(|spec| spec.cpu = shared("default")), "accept");
    check(&ledger, &other(|spec| spec.cpu = shared("none")), "NoSuchPool");
}

#[test]
fn a_run_needs_the_disks_it_names() {
    let ledger = Ledger::new();
    check(
        &ledger,
        &other(|spec| spec.disks[1].source = fixtures::device("virtio-web")),
        "DeviceConflict: device /dev/disk/by-id/virtio-web is a data disk of pod shop/web",
    );
    check(
        &ledger,
        &other(|spec| spec.containers[0].system_disk_size = Some(Bytes(1 << 30))),
        "QuotaUnsupported: the system disk of container web cannot be held to a size on this node: no prjquota",
    );
    check(
        &ledger,
        &other(|spec| spec.containers[0].mounts[0].path = "/".to_owned()),
        "Invalid: invalid: disks: container web: mount path",
    );
    let mut order = other(|_| {});
    if let Target::Pod(target) = &mut order.target {
        let PodVerb::Run { spec, .. } = &target.verb else { panic!("it is a Run") };
        target.verb = PodVerb::Run { spec: spec.clone(), disk: Disk::Kept { incarnation: Incarnation(1) } };
    }
    check(&ledger, &order, "NoKeptDisk: no disk of incarnation 1");
}

#[test]
fn a_run_needs_the_addresses_it_names() {
    let ledger = Ledger::new();
    check(
        &ledger,
        &other(|spec| spec.addresses = fixtures_spec().addresses),
        "AddressConflict: address 10.0.0.7/24",
    );
    let also = |address: &str| AddressGrant {
        pool: "blue6".parse().unwrap(),
        address: address.parse().unwrap(),
        gateway: None,
    };
    check(&ledger, &other(|spec| spec.addresses.push(also("2001:db8::8/64"))), "accept");
    check(
        &ledger,
        &other(|spec| spec.addresses.push(also("10.0.0.9/24"))),
        "Invalid: invalid: 10.0.0.8/24 and 10.0.0.9/24 are of one family",
    );
}

#[test]
fn a_run_needs_the_limits_it_names() {
    let ledger = Ledger::new();
    check(&ledger, &other(|spec| spec.limits.io = vec![io("/", None)]), "accept");
    check(
        &ledger,
        &other(|spec| spec.limits.io = vec![io("/none", None)]),
        "NoSuchDevice: mount point /none",
    );
    check(&ledger, &other(|spec| spec.limits.io = vec![io("/", Some(5))]), "Unsupported");
    check(
        &ledger,
        &other(|spec| spec.containers[0].limits.swap_max = Some(SwapLimit(Bytes(0)))),
        "Unsupported",
    );
    let huge = |size| vec![HugetlbLimit { page_size: Bytes(size), max: Bytes(size) }];
    check(&ledger, &other(|spec| spec.limits.hugetlb = huge(2 << 20)), "accept");
    check(&ledger, &other(|spec| spec.limits.hugetlb = huge(1 << 30)), "NoSuchPageSize");
    check(&ledger, &other(|spec| spec.containers.clear()), "Invalid: invalid: pod has no container");
    check(
        &ledger,
        &other(|spec| spec.containers[0].limits.pids_max = Some(0)),
        "Invalid: invalid: limits of container web: pids.max is 0",
    );
}

#[test]
fn what_a_pod_has_it_keeps_when_its_cpus_are_reserved() {
    let ledger = Ledger::new();
    let reserved = HostView { reserved_cpus: "0-1".parse().unwrap(), ..host() };
    let resized = |cpus: &'static str| {
        let verb = resize(|spec| spec.cpu = exclusive(cpus, "0"));
        admit(&ledger.view(None), &reserved, &pod_order("shop/web", [3, 3, 6], verb), 1_000)
    };
    let refused =
        |cpus| matches!(resized(cpus), Admission::Refuse(refusal) if refusal.code() == "ReservedCpus");
    assert!(matches!(resized("0"), Admission::Accept(_)));
    assert!(refused("0-1") && refused("1"));
    assert_eq!(berth_plan::obstacle(&reserved, &fixtures_spec(), None), None);
}

#[test]
fn a_pool_has_cpus_that_are_nobody_elses() {
    let ledger = Ledger::new();
    check(&ledger, &pool_order("default", "1-3", "0", 5), "accept");
    check(&ledger, &pool_order("default", "2-3", "0", 4), "StaleGeneration");
    check(&ledger, &pool_order("default", "0-3", "0", 5), "CpuConflict: CPUs 0 belong to pod shop/web");
    check(&ledger, &pool_order("batch", "1-2", "0", 1), "CpuConflict: CPUs 2 belong to pool default");
    check(&ledger, &pool_order("batch", "9", "0", 1), "NoSuchCpu");
    check(&ledger, &pool_order("batch", "1,4", "0", 1), "ReservedCpus: CPUs 4 are kept for the system's own");
    check(&ledger, &pool_order("batch", "1", "5", 1), "NoSuchMemoryNode");
    check(&ledger, &pool_order("batch", "", "0", 1), "Invalid");
}

#[test]
fn a_pod_that_left_is_remembered() {
    let mut ledger = Ledger::new();
    let pod = fixtures::pod();
    let evict = PodVerb::Evict { grace_ms: 1, disposition: EvictDisposition::Keep };
    let Admission::Accept(Accepted { change: Change::Pod(record), superseded, .. }) =
        ledger.answer(&pod_order("shop/web", [3, 2, 6], evict))
    else {
        panic!("an Evict is accepted")
    };
    assert_eq!(
        superseded,
        Some(OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()),
        "it replaces the open Run"
    );
    let observed = Observed::default();
    let step = Step::EndGrant { order: record.open.as_ref().unwrap().id.clone() };
    let gone = after(&record, &observed, &step, &berth_plan::Effect::Happened).unwrap();
    ledger.pods.insert(pod, conclude(&gone, &Observed::default(), &Step::Settled).unwrap().record);
    let web = |counters, verb| pod_order("shop/web", counters, verb);
    check(&ledger, &web([3, 2, 7], run(fixtures_spec())), "StaleIncarnation");
    check(&ledger, &web([4, 1, 6], run(fixtures_spec())), "StaleSeq");
    check(&ledger, &web([4, 1, 7], run(fixtures_spec())), "accept");
    check(&ledger, &web([3, 2, 7], PodVerb::Start), "NoSuchPod");
    check(&ledger, &web([3, 2, 7], PodVerb::Release), "accept");
}

fn upgrade(change: impl FnOnce(&mut PodSpec)) -> PodVerb {
    let mut spec = fixtures_spec();
    change(&mut spec);
    PodVerb::Upgrade { spec: Box::new(spec), settle_ms: 1 }
}

fn resize(change: impl FnOnce(&mut PodSpec)) -> PodVerb {
    let mut spec = fixtures_spec();
    change(&mut spec);
    PodVerb::Resize { spec: Box::new(spec) }
}

/// `shop/web` after an order for it was accepted, and what is said to the next one.
fn check_after(first: &PodVerb, then: [u64; 3], verb: PodVerb, expected: &str) {
    let mut ledger = Ledger::new();
    let Admission::Accept(Accepted { change: Change::Pod(record), .. }) =
        ledger.answer(&pod_order("shop/web", generation_of(first), first.clone()))
    else {
        panic!("{first:?} was not accepted")
    };
    ledger.pods.insert(record.pod.clone(), *record);
    let order = Order {
        id: OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAW").unwrap(),
        ..pod_order("shop/web", then, verb)
    };
    check(&ledger, &order, expected);
}

/// The ledger once `shop/web` is stopped.
fn stopped() -> Ledger {
    let mut ledger = Ledger::new();
    let stop = pod_order("shop/web", [3, 2, 6], PodVerb::Stop { grace_ms: 1 });
    let Admission::Accept(Accepted { change: Change::Pod(record), .. }) = ledger.answer(&stop) else {
        panic!("a stop was not accepted")
    };
    let concluded = conclude(&record, &Observed::default(), &Step::Settled).unwrap();
    ledger.pods.insert(record.pod.clone(), concluded.record);
    ledger
}

fn generation_of(verb: &PodVerb) -> [u64; 3] {
    match verb {
        PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => [3, 3, 6],
        _ => [3, 2, 6],
    }
}

#[test]
fn an_upgrade_reaches_no_deeper_than_the_containers() {
    let check = |change: fn(&mut PodSpec), expected: &str| {
        check(&Ledger::new(), &pod_order("shop/web", [3, 3, 6], upgrade(change)), expected);
    };
    check(|spec| spec.containers[0].image = "registry.example/web:2".parse().unwrap(), "accept");
    check(|spec| spec.containers[1].args = vec!["-v".to_owned()], "accept");
    check(|spec| spec.limits.pids_max = Some(9), "accept");
    check(|_| {}, "accept");
    check(
        |spec| spec.hostname = "other".to_owned(),
        "NotInPlace: hostname cannot be changed in place: evict",
    );
    check(|spec| spec.addresses[0].address = "10.0.0.9/24".parse().unwrap(), "NotInPlace: address");
    check(|spec| spec.dns.searches = vec!["example".to_owned()], "NotInPlace: dns");
    check(in_the_hosts, "NotInPlace: network");
    let sysctl = |spec: &mut PodSpec| drop(spec.sysctls.insert("net.core.somaxconn".into(), "1".into()));
    check(sysctl, "NotInPlace: sysctls");
    check(|spec| drop(spec.containers.pop()), "NotInPlace: the set of containers");
    check(|spec| spec.containers.clear(), "Invalid: invalid: pod has no container");
    check(|spec| spec.cpu = exclusive("2", "0"), "CpuConflict: CPUs 2 belong to pool default");
    check(|spec| spec.cpu = exclusive("9", "0"), "NoSuchCpu");
}

#[test]
fn a_resize_is_what_a_running_container_takes_on() {
    let check = |change: fn(&mut PodSpec), expected: &str| {
        check(&Ledger::new(), &pod_order("shop/web", [3, 3, 6], resize(change)), expected);
    };
    check(|spec| spec.cpu = exclusive("0-1", "0"), "accept");
    check(|spec| spec.containers[0].limits.pids_max = Some(7), "accept");
    check(
        |spec| spec.containers[0].image = "registry.example/web:2".parse().unwrap(),
        "NotLive: image of container web",
    );
    check(
        |spec| {
            let folder = ConfigFolder { path: "/etc/web".to_owned(), files: Vec::new() };
            spec.containers[0].config = vec![folder];
        },
        "NotLive: config of container web",
    );
    check(
        |spec| spec.hostname = "other".to_owned(),
        "NotLive: hostname cannot be changed while the pod runs",
    );
    check(|spec| spec.limits.io = vec![io("/nowhere", None)], "NoSuchDevice");
    check(|spec| spec.limits.swap_max = Some(SwapLimit(Bytes(1))), "Unsupported");
}

#[test]
fn a_run_needs_the_paths_of_the_host_that_it_names() {
    let of = |source: &'static str, access| {
        other(|spec| {
            let path = HostPath { source: source.to_owned(), path: "/models".to_owned(), access };
            spec.containers[0].host_paths = vec![path];
        })
    };
    let ledger = Ledger::new();
    check(&ledger, &of("/srv/models", Access::ReadOnly), "accept");
    check(
        &ledger,
        &of("/srv/models", Access::ReadWrite),
        "NoSuchHostPath: container web: /srv/models is shared by this host for reading only",
    );
    check(
        &ledger,
        &of("/srv/models/inner", Access::ReadOnly),
        "NoSuchHostPath: container web: /srv/models/inner is not shared by this host, or is not there",
    );
}

/// In the host's network.
fn in_the_hosts(spec: &mut PodSpec) {
    spec.network = PodNetwork::Host;
    spec.addresses.clear();
}

#[test]
fn a_pod_is_in_the_hosts_network_where_the_host_shares_it() {
    let ledger = Ledger::new();
    check(&ledger, &other(in_the_hosts), "accept");
    let no_own = "Invalid: invalid: a pod in its host's network has no";
    let sysctl = |spec: &mut PodSpec| {
        in_the_hosts(spec);
        spec.sysctls.insert("net.core.somaxconn".into(), "1".into());
    };
    check(&ledger, &other(sysctl), &format!("{no_own} kernel parameter net.core.somaxconn of its own"));
    let address = |spec: &mut PodSpec| spec.network = PodNetwork::Host;
    check(&ledger, &other(address), &format!("{no_own} addresses of its own"));
    let neither = |spec: &mut PodSpec| spec.addresses.clear();
    check(&ledger, &other(neither), "Unsupported: this node cannot do that: a pod without an address");

    let mut spec = fixtures_spec();
    in_the_hosts(&mut spec);
    let obstacle = |host_network| berth_plan::obstacle(&HostView { host_network, ..host() }, &spec, None);
    assert_eq!(obstacle(true), None);
    assert!(obstacle(false).unwrap().contains("host_network in berthd.toml does not share"));
}

#[test]
fn what_raises_the_generation_raises_it() {
    let ledger = Ledger::new();
    for verb in [upgrade(|_| {}), resize(|_| {})] {
        check(&ledger, &pod_order("shop/web", [3, 2, 6], verb.clone()), "StaleGeneration");
        check(&ledger, &pod_order("shop/gone", [3, 3, 6], verb.clone()), "NoSuchPod");
        check(
            &stopped(),
            &pod_order("shop/web", [3, 3, 7], verb.clone()),
            "Stopped: pod shop/web is stopped",
        );
        let evict = PodVerb::Evict { grace_ms: 1, disposition: EvictDisposition::Keep };
        check_after(&evict, [3, 3, 7], verb, "NoSuchPod");
    }
}

#[test]
fn what_ends_containers_is_not_left_half_way() {
    let (stop, restart) = (
        || PodVerb::Stop { grace_ms: 1 },
        || PodVerb::Restart { disk: berth_model::DiskPolicy::Reuse, grace_ms: 1 },
    );
    let evict = || PodVerb::Evict { grace_ms: 1, disposition: EvictDisposition::Keep };
    let env = |value: &str| {
        let value = value.to_owned();
        upgrade(|spec| {
            spec.containers[0].env = vec![berth_model::EnvVar { name: "A".to_owned(), value }];
        })
    };
    check_after(
        &env("1"),
        [3, 3, 7],
        PodVerb::Start,
        "UnderWay: order 01ARZ3NDEKTSV4RRFFQ69G5FAV (Upgrade) is",
    );
    check_after(&env("1"), [3, 3, 7], restart(), "UnderWay");
    check_after(&env("1"), [3, 4, 7], resize(|_| {}), "UnderWay");
    check_after(&env("1"), [3, 4, 7], env("2"), "accept");
    check_after(&env("1"), [3, 3, 7], stop(), "accept");
    check_after(&env("1"), [3, 3, 7], evict(), "accept");
    check_after(&stop(), [3, 2, 7], PodVerb::Start, "UnderWay");
    check_after(&stop(), [3, 2, 7], restart(), "UnderWay");
    check_after(&stop(), [3, 2, 7], stop(), "accept");
    check_after(&restart(), [3, 2, 7], PodVerb::Start, "accept");
    check_after(&restart(), [3, 3, 7], env("1"), "accept");
}

#[test]
fn what_the_host_has_lost_is_named() {
    let lost = |host: &HostView| berth_plan::obstacle(host, &fixtures_spec(), None);
    assert_eq!(lost(&host()), None);
    let without_cpu = HostView { online_cpus: "1-3".parse().unwrap(), ..host() };
    assert!(lost(&without_cpu).unwrap().starts_with("CPUs 0 do not exist here or are offline"));
    let without_memory = HostView { mems: "1".parse().unwrap(), ..host() };
    assert!(lost(&without_memory).unwrap().starts_with("memory nodes 0 do not exist here"));
}

#[test]
fn a_shared_pool_is_honoured_as_long_as_any_of_it_is_there() {
    let pool = |cpus: &str, mems: &str| SharedPool {
        name: PoolName::new("default").unwrap(),
        cpus: cpus.parse().unwrap(),
        mems: mems.parse().unwrap(),
        generation: Generation(1),
    };
    let mut spec = fixtures_spec();
    spec.cpu = CpuBinding::Shared { pool: pool("0", "0").name };
    let smaller = HostView {
        online_cpus: "0,2".parse().unwrap(),
        possible_cpus: "0-2".parse().unwrap(),
        mems: "0".parse().unwrap(),
        ..host()
    };
    let check = |cpus, mems, obstacle: Option<&str>, present: (&str, &str)| {
        let pool = pool(cpus, mems);
        let found = berth_plan::obstacle(&smaller, &spec, Some(&pool));
        assert_eq!(
            found.as_deref().map(|why| why.split(" do not").next().unwrap()),
            obstacle,
            "{cpus} {mems}"
        );
        let (cpus, mems) = pool.present(&smaller);
        assert_eq!((cpus.to_string().as_str(), mems.to_string().as_str()), present);
    };
    check("0-2", "0", None, ("0-2", "0"));
    // CPU 1 is offline, which the kernel can wait for; CPU 3 it has never seen.
    check("1-3", "0-1", None, ("1-2", "0"));
    check("1,3", "0", Some("CPUs 1,3"), ("1", "0"));
    check("0", "1", Some("memory nodes 1"), ("0", ""));
}

const POD: &str = "shop/web";

fn offer(incarnation: u64) -> DiskOffer {
    DiskOffer {
        pod: POD.parse().unwrap(),
        incarnation: Incarnation(incarnation),
        disks: ["data".parse().unwrap()].into(),
        to: "node-2".parse().unwrap(),
    }
}

fn offered(incarnation: u64) -> Order {
    order(Target::Node(NodeOrder { verb: NodeVerb::OfferDisks(offer(incarnation)) }))
}

fn fetched(incarnation: u64, disk: &str) -> Order {
    let fetch = DiskFetch {
        pod: POD.parse().unwrap(),
        incarnation: Incarnation(incarnation),
        disk: disk.parse().unwrap(),
        size: Some(Bytes(1 << 20)),
        from: "node-2".parse().unwrap(),
        at: vec!["10.0.0.7:7445".parse().unwrap()],
    };
    order(Target::Node(NodeOrder { verb: NodeVerb::FetchDisk(Box::new(fetch)) }))
}

/// A ledger from which the pod has been evicted, with its disks kept.
fn without_pod() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.pods.get_mut(&POD.parse().unwrap()).unwrap().charter = None;
    ledger
}

#[test]
fn disks_are_copied_only_while_no_pod_is_on_them() {
    let here = Ledger::new();
    check(&here, &offered(3), "StillHere");
    check(&here, &fetched(3, "data"), "StillHere");
    let gone = without_pod();
    check(&gone, &offered(3), "accept");
    check(&gone, &offered(2), "StaleIncarnation");
    check(&gone, &offered(4), "NoSuchPod");
    check(&gone, &fetched(2, "data"), "StaleIncarnation");
    check(&gone, &fetched(3, "data"), "accept");
    let withdraw = NodeVerb::WithdrawDisks { pod: POD.parse().unwrap() };
    check(&gone, &order(Target::Node(NodeOrder { verb: withdraw })), "accept");
    let mut unsized_host = host();
    unsized_host.data_disk_quota = QuotaView::Unsupported { why: "no prjquota".to_owned() };
    let answer = admit(&gone.view(None), &unsized_host, &fetched(3, "data"), 0);
    assert!(
        matches!(&answer, Admission::Refuse(refusal) if refusal.code() == "QuotaUnsupported"),
        "{answer:?}"
    );
}

#[test]
fn a_copy_of_a_pod_that_was_never_here_can_be_released() {
    let mut ledger = Ledger::new();
    ledger.pods.clear();
    let release = || pod_order(POD, [4, 1, 6], PodVerb::Release);
    check(&ledger, &release(), "NoSuchPod");
    let answer = ledger.answer(&fetched(3, "data"));
    let Admission::Accept(Accepted { change: Change::Fetch { unknown: Some(record) }, .. }) = answer else {
        panic!("{answer:?}")
    };
    ledger.pods.insert(record.pod.clone(), *record);
    check(&ledger, &release(), "accept");
    check(&ledger, &pod_order(POD, [4, 1, 6], run(fixtures_spec())), "accept");
    check(&ledger, &pod_order(POD, [2, 1, 6], run(fixtures_spec())), "StaleIncarnation");
}

#[test]
fn nothing_begins_on_a_disk_that_is_half_there() {
    let mut ledger = without_pod();
    let id = OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAX").unwrap();
    ledger.fetches.insert((POD.parse().unwrap(), "data".parse().unwrap()), id);
    check(&ledger, &pod_order(POD, [4, 1, 6], run(fixtures_spec())), "UnderWay");
    check(&ledger, &pod_order(POD, [3, 2, 6], PodVerb::Release), "UnderWay");
    check(&ledger, &offered(3), "UnderWay");
    check(&ledger, &fetched(3, "data"), "UnderWay: order 01ARZ3NDEKTSV4RRFFQ69G5FAX (FetchDisk)");
    check(&ledger, &fetched(3, "logs"), "accept");
    // What is not here is not here, whatever comes.
    let evict = PodVerb::Evict { grace_ms: 1, disposition: EvictDisposition::Keep };
    check(&ledger, &pod_order(POD, [3, 2, 6], evict), "NoSuchPod");
    check(&ledger, &other(|_| {}), "accept");
}

#[test]
fn an_offer_ends_once_the_disks_change_or_go() {
    let mut ledger = without_pod();
    let ended = |ledger: &Ledger, order: &Order| match ledger.answer(order) {
        Admission::Accept(accepted) => accepted.ended_offer.map(|pod| pod.to_string()),
        other => panic!("{other:?}"),
    };
    let orders = [
        pod_order(POD, [4, 1, 6], run(fixtures_spec())),
        pod_order(POD, [3, 2, 6], PodVerb::Release),
        fetched(3, "data"),
    ];
    for order in &orders {
        assert_eq!(ended(&ledger, order), None);
    }
    ledger.offers.insert(POD.parse().unwrap(), offer(3));
    for order in &orders {
        assert_eq!(ended(&ledger, order).as_deref(), Some(POD));
    }
    assert_eq!(ended(&ledger, &other(|_| {})), None);
}
