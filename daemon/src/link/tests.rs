//! The link and joining against a control plane in this process, over real mutual TLS.

use super::*;
use crate::ledger::{Ledger, Moment};
use crate::report::chain;
use crate::reports::{Report, Reports, Sight};
use crate::testing;
use crate::testing::{FakeHost, PATIENCE, node, open, order_id, pod, pool_order, run_order, wait_for};
use berth_access::{Authority, Credentials, Holds, Usage};
use berth_model::{NodeName, Order, Outcome, PodStatus};
use berth_proto::v1;
use berth_proto::v1::control_message::Message as Down;
use berth_proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use berth_proto::v1::node_link_server::{NodeLink, NodeLinkServer};
use berth_proto::v1::node_message::Message as Up;
use rcgen::{CertificateParams, KeyPair};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

mod events;
mod renewal;

/// A token of this authority.
fn token_of(authority: &Authority) -> Token {
    let certificate = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    let print: String =
        berth_tls::fingerprint(&certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    Token::parse(&format!("berth1.{}.{}.{print}", "0".repeat(16), "1".repeat(64))).unwrap()
}

/// Stores a node's identity.
fn identify(authority: &Authority, folder: &Path, name: &str, trusted: &Authority) -> PkiFiles {
    store(&authority.client(&[name]), folder, trusted)
}

/// Stores what a node shows of itself.
fn store(shown: &Credentials, folder: &Path, trusted: &Authority) -> PkiFiles {
    let files = PkiFiles::below(folder);
    std::fs::create_dir_all(&files.folder).unwrap();
    std::fs::write(files.node(), shown.certificate_pem.clone() + &shown.key_pem).unwrap();
    std::fs::write(files.authority(), trusted.certificate_pem()).unwrap();
    files
}

/// One connection, as the control plane has it.
struct Connection {
    from_node: Mutex<mpsc::Receiver<Up>>,
    to_node: mpsc::Sender<Result<v1::ControlMessage, Status>>,
}

impl Connection {
    async fn send(&self, message: Down) {
        self.to_node.send(Ok(v1::ControlMessage { message: Some(message) })).await.unwrap();
    }

    /// The next message that `wanted` takes; others are passed over.
    async fn next<T>(&self, what: &str, wanted: impl Fn(&Up) -> Option<T>) -> T {
        wait_for(what, || {
            let mut messages = self.from_node.lock().unwrap();
            std::iter::from_fn(|| messages.try_recv().ok()).find_map(|message| wanted(&message))
        })
        .await
    }

    async fn ack(&self, number: u64) -> v1::order_ack::Answer {
        self.next("an ack", |message| match message {
            Up::Ack(ack) if ack.order_id == order_id(number).as_str() => ack.answer.clone(),
            _ => None,
        })
        .await
    }
}

/// What upstream answers to a certificate request, PEM both.
type Renews = Box<dyn Fn(&str) -> Result<String, Status> + Send + Sync>;

/// Hands out connections as they come.
struct FakeControl {
    connections: mpsc::Sender<Connection>,
    welcome: v1::Welcome,
    renews: Renews,
}

#[tonic::async_trait]
impl NodeLink for FakeControl {
    type LinkStream = ReceiverStream<Result<v1::ControlMessage, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        assert!(request.peer_certs().is_some_and(|certificates| !certificates.is_empty()));
        let mut stream = request.into_inner();
        let (sender, from_node) = mpsc::channel(1_024);
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let Some(message) = message.message else { continue };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        let (to_node, replies) = mpsc::channel(16);
        let connection = Connection { from_node: Mutex::new(from_node), to_node };
        connection.send(Down::Welcome(self.welcome)).await;
        drop(self.connections.send(connection).await);
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let certificate_pem = (self.renews)(&request.into_inner().certificate_request_pem)?;
        Ok(Response::new(v1::RenewResponse { certificate_pem }))
    }
}

fn tls(authority: &Authority, name: &str, holds: Holds) -> ServerTlsConfig {
    let own = authority.issue(&[name], Usage::Server, holds);
    let chain = own.certificate_pem + authority.certificate_pem();
    ServerTlsConfig::new().identity(Identity::from_pem(chain, own.key_pem))
}

/// A control plane of this name; answers its address and its connections.
async fn control(
    authority: &Authority,
    name: &str,
    holds: Holds,
    term: u64,
) -> (String, mpsc::Receiver<Connection>) {
    let renews: Renews = Box::new(|_| Err(Status::unavailable("nobody signs here")));
    control_that(renews, authority, name, holds, term).await
}

/// As [`control`], and renews certificates.
async fn control_that(
    renews: Renews,
    authority: &Authority,
    name: &str,
    holds: Holds,
    term: u64,
) -> (String, mpsc::Receiver<Connection>) {
    let (connections, receiver) = mpsc::channel(16);
    let welcome = v1::Welcome { term, heartbeat_ms: 100, lease_ms: 1_000, events: true };
    let tls = tls(authority, name, holds).client_ca_root(Certificate::from_pem(authority.certificate_pem()));
    let service = NodeLinkServer::new(FakeControl { connections, welcome, renews });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().tls_config(tls).unwrap().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, receiver)
}

#[derive(Default)]
struct Hands(Mutex<Vec<Order>>);

impl Orders for Hands {
    fn carry_out(&self, order: &Order) {
        self.0.lock().unwrap().push(order.clone());
    }
}

/// A node with a link.
struct Rig {
    ledger: Ledger,
    reports: Arc<Reports>,
    state: LinkState,
    hands: Arc<Hands>,
    _draining: watch::Sender<bool>,
}

fn link(folder: &Path, control: &str, pki: PkiFiles) -> Rig {
    let ledger = open(folder);
    let (draining, drained) = watch::channel(false);
    let (reports, hands) = (Arc::new(Reports::default()), Arc::new(Hands::default()));
    let state = LinkState::new("not dialled yet");
    let link = Link {
        config: LinkConfig { control: control.to_owned(), node: node(), pki },
        ledger: ledger.clone(),
        reports: reports.clone(),
        host: Arc::new(FakeHost),
        orders: hands.clone(),
        state: state.clone(),
    };
    tokio::spawn(link.run(drained));
    Rig { ledger, reports, state, hands, _draining: draining }
}

async fn connected(connections: &mut mpsc::Receiver<Connection>) -> (Connection, v1::Hello) {
    let connection = tokio::time::timeout(PATIENCE, connections.recv()).await.unwrap().unwrap();
    let hello = connection
        .next("Hello", |message| match message {
            Up::Hello(hello) => Some(hello.clone()),
            _ => panic!("the first message is {message:?}"),
        })
        .await;
    (connection, hello)
}

const CONTROL: &str = "spiffe://berth.test/control";

#[tokio::test]
async fn orders_outcomes_and_states_go_their_way() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (address, mut connections) = control(&authority, CONTROL, Holds::Now, 1).await;
    let pki = identify(&authority, folder.path(), "spiffe://berth.test/node/n1", &authority);
    let rig = link(folder.path(), &address, pki);
    let (connection, hello) = connected(&mut connections).await;
    assert_eq!((hello.node.as_str(), hello.term, hello.pods.len()), ("n1", 0, 0));
    assert_eq!(hello.facts.unwrap().boot_id, "boot-1");
    wait_for("connected", || rig.state.get().connected.then_some(())).await;
    connection.next("a heartbeat", |message| matches!(message, Up::Heartbeat(_)).then_some(())).await;

    connection.send(Down::Order((&pool_order(1, 1, "0")).into())).await;
    assert!(matches!(connection.ack(1).await, v1::order_ack::Answer::Accepted(_)));
    assert_eq!(rig.hands.0.lock().unwrap().len(), 1);
    // Acknowledged is durable: the ledger has it.
    assert!(rig.ledger.read(|book| book.orders.contains_key(&order_id(1))));

    let mut elsewhere = run_order(2);
    elsewhere.node = NodeName::new("n2").unwrap();
    connection.send(Down::Order((&elsewhere).into())).await;
    let refused = connection.ack(2).await;
    assert!(matches!(refused, v1::order_ack::Answer::Refused(reason) if reason.code == "WrongNode"));

    let mut malformed = v1::Order::from(&run_order(3));
    malformed.target = None;
    connection.send(Down::Order(malformed)).await;
    let refused = connection.ack(3).await;
    assert!(matches!(refused, v1::order_ack::Answer::Refused(reason) if reason.code == "Invalid"));

    rig.ledger.finish(order_id(1), Outcome::Done, Moment::now()).await.unwrap();
    connection
        .next("the outcome", |message| {
            matches!(message, Up::Update(update) if update.order_id == order_id(1).as_str()).then_some(())
        })
        .await;
    connection.send(Down::OutcomesSeen(v1::OutcomesSeen { order_ids: vec![order_id(1).to_string()] })).await;
    wait_for("confirmed", || rig.ledger.read(|book| book.unconfirmed().next().is_none()).then_some(())).await;
    connection.send(Down::Order((&pool_order(1, 1, "0")).into())).await;
    assert!(matches!(connection.ack(1).await, v1::order_ack::Answer::Already(_)));

    rig.reports.put(&pod(), Report::Status(Box::new(status())), Sight::Look, String::new());
    connection.next("a status", |message| matches!(message, Up::PodStatus(_)).then_some(())).await;
}

fn status() -> PodStatus {
    testing::status(Vec::new())
}

#[tokio::test]
async fn a_new_connection_begins_with_all_that_is_unconfirmed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (address, mut connections) = control(&authority, CONTROL, Holds::Now, 1).await;
    let pki = identify(&authority, folder.path(), "spiffe://berth.test/node/n1", &authority);
    let rig = link(folder.path(), &address, pki);
    let (connection, _) = connected(&mut connections).await;
    connection.send(Down::Order((&pool_order(1, 1, "0")).into())).await;
    connection.ack(1).await;
    rig.ledger.finish(order_id(1), Outcome::Done, Moment::now()).await.unwrap();
    rig.reports.put(&pod(), Report::Status(Box::new(status())), Sight::Look, String::new());
    drop(connection);
    let (connection, hello) = connected(&mut connections).await;
    assert_eq!((hello.term, hello.updates.len(), hello.pods.len()), (1, 1, 1));
    assert_eq!(hello.updates[0].order_id, order_id(1).as_str());
    drop(connection);
}

/// A link that must not come about, and why it says so.
async fn check_down(rig: &Rig, expected: &str) {
    let said = wait_for(expected, || {
        let status = rig.state.get();
        assert!(!status.connected, "connected");
        (status.message != "not dialled yet").then_some(status.message)
    })
    .await;
    assert!(said.contains(expected), "{said:?} does not say {expected:?}");
}

#[tokio::test]
async fn only_the_control_plane_of_our_authority_is_spoken_to() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let check = async |authority: &Authority, name: &str, holds: Holds, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (address, mut connections) = control(authority, name, holds, 1).await;
        let pki = identify(&ours, folder.path(), "spiffe://berth.test/node/n1", &ours);
        check_down(&link(folder.path(), &address, pki), expected).await;
        assert!(connections.try_recv().is_err());
    };
    check(&foreign, CONTROL, Holds::Now, "not signed by our authority").await;
    check(&ours, "spiffe://berth.test/node/n2", Holds::Now, "not the control plane").await;
    check(&ours, "spiffe://other.test/control", Holds::Now, "not the control plane").await;
    check(&ours, "https://berth.test/control", Holds::Now, "not the control plane").await;
    check(&ours, CONTROL, Holds::LongAgo, "has expired").await;
    check(&ours, CONTROL, Holds::InYears, "clock").await;
}

#[tokio::test]
async fn without_the_right_certificate_there_is_no_link() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (address, mut connections) = control(&ours, CONTROL, Holds::Now, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let none = link(folder.path(), &address, PkiFiles::below(folder.path()));
    check_down(&none, "berthd join").await;
    let folder = tempfile::tempdir().unwrap();
    let stranger = identify(&foreign, folder.path(), "spiffe://berth.test/node/n1", &ours);
    check_down(&link(folder.path(), &address, stranger), "").await;
    let folder = tempfile::tempdir().unwrap();
    let other = identify(&ours, folder.path(), "spiffe://berth.test/node/n2", &ours);
    check_down(&link(folder.path(), &address, other), "the certificate is node n2's, this node is n1").await;
    let folder = tempfile::tempdir().unwrap();
    let broken = identify(&ours, folder.path(), "spiffe://berth.test/node/n1", &ours);
    std::fs::copy(broken.authority(), broken.node()).unwrap();
    check_down(&link(folder.path(), &address, broken), "holds no private key").await;
    let folder = tempfile::tempdir().unwrap();
    let fine = identify(&ours, folder.path(), "spiffe://berth.test/node/n1", &ours);
    check_down(&link(folder.path(), "127.0.0.1:1", fine), "connect to 127.0.0.1:1").await;
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn a_retired_leader_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (address, _connections) = control(&authority, CONTROL, Holds::Now, 0).await;
    let ledger = open(folder.path());
    ledger.admit(pool_order(1, 1, "0"), testing::host_view(), Moment::now()).await.unwrap();
    drop(ledger);
    let pki = identify(&authority, folder.path(), "spiffe://berth.test/node/n1", &authority);
    check_down(&link(folder.path(), &address, pki), "upstream is of term 0, this node has seen term 1").await;
}

/// Signs what it is told to.
struct FakeEnrollment {
    authority: Arc<Authority>,
    /// Instead of what was asked for.
    name: Option<&'static str>,
    /// Instead of the request's key.
    other_key: bool,
    refuse: bool,
}

#[tonic::async_trait]
impl Enrollment for FakeEnrollment {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        if self.refuse {
            return Err(Status::permission_denied("the token was used already"));
        }
        let request = request.into_inner();
        let asked = format!("spiffe://berth.test/node/{}", request.node);
        let csr = match self.other_key {
            true => {
                let params = CertificateParams::default();
                params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
            }
            false => request.certificate_request_pem,
        };
        Ok(Response::new(v1::JoinResponse {
            certificate_pem: self.authority.sign_request(&csr, self.name.unwrap_or(&asked)),
            ca_pem: self.authority.certificate_pem().to_owned(),
            trust_domain: "berth.test".to_owned(),
        }))
    }
}

async fn enrollment(service: FakeEnrollment, holds: Holds) -> String {
    let tls = tls(&service.authority, CONTROL, holds);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().tls_config(tls).unwrap().add_service(EnrollmentServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn signing(authority: &Arc<Authority>) -> FakeEnrollment {
    FakeEnrollment { authority: authority.clone(), name: None, other_key: false, refuse: false }
}

fn joining(folder: &Path, enroll: String, token: Token) -> JoinRequest {
    JoinRequest { enroll, token, node: node(), files: PkiFiles::below(folder), existing: Existing::Keep }
}

#[tokio::test]
async fn a_node_joins_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let address = enrollment(signing(&authority), Holds::Now).await;
    let request = joining(folder.path(), address, token_of(&authority));
    let joined = join(&request).await.unwrap();
    assert_eq!((joined.node, joined.trust_domain.to_string().as_str()), (node(), "berth.test"));
    let identity = NodeIdentity::load(&request.files).unwrap();
    assert_eq!(identity.uri, "spiffe://berth.test/node/n1");
    assert!(identity.expires_at_ms > 0);
    let stored = std::fs::read(request.files.node()).unwrap();
    assert!(matches!(join(&request).await, Err(JoinError::Exists(_))));
    assert_eq!(std::fs::read(request.files.node()).unwrap(), stored);
    join(&JoinRequest { existing: Existing::Replace, ..request }).await.unwrap();
    assert_ne!(std::fs::read(PkiFiles::below(folder.path()).node()).unwrap(), stored);
}

#[tokio::test]
async fn joining_fails_clearly_and_leaves_nothing() {
    let check = async |service: FakeEnrollment, holds: Holds, token: Token, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let address = enrollment(service, holds).await;
        let request = joining(folder.path(), address, token);
        let said = chain(&join(&request).await.unwrap_err());
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert_eq!(std::fs::read_dir(&request.files.folder).unwrap().count(), 0);
    };
    let ours = Arc::new(Authority::new());
    let token = || token_of(&ours);
    check(FakeEnrollment { refuse: true, ..signing(&ours) }, Holds::Now, token(), "used already").await;
    check(signing(&Arc::new(Authority::new())), Holds::Now, token(), "fingerprint").await;
    check(FakeEnrollment { other_key: true, ..signing(&ours) }, Holds::Now, token(), "another key").await;
    let other = FakeEnrollment { name: Some("spiffe://berth.test/node/n2"), ..signing(&ours) };
    check(other, Holds::Now, token(), "spiffe://berth.test/node/n2").await;
    let platform = FakeEnrollment { name: Some("spiffe://berth.test/platform/n1"), ..signing(&ours) };
    check(platform, Holds::Now, token(), "no node").await;
    check(signing(&ours), Holds::LongAgo, token(), "clock").await;
    let folder = tempfile::tempdir().unwrap();
    let unreachable = joining(folder.path(), "127.0.0.1:1".to_owned(), token());
    let said = chain(&join(&unreachable).await.unwrap_err());
    assert!(said.contains("connect to 127.0.0.1:1"), "{said}");
}
