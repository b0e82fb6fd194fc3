//! What has happened on the node, as a stream.

use crate::events::{Event, Journal};
use berth_model::PodId;
use berth_proto::v1;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

/// Events that wait for one reader.
const QUEUE: usize = 64;
/// Most readers at once: each is a task and a queue.
const READERS: usize = 64;

/// Places for readers.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READERS))
}

/// Whose events, and whether it goes on.
pub(super) struct Asked {
    /// Of this pod; none for all, and the node's.
    pub(super) pod: Option<PodId>,
    /// Whether more is told as it happens.
    pub(super) follow: bool,
}

/// Sends what is kept, then, if asked for, what comes; ends when nobody reads, or the reader is too slow.
///
/// # Errors
/// When there are too many readers.
pub(super) fn send(
    journal: Arc<Journal>,
    places: &Arc<Semaphore>,
    asked: Asked,
) -> Result<mpsc::Receiver<Result<v1::Event, Status>>, Status> {
    let place = Arc::clone(places).try_acquire_owned();
    let place = place.map_err(|_| {
        Status::resource_exhausted(format!("{READERS} are reading events, which is the most"))
    })?;
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _place = place;
        let mut newest = journal.subscribe();
        let mut told = 0;
        loop {
            // Before the look: what comes after it is a change.
            newest.mark_unchanged();
            let batch = journal.after(told, QUEUE);
            if batch.lost > 0 && told > 0 {
                let text = format!("{} events are not kept any more: read faster", batch.lost);
                // Who does not read will find out by itself.
                let _ = sender.send(Err(Status::data_loss(text))).await;
                return;
            }
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
    Ok(events)
}

impl Asked {
    fn is_about(&self, event: &Event) -> bool {
        self.pod.is_none() || event.pod == self.pod
    }
}
