//! One look at everything of one pod.
//!
//! The list is containerd's own, not CRI's: after a restart of containerd a record that failed to load is missing in
//! CRI. Life is proven from tasks and cgroups; CRI adds exit codes.

use super::answers::{self, cgroup_path, sandbox_of};
use super::client::Client;
use super::containerd::Record;
use super::controls::{Target, verdict};
use super::cri::CriState;
use super::data_disk::SeenDataDisks;
use super::error::{permanent, transient};
use super::identity::{Role, Tag, any_pod_filter, pod_filter, scope_path, slice_path};
use super::kernel::{KernelRoots, cgroup_fact};
use super::liveness::{CgroupFact, Facts, TaskFact, is_ending, liveness, task_state};
use super::{DeathProof, Ordered, RuntimeError, data_disk, image, prlimit, rlimits, system_disk};
use crate::disk::Disks;
use crate::node::monotonic_ms;
use berth_model::{ContainerName, Digest, PodId};
use berth_plan::{
    Controls, ImageState, Liveness, Observed, ObservedContainer, ObservedSandbox, PodRecord, SliceState,
    TaskState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long CRI may take to hear of an end.
const CATCH_UP: Duration = Duration::from_secs(3);
const CATCH_UP_POLL: Duration = Duration::from_millis(50);

/// Looks from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observer<'a> {
    pub(super) client: &'a Client,
    pub(super) roots: &'a KernelRoots,
    pub(super) disks: &'a Arc<Disks>,
}

impl Observer<'_> {
    /// Everything of one pod.
    pub(super) async fn look(
        self,
        record: &PodRecord,
        ordered: Option<&Ordered>,
    ) -> Result<Observed, RuntimeError> {
        let pod = &record.pod;
        // What an open order may replace is looked for in any case; nobody waits for one answer before asking the next.
        let images = async {
            match record.open {
                Some(_) => self.images(record, &BTreeSet::new()).await.map(Some),
                None => Ok(None),
            }
        };
        let records = self.client.list_records(pod_filter(pod));
        // All of them to their ends: a look at a disk that hangs holds its place.
        let (records, data, images) = tokio::join!(records, self.data_disks(record), images);
        let (records, data, images) = (records?, data?, images?);
        let mut observed = Observed {
            disks: data.states,
            scratch: data.scratch,
            slice: self.slice(pod, ordered)?,
            ..Observed::default()
        };
        let mut running = BTreeSet::new();
        for found in &records {
            let Some(tag) = Tag::from_labels(found.labels()) else {
                let id = found.id();
                tracing::warn!(id, %pod, "{pod}: container {id} has labels of this pod that cannot be read");
                continue;
            };
            match &tag.role {
                Role::Sandbox => observed.sandboxes.push(self.sandbox(found, &tag).await?),
                Role::Container { name, generation, digest } => {
                    let seen = self.container(found, &tag, name, ordered).await?;
                    if seen.liveness == Liveness::Live {
                        running.insert((name.clone(), digest.clone()));
                    }
                    observed.containers.push(ObservedContainer { generation: *generation, ..seen });
                }
            }
        }
        observed.images = match images {
            Some(images) => images,
            None => self.images(record, &running).await?,
        };
        observed.sandboxes.sort_by_key(|sandbox| (sandbox.incarnation, sandbox.attempt));
        observed.containers.sort_by(|left, right| key(left).cmp(&key(right)));
        observed.now_ms = monotonic_ms();
        Ok(observed)
    }

    async fn data_disks(self, record: &PodRecord) -> Result<SeenDataDisks, RuntimeError> {
        let what = format!("look at the data disks of {}", record.pod);
        let (disks, pod) = (self.disks.clone(), record.pod.clone());
        let spec = record.charter.as_ref().map(|charter| charter.spec.clone());
        let looked = tokio::task::spawn_blocking(move || data_disk::look(&disks, &pod, spec.as_ref())).await;
        looked.map_err(|error| transient(&what, error))?.map_err(|error| data_disk::told(what, &error))
    }

    /// Proves that these are dead, or says which is not.
    pub(super) async fn prove_dead(
        self,
        pod: &PodId,
        ids: BTreeSet<String>,
    ) -> Result<DeathProof, RuntimeError> {
        for id in &ids {
            let what = || format!("prove container {id} of {pod} dead");
            let found = self.client.find_record(id).await?;
            if let Some(found) = &found {
                expect_owner(found, pod)?;
            }
            let cgroup = match &found {
                Some(found) => self.cgroup(found),
                None => cgroup_fact(self.roots, &scope_path(pod, id)),
            };
            let task = self.task(id).await;
            match liveness(task, &cgroup) {
                Liveness::Dead => {}
                alive @ (Liveness::Live | Liveness::Unknown) => {
                    return Err(transient(what(), format!("{alive:?}: task {task:?}, cgroup {cgroup:?}")));
                }
            }
        }
        Ok(DeathProof::new(pod.clone(), ids))
    }

    /// Ids of everything that lies in a sandbox, the sandbox itself first.
    pub(super) async fn inside(self, pod: &PodId, sandbox_id: &str) -> Result<Vec<String>, RuntimeError> {
        let records = self.client.list_records(pod_filter(pod)).await?;
        let inside = records.iter().filter(|found| sandbox_of(found).is_some_and(|id| id == sandbox_id));
        Ok(std::iter::once(sandbox_id.to_owned()).chain(inside.map(|found| found.id().to_owned())).collect())
    }

    /// Every pod that containerd has something of.
    pub(super) async fn pods(self) -> Result<BTreeSet<PodId>, RuntimeError> {
        let records = self.client.list_records(any_pod_filter()).await?;
        Ok(records.iter().filter_map(|found| Tag::from_labels(found.labels())).map(|tag| tag.pod).collect())
    }

    /// What a container of `running` runs from is there; all else is looked for.
    async fn images(
        self,
        record: &PodRecord,
        running: &BTreeSet<(ContainerName, Digest)>,
    ) -> Result<BTreeMap<ContainerName, ImageState>, RuntimeError> {
        let mut images = BTreeMap::new();
        let Some(charter) = &record.charter else {
            return Ok(images);
        };
        for spec in &charter.spec.containers {
            let noted = record.containers.get(&spec.name).and_then(|known| known.digest.as_ref());
            let digest = noted.or(spec.digest.as_ref());
            let from = digest.filter(|digest| running.contains(&(spec.name.clone(), (*digest).clone())));
            let state = match from {
                Some(digest) => ImageState::Present { digest: digest.clone() },
                None => image::look(self.client, &spec.image, digest).await?,
            };
            images.insert(spec.name.clone(), state);
        }
        Ok(images)
    }

    fn slice(self, pod: &PodId, ordered: Option<&Ordered>) -> Result<SliceState, RuntimeError> {
        let liveness = match cgroup_fact(self.roots, &slice_path(pod)) {
            CgroupFact::Gone => return Ok(SliceState::Absent),
            CgroupFact::Empty => Liveness::Dead,
            CgroupFact::Populated => Liveness::Live,
            CgroupFact::Unreadable(_) => Liveness::Unknown,
        };
        let controls = match ordered {
            None => Controls::InOrder,
            Some(ordered) => verdict(Target::pod(ordered).read(self.roots)?.as_ref()),
        };
        Ok(SliceState::Present { controls, liveness })
    }

    async fn sandbox(self, found: &Record, tag: &Tag) -> Result<ObservedSandbox, RuntimeError> {
        let (ready, task) = tokio::join!(self.client.sandbox_ready(found.id()), self.task(found.id()));
        Ok(answers::sandbox(found, tag, ready?.unwrap_or(false), task, &self.cgroup(found)))
    }

    async fn container(
        self,
        found: &Record,
        tag: &Tag,
        name: &ContainerName,
        ordered: Option<&Ordered>,
    ) -> Result<ObservedContainer, RuntimeError> {
        let id = found.id();
        let ordered = ordered.filter(|ordered| ordered.incarnation == tag.incarnation);
        let spec = ordered.and_then(|ordered| Some((ordered, ordered.spec.container(name)?)));
        let facts = self.facts(found).await?;
        let controls = match (spec, &facts.cgroup) {
            (_, CgroupFact::Gone) => Controls::Absent,
            (None, _) => Controls::InOrder,
            (Some((ordered, spec)), _) => {
                let controls = verdict(Target::container(ordered, spec, id).read(self.roots)?.as_ref());
                self.with_ulimits(controls, ordered, name, id)?
            }
        };
        let amended = match spec {
            None => true,
            // Only what was not started yet can be amended.
            Some(_) if !matches!(task_state(&facts, now_ns()), TaskState::Created) => true,
            Some((_, spec)) => {
                rlimits::are_in(&found.spec()?, &spec.ulimits)
                    && system_disk::is_held(self.client, self.disks, found, spec.system_disk_size).await?
            }
        };
        let seen = answers::container(found, tag, name, &facts, now_ns());
        Ok(ObservedContainer { amended, controls, ..seen })
    }

    /// While an order changes ulimits, a process without them is a control that has drifted.
    fn with_ulimits(
        self,
        controls: Controls,
        ordered: &Ordered,
        name: &ContainerName,
        id: &str,
    ) -> Result<Controls, RuntimeError> {
        let Some(ulimits) = prlimit::ulimits_to_set(ordered, name) else {
            return Ok(controls);
        };
        let missing = prlimit::missing(self.roots, &scope_path(&ordered.pod, id), ulimits)?;
        Ok(match controls {
            Controls::Drifted(files) => Controls::Drifted(files.into_iter().chain(missing).collect()),
            Controls::InOrder if !missing.is_empty() => Controls::Drifted(missing),
            Controls::InOrder | Controls::Absent => controls,
        })
    }

    /// What is known of a container. An end that has just happened reaches CRI a moment later; that is waited for,
    /// since nobody else knows the exit code.
    async fn facts(self, found: &Record) -> Result<Facts, RuntimeError> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let (cri, task) = tokio::join!(self.client.cri_status(found.id()), self.task(found.id()));
            let facts = Facts {
                cri: CriState::of(cri?.as_ref()),
                task,
                cgroup: self.cgroup(found),
                created_at_ns: found.created_at_ns(),
            };
            if !is_ending(&facts) || Instant::now() >= deadline {
                return Ok(facts);
            }
            tokio::time::sleep(CATCH_UP_POLL).await;
        }
    }

    async fn task(self, id: &str) -> TaskFact {
        match self.client.find_task(id).await {
            Ok(None) => TaskFact::None,
            Ok(Some(task)) => TaskFact::Is(task.status),
            Err(error) => {
                tracing::debug!(id, %error, "containerd does not say whether there is a task");
                TaskFact::Unanswered
            }
        }
    }

    fn cgroup(self, found: &Record) -> CgroupFact {
        match cgroup_path(found) {
            Ok(path) => cgroup_fact(self.roots, &path),
            Err(why) => CgroupFact::Unreadable(why),
        }
    }
}

/// A record of another pod is none of ours, whatever id we were given.
pub(super) fn expect_owner(found: &Record, pod: &PodId) -> Result<Tag, RuntimeError> {
    let what = || format!("touch container {} for {pod}", found.id());
    let tag = Tag::from_labels(found.labels()).ok_or_else(|| permanent(what(), "it is not Berth's"))?;
    if tag.pod == *pod { Ok(tag) } else { Err(permanent(what(), format!("it belongs to {}", tag.pod))) }
}

fn key(container: &ObservedContainer) -> (&ContainerName, berth_model::Incarnation, berth_model::Attempt) {
    (&container.name, container.incarnation, container.attempt)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
