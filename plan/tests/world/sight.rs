//! What the daemon sees of the node.

use super::*;

impl World {
    pub(super) fn observe(&mut self) -> Observed {
        let blind = self.blind > 0;
        self.blind = self.blind.saturating_sub(1);
        if !blind {
            self.containers.values_mut().filter(|c| !c.live).for_each(|c| c.told = true);
        }
        let liveness = |live: bool| match (live, blind) {
            (true, true) => Liveness::Unknown,
            (true, false) => Liveness::Live,
            (false, _) => Liveness::Dead,
        };
        let controls = |in_order: bool| match in_order {
            true => Controls::InOrder,
            false => Controls::Drifted(vec!["cpu.max".to_owned()]),
        };
        let containers = self.containers.iter().map(|(id, c)| ObservedContainer {
            id: id.clone(),
            name: c.name.clone(),
            incarnation: c.incarnation,
            generation: c.generation,
            attempt: c.attempt,
            sandbox_id: c.sandbox.clone(),
            running_ms: c.live.then(|| self.now_ms - c.started_at_ms),
            state: self.told_state(c),
            liveness: liveness(c.live),
            disk_key: c.disk.clone(),
            amended: c.amended,
            controls: if c.live { controls(c.in_order) } else { Controls::Absent },
        });
        let sandboxes = self.sandboxes.iter().map(|(id, s)| ObservedSandbox {
            id: id.clone(),
            incarnation: s.incarnation,
            attempt: s.attempt,
            ready: s.ready,
            liveness: liveness(s.live),
        });
        let live = self.containers.values().any(|c| c.live);
        Observed {
            containers: containers.collect(),
            sandboxes: sandboxes.collect(),
            images: self
                .images
                .iter()
                .map(|(name, image)| (name.clone(), ImageState::Present { digest: digest(image) }))
                .collect(),
            disks: self.data_states(),
            scratch: self.data.keys().filter(|name| name.as_str() == SCRATCH).cloned().collect(),
            slice: match &self.slice {
                None => SliceState::Absent,
                Some(written) => {
                    let (ordered, former) = (self.ordered_limits(), self.former_limits());
                    let mut files = ordered.keys().chain(former.keys());
                    let in_order = files.all(|file| written.get(file) == ordered.get(file));
                    SliceState::Present { controls: controls(in_order), liveness: liveness(live) }
                }
            },
            rewritten: self.rewritten.clone(),
            obstacle: self.obstacle.then(|| "CPUs 3 are offline".to_owned()),
            shutdown: self.shutdown.then_some(Shutdown { left_ms: 100 }),
            now_ms: self.now_ms,
        }
    }

    fn told_state(&self, container: &Container) -> TaskState {
        let ago_ms = self.now_ms.saturating_sub(container.ended_at_ms);
        match &container.state {
            TaskState::StartFailed { .. } => TaskState::StartFailed { ago_ms },
            TaskState::Interrupted { .. } => TaskState::Interrupted { ago_ms },
            // The runtime hears of an end a moment after it.
            TaskState::Exited { .. } if !container.told => TaskState::Unknown,
            TaskState::Exited { code, .. } => TaskState::Exited { code: *code, ago_ms },
            state => state.clone(),
        }
    }

    pub(super) fn data_states(&self) -> BTreeMap<DiskName, DiskState> {
        let charter = self.record.as_ref().and_then(|record| record.charter.as_ref());
        let ordered = charter.iter().flat_map(|charter| &charter.spec.disks).map(|disk| &disk.name);
        let state = |name: &DiskName| match self.data.get(name) {
            None => DiskState::Absent,
            Some(Data { mounted: true, .. }) => DiskState::Present,
            Some(Data { mounted: false, .. }) => DiskState::Wrong { why: "not mounted".to_owned() },
        };
        ordered.chain(self.data.keys()).map(|name| (name.clone(), state(name))).collect()
    }

    pub(super) fn ordered_limits(&self) -> Written {
        let charter = self.record.as_ref().and_then(|record| record.charter.as_ref());
        let Some(charter) = charter else { return Written::new() };
        let mut written = files_of(&charter.spec.limits);
        written.insert("cpu.weight", charter.spec.class.cpu_weight().get().into());
        written
    }

    pub(super) fn former_limits(&self) -> Written {
        self.record.iter().flat_map(|record| files_of(&record.former_limits().pod)).collect()
    }
}

fn files_of(limits: &Limits) -> Written {
    let limits = [("pids.max", limits.pids_max), ("memory.max", limits.memory.max.map(|max| max.0))];
    limits.into_iter().filter_map(|(file, limit)| Some((file, limit?))).collect()
}
