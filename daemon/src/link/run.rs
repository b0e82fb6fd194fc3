//! Dialling, for ever.

use super::dial::dial;
use super::identity::{NodeIdentity, PkiFiles};
use super::renew::keep_renewed;
use super::session::{Ended, Orders, Session};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::report::chain;
use crate::reports::Reports;
use berth_model::NodeName;
use berth_tls::Identity;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// After a connection that failed the next try waits this long, then twice as long …
const RETRY: Duration = Duration::from_millis(500);
/// … and at most this long: a fraction of a lease.
const RETRY_CAP: Duration = Duration::from_secs(15);
/// A connection that held for so long had nothing wrong with it.
const HELD: Duration = Duration::from_secs(60);

/// What the link is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Upstream, `host:port`.
    pub control: String,
    /// This node.
    pub node: NodeName,
    /// Its key and certificates; read anew for each connection.
    pub pki: PkiFiles,
}

/// The link to upstream.
pub struct Link<H, O> {
    /// What it is set to.
    pub config: LinkConfig,
    /// Where orders are admitted, and outcomes kept.
    pub ledger: Ledger,
    /// What is told of pods.
    pub reports: Arc<Reports>,
    /// What is told of the host.
    pub host: Arc<H>,
    /// Where accepted orders go.
    pub orders: Arc<O>,
    /// How it is, for people.
    pub state: LinkState,
}

/// How the link is, for whoever asks.
#[derive(Debug, Clone)]
pub struct LinkState {
    status: Arc<watch::Sender<LinkStatus>>,
}

/// How the link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether upstream has said Welcome on a connection that holds.
    pub connected: bool,
    /// Why not; empty if it is.
    pub message: String,
}

impl LinkStatus {
    pub(super) fn connected() -> Self {
        Self { connected: true, message: String::new() }
    }

    fn down(message: String) -> Self {
        Self { connected: false, message }
    }
}

impl LinkState {
    /// Not connected, for this reason.
    pub fn new(message: impl Into<String>) -> Self {
        Self { status: Arc::new(watch::Sender::new(LinkStatus::down(message.into()))) }
    }

    /// How it is.
    pub fn get(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    /// Follows how it is.
    pub fn subscribe(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    pub(super) fn set(&self, status: LinkStatus) {
        self.status.send_replace(status);
    }
}

impl<H: Host, O: Orders> Link<H, O> {
    /// Keeps a connection to upstream until `draining` says true. No error ends it.
    pub async fn run(self, mut draining: watch::Receiver<bool>) {
        let mut failures: u32 = 0;
        while !*draining.borrow() {
            let began = Instant::now();
            let message = self.once(&draining).await;
            failures = if began.elapsed() >= HELD { 0 } else { failures.saturating_add(1) };
            // The same trouble again is no news.
            match self.state.get().message == message {
                true => debug!(control = self.config.control, why = message, "still not connected"),
                false => warn!(control = self.config.control, "not connected: {message}"),
            }
            self.state.set(LinkStatus::down(message));
            tokio::select! {
                // Cancel-safe: a timer holds nothing.
                () = sleep(pause(failures)) => {}
                // Cancel-safe: only looks. A sender that is gone means that the daemon ends.
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    /// One connection; says why it ended.
    async fn once(&self, draining: &watch::Receiver<bool>) -> String {
        let identity = match NodeIdentity::load(&self.config.pki) {
            Ok(identity) => identity,
            Err(error) => return chain(&error),
        };
        if identity.node != self.config.node {
            return format!(
                "the certificate is node {}'s, this node is {}: correct `node`, or join again",
                identity.node, self.config.node
            );
        }
        let config = match identity.trust.client(&identity.credential, Identity::Control) {
            Ok(config) => config,
            Err(error) => return format!("key and certificate do not work: {error}: join again"),
        };
        let mut stop = draining.clone();
        let connection = async {
            let channel = dial(&self.config.control, config).await.map_err(|error| chain(&error))?;
            let session = Session::open(self, channel.clone()).await.map_err(|ended| ended.to_string())?;
            Ok((session, channel))
        };
        let session = tokio::select! {
            // Not cancel-safe, and need not be: a connection that is dropped half-way has taken nothing.
            session = connection => session,
            // Cancel-safe: only looks.
            _ = stop.wait_for(|draining| *draining) => return Ended::Draining.to_string(),
        };
        let (session, channel) = match session {
            Ok(opened) => opened,
            Err(message) => return message,
        };
        tokio::select! {
            ended = session.run(draining.clone()) => ended.to_string(),
            // Not cancel-safe, and need not be: the certificate is stored whole or not at all.
            never = keep_renewed(&self.config.pki, channel) => match never {},
        }
    }
}

/// Nodes that lost the same upstream do not come back at the same moment.
fn pause(failures: u32) -> Duration {
    let full = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RETRY_CAP);
    let percent = u32::try_from(RandomState::new().hash_one(failures) % 51).unwrap_or(0) + 50;
    full * percent / 100
}
