//! The loop beside the pods' tasks: hints from the runtime, sweeping, and a sign of life for the watchdog.

use super::Pods;
use crate::network;
use crate::runtime::{Hint, Runtime};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

/// How often the loop comes round without a hint. A third of the shortest watchdog that a unit would sensibly set.
const ROUND: Duration = Duration::from_secs(5);
/// How often attachments of pods that are gone are swept.
const SWEEP: Duration = Duration::from_secs(60);

/// Called after every round of the loop.
pub type Beat = Box<dyn FnMut() + Send>;

impl<R: Runtime> Pods<R> {
    /// Wakes pods as `hints` come, and calls `beat` each time that the loop and the ledger's thread have come round:
    /// a daemon in which either hangs stops beating, and is restarted by systemd.
    pub async fn tend(self: Arc<Self>, mut hints: mpsc::Receiver<Hint>, mut beat: Beat) -> Infallible {
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            let hint = tokio::select! {
                // Cancel-safe: a tick that is not taken stays due.
                _ = ticks.tick() => None,
                // Cancel-safe: a message that is not taken stays.
                Some(hint) = hints.recv() => Some(hint),
            };
            match hint {
                Some(Hint::Pod(pod)) => self.wake(&pod),
                Some(Hint::Exited(pod, exit)) => {
                    self.reports.exited(&pod, &exit);
                    self.wake(&pod);
                }
                Some(Hint::Everything) => self.wake_all(),
                None => {
                    if let Err(error) = self.ledger.come_round().await {
                        warn!("the ledger does not come round: {error}");
                        continue;
                    }
                    beat();
                }
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                network::sweep(&self.ledger).await;
            }
        }
    }
}
