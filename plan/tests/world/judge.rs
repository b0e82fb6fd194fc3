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
            Some(charter) if charter.run_state == RunState::Running && self.has_unordered_limit() => {
                Err("a limit is left that nobody orders any more".to_owned())
            }
            Some(charter) => charter.spec.containers.iter().try_for_each(|spec| {
                let made_otherwise =
                    |c: &Container| c.live && c.name == spec.name && !same_making(&c.made_by, spec);
                if self.containers.values().any(made_otherwise) {
                    return Err(format!("container {} is not as its charter says", spec.name));
                }
                match (charter.run_state, live(&spec.name)) {
                    (RunState::Stopped, true) => Err("a stopped pod lives".to_owned()),
                    (RunState::Running, false) if self.must_run(&charter.spec, spec) => {
                        Err("a pod that should run does not".to_owned())
                    }
                    _ => Ok(()),
                }
            }),
        }
    }

    fn must_run(&self, pod: &PodSpec, spec: &ContainerSpec) -> bool {
        let goes_on = |spec: &ContainerSpec| !self.has_ended_for_good(pod, &spec.name);
        match spec.role {
            ContainerRole::Main => goes_on(spec),
            ContainerRole::Sidecar => pod.with_role(ContainerRole::Main).any(goes_on),
            ContainerRole::Init => false,
        }
    }

    /// Whether it has ended by itself, its pod's policy is that it stays so, and no order has said otherwise.
    fn has_ended_for_good(&self, pod: &PodSpec, name: &ContainerName) -> bool {
        self.books.ended.get(name).is_some_and(|end| match pod.restart {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => !end.wanted && end.code == 0,
            RestartPolicy::Never => !end.wanted,
        })
    }

    /// An init container has failed, and its pod's policy is that nothing is started again.
    pub(super) fn has_given_up(&self) -> bool {
        let failed = |c: &Container| {
            c.made_by.role == ContainerRole::Init
                && matches!(&c.state, TaskState::Exited { code, .. } if *code != 0)
        };
        let charter = self.record.as_ref().and_then(|record| record.charter.as_ref());
        charter.is_some_and(|charter| charter.spec.restart == RestartPolicy::Never)
            && self.record.as_ref().is_some_and(|record| record.open.is_none())
            && self.containers.values().any(failed)
    }

    /// Whether that container, so made, has prepared for others in that sandbox.
    fn is_prepared(&self, spec: &ContainerSpec, sandbox: &str) -> bool {
        let done = |(place, made_by): &(String, ContainerSpec)| {
            place == sandbox && made_by.name == spec.name && same_making(made_by, spec)
        };
        self.books.prepared.iter().any(done)
    }

    /// Whether the open order is being undone.
    fn is_taken_back(&self) -> bool {
        let open = self.record.as_ref().and_then(|record| record.open.as_ref());
        open.is_some_and(|open| open.failure.is_some())
    }

    /// What has prepared is not asked again.
    pub(super) fn judge_preparation(&self, container: &Container) -> Judged {
        let again = container.made_by.role == ContainerRole::Init
            && !self.books.lost.contains(&container.name)
            && self.is_prepared(&container.made_by, &container.sandbox);
        match again {
            true => Err(format!("init container {} was started twice in one sandbox", container.name)),
            false => Ok(()),
        }
    }

    /// What has ended by itself is not started again where its pod says so, whenever its end became known, unless by order.
    /// Whose record the runtime has lost has nobody to say that it ended.
    pub(super) fn judge_restart(&self, pod: &PodSpec, container: &Container) -> Judged {
        let again = container.made_by.role == ContainerRole::Main
            && !self.books.lost.contains(&container.name)
            && !self.books.wanted.contains(&container.name)
            && self.has_ended_for_good(pod, &container.name);
        match again {
            true => Err(format!("container {} was started again, and is never to be", container.name)),
            false => Ok(()),
        }
    }

    /// What comes before a container has to be there: prepared in its sandbox, or alive.
    pub(super) fn judge_start(&self, pod: &PodSpec, container: &Container) -> Judged {
        let before = pod.containers.iter().take_while(|spec| spec.name != container.name);
        let before: Vec<_> = match container.made_by.role {
            ContainerRole::Main => pod.containers.iter().collect(),
            ContainerRole::Init | ContainerRole::Sidecar => before.collect(),
        };
        before.into_iter().try_for_each(|spec| {
            let is_there = match spec.role {
                ContainerRole::Main => true,
                ContainerRole::Init => self.is_prepared(spec, &container.sandbox) || self.is_taken_back(),
                ContainerRole::Sidecar => {
                    let key = (container.name.clone(), container.sandbox.clone());
                    container.made_by.role != ContainerRole::Init && self.books.started.contains_key(&key)
                        || self.is_taken_back()
                        || self.containers.values().any(|c| c.live && c.name == spec.name)
                }
            };
            match is_there {
                true => Ok(()),
                false => {
                    Err(format!("container {} was started before {} allowed it", container.name, spec.name))
                }
            }
        })
    }

    /// What serves others is stopped after them, unless it is only replaced.
    pub(super) fn judge_stop_order(&self, id: &str) -> Judged {
        let works = |c: &Container| c.live && c.made_by.role == ContainerRole::Main;
        let serves = |c: &Container| c.live && c.made_by.role == ContainerRole::Sidecar;
        match self.containers.get(id).is_some_and(serves) && self.containers.values().any(works) {
            true => Err(format!("container {id} was stopped before what it serves")),
            false => Ok(()),
        }
    }

    fn has_unordered_limit(&self) -> bool {
        let ordered = self.ordered_limits();
        self.slice.iter().chain([&self.told]).flat_map(BTreeMap::keys).any(|file| !ordered.contains_key(file))
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
