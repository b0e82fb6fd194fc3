//! Every RPC that there is, and calling it without knowing what it is about.

use prost::Message;
use prost_types::FileDescriptorSet;
use std::fmt;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// An RPC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rpc {
    /// Its service, without the package.
    pub service: String,
    /// Its name.
    pub method: String,
    package: String,
}

impl Rpc {
    /// Whether this is `service/method`.
    pub fn is(&self, name: &str) -> bool {
        self.to_string() == name
    }

    fn path(&self) -> String {
        format!("/{}.{}/{}", self.package, self.service, self.method)
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

/// All RPCs of all services, in the order of the `.proto` files.
pub fn rpcs() -> Vec<Rpc> {
    let mut found = Vec::new();
    for file in FileDescriptorSet::decode(berth_proto::DESCRIPTORS).unwrap().file {
        for service in &file.service {
            found.extend(service.method.iter().map(|method| Rpc {
                service: service.name().to_owned(),
                method: method.name().to_owned(),
                package: file.package().to_owned(),
            }));
        }
    }
    assert!(!found.is_empty());
    found
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// No connection came about, or it was cut: nobody has answered.
    NoConnection,
    /// The server's word.
    Code(Code),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection => f.write_str("·"),
            Self::Code(Code::PermissionDenied) => f.write_str("denied"),
            Self::Code(Code::Unimplemented) => f.write_str("absent"),
            Self::Code(code) => write!(f, "{code:?}"),
        }
    }
}

impl From<&Status> for Answer {
    /// A status with a source was made on this side: the connection broke, and nobody answered.
    fn from(status: &Status) -> Self {
        match std::error::Error::source(status) {
            Some(_) => Self::NoConnection,
            None => Self::Code(status.code()),
        }
    }
}

/// Calls an RPC with an empty message, which each kind of request can be, and streams of one message too.
pub async fn call(channel: Channel, rpc: &Rpc) -> Answer {
    let mut client = Grpc::new(channel);
    if client.ready().await.is_err() {
        return Answer::NoConnection;
    }
    let request = Request::new(tokio_stream::once(()));
    let codec = ProstCodec::<(), ()>::default();
    first(client.streaming(request, rpc.path().parse().unwrap(), codec).await).await
}

/// What a stream begins with: a message, or the status that ends it.
pub async fn first<T>(answered: Result<Response<Streaming<T>>, Status>) -> Answer {
    let message = match answered {
        Ok(response) => response.into_inner().message().await,
        Err(status) => return (&status).into(),
    };
    match message {
        Ok(_) => Answer::Code(Code::Ok),
        Err(status) => (&status).into(),
    }
}
