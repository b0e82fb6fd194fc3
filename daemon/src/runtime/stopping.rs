//! Ending a container in good order: the command that it was ordered with first, then its signal, then CRI's own way.
//!
//! What it was ordered with stands on the container itself, as annotations: it is ended as it was made, whatever has been
//! ordered since.

use super::RuntimeError;
use super::client::Client;
use berth_model::Lifecycle;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

const PRE_STOP: &str = "io.berth.pre-stop";
const STOP_SIGNAL: &str = "io.berth.stop-signal";

/// What of the grace is left for the signal, if it is long enough for both; kubelet's minimum is the same.
const FOR_SIGNAL: Duration = Duration::from_secs(2);
/// The shortest time that a command is given: to CRI, none at all would mean no limit.
const FOR_COMMAND: Duration = Duration::from_secs(1);

/// As a container carries it.
pub(super) fn to_annotations(lifecycle: &Lifecycle) -> HashMap<String, String> {
    let Lifecycle { pre_stop, stop_signal } = lifecycle;
    let command =
        (!pre_stop.is_empty()).then(|| (PRE_STOP.to_owned(), serde_json::json!(pre_stop).to_string()));
    let signal = stop_signal.map(|signal| (STOP_SIGNAL.to_owned(), signal.to_string()));
    command.into_iter().chain(signal).collect()
}

/// As a container has it; what cannot be read is not there.
pub(super) fn from_annotations(annotations: &HashMap<String, String>) -> Lifecycle {
    let command = annotations.get(PRE_STOP).and_then(|text| serde_json::from_str(text).ok());
    let signal = annotations.get(STOP_SIGNAL).and_then(|name| name.parse().ok());
    Lifecycle { pre_stop: command.unwrap_or_default(), stop_signal: signal }
}

impl Client {
    /// Ends a container that CRI knows: it has the grace for all of it, and is killed after.
    pub(super) async fn end_in_order(
        &self,
        id: &str,
        lifecycle: &Lifecycle,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let until = Instant::now() + grace;
        let left = || until.saturating_duration_since(Instant::now());
        if !lifecycle.pre_stop.is_empty() {
            let time = grace.saturating_sub(FOR_SIGNAL).max(FOR_COMMAND);
            if let Err(error) = self.run_pre_stop(id, &lifecycle.pre_stop, time).await {
                warn!(id, "container {id}: the command before the stop failed; the stop goes on: {error}");
            }
        }
        if let Some(signal) = lifecycle.stop_signal {
            self.signal_task(id, signal.number()).await?;
            self.await_task(id, left()).await;
        }
        // Nothing is left for what has ended or has had its time. Whoever could not be waited for keeps what is left.
        self.stop_cri_container(id, left()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pre_stop: &[&str], signal: Option<&str>, annotations: usize) {
        let lifecycle = Lifecycle {
            pre_stop: pre_stop.iter().map(|word| (*word).to_owned()).collect(),
            stop_signal: signal.map(|name| name.parse().unwrap()),
        };
        let carried = to_annotations(&lifecycle);
        assert_eq!(carried.len(), annotations, "{carried:?}");
        assert_eq!(from_annotations(&carried), lifecycle);
    }

    #[test]
    fn a_container_carries_how_it_ends() {
        check(&[], None, 0);
        check(&["sh", "-c", "echo \"x\"\n"], Some("RTMIN+3"), 2);
        check(&[], Some("USR1"), 1);
        let strange =
            HashMap::from([(PRE_STOP.to_owned(), "{".to_owned()), (STOP_SIGNAL.to_owned(), "X".to_owned())]);
        assert_eq!(from_annotations(&strange), Lifecycle::default());
    }
}
