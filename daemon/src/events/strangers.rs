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
use tracing::debug;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(30);

/// Looks now and then, for ever, and notes what was not there before.
pub async fn watch_strangers(
    ledger: Ledger,
    runtime: ContainerdRuntime,
    journal: Arc<Journal>,
) -> Infallible {
    let mut known = BTreeSet::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let listed = match runtime.list_all().await {
            Ok(listed) => listed,
            Err(error) => {
                debug!(%error, "the runtime does not list what it has");
                continue;
            }
        };
        // After the list: a pod is in the ledger before anything of it is made.
        let ordered: BTreeSet<_> = ledger.read(|book| {
            let here = book.pods.values().filter(|record| is_busy(record));
            here.map(|record| (record.pod.clone(), record.incarnation)).collect()
        });
        journal.note(news(&mut known, listed, &ordered));
    }
}

/// Strangers that were not known, and remembers all of them.
fn news(
    known: &mut BTreeSet<String>,
    listed: Vec<Listed>,
    ordered: &BTreeSet<(PodId, Incarnation)>,
) -> Vec<Event> {
    let is_ours = |listed: &Listed| listed.of.as_ref().is_some_and(|of| ordered.contains(of));
    let strangers: Vec<_> = listed.into_iter().filter(|listed| !is_ours(listed)).collect();
    let before = std::mem::replace(known, strangers.iter().map(|listed| listed.id.clone()).collect());
    let fresh = strangers.into_iter().filter(|listed| !before.contains(&listed.id));
    let event = |Listed { id, image, of }| Event {
        at_ms: epoch_ms(),
        pod: of.map(|(pod, _)| pod),
        container: None,
        incident: Incident::UnknownContainer { id, image },
    };
    fresh.map(event).collect()
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

    #[test]
    fn a_stranger_is_told_when_it_comes() {
        let ordered = BTreeSet::from([(pod(), Incarnation(2))]);
        let mut known = BTreeSet::new();
        let mut check = |all: Vec<Listed>, expected: &[&str]| {
            let events = news(&mut known, all, &ordered);
            let ids = events.iter().map(|event| match &event.incident {
                Incident::UnknownContainer { id, .. } => id.as_str(),
                other => panic!("{other}"),
            });
            assert_eq!(ids.collect::<Vec<_>>(), expected);
        };
        let ours = || listed("ours", Some(2));
        check(vec![ours()], &[]);
        check(vec![ours(), listed("foreign", None), listed("left", Some(1))], &["foreign", "left"]);
        check(vec![ours(), listed("foreign", None)], &[]);
        check(vec![ours()], &[]);
        check(vec![listed("foreign", None)], &["foreign"]);
    }
}
