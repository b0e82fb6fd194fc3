//! One step's effect, with the warrant that it takes.

use super::Pods;
use crate::ledger::{Ending, LifeWarrant, Look, NotCovered, OrderWarrant, Warrant};
use crate::runtime::{DeathProof, Making, Ordered, Runtime, RuntimeError};
use crate::{network, node};
use berth_model::{Attempt, ContainerName, Digest, ImageName, OrderId, PodId, ProbeAnswer};
use berth_plan::{Cover, Effect, Observed, PodRecord, Step};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Does the look's step; answers what came to light.
pub(super) async fn perform<R: Runtime>(pods: &Arc<Pods<R>>, look: &Look) -> Result<Effect, RuntimeError> {
    // The semaphores are never closed.
    match &look.step {
        Step::EnsureImage { image, digest, .. } => {
            return ensure_image(pods, &look.record, image, digest.as_ref()).await.map(Effect::Resolved);
        }
        Step::RunSandbox { attempt } => {
            let _place = pods.places.sandboxes.acquire().await;
            let id = pods.runtime.run_sandbox(&ordered(pods, &look.record)?, *attempt).await?;
            network::announce_sandbox(&pods.ledger, &id).await;
        }
        Step::EnsureDisks
        | Step::EnsureSlice
        | Step::CreateContainer { .. }
        | Step::AdoptSystemDisk { .. }
        | Step::DetachSystemDisk { .. }
        | Step::AmendSpec { .. }
        | Step::StartContainer { .. }
        | Step::UpdateResources { .. } => {
            let _place = pods.places.effects.acquire().await;
            build(pods, look).await?;
        }
        Step::AwaitReady { id, .. } => {
            // It is asked as long as it runs, by one who keeps the pace.
            match pods.health.said(&look.record.pod, id) {
                Some(ProbeAnswer::Ready) => {}
                Some(ProbeAnswer::NotReady(why)) => return Ok(Effect::NotReady(why)),
                None => return Ok(Effect::NotReady("it has not answered yet".to_owned())),
            }
        }
        // What ends takes no place: a long grace must not hold up a pod that wants to start, and the orders that
        // end things are few.
        Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::StopSandbox { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveSlice { .. }
        | Step::ReleaseDisks { .. }
        | Step::ReleaseScratch { .. } => end(pods, look).await?,
        // The ledger alone: what `after` says.
        Step::EndGrant { .. } => {}
        Step::Settled | Step::Wait(_) | Step::Refuse { .. } => {}
    }
    Ok(Effect::Happened)
}

/// Where a pod is asked over the network: on the loopback device if it has no address of its own.
pub(super) fn first_address(record: &PodRecord) -> IpAddr {
    let spec = record.charter.as_ref().map(|charter| &charter.spec);
    let first = spec.and_then(|spec| spec.addresses.first());
    first.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |grant| grant.address.address())
}

/// Pulls, until the order's time is up or another order came. Leaving a pull half-way does no harm.
async fn ensure_image<R: Runtime>(
    pods: &Arc<Pods<R>>,
    record: &PodRecord,
    image: &ImageName,
    digest: Option<&Digest>,
) -> Result<Digest, RuntimeError> {
    let pull = async {
        let _place = pods.places.pulls.acquire().await;
        pods.runtime.ensure_image(image, digest).await
    };
    let left =
        |why: &str| RuntimeError::Transient { what: format!("pull image {image}"), why: why.to_owned() };
    tokio::select! {
        // Not cancel-safe, and need not be: content that was fetched stays, and the next pull goes on from it.
        pulled = pull => pulled,
        // Cancel-safe: only looks.
        () = passed(pods, record) => Err(left("another order came")),
        // Cancel-safe: a timer holds nothing.
        () = time_up(record) => Err(left("the order's time is up")),
    }
}

/// Returns when an order has changed the pod's record, or the daemon drains.
async fn passed<R: Runtime>(pods: &Pods<R>, record: &PodRecord) {
    let (mut changes, mut draining) = (pods.ledger.changes(), pods.draining.subscribe());
    loop {
        let seq = pods.ledger.read(|book| book.pods.get(&record.pod).map(|known| known.seq));
        if seq != Some(record.seq) || pods.is_draining() {
            return;
        }
        let changed = async {
            tokio::select! {
                // Cancel-safe: a version that was not seen stays unseen.
                changed = changes.changed() => changed,
                // Likewise.
                changed = draining.changed() => changed,
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

async fn time_up(record: &PodRecord) {
    match record.open.as_ref().filter(|open| open.failure.is_none()) {
        Some(open) => {
            let left_ms = open.deadline_at_ms.saturating_sub(node::monotonic_ms());
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
        None => std::future::pending().await,
    }
}

/// Steps that only ever add.
async fn build<R: Runtime>(pods: &Pods<R>, look: &Look) -> Result<(), RuntimeError> {
    let (runtime, record, pod) = (&pods.runtime, &look.record, &look.record.pod);
    match &look.step {
        Step::EnsureDisks => runtime.ensure_disks(&ordered(pods, record)?).await,
        Step::EnsureSlice | Step::UpdateResources { container: None, .. } => {
            runtime.ensure_slice(&ordered(pods, record)?).await
        }
        Step::CreateContainer { sandbox_id, container, attempt } => {
            let making = making(record, container, *attempt)?;
            let ordered = ordered(pods, record)?;
            runtime.create_container(&ordered, sandbox_id, container, &making).await.map(drop)
        }
        Step::AdoptSystemDisk { from_id, to_id, key, .. } => {
            let proof = match from_id {
                Some(from) => Some(prove(pods, pod, [from.clone()]).await?),
                None => None,
            };
            runtime.adopt_disk(proof.as_ref(), from_id.as_deref(), to_id, key).await
        }
        Step::DetachSystemDisk { from_id, key, .. } => {
            let proof = prove(pods, pod, [from_id.clone()]).await?;
            runtime.detach_disk(&proof, from_id, key).await
        }
        Step::AmendSpec { container, id } => runtime.amend_spec(&ordered(pods, record)?, container, id).await,
        Step::StartContainer { id, .. } => runtime.start_container(id).await,
        Step::UpdateResources { container: Some(container), id } => {
            runtime.update_resources(&ordered(pods, record)?, container, id).await
        }
        Step::EnsureImage { .. }
        | Step::RunSandbox { .. }
        | Step::AwaitReady { .. }
        | Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::StopSandbox { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveSlice { .. }
        | Step::ReleaseDisks { .. }
        | Step::ReleaseScratch { .. }
        | Step::EndGrant { .. }
        | Step::Settled
        | Step::Wait(_)
        | Step::Refuse { .. } => Ok(()),
    }
}

/// Steps that end something: each takes a warrant.
async fn end<R: Runtime>(pods: &Pods<R>, look: &Look) -> Result<(), RuntimeError> {
    let (runtime, observed, pod) = (&pods.runtime, &look.observed, &look.record.pod);
    match &look.step {
        Step::StopContainer { id, grace_ms, cover } => {
            let warrant = life_warrant(pods, pod, cover)?;
            runtime.stop_container(&warrant, id, *grace_ms).await
        }
        Step::RemoveContainer { id, cover } => {
            let warrant = warrant(pods, pod, cover, [id.clone()]).await?;
            runtime.remove_container(&warrant, id).await
        }
        Step::StopSandbox { id, cover } => {
            let warrant = warrant(pods, pod, cover, with_inside(observed, id)).await?;
            runtime.stop_sandbox(&warrant, id).await
        }
        Step::RemoveSandbox { id, cover } => {
            let warrant = warrant(pods, pod, cover, with_inside(observed, id)).await?;
            runtime.remove_sandbox(&warrant, id).await
        }
        Step::RemoveSlice { cover } => {
            let inside = observed.containers.iter().map(|container| container.id.clone());
            let warrant = warrant(pods, pod, cover, inside).await?;
            runtime.remove_slice(&warrant, pod).await
        }
        Step::ReleaseDisks { keys, data, order } => {
            let warrant = order_warrant(pods, pod, order, Ending::Disks)?;
            runtime.release_disks(&warrant, keys, data).await
        }
        Step::ReleaseScratch { disks, order } => {
            let warrant = order_warrant(pods, pod, order, Ending::Scratch)?;
            runtime.release_scratch(&warrant, disks).await
        }
        Step::EnsureImage { .. }
        | Step::EnsureDisks
        | Step::EnsureSlice
        | Step::RunSandbox { .. }
        | Step::CreateContainer { .. }
        | Step::AdoptSystemDisk { .. }
        | Step::DetachSystemDisk { .. }
        | Step::AmendSpec { .. }
        | Step::StartContainer { .. }
        | Step::UpdateResources { .. }
        | Step::AwaitReady { .. }
        | Step::EndGrant { .. }
        | Step::Settled
        | Step::Wait(_)
        | Step::Refuse { .. } => Ok(()),
    }
}

/// A sandbox and everything that was seen in it.
fn with_inside(observed: &Observed, sandbox: &str) -> BTreeSet<String> {
    let inside = observed.containers.iter().filter(|container| container.sandbox_id == sandbox);
    inside.map(|container| container.id.clone()).chain([sandbox.to_owned()]).collect()
}

fn ordered<R: Runtime>(pods: &Pods<R>, record: &PodRecord) -> Result<Ordered, RuntimeError> {
    pods.ordered(record).ok_or_else(|| RuntimeError::Transient {
        what: format!("find the CPUs of pod {}", record.pod),
        why: "its shared CPU pool is not set on this node".to_owned(),
    })
}

fn making(record: &PodRecord, container: &ContainerName, attempt: Attempt) -> Result<Making, RuntimeError> {
    let unresolved = || RuntimeError::Transient {
        what: format!("make container {container} of pod {}", record.pod),
        why: "its image is not resolved yet".to_owned(),
    };
    let known = record.containers.get(container).ok_or_else(unresolved)?;
    let digest = known.digest.clone().ok_or_else(unresolved)?;
    Ok(Making { attempt, generation: known.generation, digest })
}

async fn prove<R: Runtime>(
    pods: &Pods<R>,
    pod: &PodId,
    ids: impl IntoIterator<Item = String>,
) -> Result<DeathProof, RuntimeError> {
    pods.runtime.prove_dead(pod, ids.into_iter().collect()).await
}

fn life_warrant<R: Runtime>(pods: &Pods<R>, pod: &PodId, cover: &Cover) -> Result<LifeWarrant, RuntimeError> {
    let nobody = || RuntimeError::Transient {
        what: format!("stop what runs of pod {pod}"),
        why: "neither an order nor a shutdown of the host covers it".to_owned(),
    };
    match cover {
        Cover::Order(order) => order_warrant(pods, pod, order, Ending::Life).map(LifeWarrant::Order),
        Cover::HostShutdown => {
            let announced = pods.shutdown.borrow().clone().ok_or_else(nobody)?;
            let minted = pods.ledger.shutdown_warrant(pod, &announced);
            minted.map(LifeWarrant::Shutdown).map_err(|error| unwarranted(pod, &error))
        }
        Cover::Charter => Err(nobody()),
    }
}

async fn warrant<R: Runtime>(
    pods: &Pods<R>,
    pod: &PodId,
    cover: &Cover,
    ids: impl IntoIterator<Item = String>,
) -> Result<Warrant, RuntimeError> {
    match cover {
        Cover::Order(order) => order_warrant(pods, pod, order, Ending::Remains).map(Warrant::Order),
        Cover::Charter => {
            let proof = prove(pods, pod, ids).await?;
            let minted = pods.ledger.charter_warrant(proof);
            minted.map(Warrant::Charter).map_err(|error| unwarranted(pod, &error))
        }
        Cover::HostShutdown => Err(RuntimeError::Transient {
            what: format!("get a warrant for pod {pod}"),
            why: "a shutdown of the host covers stopping, and nothing else".to_owned(),
        }),
    }
}

fn order_warrant<R: Runtime>(
    pods: &Pods<R>,
    pod: &PodId,
    order: &OrderId,
    ending: Ending,
) -> Result<OrderWarrant, RuntimeError> {
    let minted = pods.ledger.order_warrant(pod, order, ending);
    minted.map_err(|error| unwarranted(pod, &error))
}

/// An order that came meanwhile has replaced the one that covered the step: the next look finds what it wants.
fn unwarranted(pod: &PodId, error: &NotCovered) -> RuntimeError {
    RuntimeError::Transient { what: format!("get a warrant for pod {pod}"), why: error.to_string() }
}
