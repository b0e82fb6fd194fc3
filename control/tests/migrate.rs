//! Migrations and rollouts over the wire, with nodes made by hand.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::platform_client::PlatformClient;
use berth_proto::v1::pod_order::Verb;
use berth_proto::v1::{MigrationPhase, PodState};
use common::*;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

fn request() -> v1::PodRequest {
    v1::PodRequest {
        disk: v1::DiskPolicy::Rebuild.into(),
        address_pools: vec!["lan".to_owned()],
        ..shared_pod("web")
    }
}

/// A pod on the only node, and then a second node.
async fn two_nodes() -> (Fleet, (Credentials, FakeNode), FakeNode, PlatformClient<Channel>) {
    let fleet = Fleet::start().await;
    let (credentials, mut first) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    platform.put_pool(address_pool("lan")).await.unwrap();
    submit(&mut platform, request()).await.unwrap();
    let run = first.next_order().await;
    first.done(&run).await;
    pod_in_state(&mut platform, "web", PodState::Running).await;
    let (_, second) = fleet.ready_node("n2").await;
    (fleet, (credentials, first), second, platform)
}

async fn migrate(platform: &mut PlatformClient<Channel>) -> v1::Migration {
    let request = v1::MigratePodRequest { pod: Some(pod_ref("web")), ..v1::MigratePodRequest::default() };
    platform.migrate_pod(request).await.unwrap().into_inner()
}

async fn in_phase(platform: &mut PlatformClient<Channel>, phase: MigrationPhase) -> v1::Migration {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = v1::GetMigrationRequest { pod: Some(pod_ref("web")) };
        let migration = platform.get_migration(request).await.unwrap().into_inner();
        if migration.phase() == phase {
            return migration;
        }
        assert!(tokio::time::Instant::now() < deadline, "not {phase:?}: {migration:?}");
        tokio::task::yield_now().await;
    }
}

fn pulled(order: &v1::Order) -> &str {
    match &order.target {
        Some(v1::order::Target::NodeOrder(v1::NodeOrder {
            verb: Some(v1::node_order::Verb::PullImage(pull)),
        })) => &pull.image,
        other => panic!("no PullImage: {other:?}"),
    }
}

#[tokio::test]
async fn a_pod_moves_with_its_address_and_the_source_speaks_first() {
    let (_fleet, (_, mut first), mut second, mut platform) = two_nodes().await;
    let migration = migrate(&mut platform).await;
    assert_eq!((migration.from.as_str(), migration.to.as_str()), ("n1", "n2"));
    assert_eq!(migration.phase(), MigrationPhase::Preparing);
    let pull = second.next_order().await;
    assert_eq!(pulled(&pull), "registry.example/shop/web:1");
    assert_denied(evict(&mut platform, "web", false).await, Code::FailedPrecondition, "is being migrated");
    second.done(&pull).await;

    let stop = first.next_order().await;
    let (told, verb) = pod_order(&stop);
    assert_eq!(told.incarnation, 1);
    assert!(matches!(verb, Verb::Evict(v1::pod_order::Evict { release: false, .. })));
    in_phase(&mut platform, MigrationPhase::Stopping).await;
    first.done(&stop).await;

    let run = second.next_order().await;
    let (told, verb) = pod_order(&run);
    let Verb::Run(spec) = verb else { panic!("{verb:?}") };
    let spec = spec.spec.as_ref().unwrap();
    assert_eq!((told.incarnation, told.generation), (2, 1));
    assert_eq!((spec.addresses[0].address.as_str(), spec.hostname.as_str()), ("10.88.0.10/24", "web"));
    second.done(&run).await;
    let release = first.next_order().await;
    assert!(matches!(pod_order(&release).1, Verb::Release(_)));
    in_phase(&mut platform, MigrationPhase::Releasing).await;
    first.done(&release).await;
    in_phase(&mut platform, MigrationPhase::Done).await;
    let pod = get(&mut platform, "web").await.unwrap();
    assert_eq!((pod.state(), pod.node.as_deref(), pod.kept.len()), (PodState::Running, Some("n2"), 0));

    let tenures =
        platform.list_tenures(v1::ListTenuresRequest::default()).await.unwrap().into_inner().tenures;
    assert_eq!(tenures.len(), 1);
    assert_eq!((tenures[0].address.as_str(), tenures[0].released_at_ms), ("10.88.0.10", None));
}

#[tokio::test]
async fn a_silent_source_is_waited_for_until_somebody_knows_better() {
    let (fleet, (credentials, first), mut second, mut platform) = two_nodes().await;
    migrate(&mut platform).await;
    let pull = second.next_order().await;
    second.done(&pull).await;
    in_phase(&mut platform, MigrationPhase::Stopping).await;
    drop(first);
    let dead = || v1::ConfirmNodeDeadRequest { node: "n1".to_owned(), reason: "no power".to_owned() };
    let early = platform.confirm_node_dead(dead()).await;
    assert_denied(early, Code::FailedPrecondition, "node n1 answers");
    fleet.clock.advance(Duration::from_secs(41));
    second.say(v1::node_message::Message::Heartbeat(v1::Heartbeat {})).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pod = get(&mut platform, "web").await.unwrap();
        if pod.message.contains("the source is silent") {
            assert_eq!(pod.state(), PodState::Evicting);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{pod:?}");
        tokio::task::yield_now().await;
    }
    let record = platform.confirm_node_dead(dead()).await.unwrap().into_inner();
    assert_eq!(
        (record.state(), record.fenced.as_slice()),
        (v1::NodeState::Dead, [pod_ref("web")].as_slice())
    );
    let run = second.next_order().await;
    assert_eq!(pod_order(&run).0.incarnation, 2);
    second.done(&run).await;
    in_phase(&mut platform, MigrationPhase::Done).await;

    // It comes back, and has started the pod by its charter: that one goes, at its own incarnation.
    let still = v1::PodStatus {
        pod: Some(pod_ref("web")),
        incarnation: 1,
        generation: 1,
        phase: v1::PodPhase::Running.into(),
        ..v1::PodStatus::default()
    };
    let greeting = v1::Hello { pods: vec![still], ..hello("n1") };
    let mut back = FakeNode::connect_saying(&fleet, &credentials, greeting).await.unwrap();
    let order = back.next_order().await;
    let (told, verb) = pod_order(&order);
    assert_eq!(told.incarnation, 1);
    assert!(matches!(verb, Verb::Evict(v1::pod_order::Evict { grace_ms: 0, .. })));
    back.done(&order).await;
    let node = v1::GetNodeRequest { node: "n1".to_owned() };
    let record = platform.get_node(node).await.unwrap().into_inner();
    assert_eq!((record.state(), record.fenced.len()), (v1::NodeState::Ready, 0));
    let pod = get(&mut platform, "web").await.unwrap();
    assert_eq!((pod.state(), pod.node.as_deref(), pod.incarnation), (PodState::Running, Some("n2"), 2));
}

#[tokio::test]
async fn a_rollout_goes_pod_by_pod_and_over_a_restart() {
    let mut fleet = Fleet::start().await;
    let (credentials, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    let status = |name: &str| v1::PodStatus {
        pod: Some(pod_ref(name)),
        incarnation: 1,
        generation: 1,
        phase: v1::PodPhase::Running.into(),
        ..v1::PodStatus::default()
    };
    for name in ["a", "b"] {
        let request =
            v1::PodRequest { labels: [("tier".to_owned(), "front".to_owned())].into(), ..shared_pod(name) };
        submit(&mut platform, request).await.unwrap();
        let run = node.next_order().await;
        node.done(&run).await;
        node.say(v1::node_message::Message::PodStatus(status(name))).await;
    }
    let container = v1::ContainerPatch {
        name: "web".to_owned(),
        image: Some("registry.example/shop/web:2".to_owned()),
        ..v1::ContainerPatch::default()
    };
    let labels = [("tier".to_owned(), "front".to_owned())].into();
    let start = v1::StartRolloutRequest {
        name: "front".to_owned(),
        selector: Some(v1::PodSelector { labels, ..v1::PodSelector::default() }),
        patch: Some(v1::PodPatch { containers: vec![container], ..v1::PodPatch::default() }),
        max_unavailable: 1,
        ..v1::StartRolloutRequest::default()
    };
    let rollout = platform.start_rollout(start).await.unwrap().into_inner();
    assert_eq!((rollout.waiting + rollout.under_way, rollout.pods.len()), (2, 2));
    let order = node.next_order().await;
    assert_eq!(pod_order(&order).0.pod, Some(pod_ref("a")));
    drop(platform);
    fleet.restart().await;
    let greeting = v1::Hello {
        pods: vec![status("a"), status("b")],
        updates: vec![update(&order, done())],
        ..hello("n1")
    };
    let mut node = FakeNode::connect_saying(&fleet, &credentials, greeting).await.unwrap();
    let order = node.next_order().await;
    assert_eq!(pod_order(&order).0.pod, Some(pod_ref("b")));
    node.end(&order, v1::outcome::Outcome::RolledBack(reason("NotReady"))).await;
    let mut platform = fleet.platform().await;
    let request = v1::GetRolloutRequest { name: "front".to_owned() };
    let rollout = platform.get_rollout(request).await.unwrap().into_inner();
    assert_eq!(rollout.state(), v1::RolloutState::Done);
    assert_eq!((rollout.done, rollout.rolled_back), (1, 1));
    assert_eq!(rollout.pods[1].message, "because of NotReady");
}
