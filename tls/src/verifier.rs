//! Verifying a neighbour: first that an authority signed its certificate, for this use and this time; then who it is.

use crate::certified::Certified;
use crate::explain::explain;
use crate::fingerprint;
use crate::identity::{Holder, Identity, TrustDomain};
use crate::trust::Trust;
use std::sync::{Arc, OnceLock};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Which authority.
#[derive(Debug)]
pub(crate) enum Anchor {
    /// One that is known; and the neighbour must be of the same trust domain.
    Known(Trust),
    /// The one in the neighbour's chain whose certificate has this sha256.
    Pinned { fingerprint: [u8; 32] },
}

/// What a certificate was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// Accepts one neighbour and nobody else, whatever name or address it was dialled by.
#[derive(Debug)]
pub(crate) struct Verifier {
    anchor: Anchor,
    neighbour: Identity,
    provider: Arc<CryptoProvider>,
    seen: OnceLock<TrustDomain>,
}

/// Whether one of these authorities signed a certificate, for this use and this time.
pub(crate) fn check_chain(
    roots: &Arc<RootCertStore>,
    usage: Usage,
    certificate: &CertificateDer<'_>,
    behind: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    match usage {
        Usage::Client => clients_of(roots)?.verify_client_cert(certificate, behind, now).map(drop),
        Usage::Server => {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let algorithms = provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, behind, now, algorithms)
        }
    }
}

/// Verifies the certificates of clients.
pub(crate) fn clients_of(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider()).build();
    verifier.map_err(|error| Error::General(format!("trust the authority: {error}")))
}

impl Verifier {
    pub(crate) fn new(anchor: Anchor, neighbour: Identity) -> Self {
        Self { anchor, neighbour, provider: provider(), seen: OnceLock::new() }
    }

    /// The neighbour's trust domain, after a handshake.
    pub(crate) fn seen(&self) -> Option<TrustDomain> {
        self.seen.get().cloned()
    }

    /// Only the control plane has a certificate for servers; a node shows its one for clients whichever side it is on.
    fn usage(&self) -> Usage {
        match self.neighbour {
            Identity::Control => Usage::Server,
            Identity::Node(_) | Identity::Platform(_) => Usage::Client,
        }
    }

    fn roots(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.anchor {
            Anchor::Known(trust) => Ok(Arc::clone(&trust.roots)),
            Anchor::Pinned { fingerprint: pinned } => {
                let found = chain.iter().find(|certificate| fingerprint(certificate) == *pinned);
                let found = found.ok_or_else(|| {
                    Error::General(
                        "the server is not of the authority whose fingerprint the token carries: wrong address, \
                         wrong token, or somebody in between"
                            .to_owned(),
                    )
                })?;
                let mut roots = RootCertStore::empty();
                roots.add(found.clone().into_owned())?;
                Ok(Arc::new(roots))
            }
        }
    }

    /// The neighbour's trust domain, if it is the one that we want.
    fn recognise(&self, certificate: &CertificateDer<'_>) -> Result<TrustDomain, Error> {
        let certified = Certified::read(certificate);
        let uri = certified.as_ref().map_err(Clone::clone).and_then(|certified| certified.uri());
        let uri = uri.map_err(|error| Error::General(format!("the other side's {error}")))?;
        let stranger = || Error::General(format!("the other side is {uri}, not {}", self.wanted()));
        let Holder { domain, identity } = Holder::from_uri(uri).map_err(|_| stranger())?;
        let ours = match &self.anchor {
            Anchor::Known(trust) => domain == trust.domain,
            Anchor::Pinned { .. } => true,
        };
        if ours && identity == self.neighbour { Ok(domain) } else { Err(stranger()) }
    }

    fn wanted(&self) -> String {
        let who = match &self.neighbour {
            Identity::Control => "the control plane".to_owned(),
            Identity::Node(name) => format!("node {name}"),
            Identity::Platform(name) => format!("platform {name}"),
        };
        match &self.anchor {
            Anchor::Known(trust) => format!("{who} of trust domain {}", trust.domain),
            Anchor::Pinned { .. } => who,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(&self.roots(intermediates)?, self.usage(), end_entity, intermediates, now)
            .map_err(|error| explain(error, "the other side's", now))?;
        let domain = self.recognise(end_entity)?;
        // A second handshake of the same configuration sees the same neighbour.
        drop(self.seen.set(domain));
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
