//! `WatchPods`: all there is, a mark, then what changes. A watcher that falls behind is told so and ended.

use super::PlatformService;
use super::pods::{Filter, snapshot};
use crate::hub::{MAX_WATCHERS, WATCHER_QUEUE, Watch};
use crate::state::Event;
use berth_proto::v1::{self, pod_event};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio_stream::Stream;
use tonic::{Response, Status};

/// What a watcher gets.
#[derive(Debug)]
pub(crate) struct PodStream {
    /// What was there, and the mark.
    first: VecDeque<v1::PodEvent>,
    watch: Watch,
    filter: Filter,
    draining: Pin<Box<tokio_stream::wrappers::WatchStream<bool>>>,
    ended: bool,
}

fn wire(event: pod_event::Event) -> v1::PodEvent {
    v1::PodEvent { event: Some(event) }
}

impl PodStream {
    fn end(&mut self, status: Status) -> Poll<Option<Result<v1::PodEvent, Status>>> {
        self.ended = true;
        Poll::Ready(Some(Err(status)))
    }

    fn select(&self, event: Event) -> Option<v1::PodEvent> {
        match event {
            Event::Changed(pod) => self.filter.matches(&pod).then(|| wire(pod_event::Event::Changed(*pod))),
            Event::Released(pod) => {
                self.filter.matches_released(&pod).then(|| wire(pod_event::Event::Released((&pod).into())))
            }
        }
    }
}

impl Stream for PodStream {
    type Item = Result<v1::PodEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(event) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        while let Poll::Ready(draining) = self.draining.as_mut().poll_next(context) {
            if draining.unwrap_or(true) {
                return self.end(Status::unavailable("the control plane is going down; watch again"));
            }
        }
        loop {
            let Some(event) = ready!(self.watch.events.poll_recv(context)) else {
                let slow = self.watch.lagged.load(Ordering::Acquire);
                return self.end(match slow {
                    true => Status::resource_exhausted(format!(
                        "this watcher is more than {WATCHER_QUEUE} events behind: watch again, and read faster"
                    )),
                    false => Status::unavailable("the control plane is going down; watch again"),
                });
            };
            if let Some(event) = self.select(event) {
                return Poll::Ready(Some(Ok(event)));
            }
        }
    }
}

impl PlatformService {
    pub(super) async fn watch(&self, request: v1::ListPodsRequest) -> Result<Response<PodStream>, Status> {
        let filter = Filter::parse(request)?;
        let look = filter.clone();
        // Listening begins where the snapshot becomes durable: nothing is missed, and nothing older comes after it.
        let listening = Arc::new(Mutex::new(None));
        let begun = Arc::clone(&listening);
        let pods = self
            .core
            .act_then(
                move |tx| snapshot(tx, &look),
                move |hub, _| *begun.lock().unwrap_or_else(PoisonError::into_inner) = hub.watch(),
            )
            .await
            .map_err(|stopped| Status::unavailable(stopped.to_string()))?;
        let watch = listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let watch = watch.ok_or_else(|| {
            Status::resource_exhausted(format!("there are {MAX_WATCHERS} watchers, which is the most"))
        })?;
        let mut first: VecDeque<_> =
            pods.into_iter().map(|pod| wire(pod_event::Event::Changed(pod))).collect();
        first.push_back(wire(pod_event::Event::Synced(pod_event::Synced {})));
        Ok(Response::new(PodStream {
            first,
            watch,
            filter,
            draining: Box::pin(tokio_stream::wrappers::WatchStream::new(self.draining.clone())),
            ended: false,
        }))
    }
}
