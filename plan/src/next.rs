//! The node's next step for one pod.

mod leave;
mod need;
mod replace;
mod restart;
mod run;
mod shutdown;
mod stage;

pub use replace::is_ordered;

use crate::{Cover, DiskState, Liveness, Observed, ObservedContainer, PodRecord, Step, Wait};
use berth_model::{Failure, OrderId, PodVerb, RunState};
use std::collections::BTreeSet;

/// What the pod needs next, given its record and what was seen.
pub fn next_step(record: &PodRecord, observed: &Observed) -> Step {
    let step = wanted(record, observed);
    match late(record, observed, &step) {
        Some(why) => Step::Refuse { why },
        None => step,
    }
}

fn wanted(record: &PodRecord, observed: &Observed) -> Step {
    if let Some(ending) = observed.shutdown {
        return shutdown::next(record.charter.as_ref(), observed, ending);
    }
    let Some(charter) = &record.charter else {
        return absent(record, observed);
    };
    if let Some(leaving) = &charter.leaving {
        return leave::next(record, leaving, observed);
    }
    match charter.run_state {
        RunState::Running => run::next(record, charter, observed),
        RunState::Stopped => stop(record, observed),
    }
}

/// An order whose time is up. What stops or leaves is never abandoned half-way, and neither is taking back.
fn late(record: &PodRecord, observed: &Observed, step: &Step) -> Option<Failure> {
    let open = record.open.as_ref()?;
    let can_be_late = match open.verb {
        PodVerb::Run { .. }
        | PodVerb::Start
        | PodVerb::Restart { .. }
        | PodVerb::Upgrade { .. }
        | PodVerb::Resize { .. } => open.failure.is_none() && observed.shutdown.is_none(),
        PodVerb::Stop { .. } | PodVerb::Evict { .. } | PodVerb::Release => false,
    };
    let ends = matches!(step, Step::Settled | Step::Refuse { .. });
    if !can_be_late || ends || observed.now_ms < open.deadline_at_ms {
        return None;
    }
    Some(Failure::DeadlineExceeded { deadline_ms: open.deadline_ms, last: step.describe() })
}

/// A pod that is not on this node: all that is left to do is to release what was kept of it.
fn absent(record: &PodRecord, observed: &Observed) -> Step {
    let open = record.open.as_ref().filter(|open| matches!(open.verb, PodVerb::Release));
    open.and_then(|open| release(record, observed, &open.id)).unwrap_or(Step::Settled)
}

/// Gives up everything that is kept of the identity; none if nothing is.
fn release(record: &PodRecord, observed: &Observed, order: &OrderId) -> Option<Step> {
    let keys: Vec<_> = record.kept.iter().map(|kept| kept.key.clone()).collect();
    let here = observed.disks.iter().filter(|(_, state)| **state != DiskState::Absent);
    let data: BTreeSet<_> = here.map(|(name, _)| name.clone()).collect();
    let nothing = keys.is_empty() && data.is_empty();
    (!nothing).then(|| Step::ReleaseDisks { keys, data, order: order.clone() })
}

/// A pod that was stopped by order: its containers stay, dead, and with them their disks; so does its sandbox,
/// and with it its address.
fn stop(record: &PodRecord, observed: &Observed) -> Step {
    let spec = record.charter.as_ref().map(|charter| &charter.spec);
    let Some(live) = stage::first_to_stop(spec, observed) else {
        return Step::Settled;
    };
    match record.open.as_ref().map(|open| (&open.id, &open.verb)) {
        Some((order, PodVerb::Stop { grace_ms })) => Step::StopContainer {
            id: live.id.clone(),
            grace_ms: *grace_ms,
            cover: Cover::Order(order.clone()),
        },
        Some(_) | None => wait(format!("container {} lives, and no order covers stopping it", live.id)),
    }
}

pub(crate) fn may_live(container: &ObservedContainer) -> bool {
    match container.liveness {
        Liveness::Dead => false,
        Liveness::Live | Liveness::Unknown => true,
    }
}

fn wait(why: impl Into<String>) -> Step {
    Step::Wait(Wait { until_ms: None, why: why.into() })
}
