//! What the fake host holds.

use super::{Call, CgroupFact, CriState, RuntimeError, TaskFact, TaskStatus, Trouble, error, monotonic_ms};
use crate::runtime::liveness::{Facts, liveness, running_ms, task_state};
use berth_model::{Attempt, ContainerName, Digest, DiskLife, DiskName, Generation, Incarnation, PodId};
use berth_plan::{Controls, Liveness, TaskState};
use std::collections::{BTreeMap, VecDeque};

/// The fake's clock in the terms of CRI, which counts from the epoch.
const NS_PER_MS: i64 = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) troubles: BTreeMap<Call, VecDeque<Trouble>>,
    /// Image name to digest, off the host.
    pub(super) registry: BTreeMap<String, Digest>,
    /// The same on the host, by tag and by digest.
    pub(super) images: BTreeMap<String, Digest>,
    pub(super) slices: BTreeMap<PodId, Controls>,
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<Container>,
    /// Snapshot key to what was written there.
    pub(super) disks: BTreeMap<String, Vec<String>>,
    /// Data disks, which outlive everything but their release.
    pub(super) data: BTreeMap<(PodId, DiskName), DiskLife>,
    pub(super) effects: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) now_ms: Option<u64>,
    /// Whether ends take a look to be noticed.
    pub(super) ends_linger: bool,
    serial: u32,
}

#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) pod: PodId,
    pub(super) incarnation: Incarnation,
    pub(super) attempt: Attempt,
    pub(super) ready: bool,
    pub(super) task: TaskFact,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) pod: PodId,
    pub(super) name: ContainerName,
    pub(super) incarnation: Incarnation,
    pub(super) attempt: Attempt,
    pub(super) generation: Generation,
    /// Ends at once when it is started, with this code.
    pub(super) ends: Option<i32>,
    pub(super) digest: Digest,
    pub(super) sandbox_id: String,
    pub(super) task: TaskFact,
    pub(super) cri: CriState,
    pub(super) disk_key: Option<String>,
    pub(super) amended: bool,
    pub(super) controls: Controls,
}

impl Container {
    pub(super) fn facts(&self) -> Facts {
        let cgroup = match self.task {
            TaskFact::Is(TaskStatus::Alive) => CgroupFact::Populated,
            TaskFact::None => CgroupFact::Gone,
            TaskFact::Is(TaskStatus::Created | TaskStatus::Stopped | TaskStatus::Unknown)
            | TaskFact::Unanswered => CgroupFact::Unreadable("the fake will not say".to_owned()),
        };
        Facts { task: self.task, cgroup, cri: self.cri, created_at_ns: 0 }
    }

    pub(super) fn liveness(&self) -> Liveness {
        liveness(self.task, &self.facts().cgroup)
    }

    pub(super) fn state(&self, now_ms: u64) -> TaskState {
        task_state(&self.facts(), to_ns(now_ms))
    }

    pub(super) fn running_ms(&self, now_ms: u64) -> Option<u64> {
        running_ms(&self.facts(), to_ns(now_ms))
    }

    /// Whether its program runs, or nobody can say.
    pub(super) fn runs(&self) -> bool {
        self.is_live() && self.task != TaskFact::Is(TaskStatus::Stopped)
    }

    pub(super) fn is_live(&self) -> bool {
        self.liveness() != Liveness::Dead
    }

    pub(super) fn label(&self) -> String {
        format!("{}#{}", self.name, self.attempt)
    }

    pub(super) fn end(&mut self, code: i32, now_ms: u64) {
        self.task = TaskFact::None;
        self.controls = Controls::Absent;
        if self.cri != CriState::Missing {
            self.cri = CriState::Exited { code, finished_at_ns: to_ns(now_ms) };
        }
    }

    /// Ends with the host: nobody saw how.
    pub(super) fn interrupt(&mut self, now_ms: u64) {
        let ran = self.runs();
        self.end(255, now_ms);
        if ran && self.cri != CriState::Missing {
            self.cri = CriState::Interrupted { finished_at_ns: to_ns(now_ms) };
        }
    }
}

pub(super) fn to_ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / NS_PER_MS) * NS_PER_MS
}

/// Who hands which disk to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handover<'a> {
    pub(super) from_id: Option<&'a str>,
    pub(super) to_id: &'a str,
    pub(super) key: &'a str,
}

/// Whether an effect may end what lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Licence {
    Order,
    Charter,
}

impl World {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.unwrap_or_else(monotonic_ms)
    }

    pub(super) fn next_id(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}-{}", self.serial)
    }

    /// The container of that id; a test that names another one is wrong.
    pub(super) fn container(&mut self, id: &str) -> &mut Container {
        let found = self.containers.iter_mut().find(|container| container.id == id);
        found.unwrap_or_else(|| panic!("the fake has no container {id}"))
    }

    pub(super) fn find(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// The runtime deletes the tasks of what has ended.
    pub(super) fn notice_ends(&mut self) {
        for container in &mut self.containers {
            if container.task == TaskFact::Is(TaskStatus::Stopped) {
                container.task = TaskFact::None;
            }
        }
    }

    /// A program has ended; its task may still be there.
    pub(super) fn end(&mut self, id: &str, code: i32) {
        let (now_ms, linger) = (self.now_ms(), self.ends_linger);
        let container = self.container(id);
        container.end(code, now_ms);
        if linger {
            container.task = TaskFact::Is(TaskStatus::Stopped);
        }
    }

    /// Ends a container, with a violation if it lives and no order covers that.
    pub(super) fn kill(&mut self, id: &str, licence: Licence, code: i32) {
        let container = self.container(id);
        if !container.is_live() {
            return;
        }
        let (label, ended) = (container.label(), container.task == TaskFact::Is(TaskStatus::Stopped));
        if ended {
            container.task = TaskFact::None;
            return;
        }
        self.end(id, code);
        self.effects.push(format!("kill {label}"));
        if licence == Licence::Charter {
            self.violations.push(format!("{label} was alive, and was ended without an order"));
        }
    }

    /// Removes a container and the disk that it names at this moment.
    pub(super) fn remove(&mut self, id: &str, licence: Licence) {
        self.kill(id, licence, 137);
        let Some(at) = self.containers.iter().position(|container| container.id == id) else {
            return;
        };
        let gone = self.containers.remove(at);
        if let Some(key) = gone.disk_key {
            self.disks.remove(&key);
            if let Some(other) = self.containers.iter().find(|other| other.disk_key.as_ref() == Some(&key)) {
                self.violations.push(format!("{} lost its disk {key}", other.label()));
            }
        }
    }

    /// systemd tells everything in the slice to end, sandboxes too.
    pub(super) fn stop_slice(&mut self, pod: &PodId, licence: Licence) {
        let inside = self.containers.iter().filter(|container| container.pod == *pod);
        for id in inside.map(|container| container.id.clone()).collect::<Vec<_>>() {
            self.kill(&id, licence, 143);
        }
        for sandbox in self.sandboxes.iter_mut().filter(|sandbox| sandbox.pod == *pod) {
            sandbox.ready = false;
            sandbox.task = TaskFact::None;
        }
        self.slices.remove(pod);
    }

    /// The first half: the dead holder lets go of the disk, and names the heir's empty one. Answers that one's key.
    pub(super) fn begin_handover(
        &mut self,
        said: &str,
        handover: Handover<'_>,
    ) -> Result<String, RuntimeError> {
        let Handover { from_id, to_id, key } = handover;
        if !self.disks.contains_key(key) {
            return Err(error::permanent(said, "there is no such disk"));
        }
        if self.container(to_id).task != TaskFact::None {
            return Err(error::permanent(said, "the heir has been started already"));
        }
        let third = |other: &&Container| {
            other.disk_key.as_deref() == Some(key) && other.id != to_id && Some(other.id.as_str()) != from_id
        };
        if let Some(third) = self.containers.iter().find(third) {
            return Err(error::permanent(said, format!("{} names it", third.label())));
        }
        self.effects.push(said.to_owned());
        // The disk that a container is made with has its id.
        let named = self.container(to_id).disk_key.clone().filter(|named| named != key);
        let fresh = named.unwrap_or_else(|| to_id.to_owned());
        if let Some(holder) = self.containers.iter_mut().find(|found| Some(found.id.as_str()) == from_id)
            && holder.disk_key.as_deref() == Some(key)
        {
            holder.disk_key = Some(fresh.clone());
        }
        self.check_disks();
        Ok(fresh)
    }

    /// The second half: the heir names the disk. Its own empty one goes where no holder is known that would have it; one
    /// that names it all the same, after a crash in between, has none then.
    pub(super) fn end_handover(&mut self, fresh: &str, handover: Handover<'_>) {
        let Handover { from_id, to_id, key } = handover;
        self.container(to_id).disk_key = Some(key.to_owned());
        if from_id.is_none() && fresh != key {
            self.disks.remove(fresh);
        }
        self.check_disks();
    }

    pub(super) fn inside(&self, sandbox_id: &str) -> Vec<String> {
        let inside = self.containers.iter().filter(|container| container.sandbox_id == sandbox_id);
        inside.map(|container| container.id.clone()).collect()
    }

    /// At no instant do two containers name one disk that anything was written to: removing either would remove it.
    pub(super) fn check_disks(&mut self) {
        let mut holders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let written = |key: &str| self.disks.get(key).is_some_and(|written| !written.is_empty());
        for container in &self.containers {
            if let Some(key) = container.disk_key.as_deref().filter(|key| written(key)) {
                holders.entry(key).or_default().push(container.label());
            }
        }
        let shared = holders.into_iter().filter(|(_, holders)| holders.len() > 1);
        let found: Vec<_> = shared.map(|(key, holders)| format!("{key} is named by {holders:?}")).collect();
        self.violations.extend(found);
    }
}
