//! Joining: a token and a certificate request for an identity of this node.

use super::dial::{DialError, dial};
use super::durable::{FileError, write_durably};
use super::identity::PkiFiles;
use super::request::KeyRequest;
use super::token::Token;
use berth_model::NodeName;
use berth_proto::v1;
use berth_proto::v1::enrollment_client::EnrollmentClient;
use berth_tls::{Joining, Trust, TrustDomain, fingerprint};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tonic::Code;

/// How long upstream may take to sign.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What joining takes.
#[derive(Debug)]
pub struct JoinRequest {
    /// The control plane's enrollment address, `host:port`.
    pub enroll: String,
    /// The one-use token.
    pub token: Token,
    /// Who this node wants to be.
    pub node: NodeName,
    /// Where key and certificates go.
    pub files: PkiFiles,
    /// What to do with an identity that is there.
    pub existing: Existing,
}

/// What to do with an identity that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and fail.
    Keep,
    /// Replace it.
    Replace,
}

/// What joining gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Who this node is.
    pub node: NodeName,
    /// The fleet's name.
    pub trust_domain: TrustDomain,
}

/// Why this node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has an identity already.
    #[error("this node has joined already ({0} is there): `--replace` gives that identity up")]
    Exists(PathBuf),
    /// No connection.
    #[error("reach the control plane")]
    Dial(#[from] DialError),
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] tokio_rustls::rustls::Error),
    /// A key or a request could not be made.
    #[error("make a key and a certificate request")]
    Request(#[source] rcgen::Error),
    /// The control plane said no.
    #[error("the control plane refused: {0}")]
    Refused(String),
    /// It did not answer.
    #[error("the control plane did not answer the request: {0}")]
    Unanswered(String),
    /// What it answered is of no use.
    #[error("the control plane's answer is of no use: {0}")]
    Answer(String),
    /// The identity could not be stored.
    #[error("store the identity")]
    File(#[from] FileError),
}

/// Joins, and stores the identity durably. Nothing is stored unless the certificate is what was asked for.
///
/// # Errors
/// See [`JoinError`]; the token is used up only if the control plane has answered.
pub async fn join(request: &JoinRequest) -> Result<Joined, JoinError> {
    let files = &request.files;
    if request.existing == Existing::Keep && files.node().exists() {
        return Err(JoinError::Exists(files.node()));
    }
    // Before the token is used up.
    make_folder(files)?;
    let asked = KeyRequest::make().map_err(JoinError::Request)?;
    let joining = Joining::new(request.token.fingerprint());
    let channel = dial(&request.enroll, joining.client().map_err(JoinError::Tls)?).await?;
    let seen = joining.seen().ok_or_else(|| JoinError::Answer("no handshake was seen".to_owned()))?;
    let message = v1::JoinRequest {
        token: request.token.reveal().to_owned(),
        node: request.node.to_string(),
        certificate_request_pem: asked.request_pem.clone(),
    };
    let mut client = EnrollmentClient::new(channel);
    let answer = tokio::time::timeout(JOIN_TIMEOUT, client.join(message)).await;
    let answer =
        answer.map_err(|_| JoinError::Unanswered(format!("nothing in {} s", JOIN_TIMEOUT.as_secs())))?;
    let answer = answer.map_err(|status| refusal(&status))?.into_inner();
    let joined = check(&answer, request, seen, &asked)?;
    // The certificate goes last: where it is, everything is.
    write_durably(&files.authority(), answer.ca_pem.as_bytes(), 0o600)?;
    files.store_node(&answer.certificate_pem, &asked.key_pem())?;
    Ok(joined)
}

fn make_folder(files: &PkiFiles) -> Result<(), JoinError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&files.folder);
    made.map_err(FileError::wrap("make folder", &files.folder)).map_err(JoinError::File)
}

fn refusal(status: &tonic::Status) -> JoinError {
    let said = format!("{} ({:?})", status.message(), status.code());
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::ResourceExhausted => JoinError::Refused(said),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => JoinError::Unanswered(said),
    }
}

/// Whether the answer is a certificate of our key, for our name, by the authority that the token names.
fn check(
    answer: &v1::JoinResponse,
    request: &JoinRequest,
    seen: TrustDomain,
    asked: &KeyRequest,
) -> Result<Joined, JoinError> {
    let useless = |why: &str| JoinError::Answer(why.to_owned());
    let authority = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes());
    let authority = authority.map_err(|_| useless("it holds no authority's certificate"))?;
    if fingerprint(&authority) != request.token.fingerprint() {
        return Err(useless("its authority is not the one that the token names"));
    }
    if seen.to_string() != answer.trust_domain {
        return Err(useless(&format!(
            "it is of trust domain {:?}, its sender of {seen}",
            answer.trust_domain
        )));
    }
    let trust = Trust::new(&[authority], seen.clone()).map_err(JoinError::Tls)?;
    asked.check(&answer.certificate_pem, &request.node, &trust).map_err(JoinError::Answer)?;
    Ok(Joined { node: request.node.clone(), trust_domain: seen })
}
