//! The calls.

use crate::crash_point::Deed;
use crate::runtime::answers::is_ready;
use crate::runtime::client::{Attempted, Client, END_TIMEOUT, LOOK_TIMEOUT, MAKE_TIMEOUT, PULL_TIMEOUT};
use crate::runtime::error::{Call, permanent, transient};
use crate::runtime::probe;
use crate::runtime::{Account, RuntimeError};
use berth_model::ProbeAnswer;
use k8s_cri::v1::{
    ContainerConfig, ContainerState, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    ExecSyncRequest, Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest,
    PodSandboxConfig, PodSandboxStatusRequest, PullImageRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, ReopenContainerLogRequest, RunPodSandboxRequest, StartContainerRequest,
    StatusRequest, StopContainerRequest, StopPodSandboxRequest, VersionRequest, VersionResponse,
};
use std::time::Duration;

/// What CRI believes of a container; a hint, not proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::runtime) enum CriState {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Since when, nanoseconds after the epoch.
        started_at_ns: i64,
    },
    /// Ended.
    Exited {
        /// Exit code.
        code: i32,
        /// When, nanoseconds after the epoch.
        finished_at_ns: i64,
    },
    /// It could not be started, and never can.
    StartFailed {
        /// When that was found out, nanoseconds after the epoch.
        finished_at_ns: i64,
    },
    /// Ended while containerd did not look: with the host, or while it was away itself.
    Interrupted {
        /// When containerd found out, nanoseconds after the epoch.
        finished_at_ns: i64,
    },
    /// CRI does not know.
    Unknown,
    /// CRI has no such container.
    Missing,
}

impl CriState {
    pub(in crate::runtime) fn of(status: Option<&ContainerStatus>) -> Self {
        let Some(status) = status else {
            return Self::Missing;
        };
        match ContainerState::try_from(status.state) {
            Ok(ContainerState::ContainerCreated) => Self::Created,
            Ok(ContainerState::ContainerRunning) => Self::Running { started_at_ns: status.started_at },
            Ok(ContainerState::ContainerExited) if is_unseen(status) => {
                Self::Interrupted { finished_at_ns: status.finished_at }
            }
            Ok(ContainerState::ContainerExited) if is_unstarted(status) => {
                Self::StartFailed { finished_at_ns: status.finished_at }
            }
            Ok(ContainerState::ContainerExited) => {
                Self::Exited { code: status.exit_code, finished_at_ns: status.finished_at }
            }
            Ok(ContainerState::ContainerUnknown) | Err(_) => Self::Unknown,
        }
    }
}

/// What containerd says of a container that it finds gone (internal/cri/server/restart.go: `unknownContainerStatus`).
fn is_unseen(status: &ContainerStatus) -> bool {
    status.exit_code == 255 && status.reason == "Unknown"
}

/// What containerd calls a container that it could not start, by code and reason (internal/cri/server/container_start.go).
pub(in crate::runtime) const START_ERROR: (i32, &str) = (128, "StartError");

fn is_unstarted(status: &ContainerStatus) -> bool {
    (status.exit_code, status.reason.as_str()) == START_ERROR
}

fn image_spec(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() })
}

fn making(deed: Deed, what: String) -> Attempted {
    Attempted { call: Call::Launch, timeout: MAKE_TIMEOUT, ..Attempted::record(deed, what) }
}

fn ending(deed: Deed, what: String) -> Attempted {
    Attempted { timeout: END_TIMEOUT, ..Attempted::record(deed, what) }
}

impl Client {
    /// The runtime's name and version.
    pub(in crate::runtime) async fn version(&self) -> Result<VersionResponse, RuntimeError> {
        let request = VersionRequest { version: "v1".to_owned() };
        Attempted::look("ask CRI for its version").run(self.runtime().version(request)).await
    }

    /// What the runtime says of itself.
    pub(in crate::runtime) async fn account(&self) -> Result<Account, RuntimeError> {
        let request = StatusRequest { verbose: true };
        let asked = Attempted::look("ask CRI for its status").run(self.runtime().status(request)).await;
        Ok(asked?.into())
    }

    /// The snapshotter that CRI uses, as its file system's mount point tells; none if it tells nothing.
    pub(in crate::runtime) async fn snapshotter(&self) -> Result<Option<String>, RuntimeError> {
        const PREFIX: &str = "io.containerd.snapshotter.v1.";
        let answer = Attempted::look("ask CRI for its image file system")
            .run(self.cri_images().image_fs_info(ImageFsInfoRequest {}))
            .await?;
        let mount_points = answer.image_filesystems.iter().filter_map(|fs| fs.fs_id.as_ref());
        Ok(mount_points
            .filter_map(|id| id.mountpoint.rsplit('/').next()?.strip_prefix(PREFIX).map(str::to_owned))
            .next())
    }

    /// Makes a sandbox; answers its id.
    pub(in crate::runtime) async fn run_pod_sandbox(
        &self,
        config: PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let name = config.metadata.as_ref().map(|data| format!("{}/{}", data.namespace, data.name));
        let what = format!("make the sandbox of {}", name.unwrap_or_default());
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let answer = making(Deed::MakeSandbox, what).run(self.runtime().run_pod_sandbox(request)).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Makes a container, not started; answers its id.
    pub(in crate::runtime) async fn create_cri_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let name = config.metadata.as_ref().map(|data| data.name.clone()).unwrap_or_default();
        let what = format!("make container {name} in sandbox {sandbox_id}");
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = making(Deed::MakeContainer, what).run(self.runtime().create_container(request)).await?;
        Ok(answer.container_id)
    }

    pub(in crate::runtime) async fn start_cri_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        making(Deed::StartContainer, format!("start container {id}"))
            .run(self.runtime().start_container(request))
            .await
            .map(drop)
    }

    /// SIGTERM, and SIGKILL after the grace, which is rounded up to whole seconds: CRI has no finer ones.
    pub(in crate::runtime) async fn stop_cri_container(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let what = format!("stop container {id}");
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let timeout = i64::try_from(seconds).map_err(|error| permanent(&what, error))?;
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        let attempted =
            Attempted { timeout: grace + END_TIMEOUT, ..Attempted::record(Deed::StopContainer, what) };
        attempted.run(self.runtime().stop_container(request)).await.map(drop)
    }

    /// Runs a readiness probe. What runs longer than its time, or cannot be run, is not ready; a containerd that is away
    /// or stands still says nothing of it.
    pub(in crate::runtime) async fn exec_probe(
        &self,
        id: &str,
        command: &[String],
        within: Duration,
    ) -> Result<ProbeAnswer, RuntimeError> {
        let seconds = i64::try_from(within.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let request =
            ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout: seconds };
        let (what, limit) = (format!("run the readiness probe of container {id}"), within + LOOK_TIMEOUT);
        let mut runtime = self.runtime();
        match tokio::time::timeout(limit, runtime.exec_sync(request)).await {
            Ok(Ok(answer)) => Ok(probe::ended(&answer.into_inner())),
            Ok(Err(status)) => probe::not_ended(what, &status),
            // A command may hang for its own reasons: it waits for a dead disk, or a child of it keeps its output open.
            Err(_) => match self.version().await {
                Ok(_) => Ok(probe::hung(within)),
                Err(_) => Err(transient(what, format!("no answer in {} s", limit.as_secs()))),
            },
        }
    }

    /// Runs the command that a container wants run before it is stopped; what it ends with is nobody's business.
    pub(in crate::runtime) async fn run_pre_stop(
        &self,
        id: &str,
        command: &[String],
        time: Duration,
    ) -> Result<(), RuntimeError> {
        let timeout = i64::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout };
        let what = format!("run the command before the stop of container {id}");
        let attempted =
            Attempted { timeout: time + LOOK_TIMEOUT, ..Attempted::record(Deed::RunPreStop, what) };
        attempted.run(self.runtime().exec_sync(request)).await.map(drop)
    }

    /// Has a running container's log begin anew, in a new file of the same name.
    pub(in crate::runtime) async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        let request = ReopenContainerLogRequest { container_id: id.to_owned() };
        Attempted::record(Deed::ReopenLog, format!("reopen the log of container {id}"))
            .run(self.runtime().reopen_container_log(request))
            .await
            .map(drop)
    }

    pub(in crate::runtime) async fn remove_cri_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        ending(Deed::RemoveContainer, format!("remove container {id}"))
            .run(self.runtime().remove_container(request))
            .await
            .map(drop)
    }

    pub(in crate::runtime) async fn stop_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        ending(Deed::StopSandbox, format!("stop sandbox {id}"))
            .run(self.runtime().stop_pod_sandbox(request))
            .await
            .map(drop)
    }

    pub(in crate::runtime) async fn remove_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        ending(Deed::RemoveSandbox, format!("remove sandbox {id}"))
            .run(self.runtime().remove_pod_sandbox(request))
            .await
            .map(drop)
    }

    /// What CRI believes of a container, if it has it.
    pub(in crate::runtime) async fn cri_status(
        &self,
        id: &str,
    ) -> Result<Option<ContainerStatus>, RuntimeError> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = Attempted::look(format!("ask CRI for container {id}"))
            .find(self.runtime().container_status(request))
            .await?;
        Ok(answer.and_then(|answer| answer.status))
    }

    /// Whether CRI calls a sandbox ready; none if it has no such sandbox.
    pub(in crate::runtime) async fn sandbox_ready(&self, id: &str) -> Result<Option<bool>, RuntimeError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = Attempted::look(format!("ask CRI for sandbox {id}"))
            .find(self.runtime().pod_sandbox_status(request))
            .await?;
        Ok(answer.and_then(|answer| answer.status).as_ref().map(is_ready))
    }

    /// An image as CRI resolves it, without asking anyone off the host.
    pub(in crate::runtime) async fn cri_image(&self, name: &str) -> Result<Option<Image>, RuntimeError> {
        let request = ImageStatusRequest { image: image_spec(name), verbose: false };
        let answer = Attempted::look(format!("ask CRI for image {name}"))
            .find(self.cri_images().image_status(request))
            .await?;
        Ok(answer.and_then(|answer| answer.image))
    }

    /// All images.
    pub(in crate::runtime) async fn cri_images_all(&self) -> Result<Vec<Image>, RuntimeError> {
        let request = ListImagesRequest { filter: None };
        let attempted = Attempted::look("list the images");
        Ok(attempted.run(self.cri_images().list_images(request)).await?.images)
    }

    /// Pulls an image.
    pub(in crate::runtime) async fn pull_image(&self, name: &str) -> Result<(), RuntimeError> {
        let request = PullImageRequest { image: image_spec(name), auth: None, sandbox_config: None };
        let plain = Attempted::record(Deed::PullImage, format!("pull image {name}"));
        let attempted = Attempted { call: Call::Pull, timeout: PULL_TIMEOUT, ..plain };
        attempted.run(self.cri_images().pull_image(request)).await.map(drop)
    }
}
