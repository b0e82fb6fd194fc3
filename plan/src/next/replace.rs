//! Which container is the one that is ordered, and how another one gives way to it: Restart, Upgrade, and taking an
//! Upgrade back. The new attempt is made beside the old one, so that the gap between them is as short as it can be.

use super::need::Need;
use super::restart::{Again, UNSEEN_EXIT_CODE, again, policy, untold};
use super::{may_live, wait};
use crate::{Charter, Cover, Liveness, Observed, ObservedContainer, PodRecord, Step, TaskState, Wait};
use berth_model::{ContainerName, ContainerRole, ContainerSpec, Failure, PodVerb, RestartPolicy};

/// The container that is ordered: made by the spec in force, and not one that a Restart is to replace. One that may live
/// comes before one that a Restart has made and not got to start; so does one that has ended since that Restart was given
/// up, unless it is to be started again now. Then the newest.
pub(super) fn current<'a>(
    record: &PodRecord,
    observed: &'a Observed,
    name: &ContainerName,
) -> Option<&'a ObservedContainer> {
    let named = observed.containers.iter().filter(|container| container.name == *name);
    let ordered = named.filter(|container| is_ordered(record, container));
    let newest = ordered.max_by_key(|container| (may_live(container), container.attempt))?;
    Some(predecessor(record, observed, newest).unwrap_or(newest))
}

/// The one before a container that has not run, dead as all are then, unless it is to be started again now: until then its
/// successor is of no use. What prepares does so in every sandbox, whatever it came to in another one.
fn predecessor<'a>(
    record: &PodRecord,
    observed: &'a Observed,
    created: &ObservedContainer,
) -> Option<&'a ObservedContainer> {
    let charter = record.charter.as_ref().filter(|_| created.state.has_not_run())?;
    let role = charter.spec.container(&created.name)?.role;
    if role == ContainerRole::Init {
        return None;
    }
    let started = observed.containers.iter().filter(|seen| {
        seen.name == created.name
            && seen.attempt < created.attempt
            && !seen.state.has_not_run()
            && is_ordered(record, seen)
    });
    let elder = started.max_by_key(|seen| seen.attempt)?;
    let known = record.containers.get(&created.name)?;
    let again = again(policy(&charter.spec, role), known, elder, observed.now_ms);
    (again != Again::Now).then_some(elder)
}

/// Whether a container is made by the spec in force, and not one that an open Restart is to replace.
pub fn is_ordered(record: &PodRecord, container: &ObservedContainer) -> bool {
    record.containers.get(&container.name).is_some_and(|known| {
        container.incarnation == record.incarnation
            && container.generation == known.generation
            && !(restarts(record) && container.attempt <= known.ordered)
    })
}

fn restarts(record: &PodRecord) -> bool {
    let open = record.open.as_ref().filter(|open| open.failure.is_none());
    open.is_some_and(|open| matches!(open.verb, PodVerb::Restart { .. }))
}

/// Another container of that name that may live, and so must end before the ordered one starts.
pub(super) fn rival<'a>(
    record: &PodRecord,
    observed: &'a Observed,
    name: &ContainerName,
) -> Option<&'a ObservedContainer> {
    let current = current(record, observed, name).map(|container| &container.id);
    observed.containers.iter().find(|container| {
        container.name == *name
            && container.incarnation == record.incarnation
            && Some(&container.id) != current
            && may_live(container)
    })
}

/// How a rival ends: by the open order, if that is what it is about.
pub(super) fn stop(record: &PodRecord, charter: &Charter, rival: &ObservedContainer) -> Step {
    match giving_way(record, charter, rival) {
        Ok((cover, grace_ms)) => Step::StopContainer { id: rival.id.clone(), grace_ms, cover },
        Err(wait) => wait.into(),
    }
}

/// What covers stopping a rival, and how long it has; or what has to come first.
pub(super) fn giving_way(
    record: &PodRecord,
    charter: &Charter,
    rival: &ObservedContainer,
) -> Result<(Cover, u64), Wait> {
    let why = match (rival.liveness, covering(record, charter, rival)) {
        (Liveness::Live, Some(covered)) => return Ok(covered),
        (Liveness::Live, None) => format!("container {} lives, and no order covers stopping it", rival.id),
        (Liveness::Unknown | Liveness::Dead, _) => return Err(unknown(rival)),
    };
    Err(Wait { until_ms: None, why })
}

/// Until it is known whether a container lives.
pub(super) fn unknown(container: &ObservedContainer) -> Wait {
    Wait { until_ms: None, why: format!("it cannot be known whether container {} lives", container.id) }
}

/// What covers stopping a container that another one replaces, and how long it has.
fn covering(record: &PodRecord, charter: &Charter, container: &ObservedContainer) -> Option<(Cover, u64)> {
    let open = record.open.as_ref()?;
    let known = record.containers.get(&container.name)?;
    let grace_ms = match &open.verb {
        PodVerb::Restart { grace_ms, .. } => (container.attempt <= known.ordered).then_some(*grace_ms),
        PodVerb::Upgrade { .. } => {
            (container.generation != known.generation).then_some(charter.spec.stop_grace_ms)
        }
        PodVerb::Run { .. }
        | PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Resize { .. }
        | PodVerb::Evict { .. }
        | PodVerb::Release => None,
    };
    grace_ms.map(|grace_ms| (Cover::Order(open.id.clone()), grace_ms))
}

/// Rivals of containers that run already: what an Upgrade that was taken back has left.
pub(super) fn stop_rivals(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Step> {
    let rival = charter.spec.containers.iter().find_map(|spec| rival(record, observed, &spec.name))?;
    Some(stop(record, charter, rival))
}

/// A container that an open Upgrade has replaced, and that ended before it was ready.
pub(super) fn broken(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Failure> {
    upgraded(record, charter).find_map(|(spec, _)| {
        let known = record.containers.get(&spec.name)?;
        let container = current(record, observed, &spec.name)?;
        let (code, why) = match &container.state {
            TaskState::Exited { code, .. } => (*code, format!("it ended with code {code}")),
            // Of what prepares, that others have started may prove that it was through.
            TaskState::Interrupted { .. }
                if spec.role != ContainerRole::Init && container.attempt > known.before_boot =>
            {
                (UNSEEN_EXIT_CODE, "it ended, and nobody saw how".to_owned())
            }
            TaskState::Interrupted { .. }
            | TaskState::StartFailed { .. }
            | TaskState::Created
            | TaskState::Running
            | TaskState::Unknown => return None,
        };
        let is_broken =
            known.ready < container.attempt && !has_finished(spec.role, charter.spec.restart, code);
        is_broken.then(|| Failure::NotReady { container: spec.name.clone(), why })
    })
}

/// Whether an end with this code is all that was wanted.
fn has_finished(role: ContainerRole, restart: RestartPolicy, code: i32) -> bool {
    match (role, restart) {
        (ContainerRole::Init, _) | (ContainerRole::Main, RestartPolicy::OnFailure | RestartPolicy::Never) => {
            code == 0
        }
        (ContainerRole::Main, RestartPolicy::Always) | (ContainerRole::Sidecar, _) => false,
    }
}

/// The first of these containers that an open Upgrade has replaced and that is not ready yet: what to do about it.
pub(super) fn await_ready(
    record: &PodRecord,
    charter: &Charter,
    observed: &Observed,
    among: &[(&ContainerSpec, Need)],
) -> Option<Step> {
    let is_meant = |spec: &ContainerSpec| among.iter().any(|(other, _)| other.name == spec.name);
    upgraded(record, charter).filter(|(spec, _)| is_meant(spec)).find_map(|(spec, settle_ms)| {
        let known = record.containers.get(&spec.name)?;
        let container = current(record, observed, &spec.name)?;
        if is_untold(container) && known.ready < container.attempt {
            return Some(untold(observed.now_ms).into());
        }
        let runs = container.liveness == Liveness::Live;
        if !runs || known.ready >= container.attempt {
            return None;
        }
        match (spec.role, &spec.readiness) {
            (ContainerRole::Init, _) => Some(wait(format!("init container {} has not ended", spec.name))),
            (ContainerRole::Main | ContainerRole::Sidecar, Some(probe)) => Some(Step::AwaitReady {
                container: spec.name.clone(),
                id: container.id.clone(),
                probe: probe.clone(),
            }),
            (ContainerRole::Main | ContainerRole::Sidecar, None) => settling(observed, container, settle_ms),
        }
    })
}

/// Whether it has ended, and it is not known yet how: it may have been all that was wanted, or the end of the order.
fn is_untold(container: &ObservedContainer) -> bool {
    container.liveness == Liveness::Dead && container.state == TaskState::Unknown
}

fn settling(observed: &Observed, container: &ObservedContainer, settle_ms: u64) -> Option<Step> {
    let left_ms = settle_ms.checked_sub(container.running_ms.unwrap_or(0)).filter(|left| *left > 0)?;
    Some(Step::Wait(Wait {
        until_ms: Some(observed.now_ms.saturating_add(left_ms)),
        why: format!("container {} has to run for {settle_ms} ms to count as ready", container.name),
    }))
}

/// Whether an open Upgrade replaces it.
pub(super) fn is_replaced(charter: &Charter, name: &ContainerName) -> bool {
    charter.previous.as_ref().is_some_and(|previous| previous.replaced.contains_key(name))
}

/// The containers that an open Upgrade replaces, in the order in which they start.
fn upgraded<'a>(
    record: &'a PodRecord,
    charter: &'a Charter,
) -> impl Iterator<Item = (&'a ContainerSpec, u64)> {
    let settle_ms = record.open.as_ref().and_then(|open| match open.verb {
        PodVerb::Upgrade { settle_ms, .. } => Some(settle_ms),
        PodVerb::Run { .. }
        | PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Resize { .. }
        | PodVerb::Evict { .. }
        | PodVerb::Release => None,
    });
    let replaced = charter.previous.as_ref().map(|previous| &previous.replaced);
    let specs = charter.spec.start_order();
    specs
        .filter(move |spec| replaced.is_some_and(|replaced| replaced.contains_key(&spec.name)))
        .filter_map(move |spec| Some((spec, settle_ms?)))
}
