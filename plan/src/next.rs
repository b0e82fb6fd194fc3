//! The node's next step for one pod.

use crate::{Observed, PodRecord, Step, Wait};

/// What the pod needs next, given its record and what was seen.
pub fn next_step(record: &PodRecord, observed: &Observed) -> Step {
    let _ = (record, observed);
    Step::Wait(Wait {
        until_ms: None,
        why: "not decided".to_owned(),
    })
}
