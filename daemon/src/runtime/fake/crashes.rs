//! The daemon's own death: a point that is reached never returns, nor does any after it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Counts the points that a process passes, and ends it at one.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    count: Mutex<Count>,
    dead: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Count {
    passed: Vec<String>,
    at: Option<u64>,
}

impl Crashes {
    /// A new process, which dies at `at`; answers what the former one has passed.
    pub(super) fn arm(&self, at: Option<u64>) -> Vec<String> {
        let former = std::mem::replace(&mut *self.lock(), Count { passed: Vec::new(), at });
        self.dead.send_replace(false);
        former.passed
    }

    pub(super) async fn pass(&self, name: String) {
        if self.dies(name) {
            std::future::pending::<()>().await;
        }
    }

    fn dies(&self, name: String) -> bool {
        let mut count = self.lock();
        if *self.dead.borrow() {
            return true;
        }
        let reached = u64::try_from(count.passed.len()).ok();
        count.passed.push(name);
        let dies = count.at.is_some() && count.at == reached;
        if dies {
            self.dead.send_replace(true);
        }
        dies
    }

    pub(super) async fn crashed(&self) {
        // The sender lives as long as this.
        drop(self.dead.subscribe().wait_for(|dead| *dead).await);
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
