//! Orders for the node itself: shared CPUs, images, inspection, and copies of data disks.

use super::Pods;
use crate::ledger::{Moment, OrderEntry};
use crate::node;
use crate::runtime::{Runtime, RuntimeError};
use berth_model::{Digest, Failure, Generation, ImageName, NodeVerb, OrderId, Outcome, PoolName, Target};
use berth_plan::{Controls, Liveness, PodRecord, SliceState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// Between two looks at whether a pool's members have their CPUs, and between two tries of writing an outcome.
const AGAIN: Duration = Duration::from_millis(500);
/// After a failed pull the next try waits this long, then twice as long …
const PULL_AGAIN: Duration = Duration::from_millis(500);
/// … and at most this long.
const PULL_AGAIN_CAP: Duration = Duration::from_secs(30);
/// How long an inspection waits for pods that are in the middle of a step; they report when it ends.
const INSPECTION: Duration = Duration::from_secs(10);

/// What an order was still waiting for, said if its time runs out.
pub(super) type Last = watch::Sender<String>;

/// Takes up orders that were open when the daemon last ended.
pub(super) fn resume<R: Runtime>(pods: &Arc<Pods<R>>) {
    let open =
        pods.ledger.read(|book| book.open_node_orders().map(|entry| entry.id().clone()).collect::<Vec<_>>());
    for id in open {
        carry_out(pods, &id);
    }
}

/// Carries an open order out, in the background, until it ends or its time is up.
pub(super) fn carry_out<R: Runtime>(pods: &Arc<Pods<R>>, id: &OrderId) {
    let entry = pods.ledger.read(|book| book.open_node_orders().find(|entry| entry.id() == id).cloned());
    let (Some(entry), Some(alive)) = (entry, pods.guard()) else {
        return;
    };
    let pods = pods.clone();
    tokio::spawn(async move {
        let mut draining = pods.draining.subscribe();
        tokio::select! {
            // Cancel-safe: what is left open is taken up again at the next start.
            _ = draining.wait_for(|draining| *draining) => {}
            // Not cancel-safe, and need not be, for the same reason.
            () = run(&pods, &entry) => {}
        }
        drop(alive);
    });
}

async fn run<R: Runtime>(pods: &Arc<Pods<R>>, entry: &OrderEntry) {
    let Target::Node(target) = &entry.order().target else { return };
    let last = Last::new("it had not begun".to_owned());
    let work = async {
        match &target.verb {
            NodeVerb::SetSharedCpus { pool, generation, .. } => {
                apply_pool(pods, pool, *generation, &last).await
            }
            NodeVerb::PullImage { image, digest } => pull(pods, image, digest.as_ref(), &last).await,
            NodeVerb::Inspect => {
                inspect(pods).await;
                Ok(())
            }
            NodeVerb::FetchDisk(fetch) => pods.copies.fetch(fetch, &last).await,
            // They took effect when they were accepted.
            NodeVerb::OfferDisks(_) | NodeVerb::WithdrawDisks { .. } => Ok(()),
        }
    };
    let left_ms = entry.deadline_at_ms.saturating_sub(node::monotonic_ms());
    let outcome = match timeout(Duration::from_millis(left_ms), work).await {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(_) => Outcome::Failed(Failure::DeadlineExceeded {
            deadline_ms: entry.order().deadline_ms,
            last: last.borrow().clone(),
        }),
    };
    info!(order = %entry.id(), "order {} for the node: {outcome:?}", entry.id());
    while let Err(error) = pods.ledger.finish(entry.id().clone(), outcome.clone(), Moment::now()).await {
        error!(order = %entry.id(), "order {}: the ledger cannot be written: {error}", entry.id());
        sleep(AGAIN).await;
    }
}

/// Wakes every member, and waits until each reads back what the pool says.
async fn apply_pool<R: Runtime>(
    pods: &Arc<Pods<R>>,
    pool: &PoolName,
    generation: Generation,
    last: &Last,
) -> Result<(), Failure> {
    loop {
        if let Some(by) = newer(pods, pool, generation) {
            return Err(Failure::Superseded { by });
        }
        match first_out_of_order(pods, pool).await {
            None => return Ok(()),
            Some(what) => drop(last.send_replace(what)),
        }
        for member in members(pods, pool) {
            pods.wake(&member.pod);
        }
        sleep(AGAIN).await;
    }
}

/// The order that has set the pool since.
fn newer<R>(pods: &Pods<R>, name: &PoolName, ours: Generation) -> Option<OrderId> {
    pods.ledger.read(|book| {
        let now = book.pools.get(name).map(|pool| pool.generation).filter(|now| *now > ours)?;
        let set = |entry: &&OrderEntry| match &entry.order().target {
            Target::Node(order) => matches!(
                &order.verb,
                NodeVerb::SetSharedCpus { pool, generation, .. } if pool == name && *generation == now
            ),
            Target::Pod(_) => false,
        };
        book.orders.values().find(set).map(|entry| entry.id().clone())
    })
}

fn members<R>(pods: &Pods<R>, pool: &PoolName) -> Vec<PodRecord> {
    pods.ledger.read(|book| book.members(pool).cloned().collect())
}

async fn first_out_of_order<R: Runtime>(pods: &Arc<Pods<R>>, pool: &PoolName) -> Option<String> {
    for member in members(pods, pool) {
        let staying = member.charter.as_ref().is_some_and(|charter| charter.leaving.is_none());
        if let Some(what) = out_of_order(pods, &member).await.filter(|_| staying) {
            return Some(format!("pod {}: {what}", member.pod));
        }
    }
    None
}

async fn out_of_order<R: Runtime>(pods: &Arc<Pods<R>>, record: &PodRecord) -> Option<String> {
    let ordered = pods.ordered(record);
    // The semaphore is never closed.
    let _place = pods.places.looks.acquire().await;
    let observed = match pods.runtime.observe(record, ordered.as_ref()).await {
        Ok(observed) => observed,
        Err(error) => return Some(error.to_string()),
    };
    let drifted = |of: &str, controls: &Controls| match controls {
        Controls::Drifted(files) => Some(format!("{} of {of}", files.join(", "))),
        Controls::InOrder | Controls::Absent => None,
    };
    let slice = match &observed.slice {
        SliceState::Absent => None,
        SliceState::Present { controls, .. } => drifted("its slice", controls),
    };
    let mut live = observed.containers.iter().filter(|container| container.liveness == Liveness::Live);
    slice.or_else(|| {
        live.find_map(|container| drifted(&format!("container {}", container.name), &container.controls))
    })
}

async fn pull<R: Runtime>(
    pods: &Arc<Pods<R>>,
    image: &ImageName,
    digest: Option<&Digest>,
    last: &Last,
) -> Result<(), Failure> {
    let mut rest = PULL_AGAIN;
    loop {
        last.send_replace("it waited for its turn to pull".to_owned());
        // The semaphore is never closed.
        let place = pods.places.pulls.acquire().await;
        last.send_replace("it was being pulled".to_owned());
        let pulled = pods.runtime.ensure_image(image, digest).await;
        drop(place);
        match pulled {
            Ok(_) => return Ok(()),
            Err(RuntimeError::Transient { why, .. }) => {
                warn!(%image, "cannot pull {image}, trying again: {why}");
                last.send_replace(why);
                sleep(rest).await;
                rest = (rest * 2).min(PULL_AGAIN_CAP);
            }
            Err(RuntimeError::Permanent { why, .. }) => {
                return Err(Failure::Image { image: image.to_string(), why });
            }
            Err(RuntimeError::WrongDigest { image, found, ordered }) => {
                return Err(Failure::WrongDigest { image, found, ordered });
            }
        }
    }
}

/// Has every pod looked at once more, and everything told again.
async fn inspect<R: Runtime>(pods: &Arc<Pods<R>>) {
    let tasks: Vec<_> = pods.lock().values().map(|task| (task.clone(), *task.rounds.borrow())).collect();
    pods.wake_all();
    let all = async {
        for (task, before) in &tasks {
            // A task that ends meanwhile has nothing left to look at; its handle lives as long as ours does.
            let mut rounds = task.rounds.subscribe();
            drop(rounds.wait_for(|rounds| rounds > before).await);
        }
    };
    if timeout(INSPECTION, all).await.is_err() {
        info!("some pods are in the middle of a step; they report when it ends");
    }
    pods.reports.repeat();
}
