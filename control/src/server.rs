//! The two listeners, their TLS, and going down without losing anything.
//!
//! Entry point: [`serve`]. Each listener has an accept loop that does the handshakes, bounded in number and time, and
//! hands the connections to tonic with the peer's identity. The main port takes only clients whose certificate our
//! authority signed; the enrollment port takes anyone and serves nothing but joining. TLS 1.3 only.

mod door;
mod tls;

use crate::clock::Clock;
use crate::config::Config;
use crate::core::Core;
use crate::enroll::EnrollService;
use crate::link::LinkService;
use crate::metrics::ControlMetrics;
use crate::pki::Authority;
use crate::platform::PlatformService;
use crate::signer::Signer;
use crate::state::{self, Settings, Tx};
use crate::store::{Batch, Store, Writer};
use anyhow::{Context, anyhow, bail};
use berth_proto::v1::enrollment_server::EnrollmentServer;
use berth_proto::v1::node_link_server::NodeLinkServer;
use berth_proto::v1::platform_server::PlatformServer;
use berth_tls::serve_anyone;
use door::{identify, listen_on};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::{server_credential, trust};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tonic::transport::Server;

/// Connections of the main port: every node has one, every platform a few.
const MAX_CONNECTIONS: usize = 16_384;
/// Connections of the enrollment port, which anyone can open.
const MAX_ENROLL_CONNECTIONS: usize = 128;
/// How long a stranger may hold one.
const ENROLL_CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long a join may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
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
/// How often leases are looked at: their end is only told, so a second is soon enough.
const LEASE_LOOK: Duration = Duration::from_secs(1);

/// A stranger on the enrollment port.
#[derive(Debug, Clone, Copy)]
struct Stranger;

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
        copy_deadline_ms: config.copy_deadline_ms,
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
    let (credential, expires_at_ms) = server_credential(&pki_dir, &authority)?;
    let core = Arc::new(open_core(config, clock).await?);
    let (draining, drained) = watch::channel(false);
    let mut tasks = JoinSet::new();

    let trust = trust(&authority)?;
    let mutual = trust.server(&credential).context("use the server's certificate")?;
    let (listen, peers) =
        listen_on(config.listen, mutual, MAX_CONNECTIONS, identify(trust), &drained).await?;
    let platform = PlatformService::new(Arc::clone(&core), drained.clone());
    let signer = Signer::new(Arc::clone(&authority), Duration::from_millis(config.node_certificate_ms));
    let link = LinkService::new(Arc::clone(&core), signer.clone(), drained.clone());
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(PlatformServer::new(platform).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(NodeLinkServer::new(link).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(peers, until(drained.clone()));
    tasks.spawn(async move { server.await.context("serve nodes and platforms") });

    let open = serve_anyone(&credential).context("use the server's certificate")?;
    let stranger = |_: &TlsStream<TcpStream>| Ok(Stranger);
    let (enroll_listen, strangers) =
        listen_on(config.enroll_listen, open, MAX_ENROLL_CONNECTIONS, stranger, &drained).await?;
    let enroll = EnrollService::new(Arc::clone(&core), signer);
    let server = Server::builder()
        .max_concurrent_streams(1)
        .timeout(JOIN_TIMEOUT)
        .max_connection_age(ENROLL_CONNECTION_AGE)
        .add_service(EnrollmentServer::new(enroll).max_decoding_message_size(MAX_JOIN_BYTES))
        .serve_with_incoming_shutdown(strangers, until(drained.clone()));
    tasks.spawn(async move { server.await.context("serve joining nodes") });
    if let Some(address) = config.metrics_listen {
        let source = ControlMetrics::new(Arc::clone(&core), expires_at_ms);
        tasks.spawn(serve_metrics(address, source, drained.clone()));
    }
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

async fn serve_metrics(
    address: SocketAddr,
    source: ControlMetrics,
    draining: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    // Dropping either loses nothing: whoever asks for numbers asks again.
    tokio::select! {
        () = until(draining) => Ok(()),
        never = berth_metrics::serve(address, source) => match never {},
    }
}

async fn watch_leases(core: Arc<Core>, draining: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut drained = std::pin::pin!(until(draining));
    loop {
        // Both arms only wait.
        tokio::select! {
            () = &mut drained => return Ok(()),
            () = tokio::time::sleep(LEASE_LOOK) => {}
        }
        let look = core.act(|tx| {
            tx.look_at_everything();
            tx.newly_silent()
        });
        for node in look.await? {
            tracing::warn!(%node, "{node}: silent, its lease has run out");
        }
    }
}
