//! Containers that the runtime has and nobody ordered: told, and left alone.

use super::{Event, Incident, Journal};
use crate::clock::epoch_ms;
use crate::ledger::Ledger;
use crate::pod::is_busy;
use crate::runtime::{ContainerdRuntime, Listed};
use berth_model::{Incarnation, PodId};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// Between two looks. Whoever comes is told at the second.
const LOOK: Duration = Duration::from_secs(30);
/// Strangers that are named at one look; of more there is one event with their number.
const NAMED: usize = 16;

/// Looks now and then, for ever, and notes who was not there before.
pub async fn watch_strangers(
    ledger: Ledger,
    runtime: ContainerdRuntime,
    journal: Arc<Journal>,
) -> Infallible {
    let mut seen = Strangers::default();
    let mut failed = false;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let listed = match runtime.list_all().await {
            Ok(listed) => listed,
            Err(error) => {
                // Once: a runtime that is away is told of by others, too.
                if !std::mem::replace(&mut failed, true) {
                    warn!("the runtime does not list what it has: what nobody ordered is not told: {error}");
                }
                continue;
            }
        };
        failed = false;
        // After the list: a pod is in the ledger before anything of it is made.
        let ordered: BTreeSet<_> = ledger.read(|book| {
            let here = book.pods.values().filter(|record| is_busy(record));
            here.map(|record| (record.pod.clone(), record.incarnation)).collect()
        });
        journal.note(seen.news(listed, &ordered, epoch_ms()));
    }
}

/// Strangers of the last look.
#[derive(Debug, Default)]
struct Strangers {
    /// Seen once: a pod that leaves is out of the ledger before it is out of a list that was under way.
    once: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Strangers {
    /// Strangers that have been seen twice and were not told of, and remembers all of them.
    fn news(
        &mut self,
        listed: Vec<Listed>,
        ordered: &BTreeSet<(PodId, Incarnation)>,
        at_ms: u64,
    ) -> Vec<Event> {
        let is_ours = |listed: &Listed| listed.of.as_ref().is_some_and(|of| ordered.contains(of));
        let strangers: Vec<_> = listed.into_iter().filter(|listed| !is_ours(listed)).collect();
        let here: BTreeSet<String> = strangers.iter().map(|listed| listed.id.clone()).collect();
        self.told.retain(|id| here.contains(id));
        let before = std::mem::replace(&mut self.once, here);
        let mut fresh =
            strangers.into_iter().filter(|one| before.contains(&one.id) && !self.told.contains(&one.id));
        let named: Vec<Listed> = fresh.by_ref().take(NAMED).collect();
        let more: BTreeSet<String> = fresh.map(|listed| listed.id).collect();
        self.told.extend(named.iter().map(|listed| listed.id.clone()).chain(more.iter().cloned()));
        let event = |pod, incident| Event { at_ms, pod, container: None, incident };
        let mut news: Vec<_> = named
            .into_iter()
            .map(|Listed { id, image, of }| {
                event(of.map(|(pod, _)| pod), Incident::UnknownContainer { id, image })
            })
            .collect();
        if !more.is_empty() {
            news.push(event(None, Incident::MoreUnknownContainers { containers: more.len() }));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn listed(id: &str, of: Option<u64>) -> Listed {
        Listed {
            id: id.to_owned(),
            image: "a test's".to_owned(),
            of: of.map(|incarnation| (pod(), Incarnation(incarnation))),
        }
    }

    fn check(strangers: &mut Strangers, all: Vec<Listed>, expected: &[&str]) {
        let ordered = BTreeSet::from([(pod(), Incarnation(2))]);
        let events = strangers.news(all, &ordered, 1);
        let said = events.iter().map(|event| match &event.incident {
            Incident::UnknownContainer { id, .. } => id.clone(),
            Incident::MoreUnknownContainers { containers } => format!("and {containers}"),
            other => panic!("{other}"),
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_stranger_is_told_once_it_stays() {
        let mut known = Strangers::default();
        let (ours, foreign) = (|| listed("ours", Some(2)), || listed("foreign", None));
        check(&mut known, vec![ours()], &[]);
        // A pod that has just left is still in the list.
        check(&mut known, vec![ours(), foreign(), listed("left", Some(1))], &[]);
        check(&mut known, vec![ours(), foreign()], &["foreign"]);
        check(&mut known, vec![ours(), foreign()], &[]);
        check(&mut known, vec![ours()], &[]);
        check(&mut known, vec![foreign()], &[]);
        check(&mut known, vec![foreign()], &["foreign"]);
    }

    #[test]
    fn many_strangers_are_a_few_events() {
        let mut known = Strangers::default();
        let all = || (0..100).map(|number| listed(&format!("{number:02}"), None)).collect::<Vec<_>>();
        check(&mut known, all(), &[]);
        let events = known.news(all(), &BTreeSet::new(), 1);
        assert_eq!(
            (events.len(), events.last().map(|event| event.incident.to_string())),
            (
                NAMED + 1,
                Some(
                    "the runtime has 84 more containers that nobody ordered; they are left alone".to_owned()
                )
            )
        );
        check(&mut known, all(), &[]);
    }
}
