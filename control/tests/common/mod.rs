//! A control plane in this process, and a node and a platform made by hand, over real TLS.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(missing_docs, unreachable_pub, clippy::cast_possible_truncation, clippy::unwrap_used)]

use anyhow::{Context, bail};
use berth_control::{Authority, Clock, Config, Moment, Serving, Store, Token, TokenRow, init_pki, serve};
use berth_proto::v1;
use berth_proto::v1::control_message::Message as FromControl;
use berth_proto::v1::enrollment_client::EnrollmentClient;
use berth_proto::v1::node_link_client::NodeLinkClient;
use berth_proto::v1::node_message::Message as FromNode;
use berth_proto::v1::platform_client::PlatformClient;
use berth_tls::Identity;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};

/// How long anything may take that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that is moved by hand.
#[derive(Debug, Default)]
pub struct HandClock(AtomicU64);

impl HandClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Moment {
        let mono_ms = self.0.load(Ordering::SeqCst);
        let wall_ms = since_epoch().as_millis() as u64 + mono_ms;
        Moment { wall_ms, mono_ms }
    }
}

pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A certificate, its key, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub certificate_pem: String,
    pub key_pem: String,
    pub ca_pem: String,
}

pub struct Fleet {
    pub dir: TempDir,
    pub config: Config,
    pub authority: Authority,
    pub clock: Arc<HandClock>,
    serving: Option<Serving>,
}

impl Fleet {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            state_dir: dir.path().to_owned(),
            listen: any,
            enroll_listen: any,
            metrics_listen: None,
            ..Config::default()
        };
        std::fs::create_dir(config.pki_dir()).unwrap();
        let domain = "berth.test".parse().unwrap();
        let authority = init_pki(&config.pki_dir(), &domain, &config.server_names, since_epoch()).unwrap();
        let mut fleet = Self { dir, config, authority, clock: Arc::new(HandClock::default()), serving: None };
        fleet.serve().await;
        fleet
    }

    async fn serve(&mut self) {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        self.serving = Some(serve(&self.config, clock).await.unwrap());
    }

    /// Takes the control plane down and brings it up again on the same state.
    pub async fn restart(&mut self) {
        self.serving.take().unwrap().drain().await.unwrap();
        self.serve().await;
    }

    pub fn serving(&self) -> &Serving {
        self.serving.as_ref().unwrap()
    }

    pub fn token(&self, node: Option<&str>, life: Duration) -> Token {
        let token = Token::generate(self.authority.fingerprint()).unwrap();
        let now_ms = since_epoch().as_millis() as u64;
        let row = TokenRow {
            version: 1,
            id: token.id.clone(),
            secret_hash: token.secret_hash(),
            node: node.map(str::to_owned),
            created_at_ms: now_ms,
            expires_at_ms: now_ms + life.as_millis() as u64,
            used_by: None,
        };
        Store::open(&self.config.store_path()).unwrap().add_token(&row).unwrap();
        token
    }

    pub async fn enrollment(&self) -> EnrollmentClient<Channel> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate_pem()))
            .domain_name("localhost");
        EnrollmentClient::new(channel(self.serving().enroll_listen, tls).await.unwrap())
    }

    pub async fn join_with(&self, token: &Token, node: &str) -> Result<Credentials, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let answer = self
            .enrollment()
            .await
            .join(v1::JoinRequest {
                token: token.reveal(),
                node: node.to_owned(),
                certificate_request_pem: request.pem().unwrap(),
            })
            .await?
            .into_inner();
        Ok(Credentials {
            certificate_pem: answer.certificate_pem,
            key_pem: key.serialize_pem(),
            ca_pem: answer.ca_pem,
        })
    }

    pub async fn join(&self, node: &str) -> Credentials {
        let token = self.token(None, Duration::from_secs(60));
        self.join_with(&token, node).await.unwrap()
    }

    pub fn platform_credentials(&self) -> Credentials {
        let identity = Identity::Platform("ops".parse().unwrap());
        let issued = self.authority.issue_platform(&identity, since_epoch()).unwrap();
        Credentials {
            certificate_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
            ca_pem: self.authority.certificate_pem().to_owned(),
        }
    }

    pub async fn dial(&self, credentials: Option<&Credentials>) -> anyhow::Result<Channel> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate_pem()))
            .domain_name("localhost");
        if let Some(credentials) = credentials {
            let identity =
                tonic::transport::Identity::from_pem(&credentials.certificate_pem, &credentials.key_pem);
            tls = tls.identity(identity);
        }
        channel(self.serving().listen, tls).await
    }

    pub async fn platform(&self) -> PlatformClient<Channel> {
        let credentials = self.platform_credentials();
        PlatformClient::new(self.dial(Some(&credentials)).await.unwrap())
    }

    /// A node that has joined, connected, and set its default pool.
    pub async fn ready_node(&self, name: &str) -> (Credentials, FakeNode) {
        let credentials = self.join(name).await;
        let mut node = FakeNode::connect(self, &credentials, name).await.unwrap();
        let order = node.next_order().await;
        assert_eq!(shared_cpus(&order), "default 1-3 on 0-1, generation 1");
        node.done(&order).await;
        (credentials, node)
    }
}

pub async fn channel(address: SocketAddr, tls: ClientTlsConfig) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await.context("dial")
}

/// A host with four CPUs on two memory nodes, the first CPU its own.
pub fn facts() -> v1::NodeFacts {
    let memory = |id, cpus: &str, distances: [u32; 2]| v1::MemoryNode {
        id,
        cpus: cpus.to_owned(),
        memory_bytes: 1 << 30,
        distances: distances.to_vec(),
        huge_pages: Vec::new(),
    };
    let core = |id: u32| v1::Core { id, socket: id / 2, l3: id / 2, cpus: id.to_string() };
    v1::NodeFacts {
        boot_id: "b".to_owned(),
        topology: Some(v1::Topology {
            nodes: vec![memory(0, "0-1", [10, 20]), memory(1, "2-3", [20, 10])],
            cores: (0..4).map(core).collect(),
            online_cpus: "0-3".to_owned(),
        }),
        labels: [("zone".to_owned(), "east".to_owned())].into(),
        memory_bytes: 2 << 30,
        reserved_memory_bytes: 256 << 20,
        reserved_cpus: "0".to_owned(),
        mount_points: vec!["/".to_owned()],
        ..v1::NodeFacts::default()
    }
}

/// A node that does what its test says.
pub struct FakeNode {
    outbound: mpsc::Sender<v1::NodeMessage>,
    inbound: Streaming<v1::ControlMessage>,
    pub welcome: v1::Welcome,
    pub seen: Vec<String>,
    /// Orders that came while something else was waited for.
    early: VecDeque<v1::Order>,
}

pub fn hello(name: &str) -> v1::Hello {
    v1::Hello { node: name.to_owned(), term: 0, facts: Some(facts()), pods: Vec::new(), updates: Vec::new() }
}

impl FakeNode {
    pub async fn connect(fleet: &Fleet, credentials: &Credentials, name: &str) -> anyhow::Result<Self> {
        Self::connect_saying(fleet, credentials, hello(name)).await
    }

    pub async fn connect_saying(
        fleet: &Fleet,
        credentials: &Credentials,
        hello: v1::Hello,
    ) -> anyhow::Result<Self> {
        let mut client = NodeLinkClient::new(fleet.dial(Some(credentials)).await?);
        let (outbound, stream) = mpsc::channel(64);
        let message = Some(FromNode::Hello(hello));
        outbound.send(v1::NodeMessage { message }).await?;
        let inbound = client.link(ReceiverStream::new(stream)).await?.into_inner();
        let mut node = Self {
            outbound,
            inbound,
            welcome: v1::Welcome::default(),
            seen: Vec::new(),
            early: VecDeque::new(),
        };
        match node.next().await? {
            FromControl::Welcome(welcome) => node.welcome = welcome,
            other => bail!("{other:?} before the welcome"),
        }
        Ok(node)
    }

    /// The next message; the error is what ended the stream.
    pub async fn next(&mut self) -> anyhow::Result<FromControl> {
        let message =
            tokio::time::timeout(PATIENCE, self.inbound.message()).await.context("nothing came")??;
        message.and_then(|message| message.message).context("the stream has ended")
    }

    pub async fn next_order(&mut self) -> v1::Order {
        if let Some(order) = self.early.pop_front() {
            return order;
        }
        loop {
            match self.next().await.unwrap() {
                FromControl::Order(order) => return order,
                FromControl::OutcomesSeen(seen) => self.seen.extend(seen.order_ids),
                FromControl::EventsSeen(_) => {}
                FromControl::Welcome(_) => panic!("a second welcome"),
            }
        }
    }

    /// Says what only a newer node does.
    pub async fn say_something_new(&self) {
        self.outbound.send(v1::NodeMessage { message: None }).await.unwrap();
    }

    pub async fn say(&self, message: FromNode) {
        let message = Some(message);
        self.outbound.send(v1::NodeMessage { message }).await.unwrap();
    }

    pub async fn accept(&self, order: &v1::Order) {
        self.say(FromNode::Ack(v1::OrderAck {
            order_id: order.id.clone(),
            answer: Some(v1::order_ack::Answer::Accepted(v1::order_ack::Accepted {})),
        }))
        .await;
    }

    pub async fn refuse(&self, order: &v1::Order, code: &str) {
        self.say(FromNode::Ack(v1::OrderAck {
            order_id: order.id.clone(),
            answer: Some(v1::order_ack::Answer::Refused(reason(code))),
        }))
        .await;
    }

    pub async fn end(&mut self, order: &v1::Order, outcome: v1::outcome::Outcome) {
        self.accept(order).await;
        self.say(FromNode::Update(update(order, outcome))).await;
        while !self.seen.contains(&order.id) {
            match self.next().await.unwrap() {
                FromControl::OutcomesSeen(seen) => self.seen.extend(seen.order_ids),
                FromControl::Order(order) => self.early.push_back(order),
                FromControl::EventsSeen(_) => {}
                FromControl::Welcome(_) => panic!("a second welcome"),
            }
        }
    }

    pub async fn done(&mut self, order: &v1::Order) {
        self.end(order, done()).await;
    }
}

pub fn done() -> v1::outcome::Outcome {
    v1::outcome::Outcome::Done(v1::outcome::Done {})
}

pub fn reason(code: &str) -> v1::Reason {
    v1::Reason { code: code.to_owned(), message: format!("because of {code}"), details: Default::default() }
}

pub fn update(order: &v1::Order, outcome: v1::outcome::Outcome) -> v1::OrderUpdate {
    v1::OrderUpdate { order_id: order.id.clone(), outcome: Some(v1::Outcome { outcome: Some(outcome) }) }
}

/// What a SetSharedCpus order says.
pub fn shared_cpus(order: &v1::Order) -> String {
    match &order.target {
        Some(v1::order::Target::NodeOrder(v1::NodeOrder {
            verb: Some(v1::node_order::Verb::SetSharedCpus(pool)),
        })) => format!("{} {} on {}, generation {}", pool.pool, pool.cpus, pool.mems, pool.generation),
        other => panic!("no SetSharedCpus: {other:?}"),
    }
}

/// What a pod's order says.
pub fn pod_order(order: &v1::Order) -> (&v1::PodOrder, &v1::pod_order::Verb) {
    match &order.target {
        Some(v1::order::Target::Pod(order)) => (order, order.verb.as_ref().unwrap()),
        other => panic!("no order for a pod: {other:?}"),
    }
}

pub fn pod_ref(name: &str) -> v1::PodRef {
    v1::PodRef { namespace: "shop".to_owned(), name: name.to_owned() }
}

pub fn shared_pod(name: &str) -> v1::PodRequest {
    v1::PodRequest {
        pod: Some(pod_ref(name)),
        containers: vec![v1::ContainerRequest {
            name: "web".to_owned(),
            image: "registry.example/shop/web:1".to_owned(),
            ..v1::ContainerRequest::default()
        }],
        memory_request_bytes: Some(64 << 20),
        ..v1::PodRequest::default()
    }
}

pub fn exclusive_pod(name: &str, count: u32) -> v1::PodRequest {
    use v1::cpu_request::Request;
    v1::PodRequest {
        cpu: Some(v1::CpuRequest { request: Some(Request::Exclusive(v1::ExclusiveCpuRequest { count })) }),
        ..shared_pod(name)
    }
}

pub fn address_pool(name: &str) -> v1::AddressPool {
    v1::AddressPool {
        name: name.to_owned(),
        network: "10.88.0.0/24".to_owned(),
        first: "10.88.0.10".to_owned(),
        last: "10.88.0.11".to_owned(),
        gateway: Some("10.88.0.1".to_owned()),
        ..v1::AddressPool::default()
    }
}

/// The pod, once it is in that state.
pub async fn pod_in_state(
    platform: &mut PlatformClient<Channel>,
    name: &str,
    state: v1::PodState,
) -> v1::Pod {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pod = get(platform, name).await.unwrap();
        if pod.state() == state {
            return pod;
        }
        assert!(tokio::time::Instant::now() < deadline, "not {state:?}: {pod:?}");
        tokio::task::yield_now().await;
    }
}

pub async fn get(platform: &mut PlatformClient<Channel>, name: &str) -> Result<v1::Pod, Status> {
    let pod = Some(pod_ref(name));
    Ok(platform.get_pod(v1::GetPodRequest { pod }).await?.into_inner())
}

pub async fn submit(platform: &mut PlatformClient<Channel>, pod: v1::PodRequest) -> Result<v1::Pod, Status> {
    let pod = Some(pod);
    Ok(platform.submit_pod(v1::SubmitPodRequest { pod }).await?.into_inner())
}

pub async fn evict(
    platform: &mut PlatformClient<Channel>,
    name: &str,
    release: bool,
) -> Result<v1::Pod, Status> {
    let request = v1::EvictPodRequest {
        pod: Some(pod_ref(name)),
        grace_ms: Some(1_000),
        release,
        reason: "a test".to_owned(),
    };
    Ok(platform.evict_pod(request).await?.into_inner())
}

/// The error's code, and that its text holds `text`.
pub fn assert_denied<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{:?} has no {text:?}", status.message());
}
