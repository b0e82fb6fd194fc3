//! The runtime's own interface (CRI), spoken from outside the guest: what it says of containers, and pods made by its
//! bare calls, which is what any agent's time is to be compared with.

use anyhow::{Context, Result};
use berth_lab::{Guest, wait_until};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, DnsConfig, ImageSpec, LinuxPodSandboxConfig, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StatusRequest,
};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Where containerd listens in a guest.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// A call is done within this time, in an emulated guest.
const CALL_LIMIT: Duration = Duration::from_secs(240);
/// The runtime answers within this time, also when it is restarting.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// Until the runtime has read another network's configuration.
const NETWORK_LIMIT: Duration = Duration::from_secs(60);
/// The network for the bare calls: the same bridge, and Debian's own `host-local`.
const RAW_NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "raw", "plugins": [{"type": "bridge", "bridge": "berth0",
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/16", "rangeStart": "10.89.9.1", "rangeEnd": "10.89.9.99"}]]}}]}"#;
/// Pods made at once: as many as the node's agent makes.
const AT_ONCE: usize = 8;

/// A container, by CRI's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// `namespace/name` of its pod.
    pub(crate) pod: String,
    pub(crate) id: String,
    pub(crate) sandbox: String,
    /// The image by its digest.
    pub(crate) image: String,
    /// The first process, on the host.
    pub(crate) pid: u32,
    /// After the epoch, by the guest's clock.
    pub(crate) started_at_ns: i64,
}

/// A pod of one container, for the bare calls.
#[derive(Debug, Clone)]
pub(crate) struct RawPod {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
}

/// A connection to a guest's runtime.
pub(crate) struct Cri {
    guest: Guest,
    tokio: tokio::runtime::Runtime,
    client: RuntimeServiceClient<Channel>,
}

impl Cri {
    /// Connects, as soon as the runtime answers.
    pub(crate) fn connect(guest: &Guest) -> Result<Self> {
        let tokio =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
        let client = connect_in(&tokio, guest)?;
        let mut cri = Self { guest: guest.clone(), tokio, client };
        cri.running()?;
        Ok(cri)
    }

    /// All containers that run. A runtime that restarts, and a connection that broke, are waited for.
    pub(crate) fn running(&mut self) -> Result<Vec<Container>> {
        let mut last = String::new();
        let look = || match self.try_running() {
            Ok(running) => Ok(Some(running)),
            Err(error) => {
                last = format!("{error:#}");
                if let Ok(client) = connect_in(&self.tokio, &self.guest) {
                    self.client = client;
                }
                Ok(None)
            }
        };
        wait_until("the runtime's containers", ANSWER_LIMIT, look).context(last)
    }

    /// How many containers run: one call, which costs a busy guest little. None while the runtime does not answer.
    pub(crate) fn count_running(&mut self) -> Option<usize> {
        let listed = self.tokio.block_on(async {
            self.client.clone().list_containers(ListContainersRequest { filter: None }).await
        });
        let Ok(listed) = listed else {
            self.client = connect_in(&self.tokio, &self.guest).ok()?;
            return None;
        };
        let running = ContainerState::ContainerRunning as i32;
        Some(listed.into_inner().containers.iter().filter(|container| container.state == running).count())
    }

    fn try_running(&self) -> Result<Vec<Container>> {
        self.tokio.block_on(async {
            let mut client = self.client.clone();
            let sandboxes = client.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
            let sandboxes = sandboxes.context("list the runtime's sandboxes")?.into_inner().items;
            let list = client.list_containers(ListContainersRequest { filter: None }).await;
            let list = list.context("list the runtime's containers")?.into_inner().containers;
            let mut running = Vec::new();
            for container in
                list.iter().filter(|found| found.state == ContainerState::ContainerRunning as i32)
            {
                let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
                let answer = client.container_status(request).await;
                let answer =
                    answer.with_context(|| format!("look at container {}", container.id))?.into_inner();
                let status = answer.status.context("a container has a status")?;
                let sandbox = sandboxes.iter().find(|sandbox| sandbox.id == container.pod_sandbox_id);
                let sandbox =
                    sandbox.with_context(|| format!("container {} has no sandbox", container.id))?;
                let info = answer.info.get("info").map(String::as_str).unwrap_or_default();
                running.push(understand(&status, sandbox, info)?);
            }
            Ok(running)
        })
    }

    /// Whether the network is configured; the runtime's own words if it is not.
    pub(crate) fn network(&self) -> Result<Result<(), String>> {
        self.tokio.block_on(async {
            let answer = self.client.clone().status(StatusRequest { verbose: false }).await;
            let conditions = answer.context("ask the runtime for its state")?.into_inner().status;
            let conditions = conditions.context("the runtime says no state")?.conditions;
            let network = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
            let network = network.context("the runtime says nothing of its network")?;
            Ok(if network.status { Ok(()) } else { Err(network.message) })
        })
    }

    /// Makes pods by the bare calls, some at once; answers how long all took, and removes them.
    pub(crate) fn time_raw(&self, pods: &[RawPod]) -> Result<Duration> {
        self.tokio.block_on(async {
            let gate = Arc::new(Semaphore::new(AT_ONCE));
            let begun = Instant::now();
            let mut making = JoinSet::new();
            for pod in pods.iter().cloned() {
                let (client, gate) = (self.client.clone(), Arc::clone(&gate));
                making.spawn(async move {
                    let _turn = gate.acquire_owned().await.context("wait for a turn")?;
                    Box::pin(run(client, &pod))
                        .await
                        .with_context(|| format!("make pod {} by bare calls", pod.name))
                });
            }
            let made = making.join_all().await;
            let took = begun.elapsed();
            for made in made.iter().flatten() {
                let request = RemovePodSandboxRequest { pod_sandbox_id: made.sandbox.clone() };
                let removed = self.client.clone().remove_pod_sandbox(request).await;
                removed.with_context(|| format!("remove sandbox {}", made.sandbox))?;
            }
            made.into_iter().collect::<Result<Vec<_>>>()?;
            Ok(took)
        })
    }
}

/// Does something while the runtime makes networks for the bare calls in place of Berth's.
pub(crate) fn with_raw_network<T>(guest: &Guest, work: impl FnOnce() -> Result<T>) -> Result<T> {
    guest.put_file("/etc/cni/net.d/00-raw.conflist", RAW_NETWORK.as_bytes())?;
    guest.run_ok("systemctl restart containerd")?;
    let cri = Cri::connect(guest)?;
    wait_until("the runtime's network", NETWORK_LIMIT, || Ok(cri.network()?.ok()))?;
    let done = work();
    guest.run_ok("rm /etc/cni/net.d/00-raw.conflist && systemctl restart containerd")?;
    done
}

/// A channel belongs to the runtime in which it was made.
fn connect_in(tokio: &tokio::runtime::Runtime, guest: &Guest) -> Result<RuntimeServiceClient<Channel>> {
    let _inside = tokio.enter();
    connect(guest)
}

/// A client that connects when it is asked something, and again when the connection broke.
fn connect(guest: &Guest) -> Result<RuntimeServiceClient<Channel>> {
    let socket = guest.forward_socket(SOCKET)?;
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is a formality: the connector goes to the socket.
    let endpoint = Endpoint::from_static("http://containerd.invalid").timeout(CALL_LIMIT);
    Ok(RuntimeServiceClient::new(endpoint.connect_with_connector_lazy(connector))
        .max_decoding_message_size(16 << 20))
}

fn understand(status: &ContainerStatus, sandbox: &PodSandbox, info: &str) -> Result<Container> {
    let info: serde_json::Value = serde_json::from_str(info).context("understand a container's details")?;
    let pod = sandbox.metadata.as_ref().context("a sandbox has a name")?;
    let pid = info["pid"].as_u64().context("a running container has a process")?;
    Ok(Container {
        pod: format!("{}/{}", pod.namespace, pod.name),
        id: status.id.clone(),
        sandbox: sandbox.id.clone(),
        image: status.image_ref.clone(),
        pid: u32::try_from(pid).context("a pid")?,
        started_at_ns: status.started_at,
    })
}

/// Makes a pod by the runtime of this very host, and removes it; answers the time from the first call to the start of its
/// container, nanoseconds.
pub(crate) async fn time_here(pod: &RawPod) -> Result<i64> {
    let connector = tower::service_fn(|_| async { UnixStream::connect(SOCKET).await.map(TokioIo::new) });
    let channel = Endpoint::from_static("http://containerd.invalid").timeout(CALL_LIMIT);
    let channel = channel.connect_with_connector(connector).await.context("connect to the runtime")?;
    let mut client = RuntimeServiceClient::new(channel);
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock after the epoch")?;
    let Made { sandbox, container } = Box::pin(run(client.clone(), pod)).await?;
    let request = ContainerStatusRequest { container_id: container, verbose: false };
    let status = client.container_status(request).await.context("look at the container")?.into_inner().status;
    let started_at_ns = status.context("a container has a status")?.started_at;
    let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox };
    client.remove_pod_sandbox(request).await.context("remove the sandbox")?;
    Ok(started_at_ns - i64::try_from(begun.as_nanos()).context("a time of this century")?)
}

/// What bare calls have made.
struct Made {
    sandbox: String,
    container: String,
}

async fn run(mut client: RuntimeServiceClient<Channel>, pod: &RawPod) -> Result<Made> {
    let metadata = PodSandboxMetadata {
        name: pod.name.clone(),
        uid: pod.name.clone(),
        namespace: "raw".to_owned(),
        attempt: 0,
    };
    let sandbox = PodSandboxConfig {
        metadata: Some(metadata),
        hostname: pod.name.clone(),
        log_directory: format!("/var/log/raw/{}", pod.name),
        dns_config: Some(DnsConfig::default()),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: "raw.slice".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
    let pod_sandbox_id =
        client.run_pod_sandbox(request).await.context("run the sandbox")?.into_inner().pod_sandbox_id;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: pod.image.clone(), ..Default::default() }),
        command: pod.command.clone(),
        args: pod.args.clone(),
        log_path: "main.log".to_owned(),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox),
    };
    let container_id =
        client.create_container(request).await.context("make the container")?.into_inner().container_id;
    let request = StartContainerRequest { container_id: container_id.clone() };
    client.start_container(request).await.context("start the container")?;
    Ok(Made { sandbox: pod_sandbox_id, container: container_id })
}
