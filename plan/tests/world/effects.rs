//! Effects on the node, each judged by what the books permit.

use super::*;

impl World {
    pub(super) fn perform(&mut self, record: &PodRecord, step: &Step) -> Judged {
        match step {
            Step::EnsureImage { container, image, .. } => {
                self.images.insert(container.clone(), image.clone());
            }
            Step::EnsureDisks => self.ensure_data(record),
            Step::EnsureSlice | Step::UpdateResources { container: None, .. } => self.write_slice(),
            Step::AwaitReady { .. } => {}
            Step::UpdateResources { id, .. } => {
                self.containers.get_mut(id).map(|c| c.in_order = true).ok_or("resources of nothing")?;
            }
            Step::RunSandbox { attempt } => self.run_sandbox(record, *attempt)?,
            Step::CreateContainer { sandbox_id, container, attempt } => {
                self.create(record, sandbox_id, container, *attempt)?;
            }
            Step::AdoptSystemDisk { from_id, to_id, key, .. } => {
                self.adopt(from_id.as_deref(), to_id, key)?;
            }
            Step::DetachSystemDisk { from_id, .. } => {
                self.containers.get_mut(from_id).ok_or("detached from nothing")?.disk = None;
            }
            Step::AmendSpec { id, .. } => {
                self.containers.get_mut(id).ok_or("amended nothing")?.amended = true;
            }
            Step::StartContainer { id, .. } => self.start(record, id)?,
            Step::StopContainer { id, cover, .. } => self.stop(record, id, cover)?,
            Step::RemoveContainer { id, cover } => {
                self.judge_cover(record, cover)?;
                self.remove(record, id)?;
            }
            Step::StopSandbox { id, cover } => {
                self.judge_cover(record, cover)?;
                let inside: Vec<_> = self.inside(id);
                for id in inside {
                    self.judge_end(record, &id, "StopSandbox")?;
                    self.end(&id, 137);
                }
                if let Some(sandbox) = self.sandboxes.get_mut(id) {
                    (sandbox.ready, sandbox.live) = (false, false);
                }
            }
            Step::RemoveSandbox { id, cover } => {
                self.judge_cover(record, cover)?;
                for id in self.inside(id) {
                    self.remove(record, &id)?;
                }
                self.sandboxes.remove(id);
            }
            Step::RemoveSlice { cover } => {
                self.judge_cover(record, cover)?;
                let all: Vec<_> = self.containers.keys().cloned().collect();
                all.iter().try_for_each(|id| self.judge_end(record, id, "RemoveSlice"))?;
                (self.slice, self.told) = (None, Written::new());
            }
            Step::ReleaseDisks { keys, data, .. } => {
                keys.iter().try_for_each(|key| self.lose(record, key))?;
                data.iter().try_for_each(|name| self.lose_data(record, name))?;
            }
            Step::ReleaseScratch { disks, .. } => {
                disks.iter().try_for_each(|name| self.lose_scratch(record, name))?;
            }
            Step::EndGrant { .. } | Step::Settled | Step::Wait(_) | Step::Refuse { .. } => {}
        }
        Ok(())
    }

    fn stop(&mut self, record: &PodRecord, id: &str, cover: &Cover) -> Judged {
        if *cover == Cover::HostShutdown {
            if !self.shutdown {
                return Err(format!("container {id} was stopped for a shutdown that nobody announced"));
            }
            self.judge_stop_order(id)?;
            self.end(id, 0);
            return Ok(());
        }
        self.judge_cover(record, cover)?;
        self.judge_end(record, id, "StopContainer")?;
        if self.may_end(record) {
            self.judge_stop_order(id)?;
        }
        self.end(id, 143);
        Ok(())
    }

    /// What is left of an effect that failed: of a stop, its signal, and the container lives on for now; of a start, a
    /// container that can never be started.
    pub(super) fn half_way(&mut self, record: &PodRecord, step: &Step) -> Judged {
        if let Step::StartContainer { id, .. } = step {
            let now_ms = self.now_ms;
            let container = self.containers.get_mut(id).ok_or("nothing was started")?;
            (container.state, container.ended_at_ms) = (TaskState::StartFailed { ago_ms: 0 }, now_ms);
        }
        let Step::StopContainer { id, cover, .. } = step else { return Ok(()) };
        self.books.signalled.insert(id.clone());
        match cover {
            Cover::HostShutdown => Ok(()),
            Cover::Order(_) | Cover::Charter => self.judge_end(record, id, "StopContainer"),
        }
    }

    pub(super) fn inside(&self, sandbox: &str) -> Vec<String> {
        self.containers.iter().filter(|(_, c)| c.sandbox == sandbox).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn run_sandbox(&mut self, record: &PodRecord, attempt: Attempt) -> Judged {
        if self.sandboxes.values().any(|s| s.live) {
            return Err("two sandboxes of one pod live, with one address".to_owned());
        }
        let id = format!("s{}-{attempt}", record.incarnation);
        let sandbox = Sandbox { incarnation: record.incarnation, attempt, ready: true, live: true };
        match self.sandboxes.insert(id, sandbox) {
            Some(_) => Err("a sandbox's name was used twice".to_owned()),
            None => Ok(()),
        }
    }

    pub(super) fn create(
        &mut self,
        record: &PodRecord,
        sandbox: &str,
        name: &ContainerName,
        attempt: Attempt,
    ) -> Judged {
        if self.obstacle {
            return Err("a container was made that the host cannot honour".to_owned());
        }
        let charter = record.charter.as_ref().ok_or("a container was made without a charter")?;
        let made_by = charter.spec.container(name).ok_or("a container was made that nobody ordered")?.clone();
        if !self.sandboxes.get(sandbox).is_some_and(|s| s.ready) {
            return Err("a container was made in a sandbox that is not ready".to_owned());
        }
        let id = format!("c{}-{name}-{attempt}", record.incarnation);
        let disk = format!("disk-{id}");
        self.snapshots.insert(disk.clone());
        let container = Container {
            name: name.clone(),
            incarnation: record.incarnation,
            attempt,
            sandbox: sandbox.to_owned(),
            state: TaskState::Created,
            live: false,
            ended_at_ms: 0,
            told: false,
            disk: Some(disk),
            in_order: true,
            amended: false,
            generation: record.containers.get(name).map_or(Generation(0), |known| known.generation),
            made_by,
            started_at_ms: 0,
        };
        match self.containers.insert(id, container) {
            Some(_) => Err("a container's name was used twice".to_owned()),
            None => Ok(()),
        }
    }

    pub(super) fn adopt(&mut self, from: Option<&str>, to: &str, key: &str) -> Judged {
        let fresh = self.containers.get(to).ok_or("adopted by nothing")?.disk.clone();
        if let Some(from) = from {
            let holder = self.containers.get_mut(from).ok_or("adopted from nothing")?;
            if holder.live {
                return Err(format!("the disk of live container {from} was taken"));
            }
            holder.disk = fresh;
        }
        let named = self.containers.iter().any(|(id, c)| id != to && c.disk.as_deref() == Some(key));
        let heir = self.containers.get_mut(to).ok_or("adopted by nothing")?;
        heir.disk = Some(key.to_owned());
        if named { Err(format!("two containers name disk {key}")) } else { Ok(()) }
    }

    pub(super) fn start(&mut self, record: &PodRecord, id: &str) -> Judged {
        let meant = record
            .charter
            .as_ref()
            .is_some_and(|charter| charter.leaving.is_none() && charter.run_state == RunState::Running);
        if !meant {
            return Err(format!("container {id} was started, and its pod is not meant to run"));
        }
        let container = self.containers.get(id).ok_or("nothing was started")?.clone();
        if container.state != TaskState::Created {
            return Err(format!("container {id} was started in state {:?}", container.state));
        }
        let rival = |c: &Container| c.live && c.name == container.name;
        if self.containers.values().any(rival) {
            return Err(format!("two containers {} live", container.name));
        }
        let key = container.disk.clone().unwrap_or_default();
        let keeps = self.policy == DiskPolicy::Reuse;
        let own = record.disk(&container.name);
        if keeps && own.is_some_and(|own| self.precious.contains(own) && own != key) {
            return Err(format!("container {id} was started without its disk"));
        }
        let charter = record.charter.as_ref();
        charter.map_or(Ok(()), |charter| self.judge_start(&charter.spec, &container))?;
        self.judge_preparation(&container)?;
        charter.map_or(Ok(()), |charter| self.judge_restart(&charter.spec, &container))?;
        for disk in charter.iter().flat_map(|charter| &charter.spec.disks) {
            match self.data.get_mut(&disk.name).filter(|data| data.mounted) {
                Some(data) => data.written = true,
                None => return Err(format!("container {id} was started without data disk {}", disk.name)),
            }
        }
        if self.books.held {
            return Err(format!(
                "container {id} was started, and its charter waits for the control plane's word"
            ));
        }
        if self.shutdown {
            return Err(format!("container {id} was started while the host shut down"));
        }
        let upgrades = record
            .open
            .as_ref()
            .is_some_and(|open| matches!(open.verb, PodVerb::Upgrade { .. }) && open.failure.is_none());
        if keeps && self.precious.insert(key.clone()) && upgrades {
            self.books.provisional.insert(key);
        }
        self.books.ended.remove(&container.name);
        self.books.wanted.remove(&container.name);
        let key = (container.name.clone(), container.sandbox.clone());
        self.books.started.insert(key, container.made_by.clone());
        let now_ms = self.now_ms;
        let container = self.containers.get_mut(id).ok_or("nothing was started")?;
        (container.live, container.started_at_ms) = (true, now_ms);
        container.state = TaskState::Running;
        if is_broken(&container.made_by) {
            self.end(id, 1);
        }
        Ok(())
    }

    /// As a container is about to be started by a Restart that rebuilds, and not before, the disks of what was there are
    /// given up.
    pub(super) fn rebuild(&mut self, record: &PodRecord, step: &Step) -> Judged {
        let Step::StartContainer { container: name, id } = step else { return Ok(()) };
        let container = self.containers.get(id).ok_or("nothing was started")?;
        if self.policy != DiskPolicy::Reuse || !self.books.rebuilt.remove(name) {
            return Ok(());
        }
        let key = container.disk.as_deref().unwrap_or_default();
        // What has prepared is not restarted, unless its pod was at rest.
        if container.made_by.role != ContainerRole::Init && self.precious.contains(key) {
            return Err(format!("container {name} was rebuilt upon its old disk {key}"));
        }
        let (own, kept) = (record.disk(name), self.kept_keys());
        let of_it = |old: &str| old.contains(&format!("-{name}-")) && !kept.contains(old);
        self.precious.retain(|old| old == key || own != Some(old) && !of_it(old));
        Ok(())
    }

    /// A container's record goes, and with it whatever disk it names at this moment.
    pub(super) fn remove(&mut self, record: &PodRecord, id: &str) -> Judged {
        self.judge_end(record, id, "removal")?;
        let Some(container) = self.containers.remove(id) else { return Ok(()) };
        container.disk.map_or(Ok(()), |key| self.lose(record, &key))
    }

    pub(super) fn lose(&mut self, record: &PodRecord, key: &str) -> Judged {
        self.snapshots.remove(key);
        let given_up = record.open.as_ref().is_some_and(|open| match &open.verb {
            PodVerb::Release => true,
            PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
            // Undoing a Run gives up what that Run has made, and nothing older.
            PodVerb::Run { .. } => open.failure.is_some() && record.kept.iter().all(|kept| kept.key != key),
            PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. } => false,
        });
        match self.precious.remove(key) && !given_up {
            true => Err(format!("disk {key} was lost")),
            false => Ok(()),
        }
    }

    /// Data disks go by Release, or by an Evict that releases, and by nothing else.
    pub(super) fn lose_data(&mut self, record: &PodRecord, name: &DiskName) -> Judged {
        if let Some((id, _)) = self.containers.iter().find(|(_, c)| c.live) {
            return Err(format!("data disk {name} was released under live container {id}"));
        }
        let given_up = record.open.as_ref().is_some_and(|open| match &open.verb {
            PodVerb::Release => true,
            PodVerb::Evict { disposition, .. } => *disposition == EvictDisposition::Release,
            PodVerb::Run { .. }
            | PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Upgrade { .. }
            | PodVerb::Resize { .. } => false,
        });
        match self.data.remove(name) {
            Some(Data { written: true, .. }) if !given_up => Err(format!("data disk {name} was lost")),
            Some(_) | None => Ok(()),
        }
    }

    /// Scratch goes when the pod leaves, and nothing else goes with it.
    pub(super) fn lose_scratch(&mut self, record: &PodRecord, name: &DiskName) -> Judged {
        if let Some((id, _)) = self.containers.iter().find(|(_, c)| c.live) {
            return Err(format!("scratch {name} was released under live container {id}"));
        }
        let leaves = record.charter.as_ref().is_some_and(|charter| charter.leaving.is_some());
        match self.data.remove(name) {
            Some(_) if name.as_str() != SCRATCH => Err(format!("data disk {name} was lost as scratch")),
            Some(_) if !leaves => Err(format!("scratch {name} was lost, and its pod stays")),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn ensure_data(&mut self, record: &PodRecord) {
        let charter = record.charter.as_ref();
        for disk in charter.iter().flat_map(|charter| &charter.spec.disks) {
            let known = self.data.entry(disk.name.clone()).or_insert(Data { mounted: true, written: false });
            known.mounted = true;
        }
    }

    pub(super) fn write_slice(&mut self) {
        let (ordered, former) = (self.ordered_limits(), self.former_limits());
        self.told.retain(|file, _| !former.contains_key(file));
        self.told.extend(ordered.clone());
        let written = self.slice.get_or_insert_default();
        written.retain(|file, _| !former.contains_key(file));
        let kept = |limit| if limit == REFUSED_LIMIT { DRIFTED } else { limit };
        written.extend(ordered.into_iter().map(|(file, limit)| (file, kept(limit))));
    }
}
