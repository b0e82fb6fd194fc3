//! The daemon put together: sockets, pods' tasks, link, in the order that a start needs, and the way back.
//!
//! [`Daemon::start`] takes what main has opened and begins; [`Daemon::run`] lasts until it is told to end; then what
//! is in the middle of a step finishes it, and containers are left alone.

use crate::api::{About, Listener, NodeApi, Readers, SocketError, Who, listen};
use crate::clock::epoch_ms;
use crate::config::Config;
use crate::disk::Disks;
use crate::host::Host;
use crate::ledger::Ledger;
use crate::link::{Link, LinkConfig, LinkState, Orders, PkiFiles};
use crate::metrics::NodeMetrics;
use crate::network::{Ipam, Probing};
use crate::node::ShutdownNotice;
use crate::peers::{self, Courier, Served};
use crate::pod::{Beat, Pace, Parts, Pods, Sight};
use crate::reports::Reports;
use crate::runtime::{Hint, Runtime};
use berth_cgroup::CgroupRoot;
use berth_model::Order;
use berth_proto::v1::node_server::NodeServer;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tracing::{error, info, warn};

/// How long a step that is under way may take once the daemon is told to end. systemd waits 30 s; what takes longer
/// goes on in the runtime, and the next start finds what came of it.
const DRAIN: Duration = Duration::from_secs(20);
/// The largest question on a local socket: names and paths.
const MAX_QUESTION_BYTES: usize = 64 << 10;
/// Questions at once on one connection.
const QUESTIONS: usize = 32;

/// What the daemon is made of.
pub struct Daemon<R, H> {
    /// What it is told to be.
    pub config: Config,
    /// Its durable record.
    pub ledger: Ledger,
    /// Effects and looks.
    pub runtime: Arc<R>,
    /// The host.
    pub host: Arc<H>,
    /// The node's data disks, for what goes to other nodes and comes from there.
    pub disks: Arc<Disks>,
    /// Where the runtime says that something may have changed.
    pub hints: mpsc::Receiver<Hint>,
    /// Called after every round of the loop beside the pods' tasks.
    pub beat: Beat,
    /// Where logind says that the host shuts down.
    pub shutdowns: mpsc::Receiver<ShutdownNotice>,
}

/// A daemon at work.
pub struct Running<R> {
    pods: Arc<Pods<R>>,
    ledger: Ledger,
    reports: Arc<Reports>,
    link: LinkState,
    draining: watch::Sender<bool>,
    api: JoinHandle<()>,
    cni: JoinHandle<()>,
    collecting: JoinHandle<()>,
    peers: Option<JoinHandle<()>>,
    metrics: Option<JoinHandle<()>>,
    tend: JoinHandle<()>,
    shutting_down: JoinHandle<()>,
    dialling: Option<JoinHandle<()>>,
    adopted: usize,
}

/// Why a running daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Told,
    /// The ledger cannot be written any more: what is durable has to be read anew.
    Ledger(String),
}

/// Where the link hands orders on.
struct Hands<R>(Arc<Pods<R>>);

impl<R: Runtime> Orders for Hands<R> {
    fn carry_out(&self, order: &Order) {
        self.0.carry_out(order);
    }
}

impl<R: Runtime, H: Host> Daemon<R, H> {
    /// Opens the sockets, takes every pod up where it stands, and begins to dial.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(self) -> Result<Running<R>, SocketError> {
        let Self { config, ledger, runtime, host, disks, hints, beat, shutdowns } = self;
        let reports = Arc::new(Reports::default());
        let (draining, drained) = watch::channel(false);
        let state = LinkState::new(silence(&config, &ledger));
        // First: the runtime asks here while it makes a sandbox.
        let ipam = Ipam::new(ledger.clone(), Probing::of_config(config.probe_interface.as_deref()));
        let socket = listen(&config.cni_socket, Who::Root)?;
        let cni = tokio::spawn(report_end("cni", ipam.clone().serve(socket)));
        // After the socket: a plugin that collects asks there.
        let collecting = tokio::spawn(async move { match ipam.collect_for_ever().await {} });
        let socket = listen(&config.socket, Who::of_group(&config.socket_group))?;
        let api = serve_api(socket, api(&config, &ledger, &reports, &state, &host));
        let metrics = serve_metrics(&config, &ledger, &reports, &state);
        if let Err(error) = disks.abandon_all() {
            warn!("half-copied disks are not thrown away: {}", crate::report::chain(&error));
        }
        let peers = serve_peers(&config, &ledger, &disks);
        let pods = Pods::new(Parts {
            ledger: ledger.clone(),
            runtime,
            reports: reports.clone(),
            pace: Pace::default(),
            sight: sight(&host),
            copies: Arc::new(Courier::new(PkiFiles::below(&config.state_dir), disks)),
        });
        let adopted = pods.adopt();
        let tending = pods.clone();
        let tend = tokio::spawn(async move {
            let never = tending.tend(hints, beat).await;
            match never {}
        });
        let shutting_down = tokio::spawn(heed_shutdowns(pods.clone(), shutdowns));
        let orders = Arc::new(Hands(pods.clone()));
        let link = link_config(&config, &ledger).map(|link| Link {
            config: link,
            ledger: ledger.clone(),
            reports: reports.clone(),
            host,
            orders,
            state: state.clone(),
        });
        let dialling = link.map(|link| tokio::spawn(link.run(drained)));
        Ok(Running {
            pods,
            ledger,
            reports,
            link: state,
            draining,
            api,
            cni,
            collecting,
            peers,
            metrics,
            tend,
            shutting_down,
            dialling,
            adopted,
        })
    }
}

fn sight<H: Host>(host: &Arc<H>) -> Sight {
    let host = host.clone();
    Box::new(move || match host.view() {
        Ok(view) => Some(view),
        Err(error) => {
            warn!("what the host has cannot be learnt: {error}");
            None
        }
    })
}

/// Stops pods when the host shuts down, and lets it go on once nothing runs and all is on disk.
async fn heed_shutdowns<R: Runtime>(pods: Arc<Pods<R>>, mut notices: mpsc::Receiver<ShutdownNotice>) {
    while let Some(notice) = notices.recv().await {
        match notice {
            ShutdownNotice::Announced { announced, hold } => {
                info!(
                    seconds = announced.left().as_secs(),
                    "the host shuts down: stopping its pods within {} s",
                    announced.left().as_secs()
                );
                let left = pods.shut_down(announced).await;
                if left > 0 {
                    warn!(pods = left, "the host waits no longer, and {left} pods still run");
                }
                // What containers wrote without asking for it to be on disk is, before the power goes.
                if let Err(error) = tokio::task::spawn_blocking(nix::unistd::sync).await {
                    warn!("cannot sync: {error}");
                }
                info!("the host may go down");
                drop(hold);
            }
            ShutdownNotice::Cancelled => {
                info!("the host does not shut down after all: its pods go on");
                pods.carry_on();
            }
        }
    }
}

/// Why nothing is dialled yet.
fn silence(config: &Config, ledger: &Ledger) -> String {
    match (&config.control, ledger.node()) {
        (None, _) => "no control plane is configured: set `control`, or run `berthd join`".to_owned(),
        (Some(_), None) => "this node has no name and no certificate yet: run `berthd join`".to_owned(),
        (Some(_), Some(_)) => "not dialled yet".to_owned(),
    }
}

fn link_config(config: &Config, ledger: &Ledger) -> Option<LinkConfig> {
    Some(LinkConfig {
        control: config.control.clone()?,
        node: ledger.node()?.clone(),
        pki: PkiFiles::below(&config.state_dir),
    })
}

fn api<H: Host>(
    config: &Config,
    ledger: &Ledger,
    reports: &Arc<Reports>,
    state: &LinkState,
    host: &Arc<H>,
) -> NodeApi<H> {
    NodeApi {
        ledger: ledger.clone(),
        reports: reports.clone(),
        link: state.clone(),
        host: host.clone(),
        cgroups: CgroupRoot::system(),
        about: About {
            control: config.control.clone().unwrap_or_default(),
            pki: PkiFiles::below(&config.state_dir),
            log_dir: config.log_dir.clone(),
            reserved_cpus: config.reservation.cpus.clone(),
            started_at_ms: epoch_ms(),
        },
        readers: Readers::default(),
    }
}

fn serve_peers(config: &Config, ledger: &Ledger, disks: &Arc<Disks>) -> Option<JoinHandle<()>> {
    let address = config.peer_listen?;
    let pki = PkiFiles::below(&config.state_dir);
    let served = Served::new(ledger.clone(), disks.clone());
    Some(tokio::spawn(async move { match peers::listen(address, pki, served).await {} }))
}

fn serve_metrics(
    config: &Config,
    ledger: &Ledger,
    reports: &Arc<Reports>,
    state: &LinkState,
) -> Option<JoinHandle<()>> {
    let address = config.metrics_listen?;
    let source = NodeMetrics {
        ledger: ledger.clone(),
        reports: reports.clone(),
        link: state.clone(),
        cgroups: CgroupRoot::system(),
        pki: PkiFiles::below(&config.state_dir),
        started_at_ms: epoch_ms(),
    };
    Some(tokio::spawn(async move { match berth_metrics::serve(address, source).await {} }))
}

fn serve_api<H: Host>(socket: Listener, api: NodeApi<H>) -> JoinHandle<()> {
    let service = NodeServer::new(api).max_decoding_message_size(MAX_QUESTION_BYTES);
    let server = Server::builder().concurrency_limit_per_connection(QUESTIONS).add_service(service);
    tokio::spawn(report_end("api", server.serve_with_incoming(socket.admitted())))
}

async fn report_end(
    socket: &'static str,
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
) {
    match serving.await {
        Ok(()) => error!(socket, "local socket {socket} is served no more"),
        Err(error) => {
            error!(socket, "local socket {socket} is served no more: {}", crate::report::chain(&error));
        }
    }
}

impl<R: Runtime> Running<R> {
    /// How many pods were taken up.
    pub fn adopted(&self) -> usize {
        self.adopted
    }

    /// The last looks, and what has happened.
    pub fn reports(&self) -> &Arc<Reports> {
        &self.reports
    }

    /// How the link is.
    pub fn link(&self) -> &LinkState {
        &self.link
    }

    /// Lasts until `told` returns or the ledger fails; then takes no more orders, lets steps that are under way
    /// finish, within bounds, and ends. Containers are left alone.
    pub async fn run(self, told: impl Future<Output = ()>) -> Ending {
        let ending = tokio::select! {
            // Cancel-safe: nothing is lost when the daemon ends for the other reason.
            () = told => Ending::Told,
            // Likewise.
            reason = self.ledger.failure() => Ending::Ledger(reason),
        };
        self.drain().await;
        ending
    }

    async fn drain(self) {
        info!("ending: no more orders are taken, containers are left alone");
        self.draining.send_replace(true);
        self.api.abort();
        if !self.pods.drain(DRAIN).await {
            warn!(
                seconds = DRAIN.as_secs(),
                "some steps are still under way after {} s; the next start finds what came of them",
                DRAIN.as_secs()
            );
        }
        if let Some(dialling) = self.dialling {
            dialling.abort();
        }
        self.tend.abort();
        self.shutting_down.abort();
        self.collecting.abort();
        for serving in self.peers.iter().chain(&self.metrics) {
            serving.abort();
        }
        // Last: a sandbox that was being made until now asked here.
        self.cni.abort();
    }
}
