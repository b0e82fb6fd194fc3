//! What an order that was taken back half-way may have left on the pod is remembered until nothing of it is there.

#![allow(clippy::unwrap_used)]

mod fixtures;

use berth_model::{
    Bytes, DiskPolicy, Failure, Generation, Incarnation, Limits, Order, OrderId, PodOrder, PodSpec, PodVerb,
    Seq, SwapLimit, Target, Term,
};
use berth_plan::{
    Accepted, Admission, Change, Concluded, Controls, LedgerView, Liveness, Observed, PodRecord, SliceState,
    Step, admit, conclude, give_up,
};
use std::collections::BTreeMap;

/// A pod, and how many orders it has had.
struct Pod {
    record: Option<PodRecord>,
    orders: u64,
}

impl Pod {
    /// One that runs.
    fn new() -> Self {
        let mut pod = Self { record: None, orders: 0 };
        pod.accepts(PodVerb::Run { spec: Box::new(of("")), disk: berth_model::Disk::Fresh });
        pod.settles(Controls::InOrder);
        pod
    }

    /// Gives it an order; answers the code of a refusal.
    fn order(&mut self, verb: PodVerb) -> Option<&'static str> {
        self.orders += 1;
        let raises = u64::from(matches!(verb, PodVerb::Resize { .. } | PodVerb::Upgrade { .. }));
        let generation = self.record.as_ref().map_or(1, |record| record.generation.0 + raises);
        let order = Order {
            id: OrderId::new(format!("{:026}", self.orders)).unwrap(),
            term: Term(1),
            reason: String::new(),
            deadline_ms: 1_000,
            target: Target::Pod(PodOrder {
                pod: fixtures::pod(),
                incarnation: Incarnation(1),
                generation: Generation(generation),
                seq: Seq(self.orders),
                verb,
            }),
        };
        let pods: BTreeMap<_, _> =
            self.record.iter().map(|record| (record.pod.clone(), record.clone())).collect();
        let (pools, offers, fetches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let ledger = LedgerView {
            term: Term(1),
            pods: &pods,
            pools: &pools,
            offers: &offers,
            fetches: &fetches,
            known: None,
        };
        match admit(&ledger, &fixtures::host(), &order, 0) {
            Admission::Accept(Accepted { change: Change::Pod(record), .. }) => {
                self.record = Some(*record);
                None
            }
            Admission::Refuse(refusal) => Some(refusal.code()),
            answer => panic!("{answer:?}"),
        }
    }

    fn accepts(&mut self, verb: PodVerb) {
        assert_eq!(self.order(verb), None);
    }

    /// Nothing is left to do, and this is how the slice looks.
    fn settles(&mut self, controls: Controls) {
        let slice = SliceState::Present { controls, liveness: Liveness::Live };
        let observed = Observed { slice, ..Observed::default() };
        if let Some(Concluded { record, .. }) = conclude(self.record(), &observed, &Step::Settled) {
            self.record = Some(record);
        }
    }

    fn gives_up(&mut self) {
        let why = Failure::Effect { step: "write limits".to_owned(), why: "no room".to_owned() };
        self.record = Some(give_up(self.record(), &Observed::default(), why).unwrap().record);
    }

    fn record(&self) -> &PodRecord {
        self.record.as_ref().unwrap()
    }

    /// Which limits are ordered, and which may be there.
    fn check(&self, ordered: &[&str], former: &[&str]) {
        assert_eq!(names(&self.record().charter.as_ref().unwrap().spec.limits), ordered);
        assert_eq!(names(&self.record().former_limits().pod), former);
    }
}

fn names(limits: &Limits) -> Vec<&'static str> {
    let named = [
        ("pids", limits.pids_max.is_some()),
        ("memory", limits.memory.max.is_some()),
        ("swap", limits.swap_max.is_some()),
    ];
    named.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

fn of(limit: &str) -> PodSpec {
    let mut spec = fixtures::spec(DiskPolicy::Reuse, 0);
    match limit {
        "pids" => spec.limits.pids_max = Some(7),
        "memory" => spec.limits.memory.max = Some(Bytes(1 << 30)),
        "swap" => spec.limits.swap_max = Some(SwapLimit(Bytes(0))),
        _ => assert_eq!(limit, ""),
    }
    spec
}

fn resize(limit: &str) -> PodVerb {
    PodVerb::Resize { spec: Box::new(of(limit)) }
}

fn drifted() -> Controls {
    Controls::Drifted(vec!["pids.max".to_owned()])
}

#[test]
fn superseded() {
    let mut pod = Pod::new();
    pod.check(&[], &[]);
    pod.accepts(resize("pids"));
    pod.check(&["pids"], &[]);
    pod.accepts(resize("memory"));
    pod.check(&["memory"], &["pids"]);
    pod.accepts(PodVerb::Stop { grace_ms: 1 });
    pod.check(&[], &["pids", "memory"]);
    // The slice of a stopped pod stays, and what is on it.
    pod.settles(Controls::InOrder);
    pod.check(&[], &["pids", "memory"]);
    pod.accepts(PodVerb::Start);
    pod.settles(drifted());
    pod.check(&[], &["pids", "memory"]);
    pod.accepts(resize("swap"));
    pod.check(&["swap"], &["pids", "memory"]);
    pod.settles(Controls::InOrder);
    pod.check(&["swap"], &[]);
}

#[test]
fn taken_back() {
    let mut pod = Pod::new();
    pod.accepts(resize("pids"));
    pod.gives_up();
    pod.check(&[], &["pids"]);
    pod.settles(Controls::InOrder);
    pod.check(&[], &[]);
}

#[test]
fn given_up_while_it_was_taken_back() {
    let mut pod = Pod::new();
    pod.accepts(resize("pids"));
    pod.gives_up();
    pod.gives_up();
    assert_eq!(pod.record().open, None);
    pod.check(&[], &["pids"]);
    // The charter sees to it, without an order.
    pod.settles(drifted());
    pod.check(&[], &["pids"]);
    pod.settles(Controls::InOrder);
    pod.check(&[], &[]);
}
