//! Random sequences against the state, with a disk beside it: what is in memory is on disk, nobody shares what is
//! theirs alone, and no node hears of a pod whose CPUs are still in a shared pool.

use super::pool_orders::PoolChange;
use super::view::default_pool;
use super::*;
use crate::clock::Moment;
use crate::flow::{Ending, InPlace, PodState, Presence, Reason};
use crate::store::{Store, Write};
use berth_model::{
    AppClass, CpuBinding, CpuRequest, DiskPolicy, DnsConfig, EvictDisposition, Incarnation, Limits, MilliCpu,
    NodeOrder, NodeVerb, PodOrder, PodRequest, PodVerb, RecoveryPolicy, Refusal, RestartPolicy, Target,
};
use berth_proto::v1;
use proptest::prelude::*;
use std::net::IpAddr;

const NODES: usize = 2;
const PODS: usize = 5;

pub(super) fn facts() -> Facts {
    let memory = |id, cpus: &str, distances: [u32; 2]| v1::MemoryNode {
        id,
        cpus: cpus.to_owned(),
        memory_bytes: 1 << 30,
        distances: distances.to_vec(),
        huge_pages: Vec::new(),
    };
    let core = |id: u32| v1::Core { id, socket: id / 4, l3: id / 4, cpus: id.to_string() };
    let wire = v1::NodeFacts {
        topology: Some(v1::Topology {
            nodes: vec![memory(0, "0-3", [10, 20]), memory(1, "4-7", [20, 10])],
            cores: (0..8).map(core).collect(),
            online_cpus: "0-7".to_owned(),
        }),
        memory_bytes: 2 << 30,
        reserved_cpus: "0".to_owned(),
        addresses: vec!["192.0.2.1".to_owned()],
        peer_port: 7445,
        devices: Vec::new(),
        ..v1::NodeFacts::default()
    };
    wire.try_into().unwrap()
}

pub(super) fn node_name(number: usize) -> NodeName {
    NodeName::new(format!("n{number}")).unwrap()
}

pub(super) fn pod_id(number: usize) -> PodId {
    PodId::new("shop", format!("p{number}")).unwrap()
}

pub(super) fn request(number: usize, exclusive: u32, disk: DiskPolicy) -> PodRequest {
    let shared = CpuRequest::Shared { pool: default_pool(), request: MilliCpu(500) };
    let container = v1::ContainerRequest {
        name: "web".to_owned(),
        image: "registry.example/web:1".to_owned(),
        ..v1::ContainerRequest::default()
    };
    let containers = v1::PodRequest {
        pod: Some((&pod_id(number)).into()),
        containers: vec![container],
        ..v1::PodRequest::default()
    };
    PodRequest {
        hostname: None,
        class: AppClass::Standard,
        cpu: if exclusive == 0 { shared } else { CpuRequest::Exclusive { count: exclusive } },
        limits: Limits::default(),
        address_pools: vec![PoolName::new("lan").unwrap()],
        dns: DnsConfig::default(),
        restart: RestartPolicy::Always,
        disk,
        recovery: RecoveryPolicy::Offline,
        ..PodRequest::try_from(containers).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Act {
    Submit {
        pod: usize,
        exclusive: u32,
        disk: DiskPolicy,
        seed: u64,
    },
    Evict {
        pod: usize,
        disposition: EvictDisposition,
    },
    Release {
        pod: usize,
    },
    Stop {
        pod: usize,
    },
    Start {
        pod: usize,
    },
    Restart {
        pod: usize,
    },
    Revise {
        pod: usize,
        how: InPlace,
        exclusive: u32,
        image: u32,
    },
    /// The node writes one of the orders that it has been sent into its ledger.
    Accept {
        node: usize,
        which: usize,
    },
    Choose {
        node: usize,
        cpus: String,
    },
    /// The node answers one of the orders that it has been sent.
    Answer {
        node: usize,
        which: usize,
        ending: Ending,
    },
    Connect {
        node: usize,
    },
}

fn ending() -> impl Strategy<Value = Ending> {
    let no_such_pod = Ending::Refused((&Refusal::NoSuchPod(pod_id(0))).into());
    prop_oneof![
        6 => Just(Ending::Done),
        1 => Just(Ending::Failed(Reason::of_step("RunSandbox", "it broke"))),
        1 => Just(Ending::RolledBack(Reason::of_step("AwaitReady", "it broke"))),
        1 => Just(Ending::Refused((&Refusal::Unsupported("swap".to_owned())).into())),
        1 => Just(no_such_pod),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let disk = prop_oneof![Just(DiskPolicy::Reuse), Just(DiskPolicy::Rebuild)];
    let disposition = prop_oneof![Just(EvictDisposition::Keep), Just(EvictDisposition::Release)];
    let how = prop_oneof![Just(InPlace::Upgrade), Just(InPlace::Resize)];
    let cpus = prop_oneof![Just("1-7".to_owned()), Just("1-2".to_owned()), Just("5".to_owned())];
    prop_oneof![
        4 => (0..PODS, 0u32..4, disk, any::<u64>())
            .prop_map(|(pod, exclusive, disk, seed)| Act::Submit { pod, exclusive, disk, seed }),
        2 => (0..PODS, disposition).prop_map(|(pod, disposition)| Act::Evict { pod, disposition }),
        1 => (0..PODS).prop_map(|pod| Act::Release { pod }),
        1 => (0..PODS).prop_map(|pod| Act::Stop { pod }),
        1 => (0..PODS).prop_map(|pod| Act::Start { pod }),
        1 => (0..PODS).prop_map(|pod| Act::Restart { pod }),
        4 => (0..PODS, how, 0u32..4, 1u32..3)
            .prop_map(|(pod, how, exclusive, image)| Act::Revise { pod, how, exclusive, image }),
        2 => (0..NODES, any::<usize>()).prop_map(|(node, which)| Act::Accept { node, which }),
        1 => (0..NODES, cpus).prop_map(|(node, cpus)| Act::Choose { node, cpus }),
        1 => (0..NODES).prop_map(|node| Act::Connect { node }),
        9 => (0..NODES, any::<usize>(), ending()).prop_map(|(node, which, ending)| Act::Answer { node, which, ending }),
    ]
}

struct World {
    state: State,
    disk: Store,
    _dir: tempfile::TempDir,
    /// What each node last carried out of its default pool.
    pools: BTreeMap<NodeName, CpuSet>,
    /// What each node goes by: of each pod the incarnation and the generation that it took on last.
    taken_on: BTreeMap<(NodeName, PodId), (Incarnation, Generation)>,
    now_ms: u64,
}

pub(super) fn settings() -> Settings {
    Settings {
        heartbeat_ms: 10,
        lease_ms: 1 << 40,
        run_deadline_ms: 1,
        order_deadline_ms: 1,
        copy_deadline_ms: 1,
        max_pods_per_node: 10,
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Store::open(&dir.path().join("control.db")).unwrap();
        let state = load(&disk, settings()).unwrap();
        let (pools, taken_on) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { state, disk, _dir: dir, pools, taken_on, now_ms: 1_000 };
        world.change(|tx| {
            tx.begin_term();
            let pool = v1::AddressPool {
                name: "lan".to_owned(),
                network: "10.0.0.0/29".to_owned(),
                ..v1::AddressPool::default()
            };
            tx.put_pool(&pool).unwrap();
            for number in 0..NODES {
                tx.join(&node_name(number));
            }
        });
        for number in 0..NODES {
            world.connect(number);
        }
        world
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Tx<'_>) -> R) -> R {
        self.now_ms += 1;
        let now = Moment { wall_ms: self.now_ms, mono_ms: self.now_ms };
        let mut tx = Tx::begin(&mut self.state, now);
        let result = change(&mut tx);
        let writes: Vec<Write> = tx.finish().writes;
        self.disk.write(&writes).unwrap();
        result
    }

    fn connect(&mut self, number: usize) {
        let greeting = Greeting { term: 0, facts: facts(), pods: Vec::new(), outcomes: Vec::new() };
        self.change(|tx| tx.hello(&node_name(number), greeting)).unwrap();
    }

    fn answer(&mut self, number: usize, which: usize, ending: &Ending) {
        let name = node_name(number);
        let orders = self.state.orders_to_send(&name);
        let Some((id, record)) = orders.get(which % orders.len().max(1)).cloned() else {
            return;
        };
        let target = record.order.target.clone();
        if let Target::Pod(order) = &target {
            self.take_on(&name, order, ending);
        }
        if let (Target::Node(NodeOrder { verb: NodeVerb::SetSharedCpus { cpus, .. } }), Ending::Done) =
            (&target, ending)
        {
            self.pools.insert(name.clone(), cpus.clone());
        }
        self.change(|tx| {
            if !matches!(ending, Ending::Refused(_)) {
                tx.acknowledge(&name, &id);
            }
            tx.end_order(&name, &id, ending);
        });
    }

    fn accept(&mut self, number: usize, which: usize) {
        let name = node_name(number);
        let orders = self.state.orders_to_send(&name);
        let Some((id, record)) = orders.get(which % orders.len().max(1)).cloned() else { return };
        if let Target::Pod(order) = &record.order.target.clone() {
            self.take_on(&name, order, &Ending::Done);
        }
        self.change(|tx| tx.acknowledge(&name, &id));
    }

    /// What a node does with the generation of an order, and what it would refuse.
    fn take_on(&mut self, node: &NodeName, order: &PodOrder, ending: &Ending) {
        let key = (node.clone(), order.pod.clone());
        let known = self.taken_on.get(&key).filter(|(incarnation, _)| *incarnation == order.incarnation);
        let known = known.map(|(_, generation)| *generation);
        match &order.verb {
            PodVerb::Run { .. } => {}
            // An order that was accepted before is answered now.
            PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
                assert!(known.is_some_and(|known| order.generation >= known), "{order:?} after {known:?}");
            }
            PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Evict { .. } => {
                assert!(known.is_none_or(|known| order.generation == known), "{order:?} after {known:?}");
            }
            PodVerb::Release => return,
        }
        if !matches!(ending, Ending::Refused(_)) {
            self.taken_on.insert(key, (order.incarnation, order.generation));
        }
    }

    fn revise(&mut self, pod: usize, how: InPlace, exclusive: u32, image: u32) -> Result<(), Denied> {
        let mut wanted = request(pod, exclusive, DiskPolicy::Reuse);
        if let Some(known) = self.state.pods.get(&pod_id(pod)) {
            wanted.disk = known.request.disk;
        }
        wanted.containers[0].image = format!("registry.example/web:{image}").parse().unwrap();
        let wish = Wish::Whole(Box::new(wanted));
        let revise = Revise { how, wish, settle_ms: 0, within_ms: None, reason: String::new() };
        self.change(|tx| tx.revise(&pod_id(pod), &revise)).map(|_| ())
    }

    fn act(&mut self, act: Act) {
        // A refusal is an answer like any other; that it changed nothing is checked by the comparison with the disk.
        let _: Result<(), Denied> = match act {
            Act::Submit { pod, exclusive, disk, seed } => {
                self.change(|tx| tx.submit(request(pod, exclusive, disk), seed))
            }
            Act::Evict { pod, disposition } => {
                let wish = Evict { grace_ms: None, disposition, reason: String::new() };
                self.change(|tx| tx.evict(&pod_id(pod), &wish))
            }
            Act::Release { pod } => self.change(|tx| tx.release(&pod_id(pod), "")),
            Act::Stop { pod } => self.change(|tx| tx.stop(&pod_id(pod), None, "")),
            Act::Start { pod } => self.change(|tx| tx.start(&pod_id(pod), "")),
            Act::Restart { pod } => {
                let wish = Restart { disk: None, grace_ms: None, reason: String::new() };
                self.change(|tx| tx.restart(&pod_id(pod), &wish)).map(|_| ())
            }
            Act::Revise { pod, how, exclusive, image } => self.revise(pod, how, exclusive, image),
            Act::Accept { node, which } => {
                self.accept(node, which);
                Ok(())
            }
            Act::Choose { node, cpus } => {
                self.change(|tx| tx.set_shared_cpus(&node_name(node), default_pool(), cpus.parse().unwrap()))
            }
            Act::Connect { node } => {
                self.connect(node);
                Ok(())
            }
            Act::Answer { node, which, ending } => {
                self.answer(node, which, &ending);
                Ok(())
            }
        };
    }

    fn check(&self) {
        self.check_cpus();
        self.check_addresses();
        self.check_presence();
    }

    fn check_cpus(&self) {
        for (name, node) in &self.state.nodes {
            let mut taken: CpuSet = "0".parse().unwrap();
            for id in &node.pods {
                let pod = &self.state.pods[id];
                let Some(cpus) = &pod.exclusive_cpus() else { continue };
                assert!(taken.intersection(cpus).is_empty(), "{id} shares {cpus} on {name}");
                taken = taken.union(cpus);
                let orders = self.state.orders_of_pod(id);
                let waiting = |record: &&OrderRecord| matches!(record.progress, Progress::Waiting { .. });
                let told = !orders.into_iter().any(|(_, record)| waiting(&record));
                let shared = self.pools.get(name).cloned().unwrap_or_default();
                assert!(
                    !told || shared.intersection(cpus).is_empty(),
                    "{id} was told and shares {cpus} of {shared}"
                );
            }
            for pool in node.pools.values() {
                assert!(!pool.cpus.is_empty() && !pool.mems.is_empty());
            }
        }
    }

    fn check_addresses(&self) {
        let pool = &self.state.pools[&PoolName::new("lan").unwrap()];
        let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
        for (pod, address) in pool.assignments() {
            assert!(seen.insert(address) && self.state.pods.contains_key(pod), "{pod} {address}");
        }
        for (id, pod) in &self.state.pods {
            let granted = pod.spec.as_ref().and_then(|spec| spec.addresses.first());
            let held = pool.held_by(id);
            assert_eq!(
                granted.map(|grant| grant.address.address()),
                held.filter(|_| granted.is_some()),
                "{id}"
            );
            assert!(held.is_some(), "{id} has lost its address");
        }
    }

    fn check_presence(&self) {
        for (id, pod) in &self.state.pods {
            let on = self.state.nodes.iter().filter(|(_, node)| node.pods.contains(id)).map(|(name, _)| name);
            let on: Vec<&NodeName> = on.collect();
            match pod.standing.presence {
                Presence::OnNode => assert_eq!(on, [pod.node.as_ref().unwrap()], "{id}"),
                Presence::Gone => assert!(on.is_empty(), "{id}"),
            }
            let gone = matches!(pod.standing.state, PodState::Evicted);
            assert!(!gone || pod.standing.presence == Presence::Gone, "{id}");
        }
    }

    /// What a crash would leave is what is there.
    fn check_disk(&self) {
        let read = load(&self.disk, settings()).unwrap();
        assert_eq!(read.pods, self.state.pods);
        assert_eq!(read.orders, self.state.orders);
        assert_eq!(read.pools, self.state.pools);
        assert_eq!(read.meta, self.state.meta);
        assert_eq!(read.tenures.all, self.state.tenures.all);
        assert_eq!(crate::flow::tenure::two_owners(read.tenures.all.values()), None);
        for (name, node) in &self.state.nodes {
            let again = &read.nodes[name];
            assert_eq!(
                (&again.facts, &again.pools, &again.pods, &again.orders),
                (&node.facts, &node.pools, &node.pods, &node.orders)
            );
        }
    }

    /// Answers everything, until nothing is open.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let open: Vec<usize> = (0..NODES)
                .filter(|number| !self.state.orders_to_send(&node_name(*number)).is_empty())
                .collect();
            let Some(number) = open.first() else { break };
            self.answer(*number, 0, &Ending::Done);
            self.check();
        }
        let waiting = self.state.orders.values().filter(|record| record.is_open()).count();
        assert_eq!(waiting, 0, "orders wait for nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_sequences(acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
            world.check();
        }
        world.check_disk();
        world.settle();
        world.check_disk();
        for number in 0..NODES {
            world.connect(number);
        }
        world.settle();
        for pod in 0..PODS {
            world.act(Act::Evict { pod, disposition: EvictDisposition::Release });
            world.settle();
            world.act(Act::Release { pod });
            world.settle();
        }
        prop_assert!(world.state.pods.is_empty(), "{:?}", world.state.pods);
        world.check_disk();
    }
}

#[test]
fn incarnations_and_seqs_never_go_back() {
    let mut world = World::new();
    world.settle();
    let mut seen = (0, 0);
    for round in 0..5 {
        world.act(Act::Submit { pod: 0, exclusive: 1, disk: DiskPolicy::Reuse, seed: round });
        let pod = &world.state.pods[&pod_id(0)];
        assert!((pod.incarnation.0, pod.seq.0) > seen && pod.seq.0 > seen.1, "{pod:?}");
        world.settle();
        world.act(Act::Evict { pod: 0, disposition: EvictDisposition::Release });
        seen = (world.state.pods[&pod_id(0)].incarnation.0, world.state.pods[&pod_id(0)].seq.0);
        world.settle();
        assert!(world.state.pods.is_empty());
    }
}

#[test]
fn ended_orders_are_forgotten_oldest_first() {
    let mut world = World::new();
    world.settle();
    for _ in 0..500 {
        world.change(|tx| tx.inspect(&node_name(0))).unwrap();
        world.answer(0, 0, &Ending::Done);
    }
    let orders: Vec<&OrderId> = world.state.nodes[&node_name(0)].orders.iter().collect();
    assert_eq!(orders.len(), 200);
    assert_eq!(**orders.last().unwrap(), *world.state.orders.keys().last().unwrap());
    world.check_disk();
}

#[test]
fn a_refused_wish_leaves_no_trace() {
    let mut world = World::new();
    world.settle();
    let before = format!("{:?} {:?} {:?}", world.state.pods, world.state.orders, world.state.pools);
    world.act(Act::Submit { pod: 0, exclusive: 100, disk: DiskPolicy::Reuse, seed: 0 });
    world.act(Act::Release { pod: 0 });
    world.act(Act::Choose { node: 0, cpus: "0".to_owned() });
    let after = format!("{:?} {:?} {:?}", world.state.pods, world.state.orders, world.state.pools);
    assert_eq!(before, after);
}

#[test]
fn pools_that_an_operator_chose_stay_chosen() {
    let mut world = World::new();
    world.settle();
    world.act(Act::Choose { node: 0, cpus: "1-2".to_owned() });
    world.settle();
    world.connect(0);
    let node = &world.state.nodes[&node_name(0)];
    assert_eq!(node.pools[&default_pool()].cpus.to_string(), "1-2");
    world.change(|tx| {
        let change = PoolChange {
            pool: PoolName::new("batch").unwrap(),
            cpus: "6-7".parse().unwrap(),
            mems: "1".parse().unwrap(),
            chosen: Some("6-7".parse().unwrap()),
        };
        tx.order_pool(&node_name(0), change, "");
    });
    world.settle();
    for pod in 0..PODS {
        world.act(Act::Submit { pod, exclusive: 2, disk: DiskPolicy::Reuse, seed: 0 });
    }
    world.settle();
    let used =
        world.state.nodes[&node_name(0)].pods.iter().filter_map(|id| match &world.state.pods[id].spec {
            Some(spec) => match &spec.cpu {
                CpuBinding::Exclusive { cpus, .. } => Some(cpus.clone()),
                CpuBinding::Shared { .. } => None,
            },
            None => None,
        });
    let used = used.fold(CpuSet::new(), |all, cpus| all.union(&cpus));
    assert!(used.intersection(&"6-7".parse().unwrap()).is_empty(), "{used}");
    let verbs = world.state.orders.values().filter_map(|record| match &record.order.target {
        Target::Pod(order) => Some(&order.verb),
        Target::Node(_) => None,
    });
    assert!(verbs.into_iter().all(|verb| matches!(verb, PodVerb::Run { .. })));
}

#[test]
fn the_last_cpus_of_the_shared_pool_are_not_lent() {
    let mut world = World::new();
    world.settle();
    // The pool has CPU 1 only; 2 to 7 are nobody's, and on CPU 1's memory node there are two of them.
    for node in 0..NODES {
        world
            .change(|tx| tx.set_shared_cpus(&node_name(node), default_pool(), "1".parse().unwrap()))
            .unwrap();
    }
    world.settle();
    for (pod, exclusive) in [(0, 2), (1, 2), (2, 4), (3, 4)] {
        let request = request(pod, exclusive, DiskPolicy::Reuse);
        world.change(|tx| tx.submit(request, 0)).unwrap();
        world.settle();
        world.check();
    }
    let pools = world.state.nodes.values().map(|node| node.pools[&default_pool()].cpus.to_string());
    assert_eq!(pools.collect::<Vec<_>>(), ["1", "1"]);
}
