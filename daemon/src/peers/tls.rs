//! Mutual TLS between nodes. A node's certificate is one for clients: whichever side shows it, it is verified as such.

use crate::link::{NodeIdentity, node_of, uri_of};
use crate::report::chain;
use berth_model::NodeName;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};

/// What HTTP/2 calls itself in the handshake.
const ALPN: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Whom our authority has signed.
fn verifier(identity: &NodeIdentity) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority.clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    verifier.map_err(|error| Error::General(format!("trust the authority: {error}")))
}

/// For serving: whoever connects shows a certificate of our authority.
pub(super) fn server(identity: &NodeIdentity) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier(identity)?)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For fetching from this one peer, whatever address it was dialled by.
pub(super) fn client(identity: &NodeIdentity, peer: &NodeName) -> Result<ClientConfig, Error> {
    let verifier = PeerVerifier {
        signed: verifier(identity)?,
        provider: provider(),
        trust_domain: identity.trust_domain.clone(),
        peer: peer.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The node of our trust domain that a certificate names.
pub(super) fn node_behind(certificate: &CertificateDer<'_>, trust_domain: &str) -> Result<NodeName, String> {
    let uri = uri_of(certificate).map_err(|error| chain(&error))?;
    let (domain, node) = node_of(&uri).map_err(|error| chain(&error))?;
    match domain == trust_domain {
        true => Ok(node),
        false => Err(format!("{uri} is of another trust domain than ours, {trust_domain}")),
    }
}

/// Accepts one node and nobody else.
#[derive(Debug)]
struct PeerVerifier {
    signed: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    trust_domain: String,
    peer: NodeName,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.signed.verify_client_cert(end_entity, intermediates, now)?;
        let found = node_behind(end_entity, &self.trust_domain).map_err(Error::General)?;
        match found == self.peer {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(format!("this is node {found}, not node {}", self.peer))),
        }
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
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
