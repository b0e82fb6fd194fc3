//! What the ledger writes around each step. Pure, so that the daemon only stores what these return.

use crate::{Charter, KeptDisk, Leaving, Observed, OpenOrder, PodRecord, Step};
use berth_model::{
    ContainerName, Digest, DiskPolicy, EvictDisposition, Failure, OrderId, Outcome, PodVerb, RecoveryPolicy,
    RunState,
};

/// What a step's effect brought to light, beside having happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more.
    Happened,
    /// An image name was resolved.
    Resolved(Digest),
    /// A container is not ready yet; what its probe said.
    NotReady(String),
}

/// What the ledger must say before the step's effect; none when it says so already.
pub fn before(record: &PodRecord, observed: &Observed, step: &Step) -> Option<PodRecord> {
    let mut next = record.clone();
    match step {
        Step::RunSandbox { attempt } => next.sandbox_attempt = *attempt,
        Step::CreateContainer { container, attempt, .. } => {
            next.containers.entry(container.clone()).or_default().attempt = *attempt;
        }
        // What we end has not ended by itself: for a host's shutdown or for a successor that an order wants, it goes on,
        // also if that order fails before there is one.
        Step::StopContainer { id, .. } if record.is_meant_to_run() => {
            let seen = observed.containers.iter().find(|seen| seen.id == *id);
            if let Some(seen) = seen {
                next.containers.entry(seen.name.clone()).or_default().goes_on = seen.attempt;
            }
        }
        // What a container writes is worth keeping from its first instruction on, and not before.
        Step::StartContainer { container, id } => {
            let keeps = record.charter.as_ref().is_some_and(|charter| charter.spec.disk == DiskPolicy::Reuse);
            let seen = observed.containers.iter().find(|seen| seen.id == *id);
            let kept = record.disk_to_keep(container).is_some();
            let known = next.containers.entry(container.clone()).or_default();
            if keeps && !kept {
                known.disk = seen.and_then(|seen| seen.disk_key.clone());
            }
        }
        Step::EnsureImage { .. }
        | Step::EnsureDisks
        | Step::EnsureSlice
        | Step::AdoptSystemDisk { .. }
        | Step::DetachSystemDisk { .. }
        | Step::AmendSpec { .. }
        | Step::UpdateResources { .. }
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
        | Step::Refuse { .. } => {}
    }
    (next != *record).then_some(next)
}

/// What the ledger must say after the step's effect; none when it says so already.
pub fn after(record: &PodRecord, observed: &Observed, step: &Step, effect: &Effect) -> Option<PodRecord> {
    let mut next = record.clone();
    match step {
        Step::EnsureImage { container, .. } => {
            if let Effect::Resolved(digest) = effect {
                resolved(&mut next, container, digest);
            }
        }
        Step::AwaitReady { container, id, .. } => {
            let seen = observed.containers.iter().find(|seen| seen.id == *id);
            if let (Effect::Happened, Some(seen)) = (effect, seen) {
                next.containers.entry(container.clone()).or_default().ready = seen.attempt;
            }
        }
        Step::StopSandbox { id, .. } => {
            let stopped = observed.sandboxes.iter().find(|sandbox| sandbox.id == *id);
            next.stopped_sandbox = stopped.map(|sandbox| sandbox.attempt).or(record.stopped_sandbox);
        }
        Step::ReleaseDisks { keys, .. } => next.kept.retain(|kept| !keys.contains(&kept.key)),
        Step::EndGrant { .. } => end_grant(&mut next),
        Step::EnsureDisks
        | Step::EnsureSlice
        | Step::RunSandbox { .. }
        | Step::CreateContainer { .. }
        | Step::AdoptSystemDisk { .. }
        | Step::DetachSystemDisk { .. }
        | Step::AmendSpec { .. }
        | Step::StartContainer { .. }
        | Step::UpdateResources { .. }
        | Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveSlice { .. }
        | Step::ReleaseScratch { .. }
        | Step::Settled
        | Step::Wait(_)
        | Step::Refuse { .. } => {}
    }
    (next != *record).then_some(next)
}

/// A new name of the same image is no new image: the container keeps its disk.
fn resolved(record: &mut PodRecord, container: &ContainerName, digest: &Digest) {
    let previous = record.charter.as_ref().and_then(|charter| charter.previous.as_ref());
    let old = previous.and_then(|previous| previous.replaced.get(container)).cloned();
    let known = record.containers.entry(container.clone()).or_default();
    known.digest = Some(digest.clone());
    if let Some(old) = old.filter(|old| old.digest.as_ref() == Some(digest) && known.disk.is_none()) {
        known.disk = old.disk;
    }
}

/// What the ledger says of a pod once its host has booted anew.
pub fn booted(record: &PodRecord) -> PodRecord {
    let mut next = record.clone();
    for known in next.containers.values_mut() {
        known.before_boot = known.attempt;
    }
    // Whoever ordered it to run and has not heard yet gave the word already.
    let ordered = record.open.as_ref().is_some_and(|open| open.failure.is_none());
    if let Some(charter) = &mut next.charter {
        charter.held |= charter.spec.recovery == RecoveryPolicy::Confirmed
            && charter.run_state == RunState::Running
            && charter.leaving.is_none()
            && !ordered;
    }
    next
}

/// The charter goes; disks that survive are noted as kept.
fn end_grant(record: &mut PodRecord) {
    let leaving = record.charter.as_ref().and_then(|charter| charter.leaving.clone());
    let disks = record.containers.iter().filter_map(|(container, known)| {
        let key = known.disk.clone()?;
        let survives = leaving.as_ref().is_some_and(|leaving| record.survives(&key, leaving));
        let (incarnation, digest) = (record.incarnation, known.digest.clone());
        survives.then(|| KeptDisk { incarnation, container: container.clone(), key, digest })
    });
    let disks: Vec<_> = disks.collect();
    record.kept.retain(|kept| disks.iter().all(|disk| disk.key != kept.key));
    record.kept.extend(disks);
    record.containers.clear();
    record.charter = None;
    record.stopped_sandbox = None;
}

/// What the ledger says once a pod's open order has ended, or has to be undone first; or once nothing is left of an order
/// that had ended half-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// The pod's record from now on.
    pub record: PodRecord,
    /// The order that has ended, and how; none while it is being undone, and where none was open.
    pub ended: Option<(OrderId, Outcome)>,
}

/// What [`Step::Settled`] and [`Step::Refuse`] mean for the ledger; none where they change nothing, and for other steps.
pub fn conclude(record: &PodRecord, observed: &Observed, step: &Step) -> Option<Concluded> {
    match step {
        Step::Settled => {
            let mut next = PodRecord { open: None, ..record.clone() };
            next.forget_abandoned(observed);
            if record.open.is_some() {
                next.seen_through(observed);
            }
            let ended = record.open.as_ref().map(|open| (open.id.clone(), outcome(open)));
            (next != *record).then_some(Concluded { record: next, ended })
        }
        Step::Refuse { why } => give_up(record, observed, why.clone()),
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
        | Step::StopContainer { .. }
        | Step::RemoveContainer { .. }
        | Step::StopSandbox { .. }
        | Step::RemoveSandbox { .. }
        | Step::RemoveSlice { .. }
        | Step::ReleaseDisks { .. }
        | Step::ReleaseScratch { .. }
        | Step::EndGrant { .. }
        | Step::Wait(_) => None,
    }
}

fn outcome(open: &OpenOrder) -> Outcome {
    let taken_back = matches!(open.verb, PodVerb::Upgrade { .. } | PodVerb::Resize { .. });
    match &open.failure {
        None => Outcome::Done,
        Some(failure) if taken_back => Outcome::RolledBack(failure.clone()),
        Some(failure) => Outcome::Failed(failure.clone()),
    }
}

/// The open order cannot be carried out, because of `why`. A Run is undone: the pod leaves under the same order, which
/// has failed once nothing is left. An Upgrade and a Resize are taken back under the same order. What stops or leaves
/// goes on: giving up would leave it half-way.
pub fn give_up(record: &PodRecord, observed: &Observed, why: Failure) -> Option<Concluded> {
    let open = record.open.as_ref()?;
    let mut next = record.clone();
    match &open.verb {
        PodVerb::Run { .. } if open.failure.is_none() => {
            let charter = next.charter.as_mut()?;
            undo(charter);
            next.open = Some(OpenOrder { failure: Some(why), ..open.clone() });
            Some(Concluded { record: next, ended: None })
        }
        PodVerb::Upgrade { .. } | PodVerb::Resize { .. } if open.failure.is_none() => {
            next.revert();
            next.open = Some(OpenOrder { failure: Some(why), ..open.clone() });
            Some(Concluded { record: next, ended: None })
        }
        // Nothing is left to try: what was taken back may be wanting still, and its charter sees to that.
        PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
            next.open = None;
            next.seen_through(observed);
            Some(Concluded { record: next, ended: Some((open.id.clone(), Outcome::Failed(why))) })
        }
        PodVerb::Run { .. } | PodVerb::Stop { .. } | PodVerb::Evict { .. } | PodVerb::Release => None,
    }
}

fn undo(charter: &mut Charter) {
    let grace_ms = charter.spec.stop_grace_ms;
    charter.leaving = Some(Leaving { grace_ms, disposition: EvictDisposition::Release });
}
