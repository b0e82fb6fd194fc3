//! `Enrollment`: a node without a certificate hands in a one-use token and gets one.
//!
//! The port is open to strangers, so everything they can send is bounded, and answers say no more than they must.

use crate::clock::wall_ms;
use crate::core::Core;
use crate::signer::Signer;
use crate::store::{Binding, StoreStopped, TokenRefusal};
use crate::token::Token;
use berth_model::NodeName;
use berth_proto::v1;
use berth_proto::v1::enrollment_server::Enrollment;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// Joins that are worked on at a time: each verifies a signature and makes one.
const CONCURRENT_JOINS: usize = 8;

/// Serves joins.
#[derive(Debug)]
pub(crate) struct EnrollService {
    core: Arc<Core>,
    signer: Signer,
    places: Semaphore,
}

impl EnrollService {
    /// Serves what `signer` signs.
    pub(crate) fn new(core: Arc<Core>, signer: Signer) -> Self {
        Self { core, signer, places: Semaphore::new(CONCURRENT_JOINS) }
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
        let name = node.clone();
        let known =
            self.core.act(move |tx| (tx.nodes().contains_key(&name), tx.certificates_from_ms(&name))).await;
        let (is_known, from_ms) = known.map_err(unavailable)?;
        // Signed before the token is used up, so that a bad request does not cost a token; handed out only after.
        let certificate_pem = self.signer.sign(&request.certificate_request_pem, &node, from_ms)?;
        let binding = match is_known {
            // Whoever holds just any token must not become a node that is there already.
            true => Binding::ToNode,
            false => Binding::Any,
        };
        let used = self.core.writer().use_token(token, node.to_string(), binding, wall_ms()).await;
        used.map_err(unavailable)?.map_err(|refusal| refused(&refusal))?;
        let name = node.clone();
        self.core.act(move |tx| tx.join(&name)).await.map_err(unavailable)?;
        tracing::info!(%node, "{node}: joined");
        Ok(Response::new(v1::JoinResponse {
            certificate_pem,
            ca_pem: self.signer.authority().certificate_pem().to_owned(),
            trust_domain: self.signer.authority().trust_domain().to_string(),
        }))
    }
}
