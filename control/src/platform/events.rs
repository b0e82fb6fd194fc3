//! `WatchEvents`: what is remembered, then, if asked for, what comes. A follower that falls behind is told so and ended.

use super::{PlatformService, invalid, optional_node, pods};
use crate::events::{EventFilter, EventLog, FOLLOWER_QUEUE, MAX_FOLLOWERS, Told};
use berth_model::NodeName;
use berth_proto::v1;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// What a follower gets.
pub(crate) type EventStream = ReceiverStream<Result<v1::Event, Status>>;

/// Events that wait to be sent on one stream, beside those that wait in the log.
const STREAM_QUEUE: usize = 64;

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
        let (sender, stream) = mpsc::channel(STREAM_QUEUE);
        let feed = Feed { sender, filter, draining: self.draining.clone() };
        let log: &EventLog = self.core.events();
        if follow {
            let (first, live) = log.follow(&feed.filter).ok_or_else(|| {
                let text = format!("there are {MAX_FOLLOWERS} followers of events, which is the most");
                Status::resource_exhausted(text)
            })?;
            tokio::spawn(feed.follow(first, live));
        } else {
            let all = log.all(&feed.filter);
            tokio::spawn(async move { feed.send(all).await });
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One stream of events.
struct Feed {
    sender: mpsc::Sender<Result<v1::Event, Status>>,
    filter: EventFilter,
    draining: watch::Receiver<bool>,
}

impl Feed {
    /// Whether the other side still reads.
    async fn send(&self, events: Vec<Told>) -> bool {
        for event in events {
            if self.sender.send(Ok(Arc::unwrap_or_clone(event))).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn follow(mut self, first: Vec<Told>, mut live: broadcast::Receiver<Told>) {
        if !self.send(first).await {
            return;
        }
        loop {
            let next = tokio::select! {
                // Cancel-safe: an event that is not taken stays.
                next = live.recv() => Some(next),
                // Cancel-safe: both only look.
                () = self.sender.closed() => return,
                _ = self.draining.wait_for(|draining| *draining) => None,
            };
            let Some(next) = next else {
                return self.end(Status::unavailable("the control plane is going down; ask again")).await;
            };
            match next {
                Ok(event) if !self.filter.matches(&event) => {}
                Ok(event) => {
                    if !self.send(vec![event]).await {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let text = format!(
                        "this follower is more than {FOLLOWER_QUEUE} events behind: ask again, and read faster"
                    );
                    return self.end(Status::resource_exhausted(text)).await;
                }
                // The log lives as long as the process.
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn end(self, status: Status) {
        // Who does not read will find out by itself.
        let _ = self.sender.send(Err(status)).await;
    }
}
