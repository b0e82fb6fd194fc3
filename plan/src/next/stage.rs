//! Who starts before whom, and who is stopped after whom.

use super::need::{Need, started};
use super::replace::current;
use super::{may_live, wait};
use crate::{Observed, ObservedContainer, PodRecord, Step};
use berth_model::{ContainerRole, ContainerSpec, Failure, PodSpec};

/// What a container has to wait for that is about to start: `before` are those that start before it. One that works or
/// serves, and has started before and died, waits for nobody: its own restart says when it runs again.
pub(super) fn gate(
    record: &PodRecord,
    observed: &Observed,
    before: &[(&ContainerSpec, Need)],
    next: &ContainerSpec,
) -> Option<Step> {
    let again = next.role != ContainerRole::Init && started(record, observed, &next.name).next().is_some();
    if again {
        return None;
    }
    // What is taken back is to be as it was, and no sidecar may keep it from that.
    let is_taken_back = record.open.as_ref().is_some_and(|open| open.failure.is_some());
    before.iter().find_map(|(spec, need)| match spec.role {
        // Those that do the pod's work start in no order.
        ContainerRole::Main => None,
        ContainerRole::Init => unfinished(record, spec, need),
        ContainerRole::Sidecar if is_taken_back => None,
        ContainerRole::Sidecar => unready(record, observed, spec, need),
    })
}

/// What there is to do about an init container that is not through.
pub(super) fn unfinished(record: &PodRecord, spec: &ContainerSpec, need: &Need) -> Option<Step> {
    match need {
        Need::Finished => None,
        Need::Failed(code) => {
            let (container, why) = (spec.name.clone(), format!("it ended with code {code}"));
            Some(match record.open.is_some() {
                true => Step::Refuse { why: Failure::NotReady { container, why } },
                false => wait(format!("init container {container} is not started again: {why}")),
            })
        }
        Need::Later(later) => Some(Step::Wait(later.clone())),
        Need::Nothing => Some(wait(format!("init container {} has not ended", spec.name))),
        Need::Attempt | Need::Start | Need::Blocked(_) => {
            Some(wait(format!("init container {} has not started", spec.name)))
        }
    }
}

/// A sidecar has to run, and to be ready if there is a way to tell.
fn unready(record: &PodRecord, observed: &Observed, spec: &ContainerSpec, need: &Need) -> Option<Step> {
    match need {
        Need::Later(later) => Some(Step::Wait(later.clone())),
        Need::Nothing => {
            let probe = spec.readiness.clone()?;
            let container = current(record, observed, &spec.name)?;
            let ready = record.containers.get(&spec.name).map(|known| known.ready).unwrap_or_default();
            (ready < container.attempt).then(|| Step::AwaitReady {
                container: spec.name.clone(),
                id: container.id.clone(),
                probe,
            })
        }
        Need::Finished | Need::Failed(_) | Need::Attempt | Need::Start | Need::Blocked(_) => None,
    }
}

/// Of containers that may live, the one that is stopped first: what does the pod's work before what serves it.
pub(super) fn first_to_stop<'a>(
    spec: Option<&PodSpec>,
    observed: &'a Observed,
) -> Option<&'a ObservedContainer> {
    let rank = |container: &&ObservedContainer| spec.map_or(0, |spec| spec.stop_rank(&container.name));
    observed.containers.iter().filter(|container| may_live(container)).min_by_key(rank)
}
