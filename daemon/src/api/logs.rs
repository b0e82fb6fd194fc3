//! Containers' logs, as a stream.

use crate::ledger::Ledger;
use crate::report::chain;
use crate::reports::Reports;
use crate::runtime::{Follow, LogQuery, read_logs};
use berth_model::{ContainerName, ContainerPhase, PodId, PodStatus};
use berth_plan::PodRecord;
use berth_proto::{pod_from, v1};
use std::path::Path;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

/// What reading a log goes by.
pub(super) struct Logs<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) reports: &'a Reports,
    pub(super) folder: &'a Path,
}

impl Logs<'_> {
    /// The log that is asked for, from the container's newest attempt.
    pub(super) async fn read(
        &self,
        asked: v1::ReadLogsRequest,
    ) -> Result<impl Stream<Item = Result<v1::LogChunk, Status>> + Send + use<>, Status> {
        let pod = pod_from(asked.pod).map_err(|error| Status::invalid_argument(error.chain()))?;
        let record = self.ledger.pod(&pod).ok_or_else(|| no_pod(&pod))?;
        let container = container_of(&record, &asked.container)?;
        let known = record.containers.get(&container);
        let attempt = started(self.reports.status(&pod), &container)
            .or_else(|| known.map(|known| known.attempt))
            .unwrap_or_default();
        let query = LogQuery {
            root: self.folder.to_owned(),
            pod,
            incarnation: record.incarnation,
            container,
            attempt,
            tail_lines: asked.tail_lines,
            follow: match asked.follow {
                true => Follow::Yes,
                false => Follow::No,
            },
        };
        let lines = read_logs(query).await.map_err(|error| Status::not_found(chain(&error)))?;
        Ok(ReceiverStream::new(lines).map(|chunk| match chunk {
            Ok(data) => Ok(v1::LogChunk { data }),
            Err(error) => Err(Status::data_loss(chain(&error))),
        }))
    }
}

pub(super) fn no_pod(pod: &PodId) -> Status {
    Status::not_found(format!("pod {pod} is not on this node"))
}

/// The container that is named, or the pod's only one.
fn container_of(record: &PodRecord, asked: &str) -> Result<ContainerName, Status> {
    let names: Vec<_> = match &record.charter {
        Some(charter) => charter.spec.containers.iter().map(|container| container.name.clone()).collect(),
        None => return Err(no_pod(&record.pod)),
    };
    let all = || names.iter().map(ContainerName::as_str).collect::<Vec<_>>().join(", ");
    match (asked, names.as_slice()) {
        ("", [only]) => Ok(only.clone()),
        ("", _) => {
            Err(Status::invalid_argument(format!("pod {} has several containers: {}", record.pod, all())))
        }
        (asked, names) => names.iter().find(|name| name.as_str() == asked).cloned().ok_or_else(|| {
            Status::not_found(format!("pod {} has no container {asked:?}, but {}", record.pod, all()))
        }),
    }
}

/// The attempt that was last seen to have started: one that was only created has no log yet.
fn started(status: Option<PodStatus>, name: &ContainerName) -> Option<berth_model::Attempt> {
    let status = status?;
    let seen = status.containers.iter().find(|seen| seen.name == *name)?;
    match seen.phase {
        ContainerPhase::Running { .. } | ContainerPhase::Exited { .. } => Some(seen.attempt),
        ContainerPhase::Absent | ContainerPhase::Created | ContainerPhase::Unknown => None,
    }
}
