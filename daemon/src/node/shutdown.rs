//! The host's shutdown: announced by logind, and delayed until what runs was stopped in order
//! (<https://systemd.io/INHIBITOR_LOCKS>). The package raises logind's `InhibitDelayMaxSec`.

use crate::report::chain;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tracing::{info, warn};
use zbus_systemd::login1::ManagerProxy;
use zbus_systemd::zbus::{Connection, OwnedFd, Result as BusResult};

/// How long after a lost bus it is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Of the time that logind grants, so much is left for writing down and syncing.
const MARGIN: Duration = Duration::from_secs(2);
/// Notices on their way; there are never more than an announcement and its cancelling.
const NOTICES: usize = 4;

/// The host shuts down: logind's `PrepareForShutdown(true)`. Only what listens to logind makes one.
#[derive(Debug)]
pub struct Announced {
    until: Instant,
}

impl Announced {
    /// How long the host waits for us.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Until when it does.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// As if logind had said so.
    #[cfg(any(test, feature = "fake"))]
    pub fn in_a_test(left: Duration) -> Self {
        Self { until: Instant::now() + left }
    }
}

/// What logind says.
#[derive(Debug)]
pub enum ShutdownNotice {
    /// The host shuts down, and waits until `hold` is dropped, within bounds.
    Announced {
        /// The announcement.
        announced: Announced,
        /// What it waits for.
        hold: Hold,
    },
    /// It does not, after all.
    Cancelled,
}

/// Holds the shutdown up while it exists.
#[derive(Debug)]
pub struct Hold {
    _lock: Option<OwnedFd>,
}

/// Listens to logind for ever, holding a delay lock all the time. Must be called inside an async runtime.
pub fn watch_shutdown() -> mpsc::Receiver<ShutdownNotice> {
    let (notices, receiver) = mpsc::channel(NOTICES);
    tokio::spawn(async move {
        let mut complained = false;
        while !notices.is_closed() {
            if let Err(error) = listen(&notices).await
                && !std::mem::replace(&mut complained, true)
            {
                warn!(
                    "cannot listen to logind: pods will not be stopped in order at a shutdown: {}",
                    chain(&error)
                );
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    receiver
}

async fn listen(notices: &mpsc::Sender<ShutdownNotice>) -> BusResult<()> {
    let bus = Connection::system().await?;
    let manager = ManagerProxy::new(&bus).await?;
    // The signals first: what is announced from here on is heard.
    let mut signals = manager.receive_prepare_for_shutdown().await?;
    let mut lock = Some(take_lock(&manager).await?);
    info!("a shutdown of the host waits until its pods are stopped");
    while let Some(signal) = signals.next().await {
        let notice = match signal.args()?.start {
            true => {
                let granted = Duration::from_micros(manager.inhibit_delay_max_u_sec().await?);
                let until = Instant::now() + granted.saturating_sub(MARGIN);
                let hold = Hold { _lock: lock.take() };
                ShutdownNotice::Announced { announced: Announced { until }, hold }
            }
            false => {
                lock = Some(take_lock(&manager).await?);
                ShutdownNotice::Cancelled
            }
        };
        if notices.send(notice).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn take_lock(manager: &ManagerProxy<'_>) -> BusResult<OwnedFd> {
    let text = |text: &str| text.to_owned();
    manager.inhibit(text("shutdown"), text("berthd"), text("stops pods in order"), text("delay")).await
}
