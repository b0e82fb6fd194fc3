//! Certificates for nodes, when they join and when they renew.

use crate::clock::wall_ms;
use crate::pki::{Authority, PkiError, Validity};
use berth_model::NodeName;
use berth_tls::Identity;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Signs what nodes request.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    authority: Arc<Authority>,
    life: Duration,
}

impl Signer {
    /// Signs with `authority`, for so long each time.
    pub(crate) fn new(authority: Arc<Authority>, life: Duration) -> Self {
        Self { authority, life }
    }

    /// Who signs.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A certificate for `node` of the key of a request, PEM both, that begins no earlier than `from_ms` after the
    /// epoch.
    ///
    /// # Errors
    /// `Unavailable` when that is still to come, for the certificate would not hold yet; `InvalidArgument` for a
    /// request that is none; `Internal` when no certificate can be made.
    pub(crate) fn sign(&self, request_pem: &str, node: &NodeName, from_ms: u64) -> Result<String, Status> {
        let now_ms = wall_ms();
        if from_ms > now_ms {
            return Err(Status::unavailable(format!(
                "node {node} was revoked just now, or the control plane's clock was set back: try again in {} ms",
                from_ms - now_ms
            )));
        }
        let validity = Validity::of(self.life, Duration::from_millis(now_ms));
        let validity = validity.not_before(Duration::from_millis(from_ms));
        let signed = self.authority.sign_request(request_pem, &Identity::Node(node.clone()), validity);
        signed.map_err(|error| refusal(&error))
    }
}

fn refusal(error: &PkiError) -> Status {
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
            tracing::error!("a node's certificate cannot be made: {text}");
            Status::internal("the certificate cannot be made; the server's log says why")
        }
    }
}
