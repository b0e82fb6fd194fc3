//! What nodes say that has happened, as platforms hear it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::control_message::Message as FromControl;
use berth_proto::v1::node_message::Message as FromNode;
use common::*;
use tonic::{Code, Streaming};

fn batch(last: u64, code: &str) -> FromNode {
    let event =
        v1::Event { at_ms: last, pod: Some(pod_ref("web")), code: code.to_owned(), ..v1::Event::default() };
    FromNode::Events(v1::EventBatch { last, events: vec![event], lost: 0, agent_started_at_ms: 7 })
}

async fn confirmed(node: &mut FakeNode) -> u64 {
    loop {
        if let FromControl::EventsSeen(seen) = node.next().await.unwrap() {
            return seen.last;
        }
    }
}

async fn confirmed_or_ended(node: &mut FakeNode) -> anyhow::Result<()> {
    loop {
        if let FromControl::EventsSeen(_) = node.next().await? {
            return Ok(());
        }
    }
}

async fn said(stream: &mut Streaming<v1::Event>) -> Option<String> {
    let event = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap()?;
    Some(format!("{} {}", event.node, event.code))
}

#[tokio::test]
async fn platforms_hear_what_happens_on_nodes() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    node.say(batch(1, "ContainerStarted")).await;
    assert_eq!(confirmed(&mut node).await, 1);

    let ask = |follow| v1::WatchEventsRequest { follow, ..v1::WatchEventsRequest::default() };
    let mut all = platform.watch_events(ask(false)).await.unwrap().into_inner();
    assert_eq!(said(&mut all).await.as_deref(), Some("n1 ContainerStarted"));
    assert_eq!(said(&mut all).await, None);

    let mut follower = platform.watch_events(ask(true)).await.unwrap().into_inner();
    let elsewhere = v1::WatchEventsRequest { node: Some("n2".to_owned()), ..ask(true) };
    let mut other = platform.watch_events(elsewhere).await.unwrap().into_inner();
    assert_eq!(said(&mut follower).await.as_deref(), Some("n1 ContainerStarted"));
    // What only a newer node says does not end its link.
    node.say_something_new().await;
    node.say(batch(2, "FromTheFuture")).await;
    assert_eq!(confirmed(&mut node).await, 2);
    assert_eq!(said(&mut follower).await.as_deref(), Some("n1 FromTheFuture"));
    // Of the other node that is the first thing that is heard.
    let (_, mut second) = fleet.ready_node("n2").await;
    second.say(batch(1, "ContainerReady")).await;
    assert_eq!(confirmed(&mut second).await, 1);
    assert_eq!(said(&mut other).await.as_deref(), Some("n2 ContainerReady"));
    assert_eq!(said(&mut follower).await.as_deref(), Some("n2 ContainerReady"));
    // What a node tells again, since it has not heard that it was heard, is no second event.
    node.say(batch(2, "FromTheFuture")).await;
    assert_eq!(confirmed(&mut node).await, 2);
    node.say(batch(3, "ContainerExited")).await;
    assert_eq!(confirmed(&mut node).await, 3);
    assert_eq!(said(&mut follower).await.as_deref(), Some("n1 ContainerExited"));

    let mut unnamed = batch(4, "ContainerExited");
    if let FromNode::Events(batch) = &mut unnamed {
        batch.events[0].pod = Some(v1::PodRef { namespace: "No".to_owned(), name: String::new() });
    }
    node.say(unnamed).await;
    assert!(confirmed_or_ended(&mut node).await.is_err(), "a pod without a name ends the link");

    let mut flood = batch(300, "ContainerExited");
    if let FromNode::Events(batch) = &mut flood {
        batch.events = vec![batch.events[0].clone(); 257];
    }
    second.say(flood).await;
    assert!(
        confirmed_or_ended(&mut second).await.is_err(),
        "more events than a message may have end the link"
    );

    let nameless = v1::WatchEventsRequest { node: Some("No Node".to_owned()), ..ask(false) };
    assert_denied(platform.watch_events(nameless).await.map(drop), Code::InvalidArgument, "node");
}
