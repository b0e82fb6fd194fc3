//! The pod as it is reported: the look it was made from, and every control read back.

use super::client::Client;
use super::controls::Target;
use super::cri::START_ERROR;
use super::kernel::KernelRoots;
use super::{Ordered, UNSAID};
use berth_model::{
    Applied, Attempt, ContainerName, ContainerPhase, ContainerRole, ContainerSpec, ContainerStatus, Digest,
    PodPhase, PodStatus,
};
use berth_plan::{Observed, ObservedContainer, PodRecord, TaskState};
use k8s_cri::v1::ContainerStatus as CriStatus;

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) record: &'a PodRecord,
    pub(super) ordered: Option<&'a Ordered>,
    pub(super) observed: &'a Observed,
}

/// Reports. What cannot be read is reported as such; this never fails.
pub(super) async fn report(client: &Client, roots: &KernelRoots, seen: Seen<'_>) -> PodStatus {
    let Seen { record, ordered, .. } = seen;
    let mut containers = Vec::new();
    for spec in record.charter.iter().flat_map(|charter| &charter.spec.containers) {
        containers.push(container(client, roots, seen, spec).await);
    }
    let (phase, message) = summarize(seen, &containers);
    PodStatus {
        pod: record.pod.clone(),
        incarnation: record.incarnation,
        generation: record.generation,
        phase,
        message,
        sandbox_id: newest_sandbox(seen),
        addresses: record.charter.as_ref().map_or_else(Vec::new, |charter| charter.spec.addresses.clone()),
        containers,
        applied: ordered.and_then(|ordered| applied(roots, &Target::pod(ordered))),
        open_order: record.open.as_ref().map(|open| open.id.clone()),
    }
}

fn newest_sandbox(seen: Seen<'_>) -> Option<String> {
    let ours =
        seen.observed.sandboxes.iter().filter(|sandbox| sandbox.incarnation == seen.record.incarnation);
    ours.max_by_key(|sandbox| (sandbox.ready, sandbox.attempt)).map(|sandbox| sandbox.id.clone())
}

/// The newest attempt that runs; else the newest.
fn current<'a>(seen: Seen<'a>, name: &ContainerName) -> Option<&'a ObservedContainer> {
    let ours =
        |found: &&ObservedContainer| found.name == *name && found.incarnation == seen.record.incarnation;
    let runs = |found: &ObservedContainer| found.state == TaskState::Running;
    seen.observed.containers.iter().filter(ours).max_by_key(|found| (runs(found), found.attempt))
}

async fn container(
    client: &Client,
    roots: &KernelRoots,
    seen: Seen<'_>,
    spec: &ContainerSpec,
) -> ContainerStatus {
    let known = seen.record.containers.get(&spec.name);
    let Some(found) = current(seen, &spec.name) else {
        return ContainerStatus {
            name: spec.name.clone(),
            id: None,
            attempt: known.map_or(Attempt::default(), |known| known.attempt),
            image_digest: known.and_then(|known| known.digest.clone()),
            phase: ContainerPhase::Absent,
            applied: None,
            readiness: None,
        };
    };
    let target = seen.ordered.map(|ordered| Target::container(ordered, spec, &found.id));
    ContainerStatus {
        name: spec.name.clone(),
        id: Some(found.id.clone()),
        attempt: found.attempt,
        image_digest: digest(client, found).await.or_else(|| known?.digest.clone()),
        phase: phase_of(client, found).await,
        applied: target.and_then(|target| applied(roots, &target)),
        readiness: None,
    }
}

/// What the container was made from, by its own label.
async fn digest(client: &Client, found: &ObservedContainer) -> Option<Digest> {
    let record = client.find_record(&found.id).await.ok()??;
    match super::identity::Tag::from_labels(record.labels())?.role {
        super::identity::Role::Container { digest, .. } => Some(digest),
        super::identity::Role::Sandbox => None,
    }
}

async fn phase_of(client: &Client, found: &ObservedContainer) -> ContainerPhase {
    let told = client.cri_status(&found.id).await.ok().flatten().unwrap_or_default();
    match &found.state {
        TaskState::Created => ContainerPhase::Created,
        TaskState::Running => running(client, found, &told).await,
        TaskState::Exited { code, .. } => ContainerPhase::Exited {
            code: *code,
            finished_at_ns: told.finished_at.max(0).unsigned_abs(),
            reason: if told.reason.is_empty() { UNSAID.to_owned() } else { told.reason },
        },
        TaskState::StartFailed { .. } => ContainerPhase::Exited {
            code: START_ERROR.0,
            finished_at_ns: told.finished_at.max(0).unsigned_abs(),
            reason: START_ERROR.1.to_owned(),
        },
        TaskState::Interrupted { .. } => ContainerPhase::Exited {
            code: told.exit_code,
            finished_at_ns: told.finished_at.max(0).unsigned_abs(),
            reason: "Interrupted".to_owned(),
        },
        TaskState::Unknown => ContainerPhase::Unknown,
    }
}

async fn running(client: &Client, found: &ObservedContainer, told: &CriStatus) -> ContainerPhase {
    match client.find_task(&found.id).await {
        Ok(Some(task)) => {
            ContainerPhase::Running { started_at_ns: told.started_at.max(0).unsigned_abs(), pid: task.pid }
        }
        // It has just ended, or nobody answers: the next look tells.
        Ok(None) | Err(_) => ContainerPhase::Unknown,
    }
}

fn applied(roots: &KernelRoots, target: &Target) -> Option<Applied> {
    match target.read(roots) {
        Ok(applied) => applied,
        Err(error) => {
            tracing::warn!("controls cannot be read back: {error}");
            None
        }
    }
}

/// The pod in one word; what it does next, and what is wrong, in a few.
fn summarize(seen: Seen<'_>, containers: &[ContainerStatus]) -> (PodPhase, String) {
    let (phase, doing) = berth_plan::phase(seen.record, seen.observed);
    let charter = seen.record.charter.as_ref();
    let has_done_its_work = |container: &&ContainerStatus| {
        let spec = charter.and_then(|charter| charter.spec.container(&container.name));
        spec.is_some_and(|spec| spec.role == ContainerRole::Init)
            && matches!(container.phase, ContainerPhase::Exited { code: 0, .. })
    };
    let wrong = containers.iter().filter(|seen| !has_done_its_work(seen)).filter_map(complaint);
    let said: Vec<_> = std::iter::once(doing).filter(|text| !text.is_empty()).chain(wrong).collect();
    (phase, said.join("; "))
}

fn complaint(container: &ContainerStatus) -> Option<String> {
    if let ContainerPhase::Exited { code, reason, .. } = &container.phase {
        return Some(format!("container {} ended with code {code} ({reason})", container.name));
    }
    let controls = &container.applied.as_ref()?.controls;
    let drifted: Vec<_> =
        controls.iter().filter(|control| !control.holds()).map(|control| control.file.as_str()).collect();
    (!drifted.is_empty())
        .then(|| format!("container {}: not as ordered: {}", container.name, drifted.join(", ")))
}
