//! Events go upstream in order, one message at a time, and again until they are confirmed.

use super::*;
use crate::events::{Event, Incident};

fn happened(numbers: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    let event = |at_ms| Event { at_ms, pod: Some(pod()), container: None, incident: Incident::Ready };
    numbers.map(event).collect()
}

async fn next(connection: &Connection) -> (Vec<u64>, u64) {
    connection
        .next("events", |message| match message {
            Up::Events(batch) => Some((batch.events.iter().map(|event| event.at_ms).collect(), batch.last)),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn events_are_sent_until_they_are_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (address, mut connections) = control(&authority, CONTROL, Holds::Now, 1).await;
    let pki = identify(&authority, folder.path(), "spiffe://berth.test/node/n1", &authority);
    let rig = link(folder.path(), &address, pki);
    let journal = rig.reports.journal();
    journal.note(happened(1..=70));
    let (connection, _) = connected(&mut connections).await;
    assert_eq!(next(&connection).await, ((1..=64).collect(), 64));
    // What is not confirmed holds back what comes after it: there is no second message before the confirmation.
    journal.note(happened(71..=71));
    connection.send(Down::EventsSeen(v1::EventsSeen { last: 9 })).await;
    connection.send(Down::EventsSeen(v1::EventsSeen { last: 64 })).await;
    assert_eq!(next(&connection).await, ((65..=71).collect(), 71));
    // Upstream goes away without a word: it is told again.
    drop(connection);
    let (connection, _) = connected(&mut connections).await;
    assert_eq!(next(&connection).await, ((65..=71).collect(), 71));
    connection.send(Down::EventsSeen(v1::EventsSeen { last: 71 })).await;
    wait_for("confirmed", || journal.unconfirmed(1).events.is_empty().then_some(())).await;
    journal.note(happened(72..=72));
    assert_eq!(next(&connection).await, (vec![72], 72));
}
