//! What the judge holds of it all, by its own reading of the verbs.

use super::*;

impl World {
    pub(super) fn is_stranded(&self) -> bool {
        let ordered = self.record.as_ref().is_some_and(|record| self.may_end(record));
        !ordered && self.containers.values().any(|c| c.live) && self.sandboxes.values().all(|s| !s.ready)
    }

    pub(super) fn judge_rest(&self) -> Judged {
        let Some(record) = &self.record else { return Ok(()) };
        let live = |name: &ContainerName| self.containers.values().any(|c| c.live && c.name == *name);
        match &record.charter {
            None if self.has_scratch() => Err("scratch is left of a pod that is gone".to_owned()),
            None if self.containers.is_empty() && self.sandboxes.is_empty() && self.slice.is_none() => Ok(()),
            None => Err("something is left of a pod that is gone".to_owned()),
            Some(charter) if charter.leaving.is_some() => Err("at rest while leaving".to_owned()),
            Some(charter) if Some(&charter.spec) != self.books.committed.as_ref() => {
                Err("the charter is not what the last order that got there said".to_owned())
            }
            Some(charter) => charter.spec.containers.iter().try_for_each(|spec| {
                let made_otherwise =
                    |c: &Container| c.live && c.name == spec.name && !same_making(&c.made_by, spec);
                if self.containers.values().any(made_otherwise) {
                    return Err(format!("container {} is not as its charter says", spec.name));
                }
                let must_run = charter.spec.restart == RestartPolicy::Always
                    || !self.books.ended.contains_key(&spec.name);
                match (charter.run_state, live(&spec.name)) {
                    (RunState::Stopped, true) => Err("a stopped pod lives".to_owned()),
                    (RunState::Running, false) if must_run => {
                        Err("a pod that should run does not".to_owned())
                    }
                    _ => Ok(()),
                }
            }),
        }
    }

    pub(super) fn has_scratch(&self) -> bool {
        self.data.keys().any(|name| name.as_str() == SCRATCH)
    }

    /// Whether the pod's open order permits ending whatever lives: the judge's own reading of the verbs.
    pub(super) fn may_end(&self, record: &PodRecord) -> bool {
        record.open.as_ref().is_some_and(|open| match open.verb {
            PodVerb::Stop { .. } | PodVerb::Evict { .. } => true,
            PodVerb::Run { .. } => open.failure.is_some(),
            PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. }
            | PodVerb::Release => false,
        })
    }

    /// Whether the open order is to replace this very container.
    pub(super) fn may_replace(&self, record: &PodRecord, container: &Container) -> bool {
        let (Some(open), Some(charter)) = (&record.open, &record.charter) else { return false };
        match open.verb {
            PodVerb::Restart { .. } => container.started_at_ms <= self.books.restarted_at_ms,
            PodVerb::Upgrade { .. } => charter
                .spec
                .container(&container.name)
                .is_some_and(|spec| !same_making(&container.made_by, spec)),
            _ => false,
        }
    }

    pub(super) fn judge_end(&self, record: &PodRecord, id: &str, what: &str) -> Judged {
        let live = self.containers.get(id).filter(|container| container.live);
        match live {
            Some(container) if !self.may_end(record) && !self.may_replace(record, container) => {
                Err(format!("{what} ended live container {id} without an order"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn judge_cover(&self, record: &PodRecord, cover: &Cover) -> Judged {
        match cover {
            Cover::Order(id) if record.open.as_ref().is_none_or(|open| open.id != *id) => {
                Err(format!("order {id} is not open, and was named as cover"))
            }
            Cover::Order(_) | Cover::Charter => Ok(()),
            Cover::HostShutdown => Err("a shutdown was named as cover for removing something".to_owned()),
        }
    }
}
