//! What nodes say that has happened: remembered for a while, and told to whoever follows. Nothing acts on it.
//!
//! It is kept in memory only. Each node keeps its events until they are confirmed here, so what is lost with this process is
//! what it has told its followers already.

use berth_model::{NodeName, PodId};
use berth_proto::v1;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events of one node that are remembered: one that never tires pushes out nobody else's.
const PER_NODE: usize = 256;
/// Events in all. Beyond it the node with the most loses its oldest.
const IN_ALL: usize = 32_768;
/// Events that wait for one follower. One that falls this far behind is ended and begins anew.
pub(crate) const FOLLOWER_QUEUE: usize = 1_024;
/// Most followers.
pub(crate) const MAX_FOLLOWERS: usize = 256;
/// Longest text of an event; a node says no such thing of itself.
const TEXT_MAX_BYTES: usize = 2_048;
/// Most details of an event.
const DETAILS_MAX: usize = 16;

/// An event as it is told.
pub(crate) type Told = Arc<v1::Event>;

/// The events of all nodes.
#[derive(Debug)]
pub(crate) struct EventLog {
    inner: Mutex<Inner>,
    live: broadcast::Sender<Told>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the order in which they came.
    nodes: BTreeMap<NodeName, VecDeque<(u64, Told)>>,
    came: u64,
    kept: usize,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// Of pods in this namespace.
    pub namespace: Option<String>,
    /// Of this pod.
    pub pod: Option<PodId>,
    /// Of this node.
    pub node: Option<NodeName>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { inner: Mutex::default(), live: broadcast::Sender::new(FOLLOWER_QUEUE) }
    }
}

impl EventLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers and tells what a node says.
    pub(crate) fn note(&self, node: &NodeName, events: Vec<v1::Event>) {
        let mut inner = self.lock();
        for event in events {
            let told = Arc::new(sized(node, event));
            inner.keep(node, Arc::clone(&told));
            // Without followers nobody wants to know.
            let _ = self.live.send(told);
        }
    }

    /// What is remembered, the oldest first, and all that comes after it; none when there are too many followers.
    pub(crate) fn follow(&self, filter: &EventFilter) -> Option<(Vec<Told>, broadcast::Receiver<Told>)> {
        let inner = self.lock();
        (self.live.receiver_count() < MAX_FOLLOWERS).then(|| (inner.all(filter), self.live.subscribe()))
    }

    /// What is remembered, the oldest first.
    pub(crate) fn all(&self, filter: &EventFilter) -> Vec<Told> {
        self.lock().all(filter)
    }
}

impl Inner {
    fn keep(&mut self, node: &NodeName, event: Told) {
        self.came += 1;
        let of_node = self.nodes.entry(node.clone()).or_default();
        of_node.push_back((self.came, event));
        self.kept += 1;
        if of_node.len() > PER_NODE {
            of_node.pop_front();
            self.kept -= 1;
        } else if self.kept > IN_ALL {
            let most = self.nodes.values_mut().max_by_key(|events| events.len());
            self.kept -= usize::from(most.and_then(VecDeque::pop_front).is_some());
        }
    }

    fn all(&self, filter: &EventFilter) -> Vec<Told> {
        let of_nodes = self.nodes.values().flatten();
        let mut all: Vec<_> = of_nodes.filter(|(_, event)| filter.matches(event)).cloned().collect();
        all.sort_by_key(|(came, _)| *came);
        all.into_iter().map(|(_, event)| event).collect()
    }
}

impl EventFilter {
    /// Whether an event is wanted.
    pub(crate) fn matches(&self, event: &v1::Event) -> bool {
        let pod = event.pod.as_ref();
        let is = |wanted: &PodId| {
            pod.is_some_and(|pod| pod.namespace == wanted.namespace() && pod.name == wanted.name())
        };
        self.namespace.as_ref().is_none_or(|wanted| pod.is_some_and(|pod| pod.namespace == *wanted))
            && self.pod.as_ref().is_none_or(is)
            && self.node.as_ref().is_none_or(|wanted| event.node == wanted.as_str())
    }
}

/// The event as its node may tell it: under its own name, and of a size that can be kept.
fn sized(node: &NodeName, mut event: v1::Event) -> v1::Event {
    event.node = node.to_string();
    let Some(pod) = &mut event.pod else { return short_details(event) };
    cut(&mut pod.namespace);
    cut(&mut pod.name);
    short_details(event)
}

fn short_details(mut event: v1::Event) -> v1::Event {
    event.container.iter_mut().chain([&mut event.code, &mut event.message]).for_each(cut);
    let details = std::mem::take(&mut event.details).into_iter().take(DETAILS_MAX);
    let short = |(mut key, mut value)| {
        cut(&mut key);
        cut(&mut value);
        (key, value)
    };
    event.details = details.map(short).collect();
    event
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn event(at_ms: u64, pod: &str) -> v1::Event {
        let pod: PodId = pod.parse().unwrap();
        v1::Event { at_ms, pod: Some((&pod).into()), ..v1::Event::default() }
    }

    fn times(events: &[Told]) -> Vec<u64> {
        events.iter().map(|event| event.at_ms).collect()
    }

    #[test]
    fn events_are_remembered_in_the_order_in_which_they_came() {
        let log = EventLog::default();
        log.note(&node("n2"), vec![event(3, "shop/web"), event(1, "shop/db")]);
        log.note(&node("n1"), vec![event(2, "test/web")]);
        let check = |filter: EventFilter, expected: &[u64]| assert_eq!(times(&log.all(&filter)), expected);
        check(EventFilter::default(), &[3, 1, 2]);
        check(EventFilter { node: Some(node("n2")), ..EventFilter::default() }, &[3, 1]);
        check(EventFilter { namespace: Some("test".to_owned()), ..EventFilter::default() }, &[2]);
        check(EventFilter { pod: Some("shop/db".parse().unwrap()), ..EventFilter::default() }, &[1]);
        let said: Vec<_> = log.all(&EventFilter::default()).iter().map(|event| event.node.clone()).collect();
        assert_eq!(said, ["n2", "n2", "n1"]);
    }

    #[test]
    fn a_node_that_never_tires_pushes_out_its_own_only() {
        let log = EventLog::default();
        log.note(&node("quiet"), vec![event(0, "shop/web")]);
        let many = u64::try_from(PER_NODE).unwrap() + 10;
        log.note(&node("loud"), (1..=many).map(|at_ms| event(at_ms, "shop/web")).collect());
        let all = times(&log.all(&EventFilter::default()));
        assert_eq!((all.len(), all[0], all[1]), (PER_NODE + 1, 0, 11));
    }

    #[test]
    fn all_nodes_together_stay_within_bounds() {
        let log = EventLog::default();
        for number in 0..IN_ALL / PER_NODE + 2 {
            log.note(&node(&format!("n{number}")), (0..256).map(|at_ms| event(at_ms, "shop/web")).collect());
        }
        assert_eq!(log.all(&EventFilter::default()).len(), IN_ALL);
        assert_eq!(log.lock().kept, IN_ALL);
    }

    #[test]
    fn a_node_speaks_for_itself_and_not_without_end() {
        let log = EventLog::default();
        let long = "ü".repeat(TEXT_MAX_BYTES);
        let details = (0..40).map(|number| (number.to_string(), long.clone())).collect();
        let claimed = v1::Event {
            node: "another".to_owned(),
            message: long.clone(),
            container: Some(long.clone()),
            details,
            ..event(1, "shop/web")
        };
        log.note(&node("n1"), vec![claimed]);
        let kept = log.all(&EventFilter::default()).remove(0);
        assert_eq!((kept.node.as_str(), kept.message.len()), ("n1", TEXT_MAX_BYTES));
        assert!(prost::Message::encoded_len(kept.as_ref()) < 40 * TEXT_MAX_BYTES);
        assert_eq!(kept.details.len(), DETAILS_MAX);
    }

    #[test]
    fn a_follower_misses_nothing_and_hears_nothing_twice() {
        let log = EventLog::default();
        log.note(&node("n1"), vec![event(1, "shop/web")]);
        let (before, mut after) = log.follow(&EventFilter::default()).unwrap();
        log.note(&node("n1"), vec![event(2, "shop/web")]);
        assert_eq!(times(&before), [1]);
        assert_eq!(after.try_recv().unwrap().at_ms, 2);
        assert!(after.try_recv().is_err());
        let others: Vec<_> =
            (1..MAX_FOLLOWERS).map(|_| log.follow(&EventFilter::default()).unwrap()).collect();
        assert!(log.follow(&EventFilter::default()).is_none());
        drop(others);
        assert!(log.follow(&EventFilter::default()).is_some());
    }
}
