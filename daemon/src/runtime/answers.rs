//! What containerd, CRI and the kernel answered about one record, and what it comes to. Pure: [`super::observe`] asks,
//! and reads the answers by this.

use super::containerd::{Record, TaskStatus};
use super::cri::CriState;
use super::identity::{Role, Tag};
use super::kernel::cgroup_of_spec;
use super::liveness::{CgroupFact, Facts, TaskFact, liveness, running_ms, task_state};
use berth_cgroup::Population;
use berth_model::{ContainerName, Generation};
use berth_plan::{Controls, ObservedContainer, ObservedSandbox};
use containerd_client::services::v1::Container;
use containerd_client::types::v1::Process;
use k8s_cri::v1::{ContainerStatus, PodSandboxState, PodSandboxStatus};
use std::path::PathBuf;

/// Everything that was answered about one record, as it came.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// containerd's record.
    pub record: Container,
    /// What CRI says of it as a container; none if it has no such container.
    pub status: Option<ContainerStatus>,
    /// What CRI says of it as a sandbox; none if it has no such sandbox.
    pub sandbox: Option<PodSandboxStatus>,
    /// Its task; none if there is none.
    pub task: Option<Process>,
    /// Whether its cgroup holds a process; none if that could not be read.
    pub population: Option<Population>,
}

/// What a record is seen to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Somebody else's, or not to be understood: it is left alone.
    Foreign,
    /// A sandbox.
    Sandbox(ObservedSandbox),
    /// A container, its controls and its spec not looked at.
    Container(ObservedContainer),
}

impl Answers {
    /// Reads them. `now_ns` is nanoseconds after the epoch.
    pub fn read(self, now_ns: i64) -> Seen {
        let found = Record::new(self.record);
        let Some(tag) = Tag::from_labels(found.labels()) else {
            return Seen::Foreign;
        };
        let cgroup = match (cgroup_path(&found), self.population) {
            (Err(why), _) => CgroupFact::Unreadable(why),
            (Ok(_), None) => CgroupFact::Unreadable("nobody says".to_owned()),
            (Ok(_), Some(Population::Gone)) => CgroupFact::Gone,
            (Ok(_), Some(Population::Empty)) => CgroupFact::Empty,
            (Ok(_), Some(Population::Populated)) => CgroupFact::Populated,
        };
        let facts = Facts {
            task: self.task.map_or(TaskFact::None, |task| TaskFact::Is(TaskStatus::from_wire(task.status))),
            cgroup,
            cri: CriState::of(self.status.as_ref()),
            created_at_ns: found.created_at_ns(),
        };
        match &tag.role {
            Role::Sandbox => {
                let ready = self.sandbox.as_ref().is_some_and(is_ready);
                Seen::Sandbox(sandbox(&found, &tag, ready, facts.task, &facts.cgroup))
            }
            Role::Container { name, generation, .. } => {
                let seen = container(&found, &tag, name, &facts, now_ns);
                Seen::Container(ObservedContainer { generation: *generation, ..seen })
            }
        }
    }
}

/// Whether CRI calls a sandbox ready.
pub(super) fn is_ready(status: &PodSandboxStatus) -> bool {
    status.state == i32::from(PodSandboxState::SandboxReady)
}

/// Where a record's processes are, below the cgroup mount.
pub(super) fn cgroup_path(found: &Record) -> Result<PathBuf, String> {
    let spec = found.spec().map_err(|error| error.to_string())?;
    let path = spec.pointer("/linux/cgroupsPath").and_then(|path| path.as_str()).unwrap_or_default();
    cgroup_of_spec(path).ok_or_else(|| format!("the spec's cgroup path is {path:?}"))
}

pub(super) fn sandbox(
    found: &Record,
    tag: &Tag,
    ready: bool,
    task: TaskFact,
    cgroup: &CgroupFact,
) -> ObservedSandbox {
    ObservedSandbox {
        id: found.id().to_owned(),
        incarnation: tag.incarnation,
        attempt: tag.attempt,
        ready,
        liveness: liveness(task, cgroup),
    }
}

/// A container; its generation, its controls and its spec are not looked at.
pub(super) fn container(
    found: &Record,
    tag: &Tag,
    name: &ContainerName,
    facts: &Facts,
    now_ns: i64,
) -> ObservedContainer {
    ObservedContainer {
        id: found.id().to_owned(),
        name: name.clone(),
        incarnation: tag.incarnation,
        generation: Generation::default(),
        attempt: tag.attempt,
        sandbox_id: sandbox_of(found).unwrap_or_default(),
        state: task_state(facts, now_ns),
        running_ms: running_ms(facts, now_ns),
        liveness: liveness(facts.task, &facts.cgroup),
        disk_key: found.disk_key().map(str::to_owned),
        amended: true,
        controls: Controls::Absent,
    }
}

/// The sandbox that a container lies in: CRI's annotation in its spec, in every version.
pub(super) fn sandbox_of(found: &Record) -> Option<String> {
    let annotations = found.spec().ok()?;
    let annotations = annotations.get("annotations")?;
    let kind = annotations.get("io.kubernetes.cri.container-type")?.as_str()?;
    let id = annotations.get("io.kubernetes.cri.sandbox-id")?.as_str()?;
    (kind == "container").then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_plan::{Liveness, TaskState};
    use prost_types::{Any, Timestamp};

    fn record() -> Container {
        let label = |key: &str, value: &str| (format!("io.berth.{key}"), value.to_owned());
        let digest = format!("sha256:{}", "0a".repeat(32));
        let spec = r#"{"linux":{"cgroupsPath":"berth-00ff.slice:cri-containerd:abc"}}"#;
        Container {
            id: "abc".to_owned(),
            labels: [
                label("pod", "shop/web"),
                label("incarnation", "1"),
                label("attempt", "2"),
                label("container", "web"),
                label("image-digest", &digest),
            ]
            .into(),
            spec: Some(Any { type_url: String::new(), value: spec.into() }),
            ..Container::default()
        }
    }

    fn ended_at(seconds: i64) -> TaskState {
        let created_at = Some(Timestamp { seconds, nanos: 999_999_999 });
        let record = Container { created_at, ..record() };
        let answers = Answers { record, population: Some(Population::Gone), ..Answers::default() };
        match answers.read(5_000_000_000) {
            Seen::Container(seen) if seen.liveness == Liveness::Dead => seen.state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_time_that_cannot_be_is_no_time() {
        assert_eq!(ended_at(1), TaskState::Interrupted { ago_ms: 3_000 });
        assert_eq!(ended_at(i64::MAX), TaskState::Interrupted { ago_ms: 0 });
        assert!(matches!(ended_at(i64::MIN), TaskState::Interrupted { .. }));
    }

    #[test]
    fn a_record_without_a_cgroup_path_is_not_dead() {
        let record = Container { spec: None, ..record() };
        let answers = Answers { record, population: Some(Population::Gone), ..Answers::default() };
        let Seen::Container(seen) = answers.read(0) else { panic!("it is ours") };
        assert_eq!(seen.liveness, Liveness::Unknown);
    }
}
