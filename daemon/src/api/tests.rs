//! The local sockets of a whole daemon, over the fake runtime.

mod access;

use crate::config::Config;
use crate::disk::Disks;
use crate::ledger::{Answer, Ledger, Moment};
use crate::pod::Beat;
use crate::runtime::fake::{self, FakeRuntime};
use crate::runtime::pod_uid;
use crate::serve::{Daemon, Ending, Running};
use crate::testing::{FakeHost, host_view, open, order_id, pod, pool_order, run_order, wait_for};
use berth_model::Incarnation;
use berth_proto::v1;
use berth_proto::v1::ipam_client::IpamClient;
use berth_proto::v1::node_client::NodeClient;
use hyper_util::rt::TokioIo;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// A daemon at work in a folder, with a pod accepted.
struct Rig {
    folder: tempfile::TempDir,
    ledger: Ledger,
    beats: Arc<AtomicU64>,
    tell: oneshot::Sender<()>,
    ended: JoinHandle<Ending>,
}

impl Rig {
    async fn start() -> Self {
        Self::start_for("no-such-group").await
    }

    /// The members of this group may look.
    async fn start_for(group: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        for order in [pool_order(1, 1, "0"), run_order(2)] {
            assert_eq!(ledger.admit(order, host_view(), Moment::now()).await.unwrap(), Answer::Accepted);
        }
        let beats = Arc::new(AtomicU64::new(0));
        let running = daemon(folder.path(), ledger.clone(), beats.clone(), group);
        let (tell, told) = oneshot::channel();
        let ended = tokio::spawn(running.run(async move { drop(told.await) }));
        Self { folder, ledger, beats, tell, ended }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(connect(&self.socket("berthd.sock")).await)
    }

    async fn ipam(&self) -> IpamClient<Channel> {
        IpamClient::new(connect(&self.socket("cni.sock")).await)
    }
}

fn daemon(folder: &Path, ledger: Ledger, beats: Arc<AtomicU64>, group: &str) -> Running<FakeRuntime> {
    let runtime = FakeRuntime::new();
    runtime.publish(&fake::container_spec("app").image, &fake::digest('a'));
    let beat: Beat = Box::new(move || {
        beats.fetch_add(1, Ordering::Relaxed);
    });
    let (_, hints) = mpsc::channel(1);
    let (_, shutdowns) = mpsc::channel(1);
    let at = |name: &str| folder.join(name);
    let config = Config {
        state_dir: folder.to_owned(),
        log_dir: at("logs"),
        socket: at("berthd.sock"),
        socket_group: group.to_owned(),
        cni_socket: at("cni.sock"),
        peer_listen: None,
        metrics_listen: None,
        ..Config::parse("", Path::new("x")).unwrap()
    };
    let daemon = Daemon {
        config,
        ledger,
        runtime: Arc::new(runtime),
        host: Arc::new(FakeHost),
        disks: Arc::new(Disks::new(folder)),
        hints,
        beat,
        shutdowns,
    };
    daemon.start().unwrap()
}

async fn connect(socket: &Path) -> Channel {
    let mut stream = Some(UnixStream::connect(socket).await);
    connect_by(move || stream.take().unwrap()).await.unwrap()
}

async fn connect_by(
    mut stream: impl FnMut() -> io::Result<UnixStream> + Send + 'static,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| std::future::ready(stream().map(TokioIo::new)));
    Endpoint::from_static("http://berthd.invalid").connect_with_connector(connector).await
}

fn asking(interface: &str, uid: Option<String>) -> v1::AttachRequest {
    v1::AttachRequest {
        sandbox_id: "s1".to_owned(),
        interface: interface.to_owned(),
        netns: "/run/netns/x".to_owned(),
        pod: Some((&pod()).into()),
        pod_uid: uid,
        network: "berth".to_owned(),
    }
}

#[tokio::test]
async fn a_daemon_that_has_not_joined_runs_its_pods_and_says_so() {
    let rig = Rig::start().await;
    let outcome = || rig.ledger.read(|book| book.orders[&order_id(2)].ended.clone());
    wait_for("the pod runs", outcome).await;
    wait_for("a sign of life", || (rig.beats.load(Ordering::Relaxed) > 0).then_some(())).await;
    let mut node = rig.node().await;
    let status = node.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.node.as_str(), status.pods, status.connected), ("n1", 1, false));
    assert!(status.link_message.contains("berthd join"), "{}", status.link_message);
    let pods = node.list_pods(v1::ListLocalPodsRequest {}).await.unwrap().into_inner().pods;
    assert_eq!(pods.len(), 1);
    assert!(pods[0].spec.is_some());
    let pod_ref = || Some((&pod()).into());
    let one = node.get_pod(v1::GetLocalPodRequest { pod: pod_ref() }).await.unwrap().into_inner();
    assert_eq!(one.seq, 2);
    let orders = node.list_orders(v1::ListLocalOrdersRequest {}).await.unwrap().into_inner().orders;
    assert_eq!(orders.len(), 2);
    let happened = async || {
        let asked = v1::WatchLocalEventsRequest { pod: Some((&pod()).into()), follow: false };
        let mut events = node.clone().watch_events(asked).await.unwrap().into_inner();
        let mut codes = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            codes.push(event.code);
        }
        codes
    };
    assert_eq!(happened().await, ["ContainerStarted"]);
    let order =
        node.get_order(v1::GetLocalOrderRequest { id: order_id(2).to_string() }).await.unwrap().into_inner();
    assert!(order.outcome.is_some());
    let topology = node.get_topology(v1::GetTopologyRequest {}).await.unwrap().into_inner();
    assert_eq!(topology.holders[0].holder, "pool default");
    rig.ipam().await.attach(asking("eth0", None)).await.unwrap();
    let asked = v1::ListLeasesRequest { history: true };
    let answer = node.list_leases(asked).await.unwrap().into_inner();
    assert_eq!(answer.leases[0].grants[0].address, "10.0.0.7/24");
    assert_eq!(answer.history[0].addresses, ["10.0.0.7"]);
    assert_eq!((answer.history.len(), answer.history[0].detached_at_ms), (1, None));
    rig.tell.send(()).unwrap();
    assert_eq!(rig.ended.await.unwrap(), Ending::Told);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_answered_clearly() {
    let rig = Rig::start().await;
    let mut node = rig.node().await;
    let check = |answer: Result<(), tonic::Status>, code: Code, part: &str| {
        let status = answer.unwrap_err();
        assert!(status.code() == code && status.message().contains(part), "{status:?}");
    };
    let pod_of = |name: &str| Some(v1::PodRef { namespace: "shop".to_owned(), name: name.to_owned() });
    let absent = node.get_pod(v1::GetLocalPodRequest { pod: pod_of("absent") }).await.map(drop);
    check(absent, Code::NotFound, "shop/absent");
    let nameless = node.get_pod(v1::GetLocalPodRequest { pod: None }).await.map(drop);
    check(nameless, Code::InvalidArgument, "pod");
    let bad = node.get_pod(v1::GetLocalPodRequest { pod: pod_of("No_Name") }).await.map(drop);
    check(bad, Code::InvalidArgument, "No_Name");
    let order = node.get_order(v1::GetLocalOrderRequest { id: "x".to_owned() }).await.map(drop);
    check(order, Code::InvalidArgument, "ULID");
    let unknown = node.get_order(v1::GetLocalOrderRequest { id: order_id(9).to_string() }).await.map(drop);
    check(unknown, Code::NotFound, "not known here");
    let logs = |container: &str| v1::ReadLogsRequest {
        pod: pod_of("web"),
        container: container.to_owned(),
        follow: false,
        tail_lines: None,
    };
    check(node.read_logs(logs("other")).await.map(drop), Code::NotFound, "but app");
    check(node.read_logs(logs("")).await.map(drop), Code::NotFound, "read log");
}

#[tokio::test]
async fn the_plugin_is_given_what_is_granted_and_nothing_else() {
    let rig = Rig::start().await;
    let mut ipam = rig.ipam().await;
    ipam.check_ready(v1::CheckReadyRequest {}).await.unwrap();
    let code =
        |answer: Result<tonic::Response<v1::AttachResponse>, tonic::Status>| answer.unwrap_err().code();
    assert_eq!(code(ipam.check_attachment(asking("eth0", None)).await), Code::NotFound);
    for uid in [None, Some(pod_uid(&pod(), Incarnation(1)))] {
        let granted = ipam.attach(asking("eth0", uid.clone())).await.unwrap().into_inner();
        assert_eq!(granted.grants[0].address, "10.0.0.7/24");
        ipam.check_attachment(asking("eth0", uid)).await.unwrap();
    }
    let older = Some(pod_uid(&pod(), Incarnation(0)));
    assert_eq!(code(ipam.attach(asking("eth0", older)).await), Code::FailedPrecondition);
    let stranger = v1::PodRef { namespace: "shop".to_owned(), name: "other".to_owned() };
    let strangers = v1::AttachRequest { pod: Some(stranger), ..asking("eth1", None) };
    assert_eq!(code(ipam.attach(strangers).await), Code::NotFound);
    assert_eq!(code(ipam.attach(asking("an interface", None)).await), Code::InvalidArgument);
    assert_eq!(code(ipam.attach(asking("sixteen-letters-", None)).await), Code::InvalidArgument);
    let gone = || v1::DetachRequest { sandbox_id: "s1".to_owned(), interface: "eth0".to_owned() };
    for _ in 0..2 {
        ipam.detach(gone()).await.unwrap();
    }
    assert_eq!(rig.ledger.read(|book| book.attachments.len()), 0);
    assert!(rig.ledger.read(|book| book.grant(&pod()).is_some()));
}

#[tokio::test]
async fn the_sockets_are_not_everybodys() {
    let rig = Rig::start().await;
    for name in ["berthd.sock", "cni.sock"] {
        let mode = std::fs::metadata(rig.socket(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}: there is no such group");
    }
    let taken = tempfile::tempdir().unwrap();
    let path = taken.path().join("file");
    std::fs::write(&path, "not ours").unwrap();
    let error = super::listen(&path, super::Who::Root).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not ours");
}
