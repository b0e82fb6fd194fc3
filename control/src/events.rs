//! What nodes say that has happened: remembered for a while, and told to whoever asks. Nothing acts on it.
//!
//! It is kept in memory only. A node keeps its events until they are confirmed here; what was confirmed and told to nobody is
//! lost with this process.

use crate::heard::Happened;
use berth_model::{NodeName, PodId};
use berth_proto::v1;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events of one node that are remembered: one that never tires pushes out nobody else's.
const PER_NODE: usize = 256;
/// Events in all. Beyond it the node with the most loses its oldest.
const IN_ALL: usize = 32_768;
/// Events that one look at the log gives.
const MOST: usize = 512;
/// Longest text of an event; a node says no such thing of itself.
const TEXT_MAX_BYTES: usize = 512;
/// Most details of an event.
const DETAILS_MAX: usize = 8;

/// An event as it is told, by the order in which they came.
pub(crate) type Told = (u64, Arc<v1::Event>);

/// The events of all nodes.
#[derive(Debug)]
pub(crate) struct EventLog {
    inner: Mutex<Inner>,
    /// How many have come.
    came: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: BTreeMap<NodeName, OfNode>,
    came: u64,
    kept: usize,
    /// The newest that is not remembered any more.
    forgotten: u64,
}

/// What came after some event.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// The oldest first, at most [`MOST`].
    pub events: Vec<Told>,
    /// Up to which has been looked.
    pub looked: u64,
    /// Whether some of what came after it is not remembered any more.
    pub lost: bool,
}

/// What one node has said.
#[derive(Debug, Default)]
struct OfNode {
    events: VecDeque<Told>,
    /// The life of its agent, and the number of the last event of that.
    last: (u64, u64),
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
        Self { inner: Mutex::default(), came: watch::Sender::new(0) }
    }
}

impl EventLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a node says, and has not said before.
    pub(crate) fn note(&self, node: &NodeName, happened: Happened) {
        let mut inner = self.lock();
        let count = u64::try_from(happened.events.len()).unwrap_or(u64::MAX);
        let first = happened.last.saturating_sub(count).saturating_add(1);
        let life = happened.agent_started_at_ms;
        for (number, event) in (first..).zip(happened.events) {
            inner.keep(node, (life, number), event);
        }
        self.came.send_replace(inner.came);
    }

    /// What is remembered and came after this one.
    pub(crate) fn after(&self, came: u64, filter: &EventFilter) -> Fresh {
        let (mut events, looked, forgotten) = {
            let inner = self.lock();
            (inner.after(came, filter), inner.came, inner.forgotten)
        };
        events.sort_by_key(|(came, _)| *came);
        let looked = match events.get(MOST) {
            Some(_) => events[MOST - 1].0,
            None => looked,
        };
        events.truncate(MOST);
        Fresh { events, looked, lost: forgotten > came }
    }

    /// Follows how many have come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.came.subscribe()
    }
}

impl Inner {
    fn keep(&mut self, node: &NodeName, number: (u64, u64), event: v1::Event) {
        let of_node = self.nodes.entry(node.clone()).or_default();
        let (life, _) = number;
        // An agent that does not say which life it is in may be in another one.
        if life != 0 && of_node.last.0 == life && number <= of_node.last {
            return;
        }
        of_node.last = number;
        self.came += 1;
        of_node.events.push_back((self.came, Arc::new(sized(node, number, event))));
        self.kept += 1;
        let full = match of_node.events.len() > PER_NODE {
            true => Some(of_node),
            false if self.kept > IN_ALL => self.nodes.values_mut().max_by_key(|of_node| of_node.events.len()),
            false => None,
        };
        if let Some((came, _)) = full.and_then(|of_node| of_node.events.pop_front()) {
            self.kept -= 1;
            self.forgotten = self.forgotten.max(came);
        }
    }

    fn after(&self, came: u64, filter: &EventFilter) -> Vec<Told> {
        let newer = |of_node: &OfNode| {
            let from = of_node.events.partition_point(|(at, _)| *at <= came);
            of_node
                .events
                .range(from..)
                .filter(|(_, event)| filter.matches(event))
                .cloned()
                .collect::<Vec<_>>()
        };
        self.nodes.values().flat_map(newer).collect()
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
fn sized(node: &NodeName, (life, number): (u64, u64), event: v1::Event) -> v1::Event {
    let v1::Event { at_ms, node: _, pod, container, code, message, details, id: _ } = event;
    let details = details.into_iter().take(DETAILS_MAX);
    v1::Event {
        at_ms,
        node: node.to_string(),
        pod: pod.map(|pod| v1::PodRef { namespace: cut(pod.namespace), name: cut(pod.name) }),
        container: container.map(cut),
        code: cut(code),
        message: cut(message),
        details: details.map(|(key, value)| (cut(key), cut(value))).collect(),
        id: format!("{node}-{life}-{number}"),
    }
}

/// No longer than it may be, and in no more memory than that.
fn cut(text: String) -> String {
    if text.capacity() <= TEXT_MAX_BYTES {
        text
    } else {
        text[..text.floor_char_boundary(TEXT_MAX_BYTES)].to_owned()
    }
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

    /// So many events, the last of which has this number.
    fn happened(last: u64, events: Vec<v1::Event>) -> Happened {
        Happened { agent_started_at_ms: 7, last, events, lost: 0 }
    }

    fn times(events: &[Told]) -> Vec<u64> {
        events.iter().map(|(_, event)| event.at_ms).collect()
    }

    fn all(log: &EventLog) -> Vec<Told> {
        let mut all = Vec::new();
        let mut looked = 0;
        loop {
            let fresh = log.after(looked, &EventFilter::default());
            looked = fresh.looked;
            if fresh.events.is_empty() {
                return all;
            }
            all.extend(fresh.events);
        }
    }

    #[test]
    fn events_are_remembered_in_the_order_in_which_they_came() {
        let log = EventLog::default();
        log.note(&node("n2"), happened(2, vec![event(3, "shop/web"), event(1, "shop/db")]));
        log.note(&node("n1"), happened(1, vec![event(2, "test/web")]));
        let check = |filter: EventFilter, expected: &[u64]| {
            assert_eq!(times(&log.after(0, &filter).events), expected);
        };
        check(EventFilter::default(), &[3, 1, 2]);
        check(EventFilter { node: Some(node("n2")), ..EventFilter::default() }, &[3, 1]);
        check(EventFilter { namespace: Some("test".to_owned()), ..EventFilter::default() }, &[2]);
        check(EventFilter { pod: Some("shop/db".parse().unwrap()), ..EventFilter::default() }, &[1]);
        let ids: Vec<_> = all(&log).iter().map(|(_, event)| event.id.clone()).collect();
        assert_eq!(ids, ["n2-7-1", "n2-7-2", "n1-7-1"]);
        assert_eq!(times(&log.after(2, &EventFilter::default()).events), [2]);
    }

    #[test]
    fn what_is_told_again_is_known() {
        let log = EventLog::default();
        log.note(&node("n1"), happened(2, vec![event(1, "shop/web"), event(2, "shop/web")]));
        log.note(&node("n1"), happened(3, vec![event(2, "shop/web"), event(3, "shop/web")]));
        assert_eq!(times(&all(&log)), [1, 2, 3]);
        // Another life of the agent counts from the beginning.
        let again = Happened { agent_started_at_ms: 9, ..happened(1, vec![event(4, "shop/web")]) };
        log.note(&node("n1"), again);
        assert_eq!(times(&all(&log)), [1, 2, 3, 4]);
    }

    #[test]
    fn a_node_that_never_tires_pushes_out_its_own_only() {
        let log = EventLog::default();
        log.note(&node("quiet"), happened(1, vec![event(0, "shop/web")]));
        let many = u64::try_from(PER_NODE).unwrap() + 10;
        log.note(&node("loud"), happened(many, (1..=many).map(|at_ms| event(at_ms, "shop/web")).collect()));
        let all = times(&all(&log));
        assert_eq!((all.len(), all[0], all[1]), (PER_NODE + 1, 0, 11));
        // Who has read up to the tenth that was pushed out has missed nothing, and who has not has.
        let lost = |came| log.after(came, &EventFilter::default()).lost;
        assert_eq!((lost(10), lost(11)), (true, false));
    }

    #[test]
    fn all_nodes_together_stay_within_bounds() {
        let log = EventLog::default();
        for number in 0..IN_ALL / PER_NODE + 2 {
            let events = (0..256).map(|at_ms| event(at_ms, "shop/web")).collect();
            log.note(&node(&format!("n{number}")), happened(256, events));
        }
        assert_eq!(all(&log).len(), IN_ALL);
        assert_eq!(log.lock().kept, IN_ALL);
    }

    #[test]
    fn a_node_speaks_for_itself_and_not_without_end() {
        let log = EventLog::default();
        let long = "ü".repeat(1 << 20);
        let details = (0..40).map(|number| (number.to_string(), long.clone())).collect();
        let claimed = v1::Event {
            node: "another".to_owned(),
            message: long.clone(),
            container: Some(long.clone()),
            details,
            ..event(1, "shop/web")
        };
        log.note(&node("n1"), happened(1, vec![claimed]));
        let (_, kept) = all(&log).remove(0);
        assert_eq!((kept.node.as_str(), kept.message.len()), ("n1", TEXT_MAX_BYTES));
        assert_eq!(kept.details.len(), DETAILS_MAX);
        let texts = kept.details.values().chain(&kept.container).chain([&kept.message]);
        assert!(texts.into_iter().all(|text| text.capacity() <= TEXT_MAX_BYTES));
    }
}
