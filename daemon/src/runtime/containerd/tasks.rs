//! Tasks: what runs, by containerd's word.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, END_TIMEOUT, in_namespace};
use containerd_client::services::v1::{DeleteTaskRequest, GetRequest, KillRequest, WaitRequest};
use containerd_client::types::v1::Status;
use std::time::Duration;

/// SIGKILL, as every Linux has it.
const SIGKILL: u32 = 9;

/// One task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) struct Task {
    /// Process id on the host.
    pub(in crate::runtime) pid: u32,
    /// Where it is.
    pub(in crate::runtime) status: TaskStatus,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::runtime) enum TaskStatus {
    /// Made, its program not run yet.
    Created,
    /// Running, paused or pausing: alive.
    Alive,
    /// Ended, not deleted yet.
    Stopped,
    /// containerd does not know.
    Unknown,
}

impl TaskStatus {
    /// From its number in containerd's API.
    pub(in crate::runtime) fn from_wire(status: i32) -> Self {
        match Status::try_from(status) {
            Ok(Status::Created) => Self::Created,
            Ok(Status::Running | Status::Paused | Status::Pausing) => Self::Alive,
            Ok(Status::Stopped) => Self::Stopped,
            Ok(Status::Unknown) | Err(_) => Self::Unknown,
        }
    }
}

impl Client {
    /// A container's task, if there is one.
    pub(in crate::runtime) async fn find_task(&self, id: &str) -> Result<Option<Task>, RuntimeError> {
        let request = in_namespace(GetRequest { container_id: id.to_owned(), exec_id: String::new() });
        let answer = Attempted::look(format!("read task {id}")).find(self.tasks().get(request)).await?;
        Ok(answer.map(|answer| {
            let process = answer.process.unwrap_or_default();
            Task { pid: process.pid, status: TaskStatus::from_wire(process.status) }
        }))
    }

    /// Kills a task that CRI has lost, waits for its end and deletes it. A missing one is ended.
    pub(in crate::runtime) async fn end_task(&self, id: &str) -> Result<(), RuntimeError> {
        let container_id = id.to_owned();
        let kill = KillRequest { container_id, exec_id: String::new(), signal: SIGKILL, all: true };
        Attempted::record(Deed::KillTask, format!("kill task {id}"))
            .find(self.tasks().kill(in_namespace(kill)))
            .await?;
        let wait = WaitRequest { container_id: id.to_owned(), exec_id: String::new() };
        Attempted {
            timeout: END_TIMEOUT,
            ..Attempted::record(Deed::AwaitTask, format!("wait for task {id} to end"))
        }
        .find(self.tasks().wait(in_namespace(wait)))
        .await?;
        self.delete_task(id).await
    }

    /// Sends a signal to a task's first process; a missing task has ended.
    pub(in crate::runtime) async fn signal_task(&self, id: &str, signal: u32) -> Result<(), RuntimeError> {
        let kill = KillRequest { container_id: id.to_owned(), exec_id: String::new(), signal, all: false };
        Attempted::record(Deed::SignalTask, format!("send signal {signal} to task {id}"))
            .find(self.tasks().kill(in_namespace(kill)))
            .await
            .map(drop)
    }

    /// Waits for a task's end, so long and no longer.
    pub(in crate::runtime) async fn await_task(&self, id: &str, limit: Duration) {
        let wait = WaitRequest { container_id: id.to_owned(), exec_id: String::new() };
        let attempted = Attempted { timeout: limit, ..Attempted::look(format!("wait for task {id} to end")) };
        // Whether it has ended is looked at by whoever comes next.
        drop(attempted.find(self.tasks().wait(in_namespace(wait))).await);
    }

    /// Deletes an ended task; a missing one is deleted.
    pub(in crate::runtime) async fn delete_task(&self, id: &str) -> Result<(), RuntimeError> {
        let request = in_namespace(DeleteTaskRequest { container_id: id.to_owned() });
        Attempted::record(Deed::DeleteTask, format!("delete task {id}"))
            .find(self.tasks().delete(request))
            .await
            .map(drop)
    }
}
