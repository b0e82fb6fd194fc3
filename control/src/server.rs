//! The two listeners, their TLS, and going down without losing anything.
//!
//! Entry point: [`serve`]. Each listener has an accept loop that does the handshakes, bounded in number and time, and
//! hands the connections to tonic with the peer's identity. The main port takes only clients whose certificate our
//! authority signed; the enrollment port takes anyone and serves nothing but joining. TLS 1.3 only.

use crate::clock::{Clock, wall_ms};
use crate::config::Config;
use crate::core::Core;
use crate::enroll::EnrollService;
use crate::link::LinkService;
use crate::pki::{self, Authority, Identity, identity_of};
use crate::platform::PlatformService;
use crate::state::{self, Settings, Tx};
use crate::store::{Batch, Store, Writer};
use anyhow::{Context as _, anyhow, bail};
use berth_proto::v1::enrollment_server::EnrollmentServer;
use berth_proto::v1::node_link_server::NodeLinkServer;
use berth_proto::v1::platform_server::PlatformServer;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// Connections of the main port: every node has one, every platform a few.
const MAX_CONNECTIONS: usize = 16_384;
/// Connections of the enrollment port, which anyone can open.
const MAX_ENROLL_CONNECTIONS: usize = 128;
/// How long a stranger may hold one.
const ENROLL_CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message of the main port: a Hello holds the status of every pod of a node, some KiB each.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Largest message of the enrollment port.
const MAX_JOIN_BYTES: usize = 32 * 1024;
/// Requests of one connection at a time.
const MAX_STREAMS: u32 = 256;
/// A peer that vanished without a word is noticed after the sum of both.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How long requests under way may take when the server goes down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept, which is a lack of descriptors in most cases.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often leases are looked at: their end is only told, so a second is soon enough.
const LEASE_LOOK: Duration = Duration::from_secs(1);

/// A stranger on the enrollment port.
#[derive(Debug, Clone, Copy)]
struct Stranger;

/// A connection, who is behind it, and its place among the permitted number.
struct PeerStream<I> {
    stream: TlsStream<TcpStream>,
    peer: I,
    _place: OwnedSemaphorePermit,
}

impl<I: Clone + Send + Sync + 'static> Connected for PeerStream<I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.peer.clone()
    }
}

impl<I: Unpin> AsyncRead for PeerStream<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<I: Unpin> AsyncWrite for PeerStream<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct Serving {
    /// Where nodes and platforms dial.
    pub listen: SocketAddr,
    /// Where nodes join.
    pub enroll_listen: SocketAddr,
    core: Arc<Core>,
    draining: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Serving {
    /// Returns when the control plane cannot go on, with the reason.
    pub async fn failure(&mut self) -> anyhow::Error {
        // Both arms only wait: dropping one loses nothing.
        tokio::select! {
            why = self.core.writer().failure() => anyhow!("the store has failed: {why}"),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => error,
                Some(Ok(Ok(()))) | None => anyhow!("a server has ended by itself"),
                Some(Err(error)) => anyhow!(error).context("a server's task has ended"),
            },
        }
    }

    /// Takes no more connections, lets requests under way finish, and ends.
    ///
    /// Connections that are still open after a while are cut.
    ///
    /// # Errors
    /// When a server had failed.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.draining.send_replace(true);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.context("a server's task has ended")??;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(DRAIN_TIMEOUT, all).await {
            Ok(ended) => ended,
            Err(_) => {
                // A peer that does not hang up is no failure of ours: what was answered is durable.
                tracing::warn!("connections were still open after {} s and are cut", DRAIN_TIMEOUT.as_secs());
                Ok(())
            }
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        heartbeat_ms: config.heartbeat_ms,
        lease_ms: config.lease_ms,
        run_deadline_ms: config.run_deadline_ms,
        order_deadline_ms: config.order_deadline_ms,
        max_pods_per_node: config.max_pods_per_node,
    }
}

/// Opens the store, begins a new term, and serves.
///
/// # Errors
/// When keys, store or ports are not to be had.
pub async fn serve(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Serving> {
    let pki_dir = config.pki_dir();
    let authority =
        Arc::new(Authority::load(&pki_dir).context("load the authority: run berth-control ca init first")?);
    let chain = server_chain(&pki_dir, &authority)?;
    let core = Arc::new(open_core(config, clock).await?);
    let (draining, drained) = watch::channel(false);
    let mut tasks = JoinSet::new();

    let mutual = mutual_tls(&authority, &chain)?;
    let (listen, peers) =
        listen_on(config.listen, mutual, MAX_CONNECTIONS, identify(&authority), &drained).await?;
    let platform = PlatformService::new(Arc::clone(&core), drained.clone());
    let link = LinkService::new(Arc::clone(&core), drained.clone());
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(PlatformServer::new(platform).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(NodeLinkServer::new(link).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(peers, until(drained.clone()));
    tasks.spawn(async move { server.await.context("serve nodes and platforms") });

    let open = open_tls(&chain)?;
    let stranger = |_: &TlsStream<TcpStream>| Ok(Stranger);
    let (enroll_listen, strangers) =
        listen_on(config.enroll_listen, open, MAX_ENROLL_CONNECTIONS, stranger, &drained).await?;
    let enroll = EnrollService::new(Arc::clone(&core), Arc::clone(&authority));
    let server = Server::builder()
        .max_concurrent_streams(1)
        .timeout(HANDSHAKE_TIMEOUT)
        .max_connection_age(ENROLL_CONNECTION_AGE)
        .add_service(EnrollmentServer::new(enroll).max_decoding_message_size(MAX_JOIN_BYTES))
        .serve_with_incoming_shutdown(strangers, until(drained.clone()));
    tasks.spawn(async move { server.await.context("serve joining nodes") });
    tasks.spawn(watch_leases(Arc::clone(&core), drained));
    Ok(Serving { listen, enroll_listen, core, draining, tasks })
}

async fn until(mut draining: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the server with it.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Reads the state and begins a new term, durably, before anyone is served.
async fn open_core(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Core> {
    let store = Store::open(&config.store_path())?;
    let mut state = state::load(&store, settings(config))?;
    let writer = Writer::spawn(store).context("start the store's thread")?;
    let mut tx = Tx::begin(&mut state, clock.now());
    let term = tx.begin_term();
    let (done, begun) = oneshot::channel();
    writer.submit(Batch {
        writes: tx.finish().writes,
        // Whoever waits is the next line.
        after: Box::new(move || {
            let _ = done.send(());
        }),
    })?;
    if begun.await.is_err() {
        bail!("begin term {term}: {}", writer.failure().await);
    }
    tracing::info!(term, "the store is open");
    Ok(Core::new(state, writer, clock))
}

async fn watch_leases(core: Arc<Core>, draining: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut drained = std::pin::pin!(until(draining));
    loop {
        // Both arms only wait.
        tokio::select! {
            () = &mut drained => return Ok(()),
            () = tokio::time::sleep(LEASE_LOOK) => {}
        }
        for node in core.act(|tx| tx.newly_silent()).await? {
            tracing::warn!(%node, "the node is silent: its lease has run out");
        }
    }
}

struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Our certificate and, for nodes that know only its hash yet, the authority's.
fn server_chain(dir: &Path, authority: &Authority) -> anyhow::Result<Chain> {
    let (cert, key) = (dir.join(pki::SERVER_CERT), dir.join(pki::SERVER_KEY));
    let own = CertificateDer::from_pem_file(&cert)
        .with_context(|| format!("read certificate {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("read key {}", key.display()))?;
    match identity_of(&own, authority.trust_domain()) {
        Ok(Identity::Control) => {}
        Ok(other) => bail!("certificate {} is of {other}, not of the control plane", cert.display()),
        Err(error) => return Err(anyhow!(error).context(format!("look at certificate {}", cert.display()))),
    }
    let days_left = days_left(&own)?;
    match days_left {
        ..=0 => bail!("certificate {} has expired: run berth-control ca server", cert.display()),
        1..=30 => tracing::warn!(
            days_left,
            "the server's certificate is about to expire: run berth-control ca server"
        ),
        _ => {}
    }
    let certificates = vec![own, authority.certificate().clone()];
    Ok(Chain { certificates, key })
}

fn days_left(certificate: &CertificateDer<'_>) -> anyhow::Result<i64> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).context("parse the server's certificate")?;
    let now = i64::try_from(wall_ms() / 1_000).unwrap_or(i64::MAX);
    Ok((parsed.validity().not_after.timestamp() - now).div_euclid(24 * 60 * 60))
}

type ConfigBuilder = tokio_rustls::rustls::ConfigBuilder<ServerConfig, tokio_rustls::rustls::WantsVerifier>;

fn builder() -> anyhow::Result<ConfigBuilder> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .context("choose TLS 1.3")
}

fn with_alpn(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn mutual_tls(authority: &Authority, chain: &Chain) -> anyhow::Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).context("trust the authority")?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .context("make the verifier of clients")?;
    let config = builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.certificates.clone(), chain.key.clone_key())
        .context("use the server's certificate")?;
    Ok(with_alpn(config))
}

fn open_tls(chain: &Chain) -> anyhow::Result<TlsAcceptor> {
    let config = builder()?
        .with_no_client_auth()
        .with_single_cert(chain.certificates.clone(), chain.key.clone_key())
        .context("use the server's certificate")?;
    Ok(with_alpn(config))
}

/// Who is behind a connection whose certificate was verified.
fn identify(
    authority: &Authority,
) -> impl Fn(&TlsStream<TcpStream>) -> Result<Identity, String> + Clone + use<> {
    let domain = authority.trust_domain().clone();
    move |stream| {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().ok_or("no certificate")?;
        identity_of(certificate, &domain).map_err(|error| error.to_string())
    }
}

type Incoming<I> = ReceiverStream<io::Result<PeerStream<I>>>;

async fn listen_on<I: Send + 'static>(
    address: SocketAddr,
    acceptor: TlsAcceptor,
    most: usize,
    identify: impl Fn(&TlsStream<TcpStream>) -> Result<I, String> + Clone + Send + Sync + 'static,
    draining: &watch::Receiver<bool>,
) -> anyhow::Result<(SocketAddr, Incoming<I>)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let bound = listener.local_addr().with_context(|| format!("look at the listener on {address}"))?;
    // One place: tonic takes connections at once, and a full queue only makes handshakes wait.
    let (ready, incoming) = mpsc::channel(1);
    let door = Door { listener, acceptor, places: Arc::new(Semaphore::new(most)), identify, ready };
    tokio::spawn(door.accept(until(draining.clone())));
    Ok((bound, ReceiverStream::new(incoming)))
}

struct Door<I, F> {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    identify: F,
    ready: mpsc::Sender<io::Result<PeerStream<I>>>,
}

impl<I, F> Door<I, F>
where
    I: Send + 'static,
    F: Fn(&TlsStream<TcpStream>) -> Result<I, String> + Clone + Send + Sync + 'static,
{
    async fn accept(self, drained: impl Future<Output = ()>) {
        let mut drained = std::pin::pin!(drained);
        loop {
            // Both arms only wait: a connection that was not accepted stays in the kernel's queue.
            let next = tokio::select! {
                () = &mut drained => return,
                next = self.next() => next,
            };
            match next {
                Ok((stream, place)) => self.shake_hands(stream, place),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn next(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, place))
    }

    fn shake_hands(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (acceptor, identify, ready) = (self.acceptor.clone(), self.identify.clone(), self.ready.clone());
        tokio::spawn(async move {
            let from = stream.peer_addr().ok();
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            let why = match shaken {
                Err(_) => "the handshake took too long".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(stream)) => match identify(&stream) {
                    Err(why) => why,
                    Ok(peer) => {
                        let peer = PeerStream { stream, peer, _place: place };
                        // The server is going down if nobody takes it.
                        let _ = ready.send(Ok(peer)).await;
                        return;
                    }
                },
            };
            tracing::info!(from = ?from, why, "a connection was refused");
        });
    }
}
