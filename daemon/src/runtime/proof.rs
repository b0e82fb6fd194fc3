//! Proof of death. Only this folder can make one, by looking.

use berth_model::PodId;
use std::collections::BTreeSet;

/// Containers and sandboxes of one pod that were just proven dead: no task, and a cgroup that is gone or unpopulated.
#[derive(Debug)]
pub struct DeathProof {
    pod: PodId,
    ids: BTreeSet<String>,
}

impl DeathProof {
    pub(in crate::runtime) fn new(pod: PodId, ids: BTreeSet<String>) -> Self {
        Self { pod, ids }
    }

    /// Whether `id` is among the proven dead.
    pub fn covers(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Whose.
    pub fn pod(&self) -> &PodId {
        &self.pod
    }

    /// Whose, and which.
    pub fn into_parts(self) -> (PodId, BTreeSet<String>) {
        (self.pod, self.ids)
    }
}
