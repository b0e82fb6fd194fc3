//! One call to `berthd` over its Unix socket, with a deadline that includes connecting.

use crate::environment::{Attachment, AttachmentKey};
use crate::error::chain;
use berth_model::AddressGrant;
use berth_proto::InvalidMessage;
use berth_proto::v1::ipam_client::IpamClient;
use berth_proto::v1::{
    self, AttachRequest, AttachResponse, CheckReadyRequest, CollectRequest, DetachRequest,
};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tower::service_fn;

/// For ADD: `berthd` may probe the address for a second owner meanwhile, which takes seconds (RFC 5227 has up to six),
/// or be away. The runtime waits for minutes.
const ATTACH: Patience = Patience { answer_ms: 10_000, absence_ms: 20_000 };
/// For everything else, which `berthd` answers at once. DEL goes on without an answer, so it had better not wait long;
/// but what nobody heard has to be found out later, so a restart of `berthd` is waited for.
const ASK: Patience = Patience { answer_ms: 2_000, absence_ms: 10_000 };
/// For STATUS, which is about this instant.
const NOW: Patience = Patience { answer_ms: 2_000, absence_ms: 0 };
/// How long to wait before asking again. A restart takes tenths of seconds, and a look at a socket microseconds.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How long to wait for `berthd`.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For one answer, connecting included.
    answer_ms: u64,
    /// For a `berthd` that is not there, or went away in the middle: it is being restarted or upgraded, most likely.
    /// Everything that is asked may be asked twice.
    absence_ms: u64,
}

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens.
    #[error("cannot connect to berthd at {}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    /// Somebody listens who does not speak gRPC.
    #[error("cannot speak to berthd at {}", socket.display())]
    Handshake { socket: PathBuf, source: tonic::transport::Error },
    /// Somebody listens and says nothing.
    #[error("berthd at {} did not answer within {timeout_ms} ms", socket.display())]
    Timeout { socket: PathBuf, timeout_ms: u64 },
    /// `berthd` went away in the middle, as when it is being upgraded.
    #[error("lost berthd at {} before its answer: {why}", socket.display())]
    Lost { socket: PathBuf, why: String },
    /// `berthd` said no. Its whole text is for people; what kind of no it is, the code tells.
    #[error("berthd answered {code:?}: {message}")]
    Status { code: Code, message: String },
    /// `berthd` granted something that is no address.
    #[error("berthd's answer is of no use")]
    Answer(#[source] InvalidMessage),
}

/// What a failed call means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// `berthd` is not there, not ready or overloaded: the same question may be answered later.
    Absent,
    /// What was asked about is not known.
    Unknown,
    /// It is known, and the answer is no.
    Refused,
    /// The two sides do not understand each other.
    Confused,
}

impl CallError {
    pub(crate) fn meaning(&self) -> Meaning {
        match self {
            Self::Connect { .. } | Self::Handshake { .. } | Self::Timeout { .. } | Self::Lost { .. } => {
                Meaning::Absent
            }
            Self::Status { code, .. } => meaning_of(*code),
            Self::Answer(_) => Meaning::Confused,
        }
    }

    /// Whether nobody was there to answer. A `berthd` that is there and slow is not asked again: it is slow enough.
    fn is_absence(&self) -> bool {
        match self {
            Self::Connect { source, socket } => {
                use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
                // systemd keeps the socket's directory over a restart: without one there is no berthd to wait for.
                if source.kind() == NotFound && !socket.parent().is_some_and(Path::exists) {
                    return false;
                }
                // Not made yet; left behind; gone while we stood in its queue; a queue that is full.
                matches!(source.kind(), NotFound | ConnectionRefused | ConnectionReset | WouldBlock)
            }
            Self::Handshake { .. } | Self::Lost { .. } => true,
            Self::Timeout { .. } | Self::Status { .. } | Self::Answer(_) => false,
        }
    }

    /// The whole story, in one line.
    pub(crate) fn story(&self) -> String {
        chain(self)
    }
}

fn meaning_of(code: Code) -> Meaning {
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Cancelled => Meaning::Absent,
        Code::NotFound => Meaning::Unknown,
        Code::FailedPrecondition | Code::AlreadyExists | Code::PermissionDenied | Code::Unauthenticated => {
            Meaning::Refused
        }
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Meaning::Confused,
    }
}

/// `berthd`, by the socket that it listens on.
pub(crate) struct Daemon<'a> {
    socket: &'a Path,
}

impl<'a> Daemon<'a> {
    pub(crate) fn at(socket: &'a Path) -> Self {
        Self { socket }
    }

    /// Records the attachment, and gives the addresses granted to its pod.
    pub(crate) async fn attach(
        &self,
        network: String,
        attachment: Attachment,
    ) -> Result<Vec<AddressGrant>, CallError> {
        let question = AttachRequest { network, ..question(attachment) };
        let attach = async |mut ipam: IpamClient<Channel>| ipam.attach(question.clone()).await;
        grants_of(self.call(ATTACH, attach).await?)
    }

    /// The addresses granted to the pod of a recorded attachment.
    pub(crate) async fn check(&self, attachment: Attachment) -> Result<Vec<AddressGrant>, CallError> {
        let question = question(attachment);
        let check = async |mut ipam: IpamClient<Channel>| ipam.check_attachment(question.clone()).await;
        grants_of(self.call(ASK, check).await?)
    }

    /// Reports an attachment gone.
    pub(crate) async fn detach(&self, key: AttachmentKey) -> Result<(), CallError> {
        let AttachmentKey { sandbox_id, interface } = key;
        let request = DetachRequest { sandbox_id, interface };
        let detach = async |mut ipam: IpamClient<Channel>| ipam.detach(request.clone()).await;
        self.call(ASK, detach).await.map(drop)
    }

    /// Reports every attachment to a network gone but these.
    pub(crate) async fn collect(&self, network: String, valid: Vec<AttachmentKey>) -> Result<(), CallError> {
        let valid = valid.into_iter();
        let valid =
            valid.map(|AttachmentKey { sandbox_id, interface }| v1::Attachment { sandbox_id, interface });
        let request = CollectRequest { network, valid: valid.collect() };
        let collect = async |mut ipam: IpamClient<Channel>| ipam.collect(request.clone()).await;
        self.call(ASK, collect).await.map(drop)
    }

    /// Asks whether attachments can be served.
    pub(crate) async fn check_ready(&self) -> Result<(), CallError> {
        let ready = async |mut ipam: IpamClient<Channel>| ipam.check_ready(CheckReadyRequest {}).await;
        self.call(NOW, ready).await.map(drop)
    }

    /// Asks until there is an answer, or patience with an absent `berthd` has run out.
    async fn call<T>(
        &self,
        patience: Patience,
        ask: impl AsyncFn(IpamClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        loop {
            let error = match self.ask_once(patience, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !error.is_absence() || begun.elapsed() >= Duration::from_millis(patience.absence_ms) {
                return Err(error);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn ask_once<T>(
        &self,
        patience: Patience,
        ask: &impl AsyncFn(IpamClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let exchange = async {
            let ipam = IpamClient::new(self.connect().await?);
            let answer = ask(ipam).await.map_err(|status| self.failed(&status))?;
            Ok(answer.into_inner())
        };
        let timeout_ms = patience.answer_ms;
        let timeout = || CallError::Timeout { socket: self.socket.to_owned(), timeout_ms };
        let exchange = tokio::time::timeout(Duration::from_millis(timeout_ms), exchange);
        exchange.await.unwrap_or_else(|_| Err(timeout()))
    }

    fn failed(&self, status: &Status) -> CallError {
        // Only what went wrong on this side of the wire has a source; the code is then a guess of the library's.
        match status.source() {
            Some(source) => CallError::Lost { socket: self.socket.to_owned(), why: chain(source) },
            None => CallError::Status { code: status.code(), message: status.message().to_owned() },
        }
    }

    async fn connect(&self) -> Result<Channel, CallError> {
        // Connected here, since the channel would bury the reason in its own words.
        let stream = UnixStream::connect(self.socket).await;
        let stream =
            stream.map_err(|source| CallError::Connect { socket: self.socket.to_owned(), source })?;
        let mut stream = Some(TokioIo::new(stream));
        // One call, one connection: a second one would outlive the first one's question.
        let connector = service_fn(move |_| {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
            std::future::ready(stream.map_err(io::Error::from))
        });
        // The address only fills the `:authority` of requests.
        let endpoint = Endpoint::from_static("http://berthd");
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| CallError::Handshake { socket: self.socket.to_owned(), source })
    }
}

fn question(attachment: Attachment) -> AttachRequest {
    let Attachment { key, netns, pod } = attachment;
    AttachRequest {
        sandbox_id: key.sandbox_id,
        interface: key.interface,
        netns,
        pod: Some((&pod.pod).into()),
        pod_uid: pod.uid,
        network: String::new(),
    }
}

fn grants_of(answer: AttachResponse) -> Result<Vec<AddressGrant>, CallError> {
    if answer.grants.is_empty() {
        return Err(CallError::Answer(InvalidMessage::missing("grants")));
    }
    let grants = answer.grants.into_iter().map(AddressGrant::try_from);
    grants.collect::<Result<_, _>>().map_err(CallError::Answer)
}
