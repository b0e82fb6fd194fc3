//! What has happened on the node, as a stream.

use crate::events::{Event, Journal};
use berth_model::PodId;
use berth_proto::v1;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Events that wait for one reader.
const QUEUE: usize = 64;

/// Whose events, and whether it goes on.
pub(super) struct Asked {
    /// Of this pod; none for all, and the node's.
    pub(super) pod: Option<PodId>,
    /// Whether more is told as it happens.
    pub(super) follow: bool,
}

/// Sends what is kept, then, if asked for, what comes; ends when nobody reads.
pub(super) fn send(journal: Arc<Journal>, asked: Asked) -> mpsc::Receiver<Result<v1::Event, Status>> {
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut newest = journal.subscribe();
        let mut told = 0;
        loop {
            // Before the look: what comes after it is a change.
            newest.mark_unchanged();
            let batch = journal.after(told, QUEUE);
            told = batch.last;
            for event in batch.events.iter().filter(|event| asked.is_about(event)) {
                if sender.send(Ok(event.into())).await.is_err() {
                    return;
                }
            }
            if !batch.events.is_empty() {
                continue;
            }
            let more = async {
                tokio::select! {
                    // Cancel-safe: a number that was not seen stays unseen.
                    changed = newest.changed() => changed.is_ok(),
                    // Cancel-safe: only looks.
                    () = sender.closed() => false,
                }
            };
            if !asked.follow || !more.await {
                return;
            }
        }
    });
    events
}

impl Asked {
    fn is_about(&self, event: &Event) -> bool {
        self.pod.is_none() || event.pod == self.pod
    }
}
