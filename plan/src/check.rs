//! The plan checker: whether a step may be done at all, by rules of its own.
//!
//! It knows nothing of how [`next_step`](crate::next_step) finds a step. The daemon asks it before every effect, and a
//! step that does not pass is a defect: it is not done.

use crate::{Cover, Liveness, Observed, ObservedContainer, OpenOrder, PodRecord, Step};
use berth_model::{EvictDisposition, OrderId, PodVerb};

/// Why a step must not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It names an order that is not open, or whose verb does not cover it.
    #[error("order {0} does not cover this step")]
    NotCovered(OrderId),
    /// It would end something that is not proven dead, under the charter alone.
    #[error("{0} is not proven dead, and no order covers ending it")]
    NotDead(String),
    /// It would remove a disk that is to be kept.
    #[error("disk {0} is to be kept")]
    DiskLost(String),
    /// It would start or make something of a pod that is not meant to run.
    #[error("the pod is not meant to run")]
    NotMeantToRun,
    /// It would end something for a shutdown of the host that is not under way.
    #[error("{0} would be stopped for a shutdown that nobody announced")]
    NoShutdown(String),
    /// It would make or remove something while the host shuts down.
    #[error("the host shuts down")]
    ShuttingDown,
    /// It acts on something that was not seen.
    #[error("{0} was not seen in this look")]
    NotSeen(String),
}

/// Checks a step against the record and what was seen.
///
/// # Errors
/// The rule that it breaks.
pub fn check(record: &PodRecord, observed: &Observed, step: &Step) -> Result<(), Violation> {
    if observed.shutdown.is_some() && !matches!(step, Step::StopContainer { .. }) && is_effect(step) {
        return Err(Violation::ShuttingDown);
    }
    match step {
        Step::EnsureImage { .. }
        | Step::EnsureDisks
        | Step::EnsureSlice
        | Step::RunSandbox { .. }
        | Step::CreateContainer { .. }
        | Step::AmendSpec { .. }
        | Step::StartContainer { .. }
        | Step::UpdateResources { .. } => meant_to_run(record),
        Step::AdoptSystemDisk { from_id, to_id, .. } => {
            meant_to_run(record)?;
            dead(observed, to_id)?;
            from_id.as_ref().map_or(Ok(()), |from| dead(observed, from))
        }
        Step::DetachSystemDisk { from_id, .. } => dead(observed, from_id),
        Step::AwaitReady { .. } => meant_to_run(record),
        Step::StopContainer { id, cover, .. } => may_stop(record, observed, id, cover),
        Step::RemoveContainer { id, cover } => {
            covered(record, cover)?;
            let container = seen(observed, id)?;
            dead(observed, id)?;
            keeps_disk(record, container)
        }
        Step::StopSandbox { id, cover } => {
            covered(record, cover)?;
            dead_sandbox(observed, id, cover)?;
            inside(observed, id).try_for_each(|container| dead(observed, &container.id))
        }
        Step::RemoveSandbox { id, cover } => {
            covered(record, cover)?;
            dead_sandbox(observed, id, cover)?;
            inside(observed, id).try_for_each(|container| {
                dead(observed, &container.id)?;
                keeps_disk(record, container)
            })
        }
        Step::RemoveSlice { cover } => {
            covered(record, cover)?;
            observed.containers.iter().try_for_each(|container| dead(observed, &container.id))
        }
        Step::ReleaseDisks { data, order, .. } => {
            releases(record, order)?;
            match data.is_empty() {
                true => Ok(()),
                // Whatever runs may still write to a data disk.
                false => observed.containers.iter().try_for_each(|container| dead(observed, &container.id)),
            }
        }
        Step::ReleaseScratch { disks, order } => {
            leaves(record, order)?;
            if let Some(kept) = disks.difference(&observed.scratch).next() {
                return Err(Violation::DiskLost(kept.to_string()));
            }
            observed.containers.iter().try_for_each(|container| dead(observed, &container.id))
        }
        Step::EndGrant { order } => {
            stops(record, order)?;
            match observed.containers.first() {
                Some(container) => Err(Violation::NotDead(container.id.clone())),
                None => Ok(()),
            }
        }
        Step::Settled | Step::Wait(_) | Step::Refuse { .. } => Ok(()),
    }
}

fn is_effect(step: &Step) -> bool {
    !matches!(step, Step::Settled | Step::Wait(_) | Step::Refuse { .. })
}

/// What an order that replaces containers may stop, by the checker's own reading of the verbs.
fn may_stop(record: &PodRecord, observed: &Observed, id: &str, cover: &Cover) -> Result<(), Violation> {
    let order = match cover {
        Cover::Order(order) => order,
        Cover::Charter => return Err(Violation::NotDead(id.to_owned())),
        Cover::HostShutdown if observed.shutdown.is_some() => return Ok(()),
        Cover::HostShutdown => return Err(Violation::NoShutdown(id.to_owned())),
    };
    let container = seen(observed, id)?;
    let known = record.containers.get(&container.name);
    let replaced = match &open(record, order)?.verb {
        PodVerb::Restart { .. } => known.is_some_and(|known| container.attempt <= known.ordered),
        PodVerb::Upgrade { .. } => known.is_some_and(|known| container.generation != known.generation),
        PodVerb::Run { .. }
        | PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Resize { .. }
        | PodVerb::Evict { .. }
        | PodVerb::Release => return stops(record, order),
    };
    replaced.then_some(()).ok_or_else(|| Violation::NotCovered(order.clone()))
}

fn meant_to_run(record: &PodRecord) -> Result<(), Violation> {
    let running = record.charter.as_ref().is_some_and(|charter| {
        charter.leaving.is_none() && charter.run_state == berth_model::RunState::Running
    });
    running.then_some(()).ok_or(Violation::NotMeantToRun)
}

fn seen<'a>(observed: &'a Observed, id: &str) -> Result<&'a ObservedContainer, Violation> {
    let found = observed.containers.iter().find(|container| container.id == id);
    found.ok_or_else(|| Violation::NotSeen(id.to_owned()))
}

fn dead(observed: &Observed, id: &str) -> Result<(), Violation> {
    match seen(observed, id)?.liveness {
        Liveness::Dead => Ok(()),
        Liveness::Live | Liveness::Unknown => Err(Violation::NotDead(id.to_owned())),
    }
}

/// A charter covers ending a sandbox only once that is over already.
fn dead_sandbox(observed: &Observed, id: &str, cover: &Cover) -> Result<(), Violation> {
    let found = observed.sandboxes.iter().find(|sandbox| sandbox.id == id);
    let sandbox = found.ok_or_else(|| Violation::NotSeen(id.to_owned()))?;
    match (cover, sandbox.liveness) {
        (Cover::Order(_), _) | (Cover::Charter, Liveness::Dead) => Ok(()),
        (Cover::Charter | Cover::HostShutdown, _) => Err(Violation::NotDead(id.to_owned())),
    }
}

fn inside<'a>(observed: &'a Observed, sandbox: &str) -> impl Iterator<Item = &'a ObservedContainer> {
    let sandbox = sandbox.to_owned();
    observed.containers.iter().filter(move |container| container.sandbox_id == sandbox)
}

fn covered(record: &PodRecord, cover: &Cover) -> Result<(), Violation> {
    match cover {
        Cover::Order(order) => stops(record, order),
        // Over the dead only, which every caller asks for besides.
        Cover::Charter => meant_to_run(record),
        Cover::HostShutdown => Err(Violation::ShuttingDown),
    }
}

fn open<'a>(record: &'a PodRecord, order: &OrderId) -> Result<&'a OpenOrder, Violation> {
    let open = record.open.as_ref().filter(|open| open.id == *order);
    open.ok_or_else(|| Violation::NotCovered(order.clone()))
}

/// Whether the order permits ending what is live.
fn stops(record: &PodRecord, order: &OrderId) -> Result<(), Violation> {
    let open = open(record, order)?;
    let stops = match &open.verb {
        PodVerb::Stop { .. } | PodVerb::Evict { .. } => true,
        PodVerb::Run { .. } => open.failure.is_some(),
        PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Upgrade { .. }
        | PodVerb::Resize { .. }
        | PodVerb::Release => false,
    };
    stops.then_some(()).ok_or_else(|| Violation::NotCovered(order.clone()))
}

fn releases(record: &PodRecord, order: &OrderId) -> Result<(), Violation> {
    let releases = match &open(record, order)?.verb {
        PodVerb::Release => true,
        PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
        PodVerb::Run { .. }
        | PodVerb::Stop { .. }
        | PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Upgrade { .. }
        | PodVerb::Resize { .. } => false,
    };
    releases.then_some(()).ok_or_else(|| Violation::NotCovered(order.clone()))
}

/// What takes the pod off its node: an Evict, or the undoing of a Run.
fn leaves(record: &PodRecord, order: &OrderId) -> Result<(), Violation> {
    stops(record, order)?;
    let leaving = record.charter.as_ref().is_some_and(|charter| charter.leaving.is_some());
    leaving.then_some(()).ok_or_else(|| Violation::NotCovered(order.clone()))
}

/// Removing a container removes the disk that its record names at that moment.
fn keeps_disk(record: &PodRecord, container: &ObservedContainer) -> Result<(), Violation> {
    let Some(key) = &container.disk_key else {
        return Ok(());
    };
    let leaving = record.charter.as_ref().and_then(|charter| charter.leaving.as_ref());
    let kept = match leaving {
        Some(leaving) => record.survives(key, leaving),
        None => record.owns_disk(key) || record.kept.iter().any(|kept| kept.key == *key),
    };
    if kept { Err(Violation::DiskLost(key.clone())) } else { Ok(()) }
}
