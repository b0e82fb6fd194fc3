//! Deaths at a point: of the daemon, which never returns from it, nor passes any after it; and of the runtime, which does
//! not answer until it is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// So many calls meet a runtime that has died before it is back: systemd takes longer to start it again than the daemon
/// takes to ask again.
const CALLS_OF_AN_OUTAGE: u32 = 3;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The daemon's own process.
    Daemon,
    /// The runtime.
    Runtime,
}

/// The runtime does not answer.
#[derive(Debug)]
pub(super) struct Down;

/// Counts the points that a process passes, and has somebody die at one.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    count: Mutex<Count>,
    dead: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Count {
    passed: Vec<String>,
    at: Option<(u64, Victim)>,
    /// How many calls the outage has left.
    outage: u32,
}

impl Crashes {
    /// A new process, and who dies at which point of it; answers what the former one has passed.
    pub(super) fn arm(&self, at: Option<(u64, Victim)>) -> Vec<String> {
        let new = Count { passed: Vec::new(), at, outage: 0 };
        let former = std::mem::replace(&mut *self.lock(), new);
        self.dead.send_replace(false);
        former.passed
    }

    /// Passes a point, unless the daemon dies there; then this never returns.
    pub(super) async fn pass(&self, name: String) -> Result<(), Down> {
        match self.victim(name) {
            None => Ok(()),
            Some(Victim::Runtime) => Err(Down),
            Some(Victim::Daemon) => std::future::pending().await,
        }
    }

    /// Who is dead at this point.
    fn victim(&self, name: String) -> Option<Victim> {
        let mut count = self.lock();
        if *self.dead.borrow() {
            return Some(Victim::Daemon);
        }
        if count.outage > 0 {
            count.outage -= 1;
            return Some(Victim::Runtime);
        }
        let reached = u64::try_from(count.passed.len()).ok();
        count.passed.push(name);
        let (_, victim) = count.at.filter(|(at, _)| Some(*at) == reached)?;
        match victim {
            Victim::Daemon => drop(self.dead.send_replace(true)),
            Victim::Runtime => count.outage = CALLS_OF_AN_OUTAGE - 1,
        }
        Some(victim)
    }

    pub(super) async fn crashed(&self) {
        // The sender lives as long as this.
        drop(self.dead.subscribe().wait_for(|dead| *dead).await);
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
