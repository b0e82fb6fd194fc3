//! Hints that something may have changed. Listing is the truth: a hint says where to list, and losing one costs only
//! time, since every pod is looked at periodically anyway. That a container has ended is said by its event itself, and is
//! told upstream before the look that finds out the rest.
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
    /// At this pod, of which a container has just ended.
    Exited(PodId, Exit),
    /// At every pod: hints may have been lost.
    Everything,
}

/// What an end is called of which nobody says why.
pub const UNSAID: &str = "Unknown";

/// The end of a container's first process, as containerd tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The runtime's id of the container.
    pub id: String,
    /// Exit code; 128 + n for signal n.
    pub code: i32,
    /// When, nanoseconds after the epoch.
    pub finished_at_ns: u64,
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
            let Some(news) = News::of(&envelope) else { continue };
            if let Some(pod) = self.pod_of(news.id()).await {
                self.tell(match news {
                    News::Changed(_) => Hint::Pod(pod),
                    News::Exited(exit) => Hint::Exited(pod, exit),
                });
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

/// What an event says of a container.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Something of it is different.
    Changed(String),
    /// It has ended.
    Exited(Exit),
}

impl News {
    /// None for what is not about a container, and for a process that was executed in one.
    fn of(envelope: &Envelope) -> Option<Self> {
        let bytes = envelope.event.as_ref()?.value.as_slice();
        Some(match envelope.topic.as_str() {
            "/tasks/start" => Self::Changed(TaskStart::decode(bytes).ok()?.container_id),
            "/tasks/oom" => Self::Changed(TaskOom::decode(bytes).ok()?.container_id),
            "/containers/create" => Self::Changed(ContainerCreate::decode(bytes).ok()?.id),
            "/containers/update" => Self::Changed(ContainerUpdate::decode(bytes).ok()?.id),
            "/tasks/exit" => Self::Exited(exit(TaskExit::decode(bytes).ok()?)?),
            _ => return None,
        })
    }

    fn id(&self) -> &str {
        match self {
            Self::Changed(id) | Self::Exited(Exit { id, .. }) => id,
        }
    }
}

fn exit(event: TaskExit) -> Option<Exit> {
    let at = event.exited_at.unwrap_or_default();
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    let finished_at_ns =
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(at.nanos).unwrap_or(0));
    let code = i32::try_from(event.exit_status).unwrap_or(i32::MAX);
    (event.id == event.container_id).then_some(Exit { id: event.container_id, code, finished_at_ns })
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
        let exit = |id: &str| TaskExit {
            container_id: "c".to_owned(),
            id: id.to_owned(),
            exit_status: 137,
            exited_at: Some(prost_types::Timestamp { seconds: 5, nanos: 7 }),
            ..TaskExit::default()
        };
        let expected = Exit { id: "c".to_owned(), code: 137, finished_at_ns: 5_000_000_007 };
        assert_eq!(News::of(&envelope("/tasks/exit", &exit("c"))), Some(News::Exited(expected)));
        assert_eq!(News::of(&envelope("/tasks/exit", &exit("exec-1"))), None);
        assert_eq!(News::of(&envelope("/images/create", &exit("c"))), None);
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
