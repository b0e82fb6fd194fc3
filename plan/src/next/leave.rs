//! The way off the node: stop, save what is kept, remove, end the grant.

use super::{stage, wait};
use crate::{Cover, Leaving, Liveness, Observed, PodRecord, SliceState, Step};
use berth_model::{EvictDisposition, OrderId};

/// The next step of a leaving pod. Everything that carries its identity leaves, whatever its incarnation.
pub(super) fn next(record: &PodRecord, leaving: &Leaving, observed: &Observed) -> Step {
    let Some(open) = &record.open else {
        return wait("the pod is leaving, and no order covers it");
    };
    let order = &open.id;
    stop_container(record, leaving, observed, order)
        .or_else(|| save_disk(record, leaving, observed))
        .or_else(|| remove_container(observed, order))
        .or_else(|| remove_sandbox(observed, order))
        .or_else(|| remove_slice(observed, order))
        .or_else(|| release_kept(record, leaving, observed, order))
        .unwrap_or_else(|| Step::EndGrant { order: order.clone() })
}

fn stop_container(
    record: &PodRecord,
    leaving: &Leaving,
    observed: &Observed,
    order: &OrderId,
) -> Option<Step> {
    let live = stage::first_to_stop(record.charter.as_ref().map(|charter| &charter.spec), observed)?;
    let cover = Cover::Order(order.clone());
    Some(Step::StopContainer { id: live.id.clone(), grace_ms: leaving.grace_ms, cover })
}

/// Removing a container removes the disk that it names, so a disk that is kept comes off first.
fn save_disk(record: &PodRecord, leaving: &Leaving, observed: &Observed) -> Option<Step> {
    observed.containers.iter().find_map(|container| {
        let key = container.disk_key.as_ref().filter(|key| record.survives(key, leaving))?;
        Some(Step::DetachSystemDisk {
            container: container.name.clone(),
            from_id: container.id.clone(),
            key: key.clone(),
        })
    })
}

fn remove_container(observed: &Observed, order: &OrderId) -> Option<Step> {
    let dead = observed.containers.first()?;
    Some(Step::RemoveContainer { id: dead.id.clone(), cover: Cover::Order(order.clone()) })
}

fn remove_sandbox(observed: &Observed, order: &OrderId) -> Option<Step> {
    let sandbox = observed.sandboxes.first()?;
    let (id, cover) = (sandbox.id.clone(), Cover::Order(order.clone()));
    match sandbox.ready || sandbox.liveness != Liveness::Dead {
        true => Some(Step::StopSandbox { id, cover }),
        false => Some(Step::RemoveSandbox { id, cover }),
    }
}

fn remove_slice(observed: &Observed, order: &OrderId) -> Option<Step> {
    match observed.slice {
        SliceState::Absent => None,
        SliceState::Present { .. } => Some(Step::RemoveSlice { cover: Cover::Order(order.clone()) }),
    }
}

/// An Evict that releases also gives up data disks, and what earlier incarnations left.
fn release_kept(record: &PodRecord, leaving: &Leaving, observed: &Observed, order: &OrderId) -> Option<Step> {
    let undone = record.open.as_ref().is_some_and(|open| open.failure.is_some());
    let releases = leaving.disposition == EvictDisposition::Release && !undone;
    if releases { super::release(record, observed, order) } else { release_scratch(observed, order) }
}

/// What was never to be kept.
fn release_scratch(observed: &Observed, order: &OrderId) -> Option<Step> {
    let disks = observed.scratch.clone();
    (!disks.is_empty()).then(|| Step::ReleaseScratch { disks, order: order.clone() })
}
