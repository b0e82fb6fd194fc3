//! What each container of a running pod needs.

use super::replace::{current, giving_way, is_replaced, rival, unknown};
use super::restart::{Again, UNSEEN_EXIT_CODE, again, policy};
use super::run::home;
use crate::{Charter, Liveness, Observed, ObservedContainer, PodRecord, TaskState, Wait};
use berth_model::{ContainerName, ContainerRole, ContainerSpec};
use std::collections::BTreeMap;

/// What one container needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it runs.
    Nothing,
    /// Nothing: it has ended, and is not started again.
    Finished,
    /// Nothing can be done: it has ended with this code, others wait for it, and it is not started again.
    Failed(i32),
    /// It has ended, and is started again later.
    Later(Wait),
    /// A new attempt.
    Attempt,
    /// Its attempt is created and not started.
    Start,
    /// Nothing can be done, because of this: it cannot be known whether it lives, or another one may live in its stead.
    Blocked(Wait),
}

impl Need {
    /// Whether something is to be started.
    pub(super) fn wants_start(&self) -> bool {
        matches!(self, Self::Attempt | Self::Start)
    }
}

/// What every container needs, in the order in which they start.
pub(super) fn needs<'a>(
    record: &PodRecord,
    charter: &'a Charter,
    observed: &Observed,
) -> Vec<(&'a ContainerSpec, Need)> {
    let mut needs = BTreeMap::new();
    for spec in charter.spec.with_role(ContainerRole::Main) {
        needs.insert(&spec.name, need(record, charter, observed, spec));
    }
    let is_done = needs.values().all(|need| *need == Need::Finished);
    for spec in charter.spec.with_role(ContainerRole::Sidecar) {
        let need = need(record, charter, observed, spec);
        let serves_nobody = is_done
            && !is_replaced(charter, &spec.name)
            && matches!(need, Need::Attempt | Need::Start | Need::Later(_));
        needs.insert(&spec.name, if serves_nobody { Need::Finished } else { need });
    }
    let starts = needs.values().any(Need::wants_start);
    for spec in charter.spec.with_role(ContainerRole::Init) {
        let need = match starts || is_replaced(charter, &spec.name) {
            true => init_need(record, charter, observed, spec),
            false => Need::Finished,
        };
        needs.insert(&spec.name, need);
    }
    charter.spec.start_order().filter_map(|spec| Some((spec, needs.remove(&spec.name)?))).collect()
}

fn need(record: &PodRecord, charter: &Charter, observed: &Observed, spec: &ContainerSpec) -> Need {
    let Some(container) = current(record, observed, &spec.name) else {
        return absent_need(record, charter, observed, spec);
    };
    if container.liveness != Liveness::Dead {
        return match container.liveness {
            Liveness::Live => Need::Nothing,
            Liveness::Unknown | Liveness::Dead => Need::Blocked(unknown(container)),
        };
    }
    let known = record.containers.get(&spec.name).cloned().unwrap_or_default();
    if container.state == TaskState::Created {
        // Only a created container can be started, only in the sandbox that it was created in, and only by who ordered it.
        let can_start = is_home(record, observed, container) && container.attempt > known.ordered;
        return if can_start { Need::Start } else { Need::Attempt };
    }
    match again(policy(&charter.spec, spec.role), &known, container, observed.now_ms) {
        Again::Now => Need::Attempt,
        Again::Later(wait) => Need::Later(wait),
        Again::No => Need::Finished,
    }
}

/// An init container has done its work once it has ended well in the sandbox of those that wait for it. Where the runtime
/// has lost how it ended, others that have started there since prove the same.
fn init_need(record: &PodRecord, charter: &Charter, observed: &Observed, spec: &ContainerSpec) -> Need {
    let need = || need(record, charter, observed, spec);
    let Some(container) = current(record, observed, &spec.name) else {
        return if others_have_started(record, charter, observed, spec) { Need::Finished } else { need() };
    };
    match (container.liveness, &container.state) {
        (Liveness::Dead, TaskState::Exited { code: 0, .. }) => {
            let ordered = record.containers.get(&spec.name).map(|known| known.ordered).unwrap_or_default();
            let is_through = container.attempt > ordered && is_home(record, observed, container);
            if is_through { Need::Finished } else { Need::Attempt }
        }
        (Liveness::Dead, TaskState::Exited { code, .. }) => failed_unless(need(), *code),
        (Liveness::Dead, TaskState::Interrupted { .. } | TaskState::Unknown) => {
            match others_have_started(record, charter, observed, spec) {
                true => Need::Finished,
                false => failed_unless(need(), UNSEEN_EXIT_CODE),
            }
        }
        (Liveness::Dead, TaskState::Created | TaskState::Running)
        | (Liveness::Live | Liveness::Unknown, _)
        | (Liveness::Dead, TaskState::StartFailed { .. }) => need(),
    }
}

/// What has not ended well and is not started again has failed.
fn failed_unless(need: Need, code: i32) -> Need {
    if need == Need::Finished { Need::Failed(code) } else { need }
}

fn others_have_started(
    record: &PodRecord,
    charter: &Charter,
    observed: &Observed,
    init: &ContainerSpec,
) -> bool {
    let made_by = record.containers.get(&init.name).map(|known| known.generation).unwrap_or_default();
    let mut mains = charter.spec.with_role(ContainerRole::Main);
    mains.any(|main| started(record, observed, &main.name).any(|seen| seen.generation >= made_by))
}

/// The attempts at a container that have started in the pod's sandbox since an order last said that it must run.
pub(super) fn started<'a>(
    record: &'a PodRecord,
    observed: &'a Observed,
    name: &'a ContainerName,
) -> impl Iterator<Item = &'a ObservedContainer> {
    let ordered = record.containers.get(name).map(|known| known.ordered).unwrap_or_default();
    observed.containers.iter().filter(move |seen| {
        let has_started = match seen.state {
            TaskState::Running | TaskState::Exited { .. } | TaskState::Interrupted { .. } => true,
            TaskState::Created | TaskState::StartFailed { .. } | TaskState::Unknown => false,
        };
        seen.name == *name && has_started && seen.attempt > ordered && is_home(record, observed, seen)
    })
}

fn is_home(record: &PodRecord, observed: &Observed, container: &ObservedContainer) -> bool {
    home(record, observed).is_some_and(|home| home.id == container.sandbox_id)
}

/// What is ordered is not there. What may live in its stead gives way by order, or gets no rival.
fn absent_need(record: &PodRecord, charter: &Charter, observed: &Observed, spec: &ContainerSpec) -> Need {
    match rival(record, observed, &spec.name) {
        None => Need::Attempt,
        Some(rival) => giving_way(record, charter, rival).map_or_else(Need::Blocked, |_| Need::Attempt),
    }
}
