//! Whom we trust: only the authority that signed us (or, when joining, the one whose fingerprint the token carries),
//! and of what it signed only the control plane. TLS 1.3 and nothing else.

use super::identity::{NodeIdentity, split_uri, uri_of};
use crate::report::chain;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What HTTP/2 calls itself in the handshake.
const ALPN: &[u8] = b"h2";

/// Which authority.
#[derive(Debug)]
enum Anchor {
    /// This one; and its certificates must be of this trust domain.
    Known { authority: CertificateDer<'static>, trust_domain: String },
    /// The one in the server's chain whose certificate has this sha256.
    Pinned { fingerprint: [u8; 32] },
}

/// Accepts the control plane and nobody else, whatever name or address it was dialled by.
#[derive(Debug)]
pub(super) struct ControlVerifier {
    anchor: Anchor,
    provider: Arc<CryptoProvider>,
    seen: OnceLock<Seen>,
}

/// Who the server turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) authority: CertificateDer<'static>,
    pub(super) trust_domain: String,
}

/// For the link: we show our certificate, and expect the control plane of our own trust domain.
pub(super) fn link_config(identity: &NodeIdentity) -> Result<ClientConfig, Error> {
    let verifier = ControlVerifier::new(Anchor::Known {
        authority: identity.authority.clone(),
        trust_domain: identity.trust_domain.clone(),
    });
    let builder = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config =
        builder.with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    Ok(with_alpn(config))
}

/// For joining: we have no certificate yet, and expect the control plane of the pinned authority.
pub(super) fn join_config(fingerprint: [u8; 32]) -> Result<(ClientConfig, Arc<ControlVerifier>), Error> {
    let verifier = Arc::new(ControlVerifier::new(Anchor::Pinned { fingerprint }));
    let config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    Ok((with_alpn(config), verifier))
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// sha256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

impl ControlVerifier {
    fn new(anchor: Anchor) -> Self {
        Self { anchor, provider: Arc::new(aws_lc_rs::default_provider()), seen: OnceLock::new() }
    }

    /// Who the server was, after a handshake.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.get().cloned()
    }

    /// The authority's certificate.
    fn authority<'a>(&'a self, chain: &'a [CertificateDer<'_>]) -> Result<CertificateDer<'static>, Error> {
        match &self.anchor {
            Anchor::Known { authority, .. } => Ok(authority.clone()),
            Anchor::Pinned { fingerprint: pinned } => {
                let found = chain.iter().find(|certificate| fingerprint(certificate) == *pinned);
                found.map(|certificate| certificate.clone().into_owned()).ok_or_else(|| {
                    Error::General(
                        "the server is not of the authority whose fingerprint the token carries: wrong address, \
                         wrong token, or somebody in between"
                            .to_owned(),
                    )
                })
            }
        }
    }

    /// The trust domain of the control plane that `certificate` names.
    fn control_of(&self, certificate: &CertificateDer<'_>) -> Result<String, Error> {
        let uri = uri_of(certificate).map_err(|error| Error::General(chain(&error)))?;
        let stranger =
            || Error::General(format!("the server is {uri}, not the control plane of our trust domain"));
        let (domain, path) = split_uri(&uri).ok_or_else(stranger)?;
        let ours = match &self.anchor {
            Anchor::Known { trust_domain, .. } => domain == trust_domain,
            Anchor::Pinned { .. } => true,
        };
        if ours && path == "control" { Ok(domain.to_owned()) } else { Err(stranger()) }
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.authority(intermediates)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)
            .map_err(|error| explain(error, now))?;
        let trust_domain = self.control_of(end_entity)?;
        // A second handshake of the same configuration sees the same authority.
        drop(self.seen.set(Seen { authority, trust_domain }));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate of another time is mostly a clock of another time.
fn explain(error: Error, now: UnixTime) -> Error {
    let clock = |when: &str| {
        Error::General(format!(
            "the server's certificate {when}: this host's clock says {}, is it right?",
            date(Duration::from_secs(now.as_secs()))
        ))
    };
    match &error {
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => clock("is not valid yet"),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            clock("has expired")
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Error::General("the server's certificate is not signed by our authority".to_owned())
        }
        // Another crate's enumeration, which may grow.
        _ => error,
    }
}

fn date(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    match x509_parser::time::ASN1Time::from_timestamp(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds} s after the epoch"),
    }
}
