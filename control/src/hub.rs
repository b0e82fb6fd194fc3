//! Those who listen: watchers of pods, and the links of nodes. Told only of what is durable, and never waited for.

use crate::state::Event;
use berth_model::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Events that wait for one watcher. One that falls this far behind is ended and begins anew.
pub(crate) const WATCHER_QUEUE: usize = 1_024;
/// Most watchers: each costs a queue.
pub(crate) const MAX_WATCHERS: usize = 1_024;

#[derive(Debug)]
struct Watcher {
    queue: mpsc::Sender<Event>,
    lagged: Arc<AtomicBool>,
}

/// A watcher's end.
#[derive(Debug)]
pub(crate) struct Watch {
    /// What happens.
    pub events: mpsc::Receiver<Event>,
    /// Whether it ended because this watcher was too slow.
    pub lagged: Arc<AtomicBool>,
}

/// One link of a node.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    epoch: u64,
    /// Notified when there may be orders to send.
    pub orders: Notify,
    /// Notified when another link of the node has taken over.
    pub replaced: Notify,
    /// Notified when the certificate that it began with may be revoked.
    pub cut: Notify,
}

/// All who listen.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watchers: Mutex<Vec<Watcher>>,
    links: Mutex<BTreeMap<NodeName, Arc<LinkHandle>>>,
    epochs: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking holder left behind is a list, whole before and after every change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Listens from now on; none when there are too many.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| !watcher.queue.is_closed());
        if watchers.len() >= MAX_WATCHERS {
            return None;
        }
        let (queue, events) = mpsc::channel(WATCHER_QUEUE);
        let lagged = Arc::new(AtomicBool::new(false));
        watchers.push(Watcher { queue, lagged: Arc::clone(&lagged) });
        Some(Watch { events, lagged })
    }

    /// Tells every watcher; ends those whose queue is full.
    pub(crate) fn publish(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        lock(&self.watchers).retain(|watcher| {
            events.iter().all(|event| match watcher.queue.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.lagged.store(true, Ordering::Release);
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            })
        });
    }

    /// Makes a link the node's only one.
    pub(crate) fn connect(&self, node: &NodeName) -> Arc<LinkHandle> {
        let handle = Arc::new(LinkHandle {
            epoch: self.epochs.fetch_add(1, Ordering::Relaxed),
            orders: Notify::new(),
            replaced: Notify::new(),
            cut: Notify::new(),
        });
        let before = lock(&self.links).insert(node.clone(), Arc::clone(&handle));
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        handle
    }

    /// Forgets a link, unless another one has taken over.
    pub(crate) fn disconnect(&self, node: &NodeName, handle: &LinkHandle) {
        let mut links = lock(&self.links);
        if links.get(node).is_some_and(|current| current.epoch == handle.epoch) {
            links.remove(node);
        }
    }

    /// Has a node's link look at its certificate again.
    pub(crate) fn cut(&self, node: &NodeName) {
        if let Some(handle) = lock(&self.links).get(node) {
            handle.cut.notify_one();
        }
    }

    pub(crate) fn wake(&self, nodes: &BTreeSet<NodeName>) {
        if nodes.is_empty() {
            return;
        }
        let links = lock(&self.links);
        for handle in nodes.iter().filter_map(|node| links.get(node)) {
            handle.orders.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::PodId;

    fn event() -> Event {
        Event::Released(PodId::new("shop", "web").unwrap())
    }

    #[test]
    fn a_slow_watcher_is_ended_and_the_others_are_not() {
        let hub = Hub::default();
        let mut quick = hub.watch().unwrap();
        let mut slow = hub.watch().unwrap();
        for _ in 0..=WATCHER_QUEUE {
            hub.publish(&[event()]);
            assert!(quick.events.try_recv().is_ok());
        }
        let mut count = 0;
        while slow.events.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, WATCHER_QUEUE);
        assert!(slow.events.is_closed() && slow.lagged.load(Ordering::Acquire));
        assert!(!quick.lagged.load(Ordering::Acquire));
    }

    #[test]
    fn watchers_that_hung_up_make_room() {
        let hub = Hub::default();
        let mut all: Vec<Watch> = (0..MAX_WATCHERS).map(|_| hub.watch().unwrap()).collect();
        assert!(hub.watch().is_none());
        all.pop();
        assert!(hub.watch().is_some());
    }
}
