//! What has happened lately, in order, and how much of it upstream has.

use super::Event;
use crate::clock::epoch_ms;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tracing::field::display;
use tracing::info;

/// Events that are kept: beyond that the oldest go, whether upstream has them or not.
const KEPT: usize = 2_048;

/// The events since the daemon started, numbered from 1.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    /// The newest event's number.
    newest: watch::Sender<u64>,
    began_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last one has the number `newest`, and there is no gap.
    events: VecDeque<Event>,
    newest: u64,
    /// Up to which upstream has them.
    confirmed: u64,
}

/// Some events in a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The last one's number; where there are none, the number after which was asked, or the last that is not kept.
    pub last: u64,
    /// The oldest first.
    pub events: Vec<Event>,
    /// How many that should come first are not kept any more.
    pub lost: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { inner: Mutex::default(), newest: watch::Sender::new(0), began_ms: epoch_ms() }
    }
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what has happened; the system's journal has it, too.
    pub fn note(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        events.iter().for_each(log);
        let mut inner = self.lock();
        for event in events {
            inner.newest += 1;
            inner.events.push_back(event);
        }
        let over = inner.events.len().saturating_sub(KEPT);
        inner.events.drain(..over);
        self.newest.send_replace(inner.newest);
    }

    /// At most `most` events after the one with this number.
    pub fn after(&self, number: u64, most: usize) -> Batch {
        self.lock().after(number, most)
    }

    /// At most `most` events that upstream does not have.
    pub fn unconfirmed(&self, most: usize) -> Batch {
        let inner = self.lock();
        inner.after(inner.confirmed, most)
    }

    /// Upstream has them up to this number.
    pub fn confirm(&self, number: u64) {
        let mut inner = self.lock();
        inner.confirmed = inner.confirmed.max(number.min(inner.newest));
    }

    /// When it began, milliseconds after the epoch: numbers of another journal are other events.
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Follows the newest event's number.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Inner {
    fn after(&self, number: u64, most: usize) -> Batch {
        let kept = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        let before_kept = self.newest - kept;
        let from = number.clamp(before_kept, self.newest);
        let skipped = usize::try_from(from - before_kept).unwrap_or(usize::MAX);
        let events: Vec<_> = self.events.iter().skip(skipped).take(most).cloned().collect();
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        Batch { last: from + count, events, lost: from.saturating_sub(number) }
    }
}

fn log(event: &Event) {
    let Event { pod, container, incident, .. } = event;
    let code = incident.code();
    let of = match (pod, container) {
        (Some(pod), Some(container)) => format!("{pod}: container {container}: "),
        (Some(pod), None) => format!("{pod}: "),
        (None, _) => String::new(),
    };
    let (pod, container) = (pod.as_ref().map(display), container.as_ref().map(display));
    let details = incident.details();
    info!(pod, container, code, ?details, "{of}{incident}");
}

#[cfg(test)]
mod tests {
    use super::super::Incident;
    use super::*;
    use crate::testing::pod;

    /// Its time is its number.
    fn event(number: u64) -> Event {
        Event { at_ms: number, pod: Some(pod()), container: None, incident: Incident::Ready }
    }

    fn numbers(batch: &Batch) -> (Vec<u64>, u64, u64) {
        (batch.events.iter().map(|event| event.at_ms).collect(), batch.last, batch.lost)
    }

    #[test]
    fn events_are_told_in_order_until_they_are_confirmed() {
        let journal = Journal::default();
        assert_eq!(numbers(&journal.unconfirmed(2)), (vec![], 0, 0));
        journal.note((1..=3).map(event).collect());
        assert_eq!(numbers(&journal.unconfirmed(2)), (vec![1, 2], 2, 0));
        journal.confirm(2);
        assert_eq!(numbers(&journal.unconfirmed(2)), (vec![3], 3, 0));
        // What upstream confirms of an earlier life of the agent is not of this one.
        journal.confirm(90);
        journal.note(vec![event(4)]);
        assert_eq!(numbers(&journal.unconfirmed(2)), (vec![4], 4, 0));
        assert_eq!(numbers(&journal.after(0, 9)), (vec![1, 2, 3, 4], 4, 0));
    }

    #[test]
    fn the_oldest_go_first_and_it_is_said_how_many() {
        let journal = Journal::default();
        let kept = u64::try_from(KEPT).unwrap();
        journal.note((1..=kept + 5).map(event).collect());
        assert_eq!(numbers(&journal.unconfirmed(1)), (vec![6], 6, 5));
        journal.confirm(6);
        assert_eq!(numbers(&journal.unconfirmed(1)), (vec![7], 7, 0));
        assert_eq!(journal.after(0, usize::MAX).events.len(), KEPT);
    }
}
