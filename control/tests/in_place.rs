//! Restart, Upgrade and Resize, from platform to node and back.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use berth_proto::v1;
use berth_proto::v1::PodState;
use berth_proto::v1::platform_client::PlatformClient;
use berth_proto::v1::pod_order::Verb;
use common::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

fn image(tag: &str) -> v1::PodPatch {
    let container = v1::ContainerPatch {
        name: "web".to_owned(),
        image: Some(format!("registry.example/shop/web:{tag}")),
        ..v1::ContainerPatch::default()
    };
    v1::PodPatch { containers: vec![container], ..v1::PodPatch::default() }
}

fn exclusive(count: u32) -> v1::PodPatch {
    v1::PodPatch { cpu: exclusive_pod("web", count).cpu, ..v1::PodPatch::default() }
}

async fn upgrade(platform: &mut PlatformClient<Channel>, patch: v1::PodPatch) -> Result<v1::Pod, Status> {
    let request = v1::UpgradePodRequest {
        pod: Some(pod_ref("web")),
        change: Some(v1::upgrade_pod_request::Change::Patch(patch)),
        ..v1::UpgradePodRequest::default()
    };
    Ok(platform.upgrade_pod(request).await?.into_inner())
}

async fn resize(platform: &mut PlatformClient<Channel>, patch: v1::PodPatch) -> Result<v1::Pod, Status> {
    let request = v1::ResizePodRequest {
        pod: Some(pod_ref("web")),
        change: Some(v1::resize_pod_request::Change::Patch(patch)),
        ..v1::ResizePodRequest::default()
    };
    Ok(platform.resize_pod(request).await?.into_inner())
}

async fn running(request: v1::PodRequest) -> (Fleet, FakeNode, PlatformClient<Channel>) {
    let fleet = Fleet::start().await;
    let (_, mut node) = fleet.ready_node("n1").await;
    let mut platform = fleet.platform().await;
    submit(&mut platform, request).await.unwrap();
    loop {
        let order = node.next_order().await;
        let run = matches!(order.target, Some(v1::order::Target::Pod(_)));
        node.done(&order).await;
        if run {
            break;
        }
    }
    pod_in_state(&mut platform, "web", PodState::Running).await;
    (fleet, node, platform)
}

fn spec(verb: &Verb) -> v1::PodSpec {
    match verb {
        Verb::Upgrade(upgrade) => upgrade.spec.clone().unwrap(),
        Verb::Resize(resize) => resize.spec.clone().unwrap(),
        other => panic!("no change in place: {other:?}"),
    }
}

fn cpus(spec: &v1::PodSpec) -> String {
    match spec.cpu.as_ref().unwrap().binding.as_ref().unwrap() {
        v1::cpu_binding::Binding::Exclusive(own) => own.cpus.clone(),
        v1::cpu_binding::Binding::Shared(shared) => format!("pool {}", shared.pool),
    }
}

fn image_of(pod: &v1::Pod) -> (&str, &str) {
    (&pod.spec.as_ref().unwrap().containers[0].image, &pod.request.as_ref().unwrap().containers[0].image)
}

#[tokio::test]
async fn an_upgrade_is_taken_once_it_is_done_and_given_up_when_it_is_rolled_back() {
    let (_fleet, mut node, mut platform) = running(shared_pod("web")).await;
    let pod = upgrade(&mut platform, image("2")).await.unwrap();
    assert_eq!((pod.generation, pod.seq, pod.orders.len()), (1, 2, 1));
    assert_eq!(pod.revision.as_ref().unwrap().generation, 2);
    let order = node.next_order().await;
    let (told, verb) = pod_order(&order);
    assert_eq!((told.generation, told.seq), (2, 2));
    assert_eq!(spec(verb).containers[0].image, "registry.example/shop/web:2");
    assert!(matches!(verb, Verb::Upgrade(v1::pod_order::Upgrade { settle_ms: 5_000, .. })));
    let again = upgrade(&mut platform, image("3")).await;
    assert_denied(again, Code::FailedPrecondition, "Upgrade to generation 2 is under way");
    node.done(&order).await;
    let pod = get(&mut platform, "web").await.unwrap();
    let two = "registry.example/shop/web:2";
    assert_eq!((pod.generation, image_of(&pod), pod.revision.clone()), (2, (two, two), None));
    // Nothing differs: no order.
    assert!(upgrade(&mut platform, image("2")).await.unwrap().orders.is_empty());

    upgrade(&mut platform, image("broken")).await.unwrap();
    let order = node.next_order().await;
    assert_eq!(pod_order(&order).0.generation, 3);
    node.end(&order, v1::outcome::Outcome::RolledBack(reason("NotReady"))).await;
    let pod = get(&mut platform, "web").await.unwrap();
    assert_eq!(
        (pod.state(), pod.message.as_str()),
        (PodState::Running, "Upgrade: rolled back: because of NotReady")
    );
    // The node has used the generation up, and what comes next must be told of it.
    assert_eq!((pod.generation, image_of(&pod)), (3, (two, two)));
    evict(&mut platform, "web", false).await.unwrap();
    assert_eq!(pod_order(&node.next_order().await).0.generation, 3);
}

#[tokio::test]
async fn a_refused_upgrade_uses_no_generation_up() {
    let (_fleet, mut node, mut platform) = running(shared_pod("web")).await;
    upgrade(&mut platform, image("2")).await.unwrap();
    let order = node.next_order().await;
    // Until the node has said whether it took the generation on, what needs to know it is held back.
    evict(&mut platform, "web", false).await.unwrap();
    let orders = get(&mut platform, "web").await.unwrap().orders;
    assert_eq!(orders.len(), 2);
    node.refuse(&order, "Busy").await;
    let order = node.next_order().await;
    let (told, verb) = pod_order(&order);
    assert_eq!((told.generation, told.seq, matches!(verb, Verb::Evict(_))), (1, 3, true));
}

#[tokio::test]
async fn an_eviction_follows_an_upgrade_that_was_accepted() {
    let (_fleet, mut node, mut platform) = running(shared_pod("web")).await;
    upgrade(&mut platform, image("2")).await.unwrap();
    let order = node.next_order().await;
    evict(&mut platform, "web", false).await.unwrap();
    node.accept(&order).await;
    let leave = node.next_order().await;
    assert_eq!((pod_order(&leave).0.generation, pod_order(&leave).0.seq), (2, 3));
    node.end(&order, v1::outcome::Outcome::Failed(reason("Superseded"))).await;
    node.done(&leave).await;
    pod_in_state(&mut platform, "web", PodState::Evicted).await;
}

#[tokio::test]
async fn cpus_leave_the_shared_pool_before_a_pod_grows_and_come_back_after_it_shrank() {
    let (_fleet, mut node, mut platform) = running(exclusive_pod("web", 1)).await;
    resize(&mut platform, exclusive(2)).await.unwrap();
    let shrink = node.next_order().await;
    assert_eq!(shared_cpus(&shrink), "default 2 on 0-1, generation 3");
    node.done(&shrink).await;
    let order = node.next_order().await;
    // The CPU that it has stays its own.
    assert_eq!(cpus(&spec(pod_order(&order).1)), "1,3");
    node.done(&order).await;

    resize(&mut platform, exclusive(1)).await.unwrap();
    let order = node.next_order().await;
    let left = cpus(&spec(pod_order(&order).1));
    node.done(&order).await;
    let grow = node.next_order().await;
    let expected = if left == "1" { "default 2-3" } else { "default 1-2" };
    assert_eq!(shared_cpus(&grow), format!("{expected} on 0-1, generation 4"));
}

#[tokio::test]
async fn a_pool_that_does_not_shrink_leaves_the_pod_as_it_was() {
    let (_fleet, mut node, mut platform) = running(exclusive_pod("web", 1)).await;
    resize(&mut platform, exclusive(2)).await.unwrap();
    let shrink = node.next_order().await;
    node.refuse(&shrink, "Busy").await;
    // The pool is ordered to be what it was; no Resize ever came, and no generation was used up.
    assert_eq!(shared_cpus(&node.next_order().await), "default 2-3 on 0-1, generation 4");
    let pod = get(&mut platform, "web").await.unwrap();
    assert_eq!((pod.state(), pod.generation, pod.revision), (PodState::Running, 1, None));
    assert!(pod.message.contains("because of Busy"), "{}", pod.message);
    assert_eq!(cpus(&pod.spec.unwrap()), "1");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_any_order() {
    let (_fleet, _node, mut platform) = running(shared_pod("web")).await;
    let nothing = v1::PodPatch::default();
    assert_denied(upgrade(&mut platform, nothing).await, Code::InvalidArgument, "patch: names nothing");
    assert_denied(
        resize(&mut platform, image("2")).await,
        Code::FailedPrecondition,
        "containers[web].image: cannot be changed while the container runs: upgrade the pod",
    );
    assert_denied(
        resize(&mut platform, exclusive(9)).await,
        Code::ResourceExhausted,
        "does not fit its node",
    );
    let memory = v1::PodPatch { memory_request_bytes: Some(1 << 40), ..v1::PodPatch::default() };
    assert_denied(resize(&mut platform, memory).await, Code::ResourceExhausted, "MemoryFit");
    let mut request = shared_pod("web");
    request.hostname = Some("other".to_owned());
    let whole = |request| v1::UpgradePodRequest {
        pod: Some(pod_ref("web")),
        change: Some(v1::upgrade_pod_request::Change::Request(request)),
        ..v1::UpgradePodRequest::default()
    };
    let upgraded = platform.upgrade_pod(whole(request)).await;
    assert_denied(upgraded, Code::FailedPrecondition, "hostname: cannot be changed in place");
    let other = platform.upgrade_pod(whole(shared_pod("other"))).await;
    assert_denied(other, Code::InvalidArgument, "request.pod: is shop/other");
    assert!(get(&mut platform, "web").await.unwrap().orders.is_empty());
}

#[tokio::test]
async fn labels_and_reservations_are_taken_without_an_order() {
    let (_fleet, _node, mut platform) = running(shared_pod("web")).await;
    let mut request = shared_pod("web");
    request.labels.insert("tier".to_owned(), "front".to_owned());
    request.memory_request_bytes = Some(65 << 20);
    let change = Some(v1::upgrade_pod_request::Change::Request(request.clone()));
    let request =
        v1::UpgradePodRequest { pod: Some(pod_ref("web")), change, ..v1::UpgradePodRequest::default() };
    let pod = platform.upgrade_pod(request).await.unwrap().into_inner();
    assert_eq!((pod.orders.len(), pod.generation), (0, 1));
    assert_eq!(pod.request.unwrap().labels["tier"], "front");
}

#[tokio::test]
async fn a_restart_and_a_pod_that_waits_since_a_reboot() {
    let (_fleet, mut node, mut platform) = running(shared_pod("web")).await;
    let request = v1::RestartPodRequest {
        pod: Some(pod_ref("web")),
        disk: v1::DiskPolicy::Rebuild.into(),
        ..v1::RestartPodRequest::default()
    };
    let pod = platform.restart_pod(request).await.unwrap().into_inner();
    assert_eq!((pod.orders.len(), pod.generation), (1, 1));
    let order = node.next_order().await;
    let Verb::Restart(told) = pod_order(&order).1 else { panic!("{order:?}") };
    assert_eq!((told.disk(), told.grace_ms), (v1::DiskPolicy::Rebuild, 30_000));
    node.done(&order).await;

    let held = v1::PodStatus {
        pod: Some(pod_ref("web")),
        incarnation: 1,
        generation: 1,
        phase: v1::PodPhase::Held.into(),
        ..v1::PodStatus::default()
    };
    node.say(v1::node_message::Message::PodStatus(held)).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while get(&mut platform, "web").await.unwrap().status.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "no status came");
    }
    let start = v1::StartPodRequest { pod: Some(pod_ref("web")), reason: String::new() };
    platform.start_pod(start).await.unwrap();
    assert!(matches!(pod_order(&node.next_order().await).1, Verb::Start(_)));
}

#[tokio::test]
async fn a_platform_may_say_how_long_a_node_tries() {
    let (_fleet, mut node, mut platform) = running(shared_pod("web")).await;
    let within = |within_ms, settle_ms| v1::UpgradePodRequest {
        pod: Some(pod_ref("web")),
        change: Some(v1::upgrade_pod_request::Change::Patch(image("2"))),
        settle_ms,
        within_ms: Some(within_ms),
        ..v1::UpgradePodRequest::default()
    };
    let denied = platform.upgrade_pod(within(999, Some(0))).await;
    assert_denied(denied, Code::InvalidArgument, "within_ms: 999 is outside 1000 to 86400000, a day");
    let denied = platform.upgrade_pod(within(5_000, None)).await;
    assert_denied(
        denied,
        Code::InvalidArgument,
        "within_ms: in 5000 ms nothing is seen to run for settle_ms",
    );
    platform.upgrade_pod(within(7_000, None)).await.unwrap();
    assert_eq!(node.next_order().await.deadline_ms, 7_000);
}
