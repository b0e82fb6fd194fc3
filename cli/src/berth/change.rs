//! Commands that make the control plane give an order. A pod's own manifest goes through `apply`.

use super::Session;
use super::args::{DeletePool, Evict, Inspect, Pull, Release, Start, Stop};
use super::wait::{self, Goal};
use crate::failure::Result;
use crate::output::now_ms;
use crate::program::{ask, request};
use crate::table;
use berth_proto::v1;

pub(super) async fn evict(session: &Session, evict: &Evict) -> Result<()> {
    let mut client = session.client().await?;
    let id = &evict.pod;
    let call = client.evict_pod(request(v1::EvictPodRequest {
        pod: Some(id.into()),
        grace_ms: evict.stop.grace,
        release: evict.release,
        reason: evict.stop.reason.clone(),
    }));
    let pod = ask(&format!("evict pod {id}"), call).await?;
    let goal = if evict.release { Goal::Released } else { Goal::Evicted };
    wait::after_change(session, client, pod, goal, evict.wait).await
}

pub(super) async fn release(session: &Session, release: &Release) -> Result<()> {
    let mut client = session.client().await?;
    let id = &release.pod;
    let call = client
        .release_pod(request(v1::ReleasePodRequest { pod: Some(id.into()), reason: release.reason.clone() }));
    let response = ask(&format!("release pod {id}"), call).await?;
    if release.wait.wait {
        wait::until_all(client, vec![id.clone()], Goal::Released, release.wait.timeout).await?;
    }
    session.output.message(&response, |_| format!("pod {id}: released\n"))
}

pub(super) async fn stop(session: &Session, stop: &Stop) -> Result<()> {
    let mut client = session.client().await?;
    let id = &stop.pod;
    let call = client.stop_pod(request(v1::StopPodRequest {
        pod: Some(id.into()),
        grace_ms: stop.stop.grace,
        reason: stop.stop.reason.clone(),
    }));
    let pod = ask(&format!("stop pod {id}"), call).await?;
    wait::after_change(session, client, pod, Goal::Stopped, stop.wait).await
}

pub(super) async fn start(session: &Session, start: &Start) -> Result<()> {
    let mut client = session.client().await?;
    let id = &start.pod;
    let call =
        client.start_pod(request(v1::StartPodRequest { pod: Some(id.into()), reason: start.reason.clone() }));
    let pod = ask(&format!("start pod {id}"), call).await?;
    wait::after_change(session, client, pod, Goal::Running, start.wait).await
}

pub(super) async fn inspect(session: &Session, inspect: &Inspect) -> Result<()> {
    let mut client = session.client().await?;
    let name = &inspect.node;
    let call = client.inspect_node(request(v1::InspectNodeRequest { node: name.to_string() }));
    let record = ask(&format!("inspect node {name}"), call).await?;
    session.output.message(&record, |style| table::node(&record, now_ms(), style))
}

pub(super) async fn delete_pool(session: &Session, delete: &DeletePool) -> Result<()> {
    let mut client = session.client().await?;
    let name = &delete.pool;
    let call = client.delete_pool(request(v1::DeletePoolRequest { name: name.to_string() }));
    let response = ask(&format!("delete pool {name}"), call).await?;
    session.output.message(&response, |_| format!("pool {name}: deleted\n"))
}

pub(super) async fn pull(session: &Session, pull: &Pull) -> Result<()> {
    let mut client = session.client().await?;
    let Pull { node, image, digest, wait } = pull;
    let call = client.pull_image(request(v1::PullImageRequest {
        node: node.to_string(),
        image: image.to_string(),
        digest: digest.as_ref().map(ToString::to_string),
    }));
    let response = ask(&format!("pull {image} on {node}"), call).await?;
    if wait.wait {
        wait::until_order(&mut client, node, &response.order_id, wait.timeout).await?;
    }
    let done = if wait.wait { "done" } else { "ordered" };
    session
        .output
        .message(&response, |_| format!("image {image} on {node}: {done} (order {})\n", response.order_id))
}
