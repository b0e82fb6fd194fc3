//! Mutual TLS with the control plane.
//!
//! The control plane is known by its identity, `spiffe://<trust domain>/control`, not by a DNS name: it may move, and
//! whoever can answer for a name is not thereby the control plane. So its certificate must come from our authority and
//! carry exactly that URI, in the trust domain that our own certificate is of.

use crate::config::Connection;
use crate::failure::{Failure, Result, chain};
use berth_tls::{Certified, Credential, Holder, Identity, Trust, TrustDomain};
use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

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
        let authorities = read_certificates(&connection.ca)?;
        let domain = own_domain(&certificates[0], &connection.cert)?;
        let trust = Trust::new(&authorities, domain)
            .map_err(|error| unusable("certificate authority", &connection.ca, &error))?;
        let config = trust
            .client(&Credential::new(certificates, key), Identity::Control)
            .map_err(|error| unusable("certificate with this private key", &connection.cert, &error))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands on a stream to `server`, which is `host:port`, and waits until the other side has accepted us:
    /// in TLS 1.3 a client learns only after its own handshake that its certificate was refused, and an HTTP/2 server
    /// speaks first (RFC 9113, section 3.4).
    ///
    /// # Errors
    /// Whatever TLS finds wrong with the other side, or the other side with us.
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

/// The trust domain of our own certificate.
fn own_domain(own: &CertificateDer<'_>, path: &Path) -> Result<TrustDomain> {
    let certified = Certified::read(own).map_err(|error| unusable("certificate", path, &error))?;
    if let Ok(Holder { domain, identity: Identity::Platform(_) }) = certified.holder() {
        return Ok(domain);
    }
    let (path, uris) = (path.display(), certified.uris);
    let found = Failure::usage(format!("{path} is no platform's certificate (its URIs: {uris:?})"));
    Err(found.remedy(
        "a platform's certificate carries spiffe://<trust domain>/platform/<name>; berth-control issues it",
    ))
}
