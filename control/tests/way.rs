//! The whole way of an order: platform, control plane, node and back, over real TLS.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::PodState;
use berth_proto::v1::platform_client::PlatformClient;
use berth_proto::v1::pod_order::Verb;
use common::*;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

#[tokio::test]
async fn a_pod_with_cpus_of_its_own_comes_runs_and_goes() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    platform.put_pool(address_pool("lan")).await.unwrap();

    let mut request = exclusive_pod("web", 1);
    request.address_pools = vec!["lan".to_owned()];
    let pod = submit(&mut platform, request.clone()).await.unwrap();
    assert_eq!(pod.state(), PodState::Placed);
    assert_eq!((pod.node.as_deref(), pod.incarnation, pod.seq), (Some("n1"), 1, 1));
    // The same content again is the same pod.
    assert_eq!(submit(&mut platform, request.clone()).await.unwrap(), pod);

    // Its CPU leaves the shared pool before any node hears of the pod.
    let shrink = node.next_order().await;
    assert_eq!(shared_cpus(&shrink), "default 2-3 on 0-1, generation 2");
    let waiting = get(&mut platform, "web").await.unwrap();
    assert_eq!(waiting.orders.len(), 1);
    node.done(&shrink).await;

    let run = node.next_order().await;
    let (order, verb) = pod_order(&run);
    assert_eq!((order.incarnation, order.generation, order.seq), (1, 1, 1));
    assert_eq!((run.node.as_str(), run.term, run.deadline_ms), ("n1", 1, 600_000));
    let Verb::Run(told) = verb else { panic!("{verb:?}") };
    let spec = told.spec.as_ref().unwrap();
    assert_eq!(told.kept_disk_incarnation, None);
    assert_eq!(spec.limits.as_ref().unwrap().cpu_weight, Some(100));
    let address = &spec.addresses[0];
    assert_eq!((address.address.as_str(), address.gateway.as_deref()), ("10.88.0.10/24", Some("10.88.0.1")));
    let binding = spec.cpu.as_ref().unwrap().binding.as_ref().unwrap();
    let exclusive =
        v1::cpu_binding::Binding::Exclusive(v1::ExclusiveCpus { cpus: "1".to_owned(), mems: "0".to_owned() });
    assert_eq!(*binding, exclusive);
    node.done(&run).await;
    pod_in_state(&mut platform, "web", PodState::Running).await;

    report_status(&node, &mut platform).await;

    assert_eq!(evict(&mut platform, "web", false).await.unwrap().state(), PodState::Evicting);
    let order = node.next_order().await;
    assert_eq!(order.deadline_ms, 121_000);
    assert!(matches!(
        pod_order(&order).1,
        Verb::Evict(v1::pod_order::Evict { grace_ms: 1_000, release: false })
    ));
    node.done(&order).await;
    let evicted = pod_in_state(&mut platform, "web", PodState::Evicted).await;
    assert_eq!((evicted.node, evicted.spec, evicted.status), (None, None, None));
    let grow = node.next_order().await;
    assert_eq!(shared_cpus(&grow), "default 1-3 on 0-1, generation 3");
    node.done(&grow).await;

    release(&mut node, &mut platform).await;
}

/// Evicted, it still holds its address; released, nothing.
async fn release(node: &mut FakeNode, platform: &mut PlatformClient<Channel>) {
    assert_denied(
        platform.delete_pool(v1::DeletePoolRequest { name: "lan".to_owned() }).await,
        Code::FailedPrecondition,
        "10.88.0.10 of pod shop/web",
    );
    let release = v1::ReleasePodRequest { pod: Some(pod_ref("web")), reason: String::new() };
    platform.release_pod(release).await.unwrap();
    let order = node.next_order().await;
    assert!(matches!(pod_order(&order).1, Verb::Release(_)));
    assert_eq!(order.reason, "asked for by platform/ops");
    node.done(&order).await;
    assert_denied(get(platform, "web").await, Code::NotFound, "there is no pod shop/web");
    platform.delete_pool(v1::DeletePoolRequest { name: "lan".to_owned() }).await.unwrap();

    // A later pod of that name begins above everything that a node may remember of the first.
    let again = submit(platform, shared_pod("web")).await.unwrap();
    assert!(again.incarnation > 1 && again.seq > 3, "{again:?}");
}

async fn report_status(node: &FakeNode, platform: &mut PlatformClient<Channel>) {
    let status = v1::PodStatus {
        pod: Some(pod_ref("web")),
        incarnation: 1,
        generation: 1,
        phase: v1::PodPhase::Running.into(),
        message: "all well".to_owned(),
        ..v1::PodStatus::default()
    };
    node.say(v1::node_message::Message::PodStatus(status)).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while get(platform, "web").await.unwrap().status.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "no status came");
    }
}

#[tokio::test]
async fn orders_are_sent_again_until_they_have_an_outcome() {
    let mut fleet = Fleet::start().await;
    let (credentials, mut first) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, shared_pod("web")).await.unwrap();
    let run = first.next_order().await;

    // Another stream of the node ends the first, and gets the order again.
    let mut second = FakeNode::connect(&fleet, &credentials, "n1").await.unwrap();
    let error = first.next().await.unwrap_err();
    assert!(error.to_string().contains("another stream of this node has taken over"), "{error:#}");
    assert_eq!(second.next_order().await, run);
    second.accept(&run).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let orders =
            platform.list_orders(v1::ListOrdersRequest::default()).await.unwrap().into_inner().orders;
        if orders.iter().any(|record| record.state == "accepted") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{orders:?}");
    }

    // So does a restart of the control plane, in its new term. The outcome may come with the hello.
    drop(platform);
    fleet.restart().await;
    assert!(second.next().await.is_err());
    let mut third = FakeNode::connect(&fleet, &credentials, "n1").await.unwrap();
    assert_eq!(third.welcome.term, 2);
    let again = third.next_order().await;
    assert_eq!((again.term, &again.id), (2, &run.id));
    assert_eq!(v1::Order { term: 1, ..again }, run);
    let greeting = v1::Hello { updates: vec![update(&run, done())], ..hello("n1") };
    let mut fourth = FakeNode::connect_saying(&fleet, &credentials, greeting).await.unwrap();
    let seen = fourth.next().await.unwrap();
    assert_eq!(
        seen,
        v1::control_message::Message::OutcomesSeen(v1::OutcomesSeen { order_ids: vec![run.id.clone()] })
    );
    let mut platform = fleet.platform().await;
    assert_eq!(get(&mut platform, "web").await.unwrap().state(), PodState::Running);
}

#[tokio::test]
async fn a_refused_run_is_told_and_can_be_placed_again() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    platform.put_pool(address_pool("lan")).await.unwrap();
    let mut request = shared_pod("web");
    request.address_pools = vec!["lan".to_owned()];
    submit(&mut platform, request.clone()).await.unwrap();
    let run = node.next_order().await;
    node.refuse(&run, "Unsupported").await;
    let failed = pod_in_state(&mut platform, "web", PodState::Failed).await;
    assert_eq!(failed.message, "Run: refused: because of Unsupported");

    let again = submit(&mut platform, request).await.unwrap();
    assert_eq!((again.state(), again.incarnation, again.seq), (PodState::Placed, 2, 2));
    let run = node.next_order().await;
    let Verb::Run(told) = pod_order(&run).1 else { panic!("{run:?}") };
    let address = &told.spec.as_ref().unwrap().addresses[0];
    assert_eq!(address.address, "10.88.0.10/24");
    node.done(&run).await;
    pod_in_state(&mut platform, "web", PodState::Running).await;
    assert_denied(
        submit(&mut platform, shared_pod("web")).await,
        Code::AlreadyExists,
        "pod shop/web is running with another content: berth upgrade -f or berth resize -f changes it where it is",
    );
}

#[tokio::test]
async fn kept_disks_hold_a_pod_to_their_node() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let (_other_credentials, _other) = fleet.ready_node("n2").await;
    let mut platform = fleet.platform().await;
    let mut request = shared_pod("db");
    request.node = Some("n1".to_owned());
    submit(&mut platform, request.clone()).await.unwrap();
    let run = node.next_order().await;
    node.done(&run).await;
    evict(&mut platform, "db", false).await.unwrap();
    let order = node.next_order().await;
    node.done(&order).await;
    pod_in_state(&mut platform, "db", PodState::Evicted).await;

    request.node = Some("n2".to_owned());
    assert_denied(
        submit(&mut platform, request.clone()).await,
        Code::FailedPrecondition,
        "the disks of pod shop/db are kept on node n1",
    );
    request.node = None;
    submit(&mut platform, request).await.unwrap();
    let run = node.next_order().await;
    let Verb::Run(told) = pod_order(&run).1 else { panic!("{run:?}") };
    assert_eq!(told.kept_disk_incarnation, Some(1));
}

#[tokio::test]
async fn a_pool_that_does_not_shrink_keeps_its_pod_from_running() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, exclusive_pod("web", 1)).await.unwrap();
    let shrink = node.next_order().await;
    node.refuse(&shrink, "Busy").await;
    let failed = pod_in_state(&mut platform, "web", PodState::Failed).await;
    assert!(failed.message.contains("because of Busy"), "{failed:?}");
    // The pool is ordered to be what it was; no Run ever came.
    assert_eq!(shared_cpus(&node.next_order().await), "default 1-3 on 0-1, generation 3");
}

#[tokio::test]
async fn stop_and_start() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, shared_pod("web")).await.unwrap();
    let run = node.next_order().await;
    node.done(&run).await;
    let stop = v1::StopPodRequest { pod: Some(pod_ref("web")), grace_ms: None, reason: "a test".to_owned() };
    let pod = platform.stop_pod(stop.clone()).await.unwrap().into_inner();
    assert_eq!((pod.state(), pod.seq), (PodState::Stopping, 2));
    let order = node.next_order().await;
    assert!(matches!(pod_order(&order).1, Verb::Stop(v1::pod_order::Stop { grace_ms: 30_000 })));
    let start = v1::StartPodRequest { pod: Some(pod_ref("web")), reason: String::new() };
    assert_denied(platform.start_pod(start.clone()).await, Code::FailedPrecondition, "still being stopped");
    node.done(&order).await;
    pod_in_state(&mut platform, "web", PodState::Stopped).await;
    assert_eq!(platform.stop_pod(stop).await.unwrap().into_inner().seq, 2);
    platform.start_pod(start).await.unwrap();
    let order = node.next_order().await;
    assert!(matches!(pod_order(&order).1, Verb::Start(_)));
    node.done(&order).await;
    pod_in_state(&mut platform, "web", PodState::Running).await;
    // For good: disks, address and identity go with it.
    evict(&mut platform, "web", true).await.unwrap();
    let order = node.next_order().await;
    node.done(&order).await;
    assert_denied(get(&mut platform, "web").await, Code::NotFound, "no pod");
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_then_what_changes() {
    use v1::pod_event::Event;
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, shared_pod("web")).await.unwrap();
    let mut watch = platform.watch_pods(v1::ListPodsRequest::default()).await.unwrap().into_inner();
    let mut next = async || -> Event {
        let event = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap();
        event.unwrap().unwrap().event.unwrap()
    };
    let Event::Changed(pod) = next().await else { panic!() };
    assert_eq!(pod.state(), PodState::Placed);
    assert!(matches!(next().await, Event::Synced(_)));
    let run = node.next_order().await;
    node.done(&run).await;
    let Event::Changed(pod) = next().await else { panic!() };
    assert_eq!(pod.state(), PodState::Running);
    evict(&mut platform, "web", true).await.unwrap();
    let Event::Changed(pod) = next().await else { panic!() };
    assert_eq!(pod.state(), PodState::Evicting);
    let order = node.next_order().await;
    node.done(&order).await;
    let Event::Released(pod) = next().await else { panic!() };
    assert_eq!(pod, pod_ref("web"));
}

#[tokio::test]
async fn a_lease_that_runs_out_is_a_fact_and_nothing_else() {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, shared_pod("web")).await.unwrap();
    let run = node.next_order().await;
    node.done(&run).await;
    let mut state = async || {
        let node = "n1".to_owned();
        platform.get_node(v1::GetNodeRequest { node }).await.unwrap().into_inner().state()
    };
    assert_eq!(state().await, v1::NodeState::Ready);
    fleet.clock.advance(Duration::from_secs(41));
    assert_eq!(state().await, v1::NodeState::Silent);
    let mut platform = fleet.platform().await;
    assert_eq!(get(&mut platform, "web").await.unwrap().state(), PodState::Running);
    assert_denied(
        submit(&mut platform, shared_pod("other")).await,
        Code::ResourceExhausted,
        "n1: NodeReady: the node is silent",
    );
    node.say(v1::node_message::Message::Heartbeat(v1::Heartbeat {})).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while submit(&mut platform, shared_pod("other")).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_pod_has_one_address_of_each_family_or_none_is_assigned() {
    let fleet = Fleet::start().await;
    let (_, _node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    platform.put_pool(address_pool("lan")).await.unwrap();
    let single = v1::AddressPool {
        name: "lan6".to_owned(),
        network: "2001:db8::/64".to_owned(),
        first: "2001:db8::10".to_owned(),
        last: "2001:db8::10".to_owned(),
        ..v1::AddressPool::default()
    };
    platform.put_pool(single).await.unwrap();
    platform
        .put_pool(v1::AddressPool {
            name: "wan".to_owned(),
            network: "10.99.0.0/24".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let asking = |name: &str, pools: &[&str]| v1::PodRequest {
        address_pools: pools.iter().map(|&pool| pool.to_owned()).collect(),
        ..shared_pod(name)
    };

    let pod = submit(&mut platform, asking("web", &["lan6", "lan"])).await.unwrap();
    let addresses: Vec<_> = pod.spec.unwrap().addresses.into_iter().map(|grant| grant.address).collect();
    assert_eq!(addresses, ["10.88.0.10/24", "2001:db8::10/64"]);

    let refused = submit(&mut platform, asking("two", &["lan", "wan"])).await.unwrap_err();
    assert!(refused.message().contains("lan and wan are both IPv4"), "{refused:?}");
    let exhausted = submit(&mut platform, asking("late", &["lan", "lan6"])).await.unwrap_err();
    assert!(exhausted.message().contains("pool lan6: all 1 addresses"), "{exhausted:?}");
    let pools = platform.list_pools(v1::ListPoolsRequest { assignments: true }).await.unwrap().into_inner();
    let held: Vec<_> = pools.assignments.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(held, ["10.88.0.10", "2001:db8::10"], "nothing was assigned to who was refused");
}
