//! One task a pod: observe, ask `berth_plan::next_step`, do that one thing, look again.
//!
//! [`Pods`] owns the tasks; [`Pods::wake`] is how an order, an event or a pool's change reaches one. [`Pods::tend`] is
//! the loop that keeps them company: hints from the runtime, sweeping, and a sign of life for the watchdog.
//! Nothing here decides: the plan says what, the ledger says whether, the runtime says what came of it.

mod effect;
mod health;
mod node_order;
mod task;
mod tend;

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod tests;

pub use task::Pace;
pub use tend::Beat;

use crate::ledger::Ledger;
use crate::node::Announced;
use crate::reports::Reports;
use crate::runtime::{Ordered, Runtime};
use berth_model::{CpuBinding, DiskFetch, Failure, Order, PodId, PodSpec, Target};
use berth_plan::{HostView, PodRecord, SharedPool};
use health::Health;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// Images pulled at once: more would only share the same disk and network.
const PULLS: usize = 3;
/// Sandboxes made at once: each runs CNI plugins, which take the kernel's network lock.
const SANDBOXES: usize = 8;
/// Other effects at once: the runtime's own work is bound by the disk.
const EFFECTS: usize = 16;
/// Pods looked at at once: a look is some ten calls of the runtime and reads of the kernel.
pub const LOOKS: usize = 16;
/// Readiness probes at once: one that hangs holds its place for its whole timeout.
const PROBES: usize = 32;

/// What the tasks work with.
pub struct Parts<R> {
    /// The durable record.
    pub ledger: Ledger,
    /// The effects.
    pub runtime: Arc<R>,
    /// What upstream is told.
    pub reports: Arc<Reports>,
    /// How often tasks look and try again.
    pub pace: Pace,
    /// What the host has at the moment; none when it cannot be learnt.
    pub sight: Sight,
    /// Copies data disks from other nodes.
    pub copies: Arc<dyn Copies>,
}

/// Copies data disks from other nodes, and puts them in their places.
#[tonic::async_trait]
pub trait Copies: Send + Sync {
    /// Copies one; dropped half-way, what has come of it is thrown away. `last` is told what the copy waits for.
    ///
    /// # Errors
    /// When trying again will not help.
    async fn fetch(&self, fetch: &DiskFetch, last: &watch::Sender<String>) -> Result<(), Failure>;
}

/// Looks at what the host has.
pub type Sight = Box<dyn Fn() -> Option<HostView> + Send + Sync>;

/// The tasks of all pods, and what they share.
pub struct Pods<R> {
    ledger: Ledger,
    runtime: Arc<R>,
    reports: Arc<Reports>,
    pace: Pace,
    places: Places,
    health: Health,
    sight: Sight,
    /// What the kernel found when it booted; empty until it could be learnt.
    found: OnceLock<HostView>,
    copies: Arc<dyn Copies>,
    /// Set while the host shuts down.
    shutdown: watch::Sender<Option<Arc<Announced>>>,
    tasks: Mutex<BTreeMap<PodId, Arc<Handle>>>,
    draining: watch::Sender<bool>,
    /// Every task holds a clone; when all are gone the tasks have ended.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    all_ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// Places for effects that must not be too many at once. Whoever came first goes first, so pods that are taken up
/// in order of priority also come to running in that order.
struct Places {
    pulls: Semaphore,
    sandboxes: Semaphore,
    effects: Semaphore,
    looks: Semaphore,
    probes: Semaphore,
}

/// How a task is reached, and how far it is.
struct Handle {
    woken: Notify,
    rounds: watch::Sender<u64>,
    /// Whether nothing of the pod runs any more, since the host shuts down.
    quiet: watch::Sender<bool>,
}

impl<R: Runtime> Pods<R> {
    /// Makes the owner; no task runs before [`Pods::adopt`].
    pub fn new(parts: Parts<R>) -> Arc<Self> {
        let (alive, all_ended) = mpsc::channel(1);
        Arc::new(Self {
            ledger: parts.ledger,
            runtime: parts.runtime,
            reports: parts.reports,
            pace: parts.pace,
            sight: parts.sight,
            found: OnceLock::new(),
            copies: parts.copies,
            shutdown: watch::Sender::new(None),
            places: Places {
                pulls: Semaphore::new(PULLS),
                sandboxes: Semaphore::new(SANDBOXES),
                effects: Semaphore::new(EFFECTS),
                looks: Semaphore::new(LOOKS),
                probes: Semaphore::new(PROBES),
            },
            health: Health::default(),
            tasks: Mutex::default(),
            draining: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
            all_ended: tokio::sync::Mutex::new(all_ended),
        })
    }

    /// Takes up every pod of the ledger where it stands, the most important first, and every open order for the node.
    /// Answers how many pods that are.
    pub fn adopt(self: &Arc<Self>) -> usize {
        let busy = |record: &&PodRecord| is_busy(record);
        let mut records: Vec<_> =
            self.ledger.read(|book| book.pods.values().filter(busy).cloned().collect::<Vec<_>>());
        let priority =
            |record: &PodRecord| record.charter.as_ref().map_or(0, |charter| charter.spec.priority);
        records.sort_by_key(|record| std::cmp::Reverse(priority(record)));
        for record in &records {
            self.wake(&record.pod);
        }
        node_order::resume(self);
        records.len()
    }

    /// Has a pod looked at now; starts its task if it has none and there is something to do.
    pub fn wake(self: &Arc<Self>, pod: &PodId) {
        let mut tasks = self.lock();
        if let Some(task) = tasks.get(pod) {
            task.woken.notify_one();
            return;
        }
        if !self.ledger.read(|book| book.pods.get(pod).is_some_and(is_busy)) {
            return;
        }
        // Without a guard the daemon is draining.
        let Some(alive) = self.guard() else { return };
        let handle = Arc::new(Handle {
            woken: Notify::new(),
            rounds: watch::Sender::new(0),
            quiet: watch::Sender::new(false),
        });
        tasks.insert(pod.clone(), handle.clone());
        tokio::spawn(task::run(self.clone(), pod.clone(), handle, alive));
    }

    /// Has every pod looked at now.
    pub fn wake_all(&self) {
        for task in self.lock().values() {
            task.woken.notify_one();
        }
    }

    /// Carries out what an accepted order set in motion.
    pub fn carry_out(self: &Arc<Self>, order: &Order) {
        match &order.target {
            Target::Pod(target) => self.wake(&target.pod),
            Target::Node(_) => node_order::carry_out(self, &order.id),
        }
    }

    /// The host shuts down: everything that runs is stopped in order, and nothing is started. Returns when nothing runs
    /// any more, or the host waits no longer; answers how many pods still run then.
    pub async fn shut_down(&self, announced: Announced) -> usize {
        let until = announced.until();
        for task in self.lock().values() {
            task.quiet.send_replace(false);
        }
        self.shutdown.send_replace(Some(Arc::new(announced)));
        self.wake_all();
        let tasks: Vec<_> = self.lock().values().cloned().collect();
        let mut left = tasks.len();
        for task in tasks {
            let mut quiet = task.quiet.subscribe();
            let ended = tokio::time::timeout_at(until, quiet.wait_for(|quiet| *quiet)).await;
            left -= usize::from(ended.is_ok());
        }
        left
    }

    /// The host does not shut down after all: what was stopped for it runs again.
    pub fn carry_on(&self) {
        self.shutdown.send_replace(None);
        self.wake_all();
    }

    /// Has every task end after the step that it is at. Containers are left alone. Answers whether all ended in time.
    pub async fn drain(&self, within: Duration) -> bool {
        self.draining.send_replace(true);
        self.health.end();
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.wake_all();
        let mut all_ended = self.all_ended.lock().await;
        tokio::time::timeout(within, all_ended.recv()).await.is_ok()
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    fn guard(&self) -> Option<mpsc::Sender<()>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The task of a pod ends if nothing is left to do for it, seen under the lock that `wake` takes.
    fn retire(&self, pod: &PodId) -> bool {
        let mut tasks = self.lock();
        let idle = !self.ledger.read(|book| book.pods.get(pod).is_some_and(is_busy));
        if idle {
            tasks.remove(pod);
        }
        idle
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodId, Arc<Handle>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod as it is ordered at the moment; none when it is not on this node. Of a shared pool it has what this boot
    /// of the host has.
    pub fn ordered(&self, record: &PodRecord) -> Option<Ordered> {
        let ordered = ordered(&self.ledger, record)?;
        let Some((pool, host)) = self.pool_of(&ordered.spec).zip(self.found()) else { return Some(ordered) };
        let (cpus, mems) = pool.present(host);
        Some(Ordered { cpus, mems, ..ordered })
    }

    /// The shared pool of a pod that has no CPUs of its own.
    fn pool_of(&self, spec: &PodSpec) -> Option<SharedPool> {
        match &spec.cpu {
            CpuBinding::Shared { pool } => self.ledger.read(|book| book.pools.get(pool).cloned()),
            CpuBinding::Exclusive { .. } => None,
        }
    }

    /// What the kernel found when it booted, once that could be learnt; it stays the same until the next boot.
    fn found(&self) -> Option<&HostView> {
        if self.found.get().is_none()
            && let Some(host) = (self.sight)()
        {
            // Whoever was quicker has seen the same.
            let _ = self.found.set(host);
        }
        self.found.get()
    }
}

/// The pod as it is ordered at the moment, its shared pool resolved; none when it is not on this node.
pub fn ordered(ledger: &Ledger, record: &PodRecord) -> Option<Ordered> {
    let spec = record.charter.as_ref()?.spec.clone();
    let (cpus, mems) = ledger.read(|book| book.cpus_of(record))?;
    let other = record.other_spec().cloned().map(Box::new);
    let former = record.former_limits();
    Some(Ordered {
        pod: record.pod.clone(),
        incarnation: record.incarnation,
        spec,
        cpus,
        mems,
        other,
        former,
    })
}

/// Whether there is anything to do or to look after.
pub fn is_busy(record: &PodRecord) -> bool {
    record.charter.is_some() || record.open.is_some()
}
