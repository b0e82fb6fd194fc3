//! A node in memory, as unkind as the real one, for driving the plan through random lives.
//!
//! The world keeps its own books: what was ordered, what may be ended and which disks are precious. It judges every
//! effect by these, not by what the plan says of itself.

#![allow(clippy::unwrap_used)]

#[path = "../fixtures/mod.rs"]
mod fixtures;

use berth_model::{
    Attempt, ContainerName, ContainerSpec, Digest, Disk, DiskName, DiskPolicy, EnvVar, EvictDisposition,
    Generation, ImageName, Incarnation, Order, OrderId, Outcome, PodOrder, PodSpec, PodVerb, RecoveryPolicy,
    RestartPolicy, RunState, Seq, Target, Term,
};
use berth_plan::{
    Admission, Change, Controls, Cover, DiskState, Effect, ImageState, Known, LedgerView, Liveness, Observed,
    ObservedContainer, ObservedSandbox, PodRecord, Shutdown, SliceState, Step, TaskState, admit, after,
    before, booted, check, conclude,
};
use fixtures::{host, pod, spec};
use std::collections::{BTreeMap, BTreeSet};

/// One event of a life.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An order of this verb (as [`verbs`] numbers them), valid, or spoiled in some way.
    Order { verb: u8, spoiled: Spoiled },
    /// The last accepted order comes again.
    Redeliver,
    /// Time passes, milliseconds.
    Pass(u32),
    /// A container ends by itself.
    Die { which: u8, code: i32 },
    /// The host reboots, or its power fails.
    Reboot,
    /// The host is shut down in order: so many steps are left to the daemon, then it reboots.
    Shutdown(u8),
    /// A CPU goes, or comes back.
    Obstacle(bool),
    /// The sandbox's own process ends.
    PauseEnds,
    /// So many looks cannot tell whether anything lives.
    Blind(u8),
    /// The runtime drops the record of a dead container.
    Vanish(u8),
    /// The next effect fails before, or after, it has happened.
    Fail { after: bool },
    /// The daemon crashes around the next effect: before it, after it, or after what comes after is written.
    Crash(u8),
    /// Something overwrites a control.
    Drift,
    /// The daemon works so many steps.
    Work(u8),
}

/// How an order is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    Not,
    OldTerm,
    OldIncarnation,
    OldSeq,
}

/// An environment that a container ends with at once.
const BROKEN: &str = "broken";
/// A limit that the kernel takes and does not keep.
const REFUSED_LIMIT: u64 = 1 << 60;
/// The data disk that ends when the pod leaves.
const SCRATCH: &str = "tmp";
/// What something else has written.
const DRIFTED: u64 = u64::MAX;

/// What next_step is, so that broken ones can be tried.
pub(crate) type Next = fn(&PodRecord, &Observed) -> Step;

#[derive(Debug, Clone)]
struct Container {
    name: ContainerName,
    incarnation: Incarnation,
    attempt: Attempt,
    sandbox: String,
    state: TaskState,
    live: bool,
    ended_at_ms: u64,
    disk: Option<String>,
    in_order: bool,
    amended: bool,
    generation: Generation,
    /// By what it was made.
    made_by: ContainerSpec,
    started_at_ms: u64,
}

#[derive(Debug, Clone)]
struct Sandbox {
    incarnation: Incarnation,
    attempt: Attempt,
    ready: bool,
    live: bool,
}

/// A data disk that is on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    /// A device is not, after a reboot.
    mounted: bool,
    /// Something was started that writes to it.
    written: bool,
}

/// The node, its ledger, and the judge's books.
pub(crate) struct World {
    next: Next,
    checked: bool,
    record: Option<PodRecord>,
    term: Term,
    orders: BTreeMap<OrderId, (Order, Option<Outcome>)>,
    last: Option<Order>,
    serial: u64,
    incarnation: u64,
    seq: u64,
    now_ms: u64,
    containers: BTreeMap<String, Container>,
    sandboxes: BTreeMap<String, Sandbox>,
    snapshots: BTreeSet<String>,
    data: BTreeMap<DiskName, Data>,
    /// The one limit that the slice has.
    slice: Option<u64>,
    images: BTreeMap<ContainerName, ImageName>,
    blind: u8,
    /// What was rewritten since the world last changed otherwise.
    rewritten: BTreeSet<String>,
    fail: Option<bool>,
    crash: Option<u8>,
    /// Disks that a started container has written to, and that nobody has given up.
    precious: BTreeSet<String>,
    policy: DiskPolicy,
    seed: u8,
    shutdown: bool,
    obstacle: bool,
    books: Books,
}

/// What the judge remembers of its own accord.
#[derive(Default)]
struct Books {
    /// The spec that the last order which got there has said.
    committed: Option<PodSpec>,
    /// Disks that became precious under an Upgrade that is open: they go if it does not get there.
    provisional: BTreeSet<String>,
    /// When the last Restart was accepted.
    restarted_at_ms: u64,
    /// Containers that ended by themselves since they were started, and by what these were made.
    ended: BTreeMap<ContainerName, ContainerSpec>,
    /// Since a reboot nothing may start without an order.
    held: bool,
}

type Judged = Result<(), String>;

impl World {
    pub(crate) fn new(next: Next, checked: bool, seed: u8) -> Self {
        let policy = if seed.is_multiple_of(3) { DiskPolicy::Rebuild } else { DiskPolicy::Reuse };
        Self {
            next,
            checked,
            record: None,
            term: Term(5),
            orders: BTreeMap::new(),
            last: None,
            serial: 0,
            incarnation: 0,
            seq: 0,
            now_ms: 1_000_000,
            containers: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            data: BTreeMap::new(),
            slice: None,
            images: BTreeMap::new(),
            blind: 0,
            rewritten: BTreeSet::new(),
            fail: None,
            crash: None,
            precious: BTreeSet::new(),
            policy,
            seed,
            shutdown: false,
            obstacle: false,
            books: Books::default(),
        }
    }

    /// Does one event.
    pub(crate) fn apply(&mut self, op: &Op) -> Judged {
        match op {
            Op::Order { verb, spoiled } => self.order(*verb, *spoiled),
            Op::Redeliver => self.redeliver(),
            Op::Pass(ms) => {
                self.now_ms += u64::from(*ms);
                Ok(())
            }
            Op::Die { which, code } => {
                let live: Vec<_> =
                    self.containers.iter().filter(|(_, c)| c.live).map(|(id, _)| id.clone()).collect();
                if let Some(id) = live.get(usize::from(*which) % live.len().max(1)) {
                    let ended = self.containers.get(id).map(|c| (c.name.clone(), c.made_by.clone()));
                    self.books.ended.extend(ended);
                    self.end(id, *code);
                }
                Ok(())
            }
            Op::Reboot => {
                self.reboot();
                Ok(())
            }
            Op::Shutdown(steps) => {
                self.shutdown = true;
                (0..*steps).try_for_each(|_| self.step().map(drop))?;
                self.reboot();
                Ok(())
            }
            Op::Obstacle(is_there) => {
                self.obstacle = *is_there;
                Ok(())
            }
            Op::PauseEnds => {
                self.pause_ends();
                Ok(())
            }
            Op::Blind(looks) => {
                self.blind = *looks;
                Ok(())
            }
            Op::Vanish(which) => {
                let dead: Vec<_> =
                    self.containers.iter().filter(|(_, c)| !c.live).map(|(id, _)| id.clone()).collect();
                if let Some(id) = dead.get(usize::from(*which) % dead.len().max(1)) {
                    // The record goes; what it named stays, as containerd keeps it until its collector finds it loose.
                    self.containers.remove(id);
                }
                Ok(())
            }
            Op::Fail { after } => {
                self.fail = Some(*after);
                Ok(())
            }
            Op::Crash(point) => {
                self.crash = Some(*point);
                Ok(())
            }
            Op::Drift => {
                self.slice = self.slice.map(|_| DRIFTED);
                self.containers.values_mut().filter(|c| c.live).for_each(|c| c.in_order = false);
                Ok(())
            }
            Op::Work(steps) => (0..*steps).try_for_each(|_| self.step().map(drop)),
        }
    }

    /// Nothing more happens: the pod must come to rest, and be as its charter says.
    pub(crate) fn settle(&mut self) -> Judged {
        (self.blind, self.fail, self.crash, self.obstacle) = (0, None, None, false);
        for _ in 0..400 {
            let had_order = self.record.as_ref().is_some_and(|record| record.open.is_some());
            match self.step()? {
                Some(Step::Settled) if !had_order => return self.judge_rest(),
                Some(Step::Wait(wait)) => match wait.until_ms {
                    Some(until) => self.now_ms = until.max(self.now_ms + 1),
                    // Its sandbox has ended around something that lives: only upstream may end that.
                    None if self.is_stranded() || self.books.held => return Ok(()),
                    None => return Err(format!("waits for ever: {}", wait.why)),
                },
                Some(_) | None => {}
            }
        }
        Err("does not settle in 400 steps".to_owned())
    }

    fn is_stranded(&self) -> bool {
        let ordered = self.record.as_ref().is_some_and(|record| self.may_end(record));
        !ordered && self.containers.values().any(|c| c.live) && self.sandboxes.values().all(|s| !s.ready)
    }

    fn judge_rest(&self) -> Judged {
        let Some(record) = &self.record else { return Ok(()) };
        let live = |name: &ContainerName| self.containers.values().any(|c| c.live && c.name == *name);
        match &record.charter {
            None if self.has_scratch() => Err("scratch is left of a pod that is gone".to_owned()),
            None if self.containers.is_empty() && self.sandboxes.is_empty() && self.slice.is_none() => Ok(()),
            None => Err("something is left of a pod that is gone".to_owned()),
            Some(charter) if charter.leaving.is_some() => Err("at rest while leaving".to_owned()),
            Some(charter) if Some(&charter.spec) != self.books.committed.as_ref() => {
                Err("the charter is not what the last order that got there said".to_owned())
            }
            Some(charter) => charter.spec.containers.iter().try_for_each(|spec| {
                let made_otherwise =
                    |c: &Container| c.live && c.name == spec.name && !same_making(&c.made_by, spec);
                if self.containers.values().any(made_otherwise) {
                    return Err(format!("container {} is not as its charter says", spec.name));
                }
                let must_run = charter.spec.restart == RestartPolicy::Always
                    || !self.books.ended.contains_key(&spec.name);
                match (charter.run_state, live(&spec.name)) {
                    (RunState::Stopped, true) => Err("a stopped pod lives".to_owned()),
                    (RunState::Running, false) if must_run => {
                        Err("a pod that should run does not".to_owned())
                    }
                    _ => Ok(()),
                }
            }),
        }
    }

    fn has_scratch(&self) -> bool {
        self.data.keys().any(|name| name.as_str() == SCRATCH)
    }

    fn reboot(&mut self) {
        let device = |name: &DiskName| name.as_str() == "raw";
        self.data.iter_mut().filter(|(name, _)| device(name)).for_each(|(_, data)| data.mounted = false);
        let memory = |name: &DiskName| name.as_str() == SCRATCH;
        let empty = Data { mounted: false, written: false };
        self.data.iter_mut().filter(|(name, _)| memory(name)).for_each(|(_, data)| *data = empty);
        self.pause_ends();
        let now_ms = self.now_ms;
        self.containers.values_mut().filter(|c| c.live).for_each(|c| {
            (c.live, c.ended_at_ms) = (false, now_ms);
            c.state = TaskState::Interrupted { ago_ms: 0 };
        });
        self.slice = None;
        (self.fail, self.crash, self.shutdown) = (None, None, false);
        if let Some(record) = &mut self.record {
            let confirmed = record.charter.as_ref().is_some_and(|charter| {
                charter.spec.recovery == RecoveryPolicy::Confirmed
                    && charter.run_state == RunState::Running
                    && charter.leaving.is_none()
            });
            self.books.held |= confirmed && record.open.as_ref().is_none_or(|open| open.failure.is_some());
            *record = booted(record);
        }
    }

    fn end(&mut self, id: &str, code: i32) {
        let now_ms = self.now_ms;
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.live {
            container.live = false;
            container.state = TaskState::Exited { code, ago_ms: 0 };
            container.ended_at_ms = now_ms;
        }
    }

    fn pause_ends(&mut self) {
        self.sandboxes.values_mut().for_each(|sandbox| {
            sandbox.ready = false;
            sandbox.live = false;
        });
    }

    fn order(&mut self, verb: u8, spoiled: Spoiled) -> Judged {
        let known = self.record.clone();
        let runs = matches!(verb, 0 | 6);
        let incarnation = match (&known, runs) {
            (Some(record), false) => record.incarnation.0,
            _ => {
                self.incarnation += 1;
                self.incarnation
            }
        };
        self.seq += 1;
        self.serial += 1;
        let (verb, generation) = self.verb(verb, known.as_ref());
        let (old_term, old_incarnation, old_seq) =
            (spoiled == Spoiled::OldTerm, spoiled == Spoiled::OldIncarnation, spoiled == Spoiled::OldSeq);
        let order = Order {
            id: OrderId::new(format!("{:026}", self.serial)).unwrap(),
            term: if old_term { Term(4) } else { self.term },
            reason: String::new(),
            deadline_ms: 60_000,
            target: Target::Pod(PodOrder {
                pod: pod(),
                incarnation: Incarnation(if old_incarnation {
                    incarnation.saturating_sub(1)
                } else {
                    incarnation
                }),
                generation,
                seq: Seq(if old_seq { self.seq.saturating_sub(2) } else { self.seq }),
                verb,
            }),
        };
        let before = self.record.clone();
        let accepted = self.give(&order)?;
        if accepted {
            self.note_accepted(&order);
        }
        match (accepted, spoiled, &before) {
            (true, Spoiled::OldTerm, _) => Err("an order of an old term was accepted".to_owned()),
            (true, Spoiled::OldIncarnation, Some(known)) if incarnation <= known.incarnation.0 => {
                Err("an order of an old incarnation was accepted".to_owned())
            }
            (true, Spoiled::OldSeq, Some(known)) if self.seq.saturating_sub(2) <= known.seq.0 => {
                Err("an order of an old seq was accepted".to_owned())
            }
            (false, _, _) if self.record != before => Err("a refused order changed something".to_owned()),
            _ => Ok(()),
        }
    }

    /// Verbs by number: 0 Run, 1 Stop, 2 Start, 3 Evict and keep, 4 Evict and release, 5 Release, 6 Run with kept disks,
    /// 7 Restart, 8 Restart and rebuild, 9 Upgrade to another image, 10 to another environment, 11 to one that ends at
    /// once, 12 Resize, 13 Resize to what the kernel does not keep.
    fn verb(&self, number: u8, known: Option<&PodRecord>) -> (PodVerb, Generation) {
        let kept = known.and_then(|record| record.kept.first()).map(|kept| kept.incarnation);
        let generation = known.map_or(Generation(1), |record| record.generation);
        let charter = known.and_then(|record| record.charter.as_ref());
        let fresh = || spec(self.policy, self.seed);
        let mut now = charter.map_or_else(fresh, |charter| charter.spec.clone());
        let serial = self.serial;
        let upgrade = |spec: PodSpec| PodVerb::Upgrade { spec: Box::new(spec), settle_ms: 5 };
        let verb = match number {
            0 => PodVerb::Run { spec: Box::new(fresh()), disk: Disk::Fresh },
            1 => PodVerb::Stop { grace_ms: 10 },
            2 => PodVerb::Start,
            3 => PodVerb::Evict { grace_ms: 10, disposition: EvictDisposition::Keep },
            4 => PodVerb::Evict { grace_ms: 10, disposition: EvictDisposition::Release },
            5 => PodVerb::Release,
            6 => PodVerb::Run {
                spec: Box::new(fresh()),
                disk: Disk::Kept { incarnation: kept.unwrap_or(Incarnation(0)) },
            },
            7 => PodVerb::Restart { disk: DiskPolicy::Reuse, grace_ms: 10 },
            8 => PodVerb::Restart { disk: DiskPolicy::Rebuild, grace_ms: 10 },
            9 => {
                now.containers[0].image = format!("registry.example/web:{serial}").parse().unwrap();
                upgrade(now)
            }
            10 | 11 => {
                let value = if number == 10 { serial.to_string() } else { BROKEN.to_owned() };
                let all = if serial.is_multiple_of(2) { 1 } else { now.containers.len() };
                now.containers[..all].iter_mut().for_each(|container| {
                    container.env = vec![EnvVar { name: "VERSION".to_owned(), value: value.clone() }];
                });
                upgrade(now)
            }
            12 | 13 => {
                now.limits.pids_max = Some(if number == 12 { serial } else { REFUSED_LIMIT });
                PodVerb::Resize { spec: Box::new(now) }
            }
            _ => unreachable!("there is no such verb"),
        };
        let raises = matches!(verb, PodVerb::Upgrade { .. } | PodVerb::Resize { .. });
        (verb, if raises { Generation(generation.0 + 1) } else { generation })
    }

    /// The judge's books, when an order was accepted.
    fn note_accepted(&mut self, order: &Order) {
        // Whatever was under way did not get there: what it made is nobody's.
        for key in std::mem::take(&mut self.books.provisional) {
            self.precious.remove(&key);
        }
        let Target::Pod(target) = &order.target else { return };
        match &target.verb {
            PodVerb::Run { spec, .. } => {
                self.books.committed = Some(*spec.clone());
                self.books.ended.clear();
                self.books.held = false;
            }
            PodVerb::Start => {
                self.books.ended.clear();
                self.books.held = false;
            }
            PodVerb::Restart { disk, .. } => {
                self.books.ended.clear();
                self.books.held = false;
                self.books.restarted_at_ms = self.now_ms;
                if *disk == DiskPolicy::Rebuild {
                    let kept: BTreeSet<_> = self.kept_keys();
                    self.precious.retain(|key| kept.contains(key));
                }
            }
            PodVerb::Upgrade { spec, .. } => {
                self.books.ended.retain(|name, made_by| {
                    spec.container(name).is_some_and(|ordered| same_making(made_by, ordered))
                });
            }
            PodVerb::Evict { .. } | PodVerb::Stop { .. } => self.books.held = false,
            PodVerb::Resize { .. } | PodVerb::Release => {}
        }
    }

    fn kept_keys(&self) -> BTreeSet<String> {
        self.record.iter().flat_map(|record| &record.kept).map(|kept| kept.key.clone()).collect()
    }

    /// The judge's books, when an order has ended; `before` is the record until then.
    fn note_ended(&mut self, before: &PodRecord, outcome: &Outcome) -> Judged {
        let Some(open) = &before.open else { return Ok(()) };
        let done = *outcome == Outcome::Done;
        let live = || self.containers.values().filter(|c| c.live);
        match &open.verb {
            PodVerb::Release | PodVerb::Evict { disposition: EvictDisposition::Release, .. }
                if done && !self.data.is_empty() =>
            {
                return Err("a release was called done, and a data disk is left".to_owned());
            }
            PodVerb::Evict { .. } if done && self.has_scratch() => {
                return Err("an eviction was called done, and scratch is left".to_owned());
            }
            PodVerb::Upgrade { spec, .. } if done => {
                if spec.containers.iter().any(is_broken) {
                    return Err("a broken upgrade was called done".to_owned());
                }
                self.books.committed = Some(*spec.clone());
                self.books.provisional.clear();
                let named = |key: &String| before.containers.values().any(|c| c.disk.as_ref() == Some(key));
                let kept = self.kept_keys();
                self.precious.retain(|key| named(key) || kept.contains(key));
            }
            PodVerb::Resize { spec } if done => {
                if spec.limits.pids_max == Some(REFUSED_LIMIT) && live().next().is_some() {
                    return Err("a resize was called done that the kernel did not keep".to_owned());
                }
                self.books.committed = Some(*spec.clone());
            }
            PodVerb::Restart { .. }
                if done && live().any(|c| c.started_at_ms <= self.books.restarted_at_ms) =>
            {
                return Err("a restart was called done around a container that it left as it was".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn redeliver(&mut self) -> Judged {
        let Some(order) = self.last.clone() else { return Ok(()) };
        let before = self.record.clone();
        match self.give(&order)? {
            true => Err("the same order was accepted twice".to_owned()),
            false if self.record != before => Err("the same order again changed something".to_owned()),
            false => Ok(()),
        }
    }

    /// Gives an order to admission; whether it was accepted.
    fn give(&mut self, order: &Order) -> Result<bool, String> {
        let pods: BTreeMap<_, _> =
            self.record.iter().map(|record| (record.pod.clone(), record.clone())).collect();
        let known = self.orders.get(&order.id);
        let view = LedgerView {
            term: self.term,
            pods: &pods,
            pools: &BTreeMap::new(),
            offers: &BTreeMap::new(),
            fetches: &BTreeMap::new(),
            known: known.map(|(order, outcome)| Known { order, outcome: outcome.as_ref() }),
        };
        match admit(&view, &host(), order, self.now_ms) {
            Admission::Accept(accepted) => {
                let Change::Pod(record) = accepted.change else {
                    return Err("a pod's order changed no pod".to_owned());
                };
                self.record = Some(*record);
                self.orders.insert(order.id.clone(), (order.clone(), None));
                self.last = Some(order.clone());
                if let Some((_, outcome)) = accepted.superseded.and_then(|id| self.orders.get_mut(&id)) {
                    let by = order.id.clone();
                    *outcome = Some(Outcome::Failed(berth_model::Failure::Superseded { by }));
                }
                Ok(true)
            }
            Admission::Already(_) | Admission::Refuse(_) => Ok(false),
        }
    }

    fn observe(&mut self) -> Observed {
        let blind = self.blind > 0;
        self.blind = self.blind.saturating_sub(1);
        let liveness = |live: bool| match (live, blind) {
            (true, true) => Liveness::Unknown,
            (true, false) => Liveness::Live,
            (false, _) => Liveness::Dead,
        };
        let controls = |in_order: bool| match in_order {
            true => Controls::InOrder,
            false => Controls::Drifted(vec!["cpu.max".to_owned()]),
        };
        let containers = self.containers.iter().map(|(id, c)| ObservedContainer {
            id: id.clone(),
            name: c.name.clone(),
            incarnation: c.incarnation,
            generation: c.generation,
            attempt: c.attempt,
            sandbox_id: c.sandbox.clone(),
            running_ms: c.live.then(|| self.now_ms - c.started_at_ms),
            state: match &c.state {
                TaskState::Interrupted { .. } => {
                    TaskState::Interrupted { ago_ms: self.now_ms - c.ended_at_ms }
                }
                TaskState::Exited { code, .. } => {
                    TaskState::Exited { code: *code, ago_ms: self.now_ms - c.ended_at_ms }
                }
                state => state.clone(),
            },
            liveness: liveness(c.live),
            disk_key: c.disk.clone(),
            amended: c.amended,
            controls: if c.live { controls(c.in_order) } else { Controls::Absent },
        });
        let sandboxes = self.sandboxes.iter().map(|(id, s)| ObservedSandbox {
            id: id.clone(),
            incarnation: s.incarnation,
            attempt: s.attempt,
            ready: s.ready,
            liveness: liveness(s.live),
        });
        let live = self.containers.values().any(|c| c.live);
        Observed {
            containers: containers.collect(),
            sandboxes: sandboxes.collect(),
            images: self
                .images
                .iter()
                .map(|(name, image)| (name.clone(), ImageState::Present { digest: digest(image) }))
                .collect(),
            disks: self.data_states(),
            slice: match self.slice {
                None => SliceState::Absent,
                Some(limit) => {
                    let in_order = limit == self.ordered_limit();
                    SliceState::Present { controls: controls(in_order), liveness: liveness(live) }
                }
            },
            rewritten: self.rewritten.clone(),
            obstacle: self.obstacle.then(|| "CPUs 3 are offline".to_owned()),
            shutdown: self.shutdown.then_some(Shutdown { left_ms: 100 }),
            now_ms: self.now_ms,
        }
    }

    fn data_states(&self) -> BTreeMap<DiskName, DiskState> {
        let charter = self.record.as_ref().and_then(|record| record.charter.as_ref());
        let ordered = charter.iter().flat_map(|charter| &charter.spec.disks).map(|disk| &disk.name);
        let state = |name: &DiskName| match self.data.get(name) {
            None => DiskState::Absent,
            Some(Data { mounted: true, .. }) => DiskState::Present,
            Some(Data { mounted: false, .. }) => DiskState::Wrong { why: "not mounted".to_owned() },
        };
        ordered.chain(self.data.keys()).map(|name| (name.clone(), state(name))).collect()
    }

    fn ensure_data(&mut self, record: &PodRecord) {
        let charter = record.charter.as_ref();
        for disk in charter.iter().flat_map(|charter| &charter.spec.disks) {
            let known = self.data.entry(disk.name.clone()).or_insert(Data { mounted: true, written: false });
            known.mounted = true;
        }
    }

    /// Data disks go by Release, or by an Evict that releases, and by nothing else.
    fn lose_data(&mut self, record: &PodRecord, name: &DiskName) -> Judged {
        if let Some((id, _)) = self.containers.iter().find(|(_, c)| c.live) {
            return Err(format!("data disk {name} was released under live container {id}"));
        }
        let given_up = record.open.as_ref().is_some_and(|open| match &open.verb {
            PodVerb::Release => true,
            PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
            PodVerb::Run { .. }
            | PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. } => false,
        });
        match self.data.remove(name) {
            Some(Data { written: true, .. }) if !given_up => Err(format!("data disk {name} was lost")),
            Some(_) | None => Ok(()),
        }
    }

    /// Scratch goes when the pod leaves, and nothing else goes with it.
    fn lose_scratch(&mut self, record: &PodRecord, name: &DiskName) -> Judged {
        if let Some((id, _)) = self.containers.iter().find(|(_, c)| c.live) {
            return Err(format!("scratch {name} was released under live container {id}"));
        }
        let leaves = record.charter.as_ref().is_some_and(|charter| charter.leaving.is_some());
        match self.data.remove(name) {
            Some(_) if name.as_str() != SCRATCH => Err(format!("data disk {name} was lost as scratch")),
            Some(_) if !leaves => Err(format!("scratch {name} was lost, and its pod stays")),
            Some(_) | None => Ok(()),
        }
    }

    /// One turn of the daemon's loop; the step that it took.
    pub(crate) fn step(&mut self) -> Result<Option<Step>, String> {
        let Some(record) = self.record.clone() else { return Ok(Some(Step::Settled)) };
        self.now_ms += 1;
        let observed = self.observe();
        let step = (self.next)(&record, &observed);
        if self.checked
            && let Err(violation) = check(&record, &observed, &step)
        {
            return Err(format!("the checker refuses {step:?}: {violation}"));
        }
        if let Some(concluded) = conclude(&record, &step) {
            if concluded.record.open.as_ref().is_some_and(|open| open.failure.is_some()) {
                for key in std::mem::take(&mut self.books.provisional) {
                    self.precious.remove(&key);
                }
            }
            if let Some((id, outcome)) = concluded.ended {
                self.note_ended(&record, &outcome)?;
                let entry = self.orders.get_mut(&id).ok_or("an unknown order ended")?;
                if entry.1.is_some() {
                    return Err(format!("order {id} ended twice"));
                }
                entry.1 = Some(outcome);
            }
            self.record = Some(concluded.record);
            return Ok(Some(step));
        }
        if let Some(next) = before(&record, &observed, &step) {
            self.record = Some(next);
        }
        let crash = self.crash.take();
        if crash == Some(0) {
            return Ok(None);
        }
        match (is_effect(&step), self.fail) {
            (true, Some(false)) => {
                self.fail = None;
                return Ok(None);
            }
            (true, Some(true)) => {
                self.fail = None;
                self.perform(&record, &step)?;
                return Ok(None);
            }
            _ => self.perform(&record, &step)?,
        }
        if crash == Some(1) {
            return Ok(None);
        }
        match &step {
            Step::UpdateResources { id, .. } => drop(self.rewritten.insert(id.clone())),
            _ => self.rewritten.clear(),
        }
        let effect = match &step {
            Step::EnsureImage { image, .. } => Effect::Resolved(digest(image)),
            _ => Effect::Happened,
        };
        let current = self.record.clone().unwrap_or(record);
        if let Some(next) = after(&current, &observed, &step, &effect) {
            self.record = Some(next);
        }
        Ok(Some(step))
    }

    /// Whether the pod's open order permits ending whatever lives: the judge's own reading of the verbs.
    fn may_end(&self, record: &PodRecord) -> bool {
        record.open.as_ref().is_some_and(|open| match open.verb {
            PodVerb::Stop { .. } | PodVerb::Evict { .. } => true,
            PodVerb::Run { .. } => open.failure.is_some(),
            PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. }
            | PodVerb::Release => false,
        })
    }

    /// Whether the open order is to replace this very container.
    fn may_replace(&self, record: &PodRecord, container: &Container) -> bool {
        let (Some(open), Some(charter)) = (&record.open, &record.charter) else { return false };
        match open.verb {
            PodVerb::Restart { .. } => container.started_at_ms <= self.books.restarted_at_ms,
            PodVerb::Upgrade { .. } => charter
                .spec
                .container(&container.name)
                .is_some_and(|spec| !same_making(&container.made_by, spec)),
            _ => false,
        }
    }

    fn judge_end(&self, record: &PodRecord, id: &str, what: &str) -> Judged {
        let live = self.containers.get(id).filter(|container| container.live);
        match live {
            Some(container) if !self.may_end(record) && !self.may_replace(record, container) => {
                Err(format!("{what} ended live container {id} without an order"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn ordered_limit(&self) -> u64 {
        let charter = self.record.as_ref().and_then(|record| record.charter.as_ref());
        charter.and_then(|charter| charter.spec.limits.pids_max).unwrap_or_default()
    }

    fn write_slice(&mut self) {
        let limit = self.ordered_limit();
        self.slice = Some(if limit == REFUSED_LIMIT { DRIFTED } else { limit });
    }

    /// A container's record goes, and with it whatever disk it names at this moment.
    fn remove(&mut self, record: &PodRecord, id: &str) -> Judged {
        self.judge_end(record, id, "removal")?;
        let Some(container) = self.containers.remove(id) else { return Ok(()) };
        container.disk.map_or(Ok(()), |key| self.lose(record, &key))
    }

    fn lose(&mut self, record: &PodRecord, key: &str) -> Judged {
        self.snapshots.remove(key);
        let given_up = record.open.as_ref().is_some_and(|open| match &open.verb {
            PodVerb::Release => true,
            PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
            // Undoing a Run gives up what that Run has made, and nothing older.
            PodVerb::Run { .. } => open.failure.is_some() && record.kept.iter().all(|kept| kept.key != key),
            PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. } => false,
        });
        match self.precious.remove(key) && !given_up {
            true => Err(format!("disk {key} was lost")),
            false => Ok(()),
        }
    }

    fn perform(&mut self, record: &PodRecord, step: &Step) -> Judged {
        match step {
            Step::EnsureImage { container, image, .. } => {
                self.images.insert(container.clone(), image.clone());
            }
            Step::EnsureDisks => self.ensure_data(record),
            Step::EnsureSlice | Step::UpdateResources { container: None, .. } => self.write_slice(),
            Step::AwaitReady { .. } => {}
            Step::UpdateResources { id, .. } => {
                self.containers.get_mut(id).map(|c| c.in_order = true).ok_or("resources of nothing")?;
            }
            Step::RunSandbox { attempt } => self.run_sandbox(record, *attempt)?,
            Step::CreateContainer { sandbox_id, container, attempt } => {
                self.create(record, sandbox_id, container, *attempt)?;
            }
            Step::AdoptSystemDisk { from_id, to_id, key, .. } => {
                self.adopt(from_id.as_deref(), to_id, key)?;
            }
            Step::DetachSystemDisk { from_id, .. } => {
                self.containers.get_mut(from_id).ok_or("detached from nothing")?.disk = None;
            }
            Step::AmendSpec { id, .. } => {
                self.containers.get_mut(id).ok_or("amended nothing")?.amended = true;
            }
            Step::StartContainer { id, .. } => self.start(record, id)?,
            Step::StopContainer { id, cover: Cover::HostShutdown, .. } => {
                if !self.shutdown {
                    return Err(format!("container {id} was stopped for a shutdown that nobody announced"));
                }
                self.end(id, 0);
            }
            Step::StopContainer { id, cover, .. } => {
                self.judge_cover(record, cover)?;
                self.judge_end(record, id, "StopContainer")?;
                self.end(id, 143);
            }
            Step::RemoveContainer { id, cover } => {
                self.judge_cover(record, cover)?;
                self.remove(record, id)?;
            }
            Step::StopSandbox { id, cover } => {
                self.judge_cover(record, cover)?;
                let inside: Vec<_> = self.inside(id);
                for id in inside {
                    self.judge_end(record, &id, "StopSandbox")?;
                    self.end(&id, 137);
                }
                if let Some(sandbox) = self.sandboxes.get_mut(id) {
                    (sandbox.ready, sandbox.live) = (false, false);
                }
            }
            Step::RemoveSandbox { id, cover } => {
                self.judge_cover(record, cover)?;
                for id in self.inside(id) {
                    self.remove(record, &id)?;
                }
                self.sandboxes.remove(id);
            }
            Step::RemoveSlice { cover } => {
                self.judge_cover(record, cover)?;
                let all: Vec<_> = self.containers.keys().cloned().collect();
                all.iter().try_for_each(|id| self.judge_end(record, id, "RemoveSlice"))?;
                self.slice = None;
            }
            Step::ReleaseDisks { keys, data, .. } => {
                keys.iter().try_for_each(|key| self.lose(record, key))?;
                data.iter().try_for_each(|name| self.lose_data(record, name))?;
            }
            Step::ReleaseScratch { disks, .. } => {
                disks.iter().try_for_each(|name| self.lose_scratch(record, name))?;
            }
            Step::EndGrant { .. } | Step::Settled | Step::Wait(_) | Step::Refuse { .. } => {}
        }
        Ok(())
    }

    fn inside(&self, sandbox: &str) -> Vec<String> {
        self.containers.iter().filter(|(_, c)| c.sandbox == sandbox).map(|(id, _)| id.clone()).collect()
    }

    fn judge_cover(&self, record: &PodRecord, cover: &Cover) -> Judged {
        match cover {
            Cover::Order(id) if record.open.as_ref().is_none_or(|open| open.id != *id) => {
                Err(format!("order {id} is not open, and was named as cover"))
            }
            Cover::Order(_) | Cover::Charter => Ok(()),
            Cover::HostShutdown => Err("a shutdown was named as cover for removing something".to_owned()),
        }
    }

    fn run_sandbox(&mut self, record: &PodRecord, attempt: Attempt) -> Judged {
        if self.sandboxes.values().any(|s| s.live) {
            return Err("two sandboxes of one pod live, with one address".to_owned());
        }
        let id = format!("s{}-{attempt}", record.incarnation);
        let sandbox = Sandbox { incarnation: record.incarnation, attempt, ready: true, live: true };
        match self.sandboxes.insert(id, sandbox) {
            Some(_) => Err("a sandbox's name was used twice".to_owned()),
            None => Ok(()),
        }
    }

    fn create(
        &mut self,
        record: &PodRecord,
        sandbox: &str,
        name: &ContainerName,
        attempt: Attempt,
    ) -> Judged {
        if self.obstacle {
            return Err("a container was made that the host cannot honour".to_owned());
        }
        let charter = record.charter.as_ref().ok_or("a container was made without a charter")?;
        let made_by = charter.spec.container(name).ok_or("a container was made that nobody ordered")?.clone();
        if !self.sandboxes.get(sandbox).is_some_and(|s| s.ready) {
            return Err("a container was made in a sandbox that is not ready".to_owned());
        }
        let id = format!("c{}-{name}-{attempt}", record.incarnation);
        let disk = format!("disk-{id}");
        self.snapshots.insert(disk.clone());
        let container = Container {
            name: name.clone(),
            incarnation: record.incarnation,
            attempt,
            sandbox: sandbox.to_owned(),
            state: TaskState::Created,
            live: false,
            ended_at_ms: 0,
            disk: Some(disk),
            in_order: true,
            amended: false,
            generation: record.containers.get(name).map_or(Generation(0), |known| known.generation),
            made_by,
            started_at_ms: 0,
        };
        match self.containers.insert(id, container) {
            Some(_) => Err("a container's name was used twice".to_owned()),
            None => Ok(()),
        }
    }

    fn adopt(&mut self, from: Option<&str>, to: &str, key: &str) -> Judged {
        let fresh = self.containers.get(to).ok_or("adopted by nothing")?.disk.clone();
        if let Some(from) = from {
            let holder = self.containers.get_mut(from).ok_or("adopted from nothing")?;
            if holder.live {
                return Err(format!("the disk of live container {from} was taken"));
            }
            holder.disk = fresh;
        }
        let named = self.containers.iter().any(|(id, c)| id != to && c.disk.as_deref() == Some(key));
        let heir = self.containers.get_mut(to).ok_or("adopted by nothing")?;
        heir.disk = Some(key.to_owned());
        if named { Err(format!("two containers name disk {key}")) } else { Ok(()) }
    }

    fn start(&mut self, record: &PodRecord, id: &str) -> Judged {
        let meant = record
            .charter
            .as_ref()
            .is_some_and(|charter| charter.leaving.is_none() && charter.run_state == RunState::Running);
        if !meant {
            return Err(format!("container {id} was started, and its pod is not meant to run"));
        }
        let container = self.containers.get(id).ok_or("nothing was started")?.clone();
        if container.state != TaskState::Created {
            return Err(format!("container {id} was started in state {:?}", container.state));
        }
        let rival = |c: &Container| c.live && c.name == container.name;
        if self.containers.values().any(rival) {
            return Err(format!("two containers {} live", container.name));
        }
        let key = container.disk.clone().unwrap_or_default();
        let keeps = self.policy == DiskPolicy::Reuse;
        let own = record.disk(&container.name);
        if keeps && own.is_some_and(|own| self.precious.contains(own) && own != key) {
            return Err(format!("container {id} was started without its disk"));
        }
        let charter = record.charter.as_ref();
        for disk in charter.iter().flat_map(|charter| &charter.spec.disks) {
            match self.data.get_mut(&disk.name).filter(|data| data.mounted) {
                Some(data) => data.written = true,
                None => return Err(format!("container {id} was started without data disk {}", disk.name)),
            }
        }
        if self.books.held {
            return Err(format!(
                "container {id} was started, and its charter waits for the control plane's word"
            ));
        }
        if self.shutdown {
            return Err(format!("container {id} was started while the host shut down"));
        }
        let upgrades = record
            .open
            .as_ref()
            .is_some_and(|open| matches!(open.verb, PodVerb::Upgrade { .. }) && open.failure.is_none());
        if keeps && self.precious.insert(key.clone()) && upgrades {
            self.books.provisional.insert(key);
        }
        self.books.ended.remove(&container.name);
        let now_ms = self.now_ms;
        let container = self.containers.get_mut(id).ok_or("nothing was started")?;
        (container.live, container.started_at_ms) = (true, now_ms);
        container.state = TaskState::Running;
        if is_broken(&container.made_by) {
            self.end(id, 1);
        }
        Ok(())
    }
}

fn is_effect(step: &Step) -> bool {
    !matches!(step, Step::Settled | Step::Wait(_) | Step::Refuse { .. } | Step::EndGrant { .. })
}

/// What an image name resolves to: every second one to the same image as the one before.
fn digest(image: &ImageName) -> Digest {
    let tag: u64 = image.to_string().rsplit(':').next().and_then(|tag| tag.parse().ok()).unwrap_or(0);
    format!("sha256:{:064x}", tag / 2).parse().unwrap()
}

/// Whether a container made by one of these is one made by the other: limits are written while it runs.
fn same_making(one: &ContainerSpec, other: &ContainerSpec) -> bool {
    (&one.image, &one.env) == (&other.image, &other.env)
}

fn is_broken(spec: &ContainerSpec) -> bool {
    spec.env.iter().any(|var| var.value == BROKEN)
}
