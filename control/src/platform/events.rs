//! `WatchEvents`: what is remembered, then, if asked for, what comes.

use super::{PlatformService, invalid, optional_node, pods};
use crate::core::Core;
use crate::events::EventFilter;
use berth_model::NodeName;
use berth_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// What a reader gets.
pub(crate) type EventStream = ReceiverStream<Result<v1::Event, Status>>;

/// Most readers at once: each looks for what is new among the events of all nodes.
const READERS: usize = 64;
/// Events that wait to be sent on one stream. The others wait in the log, which forgets the oldest.
const STREAM_QUEUE: usize = 64;
/// A reader that takes nothing for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at what has come.
const PACE: Duration = Duration::from_millis(200);

/// Places for readers.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READERS))
}

fn filter(request: v1::WatchEventsRequest) -> Result<EventFilter, Status> {
    if let Some(Err(error)) = request.namespace.as_ref().map(|text| NodeName::new(text.as_str())) {
        return Err(invalid("namespace", error));
    }
    let pod = request.pod.map(|pod| pods::pod_id(Some(pod))).transpose()?;
    Ok(EventFilter { namespace: request.namespace, pod, node: optional_node(request.node)? })
}

impl PlatformService {
    pub(super) fn events(&self, request: v1::WatchEventsRequest) -> Result<Response<EventStream>, Status> {
        let follow = request.follow;
        let filter = filter(request)?;
        let place = Arc::clone(&self.readers).try_acquire_owned();
        let place = place.map_err(|_| {
            Status::resource_exhausted(format!("{READERS} are reading events, which is the most"))
        })?;
        let (sender, stream) = mpsc::channel(STREAM_QUEUE);
        let (core, draining) = (Arc::clone(&self.core), self.draining.clone());
        tokio::spawn(async move {
            let feed = Feed { core, sender, filter, told: 0 };
            feed.run(follow, draining).await;
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One stream of events.
struct Feed {
    core: Arc<Core>,
    sender: mpsc::Sender<Result<v1::Event, Status>>,
    filter: EventFilter,
    /// Up to which they were sent.
    told: u64,
}

impl Feed {
    async fn run(mut self, follow: bool, mut draining: watch::Receiver<bool>) {
        let sender = self.sender.clone();
        let going_down = tokio::select! {
            // Cancel-safe: what was not sent is not wanted any more.
            () = self.feed(follow) => false,
            // Cancel-safe: only looks.
            _ = draining.wait_for(|draining| *draining) => true,
        };
        if going_down {
            // Who does not read will find out by itself.
            let _ = sender.try_send(Err(Status::unavailable("the control plane is going down; ask again")));
        }
    }

    /// Ends when nobody reads, or all that there was has been sent and no more is wanted.
    async fn feed(&mut self, follow: bool) {
        let mut came = self.core.events().subscribe();
        loop {
            // Before the look: what comes after it is a change.
            came.mark_unchanged();
            let fresh = self.core.events().after(self.told, &self.filter);
            // What was forgotten before it began is nobody's loss.
            if fresh.lost && self.told > 0 {
                let text = "events were forgotten before they were read: ask again, and read faster";
                return self.send(Err(Status::data_loss(text))).await.unwrap_or_default();
            }
            let more = !fresh.events.is_empty();
            for (_, event) in fresh.events {
                if self.send(Ok(Arc::unwrap_or_clone(event))).await.is_none() {
                    return;
                }
            }
            self.told = fresh.looked;
            if more {
                continue;
            }
            if !follow {
                return;
            }
            tokio::select! {
                // Cancel-safe: a number that was not seen stays unseen. The log lives as long as the process.
                _ = came.changed() => {}
                // Cancel-safe: only looks.
                () = self.sender.closed() => return,
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// None when nobody takes it in time.
    async fn send(&self, event: Result<v1::Event, Status>) -> Option<()> {
        tokio::time::timeout(SEND_TIMEOUT, self.sender.send(event)).await.ok()?.ok()
    }
}
