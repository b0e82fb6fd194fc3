//! The host goes down: what runs is stopped in time, gracefully, and comes back by its charter.

use super::{may_live, stage, wait};
use crate::{Charter, Cover, Observed, Shutdown, Step};

/// The next step of a pod whose host shuts down. Containers of one pod share the time that is left.
pub(super) fn next(charter: Option<&Charter>, observed: &Observed, ending: Shutdown) -> Step {
    let first = stage::first_to_stop(charter.map(|charter| &charter.spec), observed);
    let (Some(first), Some(charter)) = (first, charter) else {
        return wait("the host shuts down");
    };
    let live = observed.containers.iter().filter(|container| may_live(container)).count();
    let share_ms = ending.left_ms / u64::try_from(live).unwrap_or(u64::MAX);
    let grace_ms = charter.spec.stop_grace_ms.min(share_ms);
    Step::StopContainer { id: first.id.clone(), grace_ms, cover: Cover::HostShutdown }
}
