//! Hints that something may have changed. Listing is the truth: a hint says where to list, and losing one costs only
//! time, since every pod is looked at periodically anyway.
//!
//! They come from containerd's own events, which every version broadcasts; CRI's are absent in 1.6, and in 1.7 its
//! subscribers take them from each other.

use super::client::{Client, in_namespace};
use super::identity::Tag;
use berth_model::PodId;
use containerd_client::events::{ContainerCreate, ContainerUpdate, TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::types::Envelope;
use prost::Message;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// At this pod.
    Pod(PodId),
    /// At every pod: hints may have been lost.
    Everything,
}

/// Hints that wait to be taken. When there are more, they are replaced by one [`Hint::Everything`].
const QUEUE_LIMIT: usize = 256;
/// Before containerd is asked again for its events.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// Whose container is whose, of those seen lately: a bound for memory, beyond what a host runs.
const KNOWN_LIMIT: usize = 4_096;

/// Begins to listen, for ever; ends when the receiver is dropped. The first hint is [`Hint::Everything`].
pub(super) fn subscribe(client: Client) -> mpsc::Receiver<Hint> {
    let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
    tokio::spawn(async move {
        let mut listener = Listener { client, sender, known: HashMap::new(), overflowed: false };
        while !listener.sender.is_closed() {
            if let Err(status) = listener.listen().await {
                tracing::debug!(%status, "containerd's events ended");
            }
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
    });
    receiver
}

struct Listener {
    client: Client,
    sender: mpsc::Sender<Hint>,
    known: HashMap<String, PodId>,
    overflowed: bool,
}

impl Listener {
    async fn listen(&mut self) -> Result<(), tonic::Status> {
        let filters =
            ["/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/create", "/containers/update"];
        let filters = filters.map(|topic| format!("topic==\"{topic}\",namespace==\"k8s.io\""));
        let request = in_namespace(SubscribeRequest { filters: filters.into() });
        let mut stream = self.client.events().subscribe(request).await?.into_inner();
        // Whatever happened while nobody listened.
        self.tell(Hint::Everything);
        while let Some(envelope) = stream.message().await? {
            let Some(id) = container_id(&envelope) else { continue };
            if let Some(pod) = self.pod_of(&id).await {
                self.tell(Hint::Pod(pod));
            }
        }
        Ok(())
    }

    fn tell(&mut self, hint: Hint) {
        let hint = if self.overflowed { Hint::Everything } else { hint };
        // A full queue has hints enough; what it misses is made good by looking everywhere.
        self.overflowed = self.sender.try_send(hint).is_err();
    }

    async fn pod_of(&mut self, id: &str) -> Option<PodId> {
        if let Some(pod) = self.known.get(id) {
            return Some(pod.clone());
        }
        let record = self.client.find_record(id).await.ok()??;
        let pod = Tag::from_labels(record.labels())?.pod;
        if self.known.len() >= KNOWN_LIMIT {
            self.known.clear();
        }
        self.known.insert(id.to_owned(), pod.clone());
        Some(pod)
    }
}

/// The container that an event is about; none for a process that was executed in one.
fn container_id(envelope: &Envelope) -> Option<String> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/start" => Some(TaskStart::decode(bytes).ok()?.container_id),
        "/tasks/oom" => Some(TaskOom::decode(bytes).ok()?.container_id),
        "/containers/create" => Some(ContainerCreate::decode(bytes).ok()?.id),
        "/containers/update" => Some(ContainerUpdate::decode(bytes).ok()?.id),
        "/tasks/exit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            (exit.id == exit.container_id).then_some(exit.container_id)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Any;

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        let value = event.encode_to_vec();
        let event = Some(Any { type_url: String::new(), value });
        Envelope { topic: topic.to_owned(), event, ..Envelope::default() }
    }

    #[test]
    fn an_exit_counts_only_for_the_first_process() {
        let exit =
            |id: &str| TaskExit { container_id: "c".to_owned(), id: id.to_owned(), ..TaskExit::default() };
        assert_eq!(container_id(&envelope("/tasks/exit", &exit("c"))).as_deref(), Some("c"));
        assert_eq!(container_id(&envelope("/tasks/exit", &exit("exec-1"))), None);
        assert_eq!(container_id(&envelope("/images/create", &exit("c"))), None);
    }

    #[tokio::test]
    async fn lost_hints_become_one_look_everywhere() {
        let (sender, mut receiver) = mpsc::channel(1);
        let client = Client::new(std::path::Path::new("/does/not/exist"));
        let mut listener = Listener { client, sender, known: HashMap::new(), overflowed: false };
        let hint = |name: &str| Hint::Pod(PodId::new("shop", name).unwrap());
        listener.tell(hint("a"));
        listener.tell(hint("b"));
        assert_eq!(receiver.recv().await, Some(hint("a")));
        listener.tell(hint("c"));
        assert_eq!(receiver.recv().await, Some(Hint::Everything));
        listener.tell(hint("d"));
        assert_eq!(receiver.recv().await, Some(hint("d")));
    }
}
