//! The way to running, and staying there.

use super::need::{Need, needs};
use super::replace::{self, current, rival};
use super::{may_live, stage, wait};
use crate::{
    Charter, Controls, Cover, DiskState, ImageState, Liveness, Observed, ObservedContainer, ObservedSandbox,
    OpenOrder, PodRecord, SliceState, Step, Wait,
};
use berth_model::{Attempt, ContainerRole, ContainerSpec, DiskPolicy, Failure, PodVerb};

/// The next step of a pod that is meant to run.
pub(super) fn next(record: &PodRecord, charter: &Charter, observed: &Observed) -> Step {
    if let Some(why) = replace::broken(record, charter, observed) {
        return Step::Refuse { why };
    }
    let needs = needs(record, charter, observed);
    let blocked = needs.iter().find_map(|(_, need)| match need {
        Need::Blocked(wait) => Some(wait.clone()),
        _ => None,
    });
    if let Some(wait) = blocked {
        return wait.into();
    }
    if needs.iter().any(|(_, need)| need.wants_start()) {
        return hindrance(record, charter, observed)
            .or_else(|| prepare(record, charter, observed, &needs))
            .or_else(|| create(record, observed, &needs))
            .or_else(|| resize_disks(record, charter, observed))
            .or_else(|| rewrite_controls(record, charter, observed))
            .or_else(|| start_next(record, charter, observed, &needs))
            .unwrap_or_else(|| wait("a container waits for its sandbox"));
    }
    replace::stop_rivals(record, charter, observed)
        .or_else(|| resize_disks(record, charter, observed))
        .or_else(|| rewrite_controls(record, charter, observed))
        .or_else(|| replace::await_ready(record, charter, observed, &needs))
        .or_else(|| clean_up(record, observed))
        .unwrap_or_else(|| settle(record, charter, observed, &needs))
}

/// What stands in the way of starting anything: the charter waits for a word, or the host cannot honour it.
fn hindrance(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Step> {
    if charter.held {
        return Some(wait("down since the host booted: its charter waits for a Start"));
    }
    let why = observed.obstacle.clone()?;
    let gives_up = record.open.as_ref().is_some_and(|open| open.failure.is_none());
    Some(match gives_up {
        true => Step::Refuse { why: Failure::Unhonourable { why } },
        false => wait(format!("the host has changed: {why}")),
    })
}

/// What the new attempts need before they can be made.
fn prepare(
    record: &PodRecord,
    charter: &Charter,
    observed: &Observed,
    needs: &[(&ContainerSpec, Need)],
) -> Option<Step> {
    let wanting: Vec<_> =
        needs.iter().filter(|(_, need)| matches!(need, Need::Attempt)).map(|(spec, _)| *spec).collect();
    ensure_images(record, observed, &wanting)
        .or_else(|| ensure_disks(charter, observed))
        .or_else(|| ensure_slice(observed))
        .or_else(|| ensure_sandbox(record, observed))
}

/// All new attempts are made before any is started: what cannot be made is known before anything has ended.
fn create(record: &PodRecord, observed: &Observed, needs: &[(&ContainerSpec, Need)]) -> Option<Step> {
    let (spec, _) = needs.iter().find(|(_, need)| matches!(need, Need::Attempt))?;
    let attempt = record.containers.get(&spec.name).map_or(Attempt(0), |known| known.attempt);
    Some(Step::CreateContainer {
        sandbox_id: home(record, observed)?.id.clone(),
        container: spec.name.clone(),
        attempt: attempt.next(),
    })
}

fn start_next(
    record: &PodRecord,
    charter: &Charter,
    observed: &Observed,
    needs: &[(&ContainerSpec, Need)],
) -> Option<Step> {
    let next = needs.iter().position(|(_, need)| *need == Need::Start)?;
    let (before, (spec, _)) = (&needs[..next], &needs[next]);
    let waits = stage::gate(record, observed, before, spec)
        .or_else(|| replace::await_ready(record, charter, observed, before));
    if waits.is_some() {
        return waits;
    }
    if let Some(rival) = rival(record, observed, &spec.name) {
        return Some(replace::stop(record, charter, rival));
    }
    Some(start(record, charter, observed, current(record, observed, &spec.name)?))
}

/// The sandbox that new containers go into: the newest, if it is ready.
pub(super) fn home<'a>(record: &PodRecord, observed: &'a Observed) -> Option<&'a ObservedSandbox> {
    newest_sandbox(record, observed).filter(|sandbox| sandbox.ready)
}

fn newest_sandbox<'a>(record: &PodRecord, observed: &'a Observed) -> Option<&'a ObservedSandbox> {
    let ours = observed.sandboxes.iter().filter(|sandbox| sandbox.incarnation == record.incarnation);
    ours.max_by_key(|sandbox| sandbox.attempt)
}

fn ensure_images(record: &PodRecord, observed: &Observed, wanting: &[&ContainerSpec]) -> Option<Step> {
    wanting.iter().find_map(|spec| {
        let known = record.containers.get(&spec.name).and_then(|known| known.digest.clone());
        let ordered = spec.digest.clone().or_else(|| spec.image.digest().cloned());
        let wanted = known.clone().or(ordered);
        let here = match observed.images.get(&spec.name) {
            Some(ImageState::Present { digest }) => wanted.as_ref().is_none_or(|wanted| wanted == digest),
            Some(ImageState::Absent) | None => false,
        };
        // Until the digest is noted the image is not settled, even if it is here.
        (!here || known.is_none()).then(|| Step::EnsureImage {
            container: spec.name.clone(),
            image: spec.image.clone(),
            digest: wanted,
        })
    })
}

fn ensure_disks(charter: &Charter, observed: &Observed) -> Option<Step> {
    let wanting = charter.spec.disks.iter().any(|disk| match observed.disks.get(&disk.name) {
        Some(DiskState::Present) => false,
        Some(DiskState::Absent | DiskState::Wrong { .. }) | None => true,
    });
    wanting.then_some(Step::EnsureDisks)
}

/// Sizes change while containers run, by order only: what an administrator changed meanwhile is reported.
fn resize_disks(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Step> {
    record.open.as_ref().and_then(|_| ensure_disks(charter, observed))
}

fn ensure_slice(observed: &Observed) -> Option<Step> {
    match &observed.slice {
        SliceState::Absent => Some(Step::EnsureSlice),
        SliceState::Present { controls: Controls::Absent, .. } => Some(Step::EnsureSlice),
        SliceState::Present { controls: Controls::InOrder | Controls::Drifted(_), .. } => None,
    }
}

/// A sandbox that has ended is replaced once everything in it is proven dead: stopped first, so that its network
/// lets go of the address, and removed last, since it may still hold the disks.
fn ensure_sandbox(record: &PodRecord, observed: &Observed) -> Option<Step> {
    let next = Step::RunSandbox { attempt: record.sandbox_attempt.next() };
    let Some(newest) = newest_sandbox(record, observed) else {
        return Some(next);
    };
    if newest.ready {
        return None;
    }
    if newest.liveness != Liveness::Dead {
        return Some(wait(format!("sandbox {} is not ready, and not proven dead", newest.id)));
    }
    if let Some(live) = observed.containers.iter().find(|container| may_live(container)) {
        return Some(wait(format!("the sandbox has ended, and container {} may live", live.id)));
    }
    match record.stopped_sandbox == Some(newest.attempt) {
        true => Some(next),
        false => Some(Step::StopSandbox { id: newest.id.clone(), cover: Cover::Charter }),
    }
}

/// A created container gets its disk, then what CRI cannot say, then it starts.
fn start(record: &PodRecord, charter: &Charter, observed: &Observed, container: &ObservedContainer) -> Step {
    let reuses = charter.spec.disk == DiskPolicy::Reuse;
    let disk = record.disk_to_keep(&container.name).filter(|_| reuses);
    if let Some(key) = disk.filter(|key| container.disk_key.as_deref() != Some(key)) {
        let holder = observed.containers.iter().find(|other| other.disk_key.as_deref() == Some(key));
        return match holder {
            Some(holder) if may_live(holder) => {
                wait(format!("container {} may live, and holds the system disk {key}", holder.id))
            }
            Some(_) | None => Step::AdoptSystemDisk {
                container: container.name.clone(),
                from_id: holder.map(|holder| holder.id.clone()),
                to_id: container.id.clone(),
                key: key.to_owned(),
            },
        };
    }
    let (name, id) = (container.name.clone(), container.id.clone());
    match container.amended {
        false => Step::AmendSpec { container: name, id },
        true => Step::StartContainer { container: name, id },
    }
}

/// Our own values, where something else overwrote them: once a look.
fn rewrite_controls(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Step> {
    let slice_drifted = matches!(
        &observed.slice,
        SliceState::Present { controls: Controls::Drifted(_) | Controls::Absent, .. }
    );
    if slice_drifted && !observed.rewritten.contains("") {
        return Some(Step::UpdateResources { container: None, id: String::new() });
    }
    charter.spec.containers.iter().find_map(|spec| {
        let container = current(record, observed, &spec.name)?;
        let drifted =
            container.liveness == Liveness::Live && matches!(container.controls, Controls::Drifted(_));
        (drifted && !observed.rewritten.contains(&container.id))
            .then(|| Step::UpdateResources { container: Some(spec.name.clone()), id: container.id.clone() })
    })
}

/// Dead attempts that nobody needs any more, and sandboxes that were replaced.
fn clean_up(record: &PodRecord, observed: &Observed) -> Option<Step> {
    let is_current = |container: &ObservedContainer| {
        current(record, observed, &container.name).is_some_and(|current| current.id == container.id)
    };
    let holds_disk = |container: &ObservedContainer| {
        container.disk_key.as_ref().is_some_and(|key| record.owns_disk(key) || is_kept(record, key))
    };
    let superfluous = observed.containers.iter().find(|container| {
        !is_current(container)
            && !may_live(container)
            && !holds_disk(container)
            && !has_prepared(record, container)
    });
    if let Some(container) = superfluous {
        return Some(Step::RemoveContainer { id: container.id.clone(), cover: Cover::Charter });
    }
    let replaced = observed.sandboxes.iter().find(|sandbox| {
        let inside = observed.containers.iter().any(|container| container.sandbox_id == sandbox.id);
        let is_home = newest_sandbox(record, observed).is_some_and(|newest| newest.id == sandbox.id);
        !is_home && !inside && sandbox.liveness == Liveness::Dead && !sandbox.ready
    })?;
    Some(Step::RemoveSandbox { id: replaced.id.clone(), cover: Cover::Charter })
}

/// A container that was through before an open Upgrade replaced it: should that be taken back, it proves that it was.
fn has_prepared(record: &PodRecord, container: &ObservedContainer) -> bool {
    let previous = record.charter.as_ref().and_then(|charter| charter.previous.as_ref());
    previous.is_some_and(|previous| {
        let spec = previous.spec.container(&container.name);
        let old = previous.replaced.get(&container.name);
        spec.is_some_and(|spec| spec.role == ContainerRole::Init)
            && old.is_some_and(|old| old.generation == container.generation)
    })
}

fn is_kept(record: &PodRecord, key: &str) -> bool {
    record.kept.iter().any(|kept| kept.key == key)
}

/// Nothing is left to do: an open order is done if what it wanted is so, controls included.
fn settle(
    record: &PodRecord,
    charter: &Charter,
    observed: &Observed,
    needs: &[(&ContainerSpec, Need)],
) -> Step {
    if let Some(step) = untold(record, charter, observed) {
        return step;
    }
    if let Some(open) = &record.open {
        if let Some(wait) = unstarted(record, charter, open, observed, needs) {
            return wait.into();
        }
        // An Upgrade of what prepares is done once that is.
        let inits = needs.iter().filter(|(spec, _)| spec.role == ContainerRole::Init);
        if let Some(step) = inits.clone().find_map(|(spec, need)| stage::unfinished(record, spec, need)) {
            return step;
        }
        return match still_drifted(record, charter, observed) {
            Some(what) => Step::Refuse {
                why: Failure::Effect {
                    step: "write limits".to_owned(),
                    why: format!("the kernel does not keep {what}"),
                },
            },
            None => Step::Settled,
        };
    }
    let waits = needs.iter().filter_map(|(_, need)| match need {
        Need::Later(wait) => Some(wait),
        Need::Nothing | Need::Finished | Need::Failed(_) | Need::Attempt | Need::Start | Need::Blocked(_) => {
            None
        }
    });
    match waits.min_by_key(|wait| wait.until_ms) {
        Some(soonest) => Step::Wait(soonest.clone()),
        None => Step::Settled,
    }
}

/// A limit that was dropped, and of which systemd may not have heard: it was told what the charter orders only where the
/// kernel said something else.
fn untold(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<Step> {
    let former = record.former_limits();
    let slice_is_there = !matches!(observed.slice, SliceState::Absent);
    if slice_is_there && former.exceed(&charter.spec, None) && !observed.rewritten.contains("") {
        return Some(Step::UpdateResources { container: None, id: String::new() });
    }
    charter.spec.containers.iter().find_map(|spec| {
        let seen = current(record, observed, &spec.name)?;
        let name = Some(spec.name.clone());
        let is_untold = seen.liveness == Liveness::Live
            && former.exceed(&charter.spec, name.as_ref())
            && !observed.rewritten.contains(&seen.id);
        is_untold.then(|| Step::UpdateResources { container: name, id: seen.id.clone() })
    })
}

/// An order by which containers are to run is not done while one of them could not be started yet.
fn unstarted(
    record: &PodRecord,
    charter: &Charter,
    open: &OpenOrder,
    observed: &Observed,
    needs: &[(&ContainerSpec, Need)],
) -> Option<Wait> {
    let is_meant = |spec: &ContainerSpec| match open.verb {
        PodVerb::Run { .. } | PodVerb::Start | PodVerb::Restart { .. } => true,
        // Those that it replaces; none while it is taken back.
        PodVerb::Upgrade { .. } => replace::is_replaced(charter, &spec.name),
        PodVerb::Resize { .. } | PodVerb::Stop { .. } | PodVerb::Evict { .. } | PodVerb::Release => false,
    };
    needs.iter().filter(|(spec, _)| is_meant(spec)).find_map(|(spec, need)| match need {
        Need::Later(wait) => current(record, observed, &spec.name)
            .filter(|seen| seen.state.has_not_run())
            .map(|_| wait.clone()),
        _ => None,
    })
}

fn still_drifted(record: &PodRecord, charter: &Charter, observed: &Observed) -> Option<String> {
    if let SliceState::Present { controls: Controls::Drifted(files), .. } = &observed.slice {
        return Some(format!("{} of the pod's slice", files.join(", ")));
    }
    charter.spec.containers.iter().find_map(|spec| match &current(record, observed, &spec.name)?.controls {
        Controls::Drifted(files) => Some(format!("{} of container {}", files.join(", "), spec.name)),
        Controls::InOrder | Controls::Absent => None,
    })
}
