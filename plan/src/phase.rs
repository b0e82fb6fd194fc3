//! A pod in one word, for reports.

use crate::{Liveness, Observed, PodRecord, Step, next_step};
use berth_model::{ContainerRole, PodPhase, RunState};

/// Where the pod is, and what it waits for or is doing, for people; the text is empty if nothing.
pub fn phase(record: &PodRecord, observed: &Observed) -> (PodPhase, String) {
    let step = next_step(record, observed);
    let message = match &step {
        Step::Settled => String::new(),
        Step::Wait(wait) => wait.why.clone(),
        other => other.describe(),
    };
    let Some(charter) = &record.charter else {
        return (PodPhase::Gone, message);
    };
    if charter.leaving.is_some() {
        return (PodPhase::Evicting, message);
    }
    let ours = || observed.containers.iter().filter(|container| container.incarnation == record.incarnation);
    if ours().any(|container| container.liveness == Liveness::Unknown) {
        return (PodPhase::Unknown, message);
    }
    // An init container is not meant to run for long: those are counted that are.
    let lasting = charter.spec.containers.iter().filter(|spec| spec.role != ContainerRole::Init);
    let live = lasting
        .clone()
        .filter(|spec| ours().any(|seen| seen.name == spec.name && seen.liveness == Liveness::Live))
        .count();
    let phase = match (charter.run_state, live) {
        (RunState::Running, 0) if charter.held => PodPhase::Held,
        (RunState::Stopped, 0) => PodPhase::Stopped,
        (RunState::Stopped, _) => PodPhase::Degraded,
        (RunState::Running, live) if live == lasting.count() => PodPhase::Running,
        (RunState::Running, _) if record.open.is_some() => PodPhase::Pending,
        (RunState::Running, _) => PodPhase::Degraded,
    };
    (phase, message)
}
