//! `Enrollment`: a node without a certificate hands in a one-use token and gets one.
//!
//! The port is open to strangers, so everything they can send is bounded, and answers say no more than they must.

use crate::clock::wall_ms;
use crate::core::Core;
use crate::pki::{Authority, PkiError};
use crate::store::{Binding, StoreStopped, TokenRefusal};
use crate::token::Token;
use berth_model::NodeName;
use berth_proto::v1;
use berth_proto::v1::enrollment_server::Enrollment;
use berth_tls::Identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// Joins that are worked on at a time: each verifies a signature and makes one.
const CONCURRENT_JOINS: usize = 8;

/// Serves joins.
#[derive(Debug)]
pub(crate) struct EnrollService {
    core: Arc<Core>,
    authority: Arc<Authority>,
    places: Semaphore,
}

impl EnrollService {
    /// Signs with `authority`.
    pub(crate) fn new(core: Arc<Core>, authority: Arc<Authority>) -> Self {
        Self { core, authority, places: Semaphore::new(CONCURRENT_JOINS) }
    }
}

fn unavailable(stopped: StoreStopped) -> Status {
    Status::unavailable(stopped.to_string())
}

fn refused(refusal: &TokenRefusal) -> Status {
    Status::unauthenticated(refusal.to_string())
}

#[tonic::async_trait]
impl Enrollment for EnrollService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let busy = || Status::resource_exhausted("too many nodes are joining: try again in a moment");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let request = request.into_inner();
        let token =
            Token::parse(&request.token).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let node = NodeName::new(request.node)
            .map_err(|error| Status::invalid_argument(format!("node: {error}")))?;
        let identity = Identity::Node(node.clone());
        let now_ms = wall_ms();
        // Signed before the token is used up, so that a bad request does not cost a token; handed out only after.
        let certificate_pem = self
            .authority
            .sign_request(&request.certificate_request_pem, &identity, Duration::from_millis(now_ms))
            .map_err(|error| bad_request(&error))?;
        let name = node.clone();
        let known = self.core.act(move |tx| tx.nodes().contains_key(&name)).await;
        let binding = match known.map_err(unavailable)? {
            // Whoever holds just any token must not become a node that is there already.
            true => Binding::ToNode,
            false => Binding::Any,
        };
        let used = self.core.writer().use_token(token, node.to_string(), binding, now_ms).await;
        used.map_err(unavailable)?.map_err(|refusal| refused(&refusal))?;
        let name = node.clone();
        self.core.act(move |tx| tx.join(&name)).await.map_err(unavailable)?;
        tracing::info!(%node, "{node}: joined");
        Ok(Response::new(v1::JoinResponse {
            certificate_pem,
            ca_pem: self.authority.certificate_pem().to_owned(),
            trust_domain: self.authority.trust_domain().to_string(),
        }))
    }
}

fn bad_request(error: &PkiError) -> Status {
    let text = crate::error::chain(error);
    match error {
        PkiError::RequestSize(_) | PkiError::Request(_) => {
            Status::invalid_argument(format!("certificate_request_pem: {text}"))
        }
        PkiError::Exists(_)
        | PkiError::File(_)
        | PkiError::Content { .. }
        | PkiError::Identity(_)
        | PkiError::Make { .. }
        | PkiError::Random(_) => {
            tracing::error!(error = text, "a node's certificate cannot be made");
            Status::internal("the certificate cannot be made; the server's log says why")
        }
    }
}
