//! A daemon that has one pod, `shop/web`, with two containers, of which one has exited.

use berth_proto::v1::finding::Level;
use berth_proto::v1::node_server::{Node, NodeServer};
use berth_proto::v1::{self};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The one order that the fake knows.
pub const ORDER: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A running fake.
pub struct FakeNode {
    pub socket: PathBuf,
    server: JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service {
    worst: Level,
}

impl FakeNode {
    /// Serves on a socket in `dir`; `worst` is the level of what is found wrong.
    pub fn start(dir: &Path, worst: Level) -> Self {
        let socket = dir.join("berthd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = Server::builder().add_service(NodeServer::new(Service { worst }));
        let server = tokio::spawn(async move {
            serving.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        Self { socket, server }
    }
}

fn web() -> Option<v1::PodRef> {
    Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() })
}

fn known(pod: Option<&v1::PodRef>) -> Result<(), Status> {
    match pod == web().as_ref() {
        true => Ok(()),
        false => Err(Status::not_found("there is no such pod on this node")),
    }
}

fn pod() -> v1::LocalPod {
    let status = v1::PodStatus {
        pod: web(),
        incarnation: 2,
        generation: 1,
        phase: v1::PodPhase::Degraded.into(),
        message: "container log: exited with 1".to_owned(),
        ..Default::default()
    };
    v1::LocalPod {
        status: Some(status),
        run_state: v1::RunState::Running.into(),
        next_step: "CreateContainer log".to_owned(),
        ..Default::default()
    }
}

fn order() -> v1::LocalOrder {
    let pull = v1::node_order::PullImage { image: "a.example/b:1".to_owned(), digest: None };
    let target = v1::NodeOrder { verb: Some(v1::node_order::Verb::PullImage(pull)) };
    let order = v1::Order {
        id: ORDER.to_owned(),
        target: Some(v1::order::Target::NodeOrder(target)),
        ..Default::default()
    };
    v1::LocalOrder { order: Some(order), step: "EnsureImage".to_owned(), ..Default::default() }
}

#[tonic::async_trait]
impl Node for Service {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;
    type ReadLogsStream = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Result<Response<v1::NodeStatus>, Status> {
        let facts = v1::NodeFacts { kernel: "6.12.0".to_owned(), ..Default::default() };
        let status = v1::NodeStatus {
            node: "node-1".to_owned(),
            connected: true,
            pods: 1,
            facts: Some(facts),
            ..Default::default()
        };
        Ok(Response::new(status))
    }

    async fn list_pods(
        &self,
        _: Request<v1::ListLocalPodsRequest>,
    ) -> Result<Response<v1::ListLocalPodsResponse>, Status> {
        Ok(Response::new(v1::ListLocalPodsResponse { pods: vec![pod()] }))
    }

    async fn get_pod(
        &self,
        request: Request<v1::GetLocalPodRequest>,
    ) -> Result<Response<v1::LocalPod>, Status> {
        known(request.into_inner().pod.as_ref())?;
        Ok(Response::new(pod()))
    }

    async fn list_orders(
        &self,
        _: Request<v1::ListLocalOrdersRequest>,
    ) -> Result<Response<v1::ListLocalOrdersResponse>, Status> {
        Ok(Response::new(v1::ListLocalOrdersResponse { orders: vec![order()] }))
    }

    async fn get_order(
        &self,
        request: Request<v1::GetLocalOrderRequest>,
    ) -> Result<Response<v1::LocalOrder>, Status> {
        match request.into_inner().id.as_str() {
            ORDER => Ok(Response::new(order())),
            id => Err(Status::not_found(format!("there is no order {id}"))),
        }
    }

    async fn get_topology(
        &self,
        _: Request<v1::GetTopologyRequest>,
    ) -> Result<Response<v1::NodeTopology>, Status> {
        let node = v1::MemoryNode { id: 0, cpus: "0-3".to_owned(), ..Default::default() };
        let topology = v1::Topology { nodes: vec![node], cores: Vec::new(), online_cpus: "0-3".to_owned() };
        let holder = v1::CpuHolder {
            holder: "shop/web".to_owned(),
            cpus: "2-3".to_owned(),
            mems: "0".to_owned(),
            exclusive: true,
        };
        let topology = Some(topology);
        Ok(Response::new(v1::NodeTopology { topology, reserved_cpus: "0".to_owned(), holders: vec![holder] }))
    }

    async fn get_cgroup(
        &self,
        request: Request<v1::GetCgroupRequest>,
    ) -> Result<Response<v1::GetCgroupResponse>, Status> {
        known(request.into_inner().pod.as_ref())?;
        let control = v1::Control {
            file: "memory.max".to_owned(),
            ordered: "536870912".to_owned(),
            read: Some(v1::control::Read::Text("max".to_owned())),
        };
        let applied =
            v1::Applied { cgroup: "berth.slice/berth-p0.slice".to_owned(), controls: vec![control] };
        let view = v1::CgroupView {
            of: "pod".to_owned(),
            applied: Some(applied),
            statistics: [("memory.current".to_owned(), "4096".to_owned())].into(),
        };
        Ok(Response::new(v1::GetCgroupResponse { cgroups: vec![view] }))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let grant =
            v1::AddressGrant { pool: "blue".to_owned(), address: "10.0.0.7/24".to_owned(), gateway: None };
        let lease =
            v1::AddressLease { pod: web(), incarnation: 2, grants: vec![grant], attachments: Vec::new() };
        let tenure = v1::Tenure {
            pod: web(),
            incarnation: 2,
            addresses: vec!["10.0.0.7".to_owned(), "2001:db8::7".to_owned()],
            attachment: Some(v1::Attachment {
                sandbox_id: "0123456789abcdef".to_owned(),
                interface: "eth0".to_owned(),
            }),
            attached_at_ms: 1,
            detached_at_ms: None,
        };
        let history = request.into_inner().history.then_some(tenure).into_iter().collect();
        Ok(Response::new(v1::ListLeasesResponse { leases: vec![lease], history }))
    }

    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let image = |name: Option<&str>, digest: &str, size_bytes, used_by| v1::LocalImage {
            names: name.into_iter().map(str::to_owned).collect(),
            digests: vec![format!("sha256:{digest}")],
            size_bytes,
            used_by,
        };
        let images = vec![
            image(Some("a.example/b:1"), "0af1", 5 << 20, web().into_iter().collect()),
            image(None, "0af2", 7, vec![]),
        ];
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn list_disks(
        &self,
        _: Request<v1::ListDisksRequest>,
    ) -> Result<Response<v1::ListDisksResponse>, Status> {
        let data = v1::LocalDisk {
            pod: web(),
            name: "db".to_owned(),
            kind: v1::local_disk::Kind::Directory.into(),
            source: "/var/lib/berth/disks/pods/shop.web/db".to_owned(),
            kept: false,
            used_bytes: Some(3 << 20),
            limit_bytes: Some(4 << 20),
        };
        let system = v1::LocalDisk {
            name: "web".to_owned(),
            kind: v1::local_disk::Kind::System.into(),
            source: "0af1".to_owned(),
            kept: true,
            used_bytes: None,
            limit_bytes: None,
            ..data.clone()
        };
        Ok(Response::new(v1::ListDisksResponse { disks: vec![data, system] }))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchLocalEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let v1::WatchLocalEventsRequest { pod, follow } = request.into_inner();
        let event = v1::Event { at_ms: 1, pod, code: "ContainerStarted".to_owned(), ..Default::default() };
        let end = follow.then(|| Err(Status::unavailable("berthd stops")));
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(event)].into_iter().chain(end)))))
    }

    async fn read_logs(
        &self,
        request: Request<v1::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let request = request.into_inner();
        known(request.pod.as_ref())?;
        if request.container.is_empty() {
            return Err(Status::invalid_argument("pod shop/web has several containers: web, log"));
        }
        let lines = ["one\n", "two\n", "\u{fffd} three\n"];
        let skip = request.tail_lines.map_or(0, |tail| lines.len().saturating_sub(tail as usize));
        let chunks: Vec<_> =
            lines[skip..].iter().map(|line| Ok(v1::LogChunk { data: line.as_bytes().to_vec() })).collect();
        // Who follows is cut off in the end: the daemon is stopped.
        let end = request.follow.then(|| Err(Status::unavailable("berthd stops")));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks.into_iter().chain(end)))))
    }

    async fn diagnose(
        &self,
        _: Request<v1::DiagnoseRequest>,
    ) -> Result<Response<v1::DiagnoseResponse>, Status> {
        let finding = |check: &str, level: Level, remedy: &str| v1::Finding {
            check: check.to_owned(),
            level: level.into(),
            found: "as it is".to_owned(),
            remedy: remedy.to_owned(),
            ..v1::Finding::default()
        };
        let findings = vec![
            finding("containerd", Level::Ok, ""),
            finding("cgroup driver", self.worst, "set SystemdCgroup"),
        ];
        Ok(Response::new(v1::DiagnoseResponse { findings }))
    }
}
