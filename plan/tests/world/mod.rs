//! A node in memory, as unkind as the real one, for driving the plan through random lives.
//!
//! The world keeps its own books: what was ordered, what may be ended and which disks are precious. It judges every
//! effect by these, not by what the plan says of itself.

#![allow(clippy::unwrap_used)]

mod effects;
#[path = "../fixtures/mod.rs"]
mod fixtures;
mod judge;
mod orders;
mod sight;

use berth_model::{
    Attempt, Bytes, ContainerName, ContainerRole, ContainerSpec, Digest, Disk, DiskName, DiskPolicy, EnvVar,
    EvictDisposition, Failure, Generation, ImageName, Incarnation, Limits, Order, OrderId, Outcome, PodOrder,
    PodSpec, PodVerb, RecoveryPolicy, RestartPolicy, RunState, Seq, Target, Term,
};
use berth_plan::{
    Admission, Change, Concluded, Controls, Cover, DiskState, Effect, ImageState, Known, LedgerView,
    Liveness, Observed, ObservedContainer, ObservedSandbox, PodRecord, Shutdown, SliceState, Step, TaskState,
    admit, after, before, booted, check, conclude, give_up,
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
    /// The next effect fails before, or after, it has happened. A stop that fails has sent its signal all the same, and what
    /// could not be started never will.
    Fail { after: bool },
    /// The next effect is refused for good, and with it the order that wanted it.
    Refused,
    /// The daemon crashes around the next effect: before it, after it, or after what comes after is written.
    Crash(u8),
    /// Something overwrites a control.
    Drift,
    /// Something takes the limits off that a resize sets, in the kernel alone.
    Unlimited,
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
/// So long an init container works.
const PREPARES_MS: u64 = 4;
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
    /// Whether the runtime has said how it ended; from then on it knows.
    told: bool,
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
    /// The limits that the slice has in the kernel.
    slice: Option<Written>,
    /// The limits that systemd holds for it.
    told: Written,
    images: BTreeMap<ContainerName, ImageName>,
    blind: u8,
    /// What was rewritten since the world last changed otherwise.
    rewritten: BTreeSet<String>,
    fail: Option<bool>,
    refused: bool,
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
    /// Containers that ended by themselves since they were started.
    ended: BTreeMap<ContainerName, OwnEnd>,
    /// The ids of containers that were sent a signal: they do not end by themselves.
    signalled: BTreeSet<String>,
    /// Containers that an order has said must run, which has not ended yet.
    wanted: BTreeSet<ContainerName>,
    /// Containers whose disks are given up by a Restart that is open, once their successors are started.
    rebuilt: BTreeSet<ContainerName>,
    /// The last order could not even be taken back.
    abandoned: bool,
    /// Since a reboot nothing may start without an order.
    held: bool,
    /// The last order that got through was a Stop.
    stopped: bool,
    /// Init containers that have ended well since the pod last started from rest: in which sandbox, and made by what.
    prepared: Vec<(String, ContainerSpec)>,
    /// Containers whose records the runtime has lost: nobody can tell that they were through.
    lost: BTreeSet<ContainerName>,
    /// What has started since it was last ordered to, in which sandbox, and made by what: it waits for nobody again.
    started: BTreeMap<(ContainerName, String), ContainerSpec>,
}

/// How a container has ended by itself.
struct OwnEnd {
    code: i32,
    /// An order was open that said that it must run.
    wanted: bool,
}

type Judged = Result<(), String>;

/// What is written to the files of a cgroup.
type Written = BTreeMap<&'static str, u64>;

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
            told: Written::new(),
            images: BTreeMap::new(),
            blind: 0,
            rewritten: BTreeSet::new(),
            fail: None,
            refused: false,
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
                    self.note_own_end(id, *code);
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
                    let lost = self.containers.remove(id).map(|container| container.name);
                    self.books.lost.extend(lost);
                }
                Ok(())
            }
            Op::Fail { after } => {
                self.fail = Some(*after);
                Ok(())
            }
            Op::Refused => {
                self.refused = true;
                Ok(())
            }
            Op::Crash(point) => {
                self.crash = Some(*point);
                Ok(())
            }
            Op::Drift => {
                self.slice
                    .iter_mut()
                    .flat_map(|written| written.values_mut())
                    .for_each(|value| *value = DRIFTED);
                self.containers.values_mut().filter(|c| c.live).for_each(|c| c.in_order = false);
                Ok(())
            }
            Op::Unlimited => {
                self.slice.iter_mut().for_each(|written| written.retain(|file, _| *file == "cpu.weight"));
                Ok(())
            }
            Op::Work(steps) => (0..*steps).try_for_each(|_| self.step().map(drop)),
        }
    }

    /// Nothing more happens: the pod must come to rest, and be as its charter says.
    pub(crate) fn settle(&mut self) -> Judged {
        (self.blind, self.fail, self.crash, self.obstacle) = (0, None, None, false);
        self.refused = false;
        for _ in 0..400 {
            let had_order = self.record.as_ref().is_some_and(|record| record.open.is_some());
            match self.step()? {
                Some(Step::Settled) if !had_order => return self.judge_rest(),
                Some(Step::Wait(wait)) => match wait.until_ms {
                    Some(until) => self.now_ms = until.max(self.now_ms + 1),
                    None if self.prepares() => {}
                    None if self.has_given_up() => return Ok(()),
                    // Its sandbox has ended around something that lives: only upstream may end that.
                    None if self.is_stranded() || self.books.held || self.books.abandoned => return Ok(()),
                    None => return Err(format!("waits for ever: {}", wait.why)),
                },
                Some(_) | None => {}
            }
        }
        Err("does not settle in 400 steps".to_owned())
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
        (self.slice, self.told) = (None, Written::new());
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
            if container.made_by.role == ContainerRole::Init && code == 0 {
                self.books.prepared.push((container.sandbox.clone(), container.made_by.clone()));
            }
            container.live = false;
            container.state = TaskState::Exited { code, ago_ms: 0 };
            container.ended_at_ms = now_ms;
        }
    }

    /// Whether an init container lives.
    fn prepares(&self) -> bool {
        self.containers.values().any(|c| c.live && c.made_by.role == ContainerRole::Init)
    }

    /// An init container that has lived for long enough has done its work.
    fn end_inits(&mut self) {
        let now_ms = self.now_ms;
        let is_done = |c: &Container| {
            c.live && c.made_by.role == ContainerRole::Init && now_ms >= c.started_at_ms + PREPARES_MS
        };
        let done: Vec<_> =
            self.containers.iter().filter(|(_, c)| is_done(c)).map(|(id, _)| id.clone()).collect();
        done.iter().for_each(|id| self.end(id, 0));
    }

    fn pause_ends(&mut self) {
        self.sandboxes.values_mut().for_each(|sandbox| {
            sandbox.ready = false;
            sandbox.live = false;
        });
    }

    /// One turn of the daemon's loop; the step that it took.
    pub(crate) fn step(&mut self) -> Result<Option<Step>, String> {
        let Some(record) = self.record.clone() else { return Ok(Some(Step::Settled)) };
        self.now_ms += 1;
        self.end_inits();
        let observed = self.observe();
        let step = (self.next)(&record, &observed);
        if self.checked
            && let Err(violation) = check(&record, &observed, &step)
        {
            return Err(format!("the checker refuses {step:?}: {violation}"));
        }
        if let Some(concluded) = conclude(&record, &observed, &step) {
            self.note_concluded(&record, concluded)?;
            // Something else is ordered now.
            self.rewritten.clear();
            return Ok(Some(step));
        }
        if let Some(next) = before(&record, &observed, &step) {
            self.record = Some(next);
        }
        self.rebuild(&record, &step)?;
        let crash = self.crash.take();
        if crash == Some(0) {
            return Ok(None);
        }
        if is_effect(&step) && std::mem::take(&mut self.refused) {
            self.half_way(&record, &step)?;
            let record = self.record.clone().unwrap_or(record);
            if let Some(concluded) = give_up(&record, &observed, refused()) {
                self.books.abandoned |= record.open.as_ref().is_some_and(|open| open.failure.is_some());
                self.note_concluded(&record, concluded)?;
            }
            return Ok(None);
        }
        match (is_effect(&step), self.fail) {
            (true, Some(false)) => {
                self.fail = None;
                self.half_way(&record, &step)?;
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
}

fn refused() -> Failure {
    Failure::Effect { step: "anything".to_owned(), why: "refused".to_owned() }
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
