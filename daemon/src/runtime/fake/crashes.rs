//! Deaths at a point: of the daemon, which never returns from it, nor passes any after it; and of the runtime, which does
//! not answer until it is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// So many calls meet a runtime that has died before it is back: systemd takes longer to start it again than the daemon
/// takes to ask again.
const CALLS_OF_AN_OUTAGE: u32 = 3;

/// Who dies, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Death {
    /// The daemon's own process, at the point of this number.
    Daemon(u64),
    /// The runtime, at the point of this name, when it is passed for that time, from 1.
    Runtime(String, usize),
}

/// Who is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
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
    death: Option<Death>,
    /// How many calls the outage has left.
    outage: u32,
}

impl Crashes {
    /// A new process, and who dies in it; answers what the former one has passed.
    pub(super) fn arm(&self, death: Option<Death>) -> Vec<String> {
        let new = Count { passed: Vec::new(), death, outage: 0 };
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
        let number = u64::try_from(count.passed.len()).ok();
        count.passed.push(name);
        let times = |point: &String| count.passed.iter().filter(|passed| *passed == point).count();
        let victim = match count.death.as_ref()? {
            Death::Daemon(at) => (Some(*at) == number).then_some(Victim::Daemon),
            Death::Runtime(point, time) => {
                let here = count.passed.last() == Some(point) && times(point) == *time;
                here.then_some(Victim::Runtime)
            }
        };
        match victim? {
            Victim::Daemon => drop(self.dead.send_replace(true)),
            Victim::Runtime => count.outage = CALLS_OF_AN_OUTAGE - 1,
        }
        victim
    }

    pub(super) async fn crashed(&self) {
        // The sender lives as long as this.
        drop(self.dead.subscribe().wait_for(|dead| *dead).await);
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
