//! One socket to containerd, for CRI and for containerd's own services, and a time limit for every call.

use super::RuntimeError;
use super::error::{Call, refused, transient};
use crate::crash_point::Deed;
use containerd_client::services::v1 as ctr;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// Looking: containerd answers from its own store.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Changing a record.
pub(super) const RECORD_TIMEOUT: Duration = Duration::from_secs(30);
/// Making a sandbox, a container or a task: programs run, disks are mounted; slow machines take ten seconds.
pub(super) const MAKE_TIMEOUT: Duration = Duration::from_secs(240);
/// Stopping or removing, beyond any grace: kernel and shim must let go.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(180);
/// A pull; the order's own deadline is usually nearer. A stalled registry must not hold a pull's place for ever.
pub(super) const PULL_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The largest answer that is read: what containerd's CRI itself allows (16 MiB).
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The containerd namespace in which CRI keeps everything.
const NAMESPACE: &str = "k8s.io";

/// Clients for everything that is asked of containerd. Cloning is cheap; the connection is made when it is needed,
/// and made again when containerd has restarted.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    /// Will talk to this socket. Nothing is connected yet.
    pub(super) fn new(socket: &Path) -> Self {
        let socket = socket.to_owned();
        // The address is a formality: the connector goes to the socket.
        let channel = Endpoint::from_static("http://containerd.invalid").connect_with_connector_lazy(
            tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }),
        );
        Self { channel }
    }

    pub(super) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn cri_images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn containers(&self) -> ctr::containers_client::ContainersClient<Channel> {
        ctr::containers_client::ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn tasks(&self) -> ctr::tasks_client::TasksClient<Channel> {
        ctr::tasks_client::TasksClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn images(&self) -> ctr::images_client::ImagesClient<Channel> {
        ctr::images_client::ImagesClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn content(&self) -> ctr::content_client::ContentClient<Channel> {
        ctr::content_client::ContentClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(super) fn leases(&self) -> ctr::leases_client::LeasesClient<Channel> {
        ctr::leases_client::LeasesClient::new(self.channel.clone())
    }

    pub(super) fn events(&self) -> ctr::events_client::EventsClient<Channel> {
        ctr::events_client::EventsClient::new(self.channel.clone())
    }
}

/// A request in CRI's namespace.
pub(super) fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let namespace = MetadataValue::from_static(NAMESPACE);
    request.metadata_mut().insert("containerd-namespace", namespace);
    request
}

/// One call: what is tried, for whom to blame, and how long it may take.
pub(super) struct Attempted {
    pub(super) what: String,
    pub(super) call: Call,
    pub(super) timeout: Duration,
    /// What it does; nothing if it only looks.
    pub(super) deed: Option<Deed>,
}

impl Attempted {
    pub(super) fn look(what: impl Into<String>) -> Self {
        Self { what: what.into(), call: Call::Plain, timeout: LOOK_TIMEOUT, deed: None }
    }

    pub(super) fn record(deed: Deed, what: impl Into<String>) -> Self {
        Self { what: what.into(), call: Call::Plain, timeout: RECORD_TIMEOUT, deed: Some(deed) }
    }

    /// Waits for the answer, or gives up in time.
    pub(super) fn run<T>(
        self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> impl Future<Output = Result<T, RuntimeError>> {
        // Requests are large, and every caller up to the pod's task would carry room for one.
        let answer = Box::pin(answer);
        async move {
            let in_time = tokio::time::timeout(self.timeout, answer);
            let answered = match self.deed {
                Some(deed) => deed.between(in_time).await,
                None => in_time.await,
            };
            match answered {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(refused(self.what, self.call, &status)),
                Err(_) => Err(transient(self.what, format!("no answer in {} s", self.timeout.as_secs()))),
            }
        }
    }

    /// As [`Attempted::run`], and an absence is an answer.
    pub(super) fn find<T>(
        self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> impl Future<Output = Result<Option<T>, RuntimeError>> {
        let absent_is_none = async {
            match answer.await {
                Ok(response) => Ok(Response::new(Some(response.into_inner()))),
                Err(status) if status.code() == tonic::Code::NotFound => Ok(Response::new(None)),
                Err(status) => Err(status),
            }
        };
        self.run(absent_is_none)
    }
}
