//! Mutual TLS with the control plane.
//!
//! The control plane is known by its identity, `spiffe://<trust domain>/control`, not by a DNS name: it may move, and
//! whoever can answer for a name is not thereby the control plane. So its certificate must come from our authority and
//! carry exactly that URI, in the trust domain that our own certificate is of. TLS 1.3 only.

use crate::config::Connection;
use crate::failure::{Failure, Result, chain};
use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Speaks TLS with the control plane.
#[derive(Clone)]
pub(crate) struct ControlTls {
    connector: TlsConnector,
}

impl ControlTls {
    /// Reads the three files.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub(crate) fn load(connection: &Connection) -> Result<Self> {
        let certificates = read_certificates(&connection.cert)?;
        let key = PrivateKeyDer::from_pem_file(&connection.key)
            .map_err(|error| unusable("private key", &connection.key, &error))?;
        let mut roots = RootCertStore::empty();
        for authority in read_certificates(&connection.ca)? {
            roots
                .add(authority)
                .map_err(|error| unusable("certificate authority", &connection.ca, &error))?;
        }
        let control = control_uri(&certificates[0], &connection.cert)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ControlVerifier::new(roots, control, &provider);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable("TLS", &connection.cert, &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(certificates, key)
            .map_err(|error| unusable("certificate with this private key", &connection.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands on a stream to `server`, which is `host:port`, and waits until the other side has accepted us:
    /// in TLS 1.3 a client learns only after its own handshake that its certificate was refused, and an HTTP/2 server
    /// speaks first (RFC 9113, section 3.4).
    ///
    /// # Errors
    /// Whatever rustls finds wrong with the other side, or the other side with us.
    pub(crate) async fn handshake(
        &self,
        server: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut stream = self.connector.connect(name, stream).await?;
        if stream.fill_buf().await?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(stream)
    }
}

/// What TLS says, where an error comes from it.
pub(crate) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The source of an I/O error is that of the error inside, not the error inside.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inside.and_then(|inside| inside.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn unusable(what: &str, path: &Path, error: &dyn StdError) -> Failure {
    Failure::usage(format!("cannot use {what} {}: {}", path.display(), chain(error))).remedy(
        "berth-control writes ca, certificate and key of a platform together: use the three as they came",
    )
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unusable("certificate", path, &error))?;
    if certificates.is_empty() {
        return Err(Failure::usage(format!("{} holds no PEM certificate", path.display())));
    }
    Ok(certificates)
}

fn uris(certificate_der: &[u8]) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map_or([].as_slice(), |names| &names.value.general_names);
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        // Other kinds of names say nothing about identity here.
        _ => None,
    };
    Some(names.iter().filter_map(uri).collect())
}

/// The control plane's identity in the trust domain of our own certificate.
fn control_uri(own: &CertificateDer<'_>, path: &Path) -> Result<String> {
    let uris = uris(own).unwrap_or_default();
    let domain = match uris.as_slice() {
        [uri] => uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/platform/")),
        _ => None,
    };
    let (domain, _) = domain.filter(|(domain, _)| !domain.is_empty()).ok_or_else(|| {
        Failure::usage(format!("{} is no platform's certificate (its URIs: {uris:?})", path.display()))
            .remedy("a platform's certificate carries spiffe://<trust domain>/platform/<name>; berth-control issues it")
    })?;
    Ok(format!("spiffe://{domain}/control"))
}

/// Checks the chain, and then who it is for.
#[derive(Debug)]
struct ControlVerifier {
    roots: RootCertStore,
    control: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ControlVerifier {
    fn new(roots: RootCertStore, control: String, provider: &CryptoProvider) -> Self {
        Self { roots, control, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let uris = uris(end_entity).ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        if uris == [self.control.as_str()] {
            return Ok(ServerCertVerified::assertion());
        }
        Err(TlsError::General(format!("the server is {uris:?}, not {}", self.control)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
