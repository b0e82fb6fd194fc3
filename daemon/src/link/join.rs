//! Joining: a token and a certificate request for an identity of this node.

use super::dial::{DialError, dial};
use super::durable::{FileError, write_durably};
use super::identity::{IdentityError, PkiFiles, node_of, uri_of};
use super::tls::{Seen, fingerprint, join_config};
use super::token::Token;
use berth_model::NodeName;
use berth_proto::v1;
use berth_proto::v1::enrollment_client::EnrollmentClient;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, crypto::aws_lc_rs};
use tonic::Code;
use x509_parser::prelude::{FromDer, X509Certificate};

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
    pub trust_domain: String,
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
    if request.existing == Existing::Keep && files.certificate().exists() {
        return Err(JoinError::Exists(files.certificate()));
    }
    // Before the token is used up.
    make_folder(files)?;
    let key = KeyPair::generate().map_err(JoinError::Request)?;
    let params = CertificateParams::new(Vec::new()).map_err(JoinError::Request)?;
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(JoinError::Request)?;
    let (config, verifier) = join_config(request.token.fingerprint()).map_err(JoinError::Tls)?;
    let channel = dial(&request.enroll, config).await?;
    let seen = verifier.seen().ok_or_else(|| JoinError::Answer("no handshake was seen".to_owned()))?;
    let message = v1::JoinRequest {
        token: request.token.reveal().to_owned(),
        node: request.node.to_string(),
        certificate_request_pem: csr,
    };
    let mut client = EnrollmentClient::new(channel);
    let answer = tokio::time::timeout(JOIN_TIMEOUT, client.join(message)).await;
    let answer =
        answer.map_err(|_| JoinError::Unanswered(format!("nothing in {} s", JOIN_TIMEOUT.as_secs())))?;
    let answer = answer.map_err(|status| refusal(&status))?.into_inner();
    let joined = check(&answer, request, &seen, &key)?;
    // The certificate goes last: where it is, everything is.
    write_durably(&files.authority(), answer.ca_pem.as_bytes(), 0o600)?;
    write_durably(&files.key(), key.serialize_pem().as_bytes(), 0o600)?;
    write_durably(&files.certificate(), answer.certificate_pem.as_bytes(), 0o600)?;
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
    seen: &Seen,
    key: &KeyPair,
) -> Result<Joined, JoinError> {
    let useless = |why: &str| JoinError::Answer(why.to_owned());
    let pem = |pem: &str, what: &str| {
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| useless(&format!("it holds no {what}")))
    };
    let authority = pem(&answer.ca_pem, "authority's certificate")?;
    let certificate = pem(&answer.certificate_pem, "certificate")?;
    if fingerprint(&authority) != request.token.fingerprint() || authority != seen.authority {
        return Err(useless("its authority is not the one that the token names"));
    }
    signed_by(&certificate, &authority)?;
    let (_, parsed) =
        X509Certificate::from_der(&certificate).map_err(|_| useless("the certificate is malformed"))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(useless("the certificate is of another key"));
    }
    let named = |error: IdentityError| JoinError::Answer(error.to_string());
    let uri = uri_of(&certificate).map_err(named)?;
    let (trust_domain, node) = node_of(&uri).map_err(named)?;
    if node != request.node || trust_domain != seen.trust_domain || trust_domain != answer.trust_domain {
        return Err(useless(&format!("the certificate is for {uri}")));
    }
    Ok(Joined { node, trust_domain })
}

/// As the control plane itself will check it when we dial.
fn signed_by(certificate: &CertificateDer<'_>, authority: &CertificateDer<'static>) -> Result<(), JoinError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(JoinError::Tls)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| JoinError::Answer(error.to_string()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let verified = verifier.verify_client_cert(certificate, &[], UnixTime::since_unix_epoch(now));
    verified.map(drop).map_err(|error| {
        JoinError::Answer(format!(
            "the certificate does not hold here ({error}): is this host's clock right?"
        ))
    })
}
