//! Whom we trust, what we show of ourselves, and the configurations that follow.

use crate::certified::Certified;
use crate::explain::explain;
use crate::identity::{Identity, IdentityError, TrustDomain};
use crate::verifier::{Anchor, Usage, Verifier, check_chain, clients_of, provider};
use std::sync::Arc;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    ClientConfig, CommonState, ConfigBuilder, Error, RootCertStore, ServerConfig, WantsVerifier,
};

/// What HTTP/2 calls itself in the handshake.
const ALPN: &[u8] = b"h2";

/// What we show of ourselves.
#[derive(Debug)]
pub struct Credential {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credential {
    /// Our certificate, whatever is to be shown behind it, and our certificate's key.
    pub fn new(certificates: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { certificates, key }
    }
}

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub identity: Identity,
    /// When the certificate begins that it has shown, milliseconds after the epoch.
    pub begins_at_ms: u64,
}

/// Whom we trust: what these authorities have signed, for this trust domain.
#[derive(Debug, Clone)]
pub struct Trust {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) domain: TrustDomain,
}

impl Trust {
    /// Trusts these authorities.
    ///
    /// # Errors
    /// When one of them is no certificate.
    pub fn new(authorities: &[CertificateDer<'static>], domain: TrustDomain) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        Ok(Self { roots: Arc::new(roots), domain })
    }

    /// The name that the fleet's certificates share.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// For serving whoever shows a certificate that our authorities have signed. Who that is tells
    /// [`Trust::neighbour`], which must be asked: a certificate may be of another trust domain.
    ///
    /// # Errors
    /// When the credential cannot be used.
    pub fn server(&self, own: &Credential) -> Result<ServerConfig, Error> {
        let config = server_builder()?.with_client_cert_verifier(clients_of(&self.roots)?);
        let config = config.with_single_cert(own.certificates.clone(), own.key.clone_key())?;
        Ok(with_server_alpn(config))
    }

    /// For dialling this one neighbour, by whatever name or address.
    ///
    /// # Errors
    /// When the credential cannot be used.
    pub fn client(&self, own: &Credential, neighbour: Identity) -> Result<ClientConfig, Error> {
        let verifier = Verifier::new(Anchor::Known(self.clone()), neighbour);
        let config = client_builder(Arc::new(verifier))?;
        let config = config.with_client_auth_cert(own.certificates.clone(), own.key.clone_key())?;
        Ok(with_client_alpn(config))
    }

    /// Who is behind a connection that [`Trust::server`] has let in.
    ///
    /// # Errors
    /// When there is no certificate, or it carries no identity of our trust domain, or more than one.
    pub fn neighbour(&self, connection: &CommonState) -> Result<Neighbour, IdentityError> {
        let certificates = connection.peer_certificates().unwrap_or_default();
        let certified = Certified::read(certificates.first().ok_or(IdentityError::NoCertificate)?)?;
        let identity = Identity::from_uri(certified.uri()?, &self.domain)?;
        Ok(Neighbour { identity, begins_at_ms: certified.begins_at_ms })
    }

    /// Whether a server of ours would let this client's certificate in at this time, as far as its signature goes.
    ///
    /// # Errors
    /// When it would not.
    pub fn check_client(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        check_chain(&self.roots, Usage::Client, certificate, &[], now)
            .map_err(|error| explain(error, "the", now))
    }
}

/// For serving anyone, without asking who it is.
///
/// # Errors
/// When the credential cannot be used.
pub fn serve_anyone(own: &Credential) -> Result<ServerConfig, Error> {
    let config = server_builder()?.with_no_client_auth();
    let config = config.with_single_cert(own.certificates.clone(), own.key.clone_key())?;
    Ok(with_server_alpn(config))
}

/// Dialling a control plane of which nothing is known but its authority's fingerprint, by a node without a certificate.
#[derive(Debug)]
pub struct Joining(Arc<Verifier>);

impl Joining {
    /// Trusts the authority whose certificate has this sha256.
    pub fn new(fingerprint: [u8; 32]) -> Self {
        Self(Arc::new(Verifier::new(Anchor::Pinned { fingerprint }, Identity::Control)))
    }

    /// For dialling it.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let verifier: Arc<Verifier> = Arc::clone(&self.0);
        Ok(with_client_alpn(client_builder(verifier)?.with_no_client_auth()))
    }

    /// The control plane's trust domain, after a handshake.
    pub fn seen(&self) -> Option<TrustDomain> {
        self.0.seen()
    }
}

fn server_builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, Error> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])
}

fn client_builder(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn with_server_alpn(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

fn with_client_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}
