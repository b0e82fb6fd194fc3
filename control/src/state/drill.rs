//! A fleet for tests: nodes that keep ledgers, and a control plane that dies before or after any of its writes and
//! goes on from its disk. Nodes do what is ordered once, answer again what they are asked again, and say anew what
//! the control plane has not confirmed.

use super::tests::{facts, node_name, settings};
use super::*;
use crate::clock::Moment;
use crate::flow::{Ending, Reason};
use crate::store::Store;
use berth_model::{
    DiskFetch, DiskName, DiskOffer, EvictDisposition, Generation, Incarnation, NodeOrder, NodeVerb, PodOrder,
    PodPhase, PodStatus, PodVerb, Refusal, Seq, Target,
};

/// When the control plane dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// Before its so manieth write: what it had in memory is lost.
    Before(usize),
    /// After it, before anybody hears of it.
    After(usize),
    Never,
}

/// A pod on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Here {
    pub incarnation: Incarnation,
    pub generation: Generation,
    pub phase: PodPhase,
}

/// One node's own durable state.
#[derive(Debug, Default)]
pub(super) struct FakeNode {
    pub pods: BTreeMap<PodId, Here>,
    pub seqs: BTreeMap<PodId, Seq>,
    pub fences: BTreeMap<PodId, Incarnation>,
    pub ledger: BTreeMap<OrderId, Ending>,
    /// What is on data disks: the node of every run of the pod that wrote there.
    pub data: BTreeMap<(PodId, DiskName), Vec<String>>,
    pub offers: BTreeMap<PodId, DiskOffer>,
    /// Outcomes that the control plane has not confirmed.
    pub untold: BTreeSet<OrderId>,
    /// Whether it can be heard.
    pub silent: bool,
}

/// What a node makes of an order that it could carry out.
pub(super) type Fate = fn(&NodeName, &Target) -> Ending;

pub(super) struct Drill {
    pub state: State,
    pub nodes: BTreeMap<NodeName, FakeNode>,
    pub fate: Fate,
    /// Every order that was carried out, in that order.
    pub done: Vec<(NodeName, PodOrder)>,
    pub writes: usize,
    pub now_ms: u64,
    disk: Store,
    _dir: tempfile::TempDir,
    crash: Crash,
    twins: bool,
    /// Nodes do not get to copying disks.
    pub slow: bool,
}

impl Drill {
    pub(super) fn new(nodes: usize, fate: Fate, crash: Crash) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Store::open(&dir.path().join("control.db")).unwrap();
        let state = load(&disk, settings()).unwrap();
        let mut drill = Self {
            state,
            nodes: (0..nodes).map(|number| (node_name(number), FakeNode::default())).collect(),
            fate,
            done: Vec::new(),
            writes: 0,
            now_ms: 1_000,
            disk,
            _dir: dir,
            crash: Crash::Never,
            twins: false,
            slow: false,
        };
        drill.act(|tx| {
            let pool = berth_proto::v1::AddressPool {
                name: "lan".to_owned(),
                network: "10.0.0.0/28".to_owned(),
                ..Default::default()
            };
            tx.put_pool(&pool).unwrap();
            (0..nodes).for_each(|number| tx.join(&node_name(number)));
        });
        drill.connect_all();
        // A fleet that is there is where the story begins.
        (drill.writes, drill.crash) = (0, crash);
        drill
    }

    /// Another node joins and connects.
    pub(super) fn add_node(&mut self, number: usize) {
        let name = node_name(number);
        self.act(|tx| tx.join(&node_name(number)));
        self.nodes.insert(name.clone(), FakeNode::default());
        self.connect(&name);
        self.settle();
    }

    /// Whether a node that an operator was wrong about may have what another one has.
    pub(super) fn expect_twins(&mut self, twins: bool) {
        self.twins = twins;
    }

    /// Makes a change as often as it takes: who asked and heard nothing asks again.
    pub(super) fn act(&mut self, change: impl Fn(&mut Tx<'_>)) {
        if !self.once(&change) {
            self.once(&change);
        }
    }

    /// Makes a change; false when the control plane died of it, and has come back.
    fn once(&mut self, change: &dyn Fn(&mut Tx<'_>)) -> bool {
        self.now_ms += 1;
        let mut tx = Tx::begin(&mut self.state, Moment { wall_ms: self.now_ms, mono_ms: self.now_ms });
        change(&mut tx);
        let writes = tx.finish().writes;
        self.writes += 1;
        let (lost, kept) =
            (self.crash == Crash::Before(self.writes), self.crash == Crash::After(self.writes));
        if !lost {
            self.disk.write(&writes).unwrap();
        }
        if !lost && !kept {
            return true;
        }
        self.state = load(&self.disk, settings()).unwrap();
        self.crash = Crash::Never;
        self.once(&|tx| {
            tx.begin_term();
        });
        self.connect_all();
        false
    }

    pub(super) fn connect_all(&mut self) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        names.iter().for_each(|name| self.connect(name));
    }

    pub(super) fn connect(&mut self, name: &NodeName) {
        let node = &self.nodes[name];
        if node.silent {
            return;
        }
        let untold: Vec<_> = node.untold.iter().map(|id| (id.clone(), node.ledger[id].clone())).collect();
        let pods: Vec<PodStatus> = node.pods.iter().map(|(id, here)| status(id, *here)).collect();
        self.act(|tx| {
            let greeting =
                Greeting { term: 0, facts: facts_of(name), pods: pods.clone(), outcomes: untold.clone() };
            tx.hello(name, greeting).unwrap();
        });
        self.nodes.get_mut(name).unwrap().untold.clear();
    }

    /// Time passes: leases of silent nodes run out, the others are renewed.
    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        let names: Vec<NodeName> =
            self.nodes.keys().filter(|name| !self.nodes[*name].silent).cloned().collect();
        names.iter().for_each(|name| self.act(|tx| tx.heartbeat(name)));
        self.act(|tx| tx.look_at_everything());
    }

    /// Nodes carry out all that they are sent, one order at a time, until there is nothing more.
    pub(super) fn settle(&mut self) {
        for _ in 0..2_000 {
            let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
            let worked = names.iter().filter(|name| self.work(name)).count();
            self.check();
            if worked == 0 {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Does the oldest order of a node; false when there is none.
    fn work(&mut self, name: &NodeName) -> bool {
        if self.nodes[name].silent {
            return false;
        }
        let Some((id, record)) = self.state.orders_to_send(name).into_iter().next() else { return false };
        let target = record.order.target.clone();
        if self.slow && matches!(&target, Target::Node(NodeOrder { verb: NodeVerb::FetchDisk(_) })) {
            return false;
        }
        let ending = self.carry_out(name, &id, &target);
        let refused = matches!(ending, Ending::Refused(_));
        if !refused && !self.once(&|tx| tx.acknowledge(name, &id)) {
            return true;
        }
        if self.once(&|tx| tx.end_order(name, &id, &ending)) {
            self.nodes.get_mut(name).unwrap().untold.remove(&id);
        }
        let reports: Vec<PodStatus> =
            self.nodes[name].pods.iter().map(|(id, here)| status(id, *here)).collect();
        for report in reports {
            self.once(&|tx| tx.pod_status(name, report.clone()));
        }
        true
    }

    fn carry_out(&mut self, name: &NodeName, id: &OrderId, target: &Target) -> Ending {
        if let Some(known) = self.nodes[name].ledger.get(id) {
            return known.clone();
        }
        let fate = (self.fate)(name, target);
        let ending = match target {
            Target::Pod(order) => match self.nodes.get_mut(name).unwrap().admit(order) {
                Ok(()) => fate,
                Err(refusal) => Ending::Refused((&refusal).into()),
            },
            Target::Node(order) => match (&order.verb, fate) {
                (NodeVerb::FetchDisk(fetch), Ending::Done) => self.copy_disk(name, fetch),
                (verb, fate) => self.nodes.get_mut(name).unwrap().do_verb(verb, fate),
            },
        };
        if let Ending::Refused(_) = ending {
            return ending;
        }
        let node = self.nodes.get_mut(name).unwrap();
        if let Target::Pod(order) = target {
            node.take(name, order, &ending);
            self.done.push((name.clone(), order.clone()));
        }
        node.ledger.insert(id.clone(), ending.clone());
        node.untold.insert(id.clone());
        ending
    }

    /// A copy is as the source was, which offers it to this node and can be heard.
    fn copy_disk(&mut self, name: &NodeName, fetch: &DiskFetch) -> Ending {
        assert!(
            !self.nodes[name].pods.contains_key(&fetch.pod),
            "{} runs where its disk is copied to",
            fetch.pod
        );
        let key = (fetch.pod.clone(), fetch.disk.clone());
        let source = &self.nodes[&fetch.from];
        assert_eq!(fetch.at, [format!("192.0.2.{}:7445", &fetch.from.as_str()[1..]).parse().unwrap()]);
        let offered = source.offers.get(&fetch.pod).is_some_and(|offer| {
            offer.incarnation == fetch.incarnation && offer.to == *name && offer.disks.contains(&fetch.disk)
        });
        match source.data.get(&key).filter(|_| offered && !source.silent).cloned() {
            Some(data) => {
                self.nodes.get_mut(name).unwrap().data.insert(key, data);
                Ending::Done
            }
            None => Ending::Failed(Reason::of_step("FetchDisk", "it cannot be had")),
        }
    }

    /// No identity, and so no address, is ever on two nodes that can be heard.
    pub(super) fn check(&self) {
        let mut seen = BTreeMap::new();
        for (name, node) in self.nodes.iter().filter(|(_, node)| !node.silent) {
            for (id, here) in &node.pods {
                if let Some(other) = seen.insert(id.clone(), name).filter(|_| !self.twins) {
                    panic!("{id} is on {other} and on {name} ({here:?})");
                }
            }
        }
    }

    /// What is in memory is on the disk.
    pub(super) fn check_disk(&self) {
        let read = load(&self.disk, settings()).unwrap();
        assert_eq!(read.pods, self.state.pods);
        assert_eq!(read.orders, self.state.orders);
        assert_eq!(read.rollouts, self.state.rollouts);
        assert_eq!(read.migrations, self.state.migrations);
        assert_eq!(read.tenures.all, self.state.tenures.all);
    }
}

/// Every node has an address of its own, and one that all have, as a bridge's.
fn facts_of(name: &NodeName) -> Facts {
    let mut wire = facts().wire;
    let number: u8 = name.as_str().trim_start_matches('n').parse().unwrap();
    wire.addresses = vec!["10.89.0.1".to_owned(), format!("192.0.2.{number}")];
    wire.try_into().unwrap()
}

fn status(id: &PodId, here: Here) -> PodStatus {
    PodStatus {
        pod: id.clone(),
        incarnation: here.incarnation,
        generation: here.generation,
        phase: here.phase,
        message: String::new(),
        sandbox_id: None,
        addresses: Vec::new(),
        containers: Vec::new(),
        applied: None,
        open_order: None,
    }
}

impl FakeNode {
    /// The checks of the real one's admission that order, age and presence are about.
    fn admit(&mut self, order: &PodOrder) -> Result<(), Refusal> {
        let known = self.pods.get(&order.pod);
        let seen = self.seqs.get(&order.pod).copied().unwrap_or_default();
        if let Some(fence) = self.fences.get(&order.pod).filter(|fence| order.incarnation < **fence) {
            return Err(Refusal::StaleIncarnation { given: order.incarnation, known: *fence });
        }
        if order.seq <= seen {
            return Err(Refusal::StaleSeq { given: order.seq, seen });
        }
        match (&order.verb, known) {
            (PodVerb::Run { .. }, None) | (PodVerb::Release, None) => Ok(()),
            (PodVerb::Run { .. }, Some(here)) => Err(Refusal::IncarnationLives { living: here.incarnation }),
            (PodVerb::Release, Some(_)) => Err(Refusal::StillHere(order.pod.clone())),
            (_, Some(here)) if here.incarnation == order.incarnation => match &order.verb {
                PodVerb::Upgrade { .. } | PodVerb::Resize { .. } if order.generation <= here.generation => {
                    Err(Refusal::StaleGeneration { given: order.generation, known: here.generation })
                }
                PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => Ok(()),
                _ if order.generation == here.generation => Ok(()),
                _ => Err(Refusal::Invalid(format!("generation {} is unknown here", order.generation))),
            },
            (_, _) => Err(Refusal::NoSuchPod(order.pod.clone())),
        }
    }

    fn do_verb(&mut self, verb: &NodeVerb, fate: Ending) -> Ending {
        match (verb, &fate) {
            (NodeVerb::OfferDisks(offer), Ending::Done) => {
                if self.pods.contains_key(&offer.pod) {
                    return Ending::Refused((&Refusal::StillHere(offer.pod.clone())).into());
                }
                self.offers.insert(offer.pod.clone(), offer.clone());
            }
            (NodeVerb::WithdrawDisks { pod }, Ending::Done) => drop(self.offers.remove(pod)),
            (_, _) => {}
        }
        fate
    }

    fn take(&mut self, name: &NodeName, order: &PodOrder, ending: &Ending) {
        self.seqs.insert(order.pod.clone(), order.seq);
        self.fences.insert(order.pod.clone(), order.incarnation);
        let done = *ending == Ending::Done;
        if matches!(order.verb, PodVerb::Run { .. } | PodVerb::Release) {
            self.offers.remove(&order.pod);
        }
        let gives_up = match &order.verb {
            PodVerb::Release => true,
            PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
            _ => false,
        };
        if gives_up && done {
            self.data.retain(|(pod, _), _| *pod != order.pod);
        }
        if let (PodVerb::Run { spec, .. }, true) = (&order.verb, done) {
            for disk in &spec.disks {
                self.data.entry((order.pod.clone(), disk.name.clone())).or_default().push(name.to_string());
            }
        }
        match &order.verb {
            PodVerb::Run { .. } if done => {
                let (incarnation, generation) = (order.incarnation, order.generation);
                self.pods
                    .insert(order.pod.clone(), Here { incarnation, generation, phase: PodPhase::Running });
            }
            PodVerb::Evict { .. } if done => drop(self.pods.remove(&order.pod)),
            PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
                if let Some(here) = self.pods.get_mut(&order.pod) {
                    here.generation = order.generation;
                }
            }
            PodVerb::Run { .. }
            | PodVerb::Evict { .. }
            | PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Release => {}
        }
    }
}
