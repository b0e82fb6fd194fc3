//! Keys and certificates of the listeners. TLS 1.3 only.

use crate::clock::wall_ms;
use crate::pki::{self, Authority, Identity, identity_of};
use anyhow::{Context, anyhow, bail};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier, version};

/// What the server shows of itself.
pub(super) struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Our certificate and, for nodes that know only its hash yet, the authority's.
pub(super) fn server_chain(dir: &Path, authority: &Authority) -> anyhow::Result<Chain> {
    let (cert, key) = (dir.join(pki::SERVER_CERT), dir.join(pki::SERVER_KEY));
    let own = CertificateDer::from_pem_file(&cert)
        .with_context(|| format!("read certificate {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("read key {}", key.display()))?;
    match identity_of(&own, authority.trust_domain()) {
        Ok(Identity::Control) => {}
        Ok(other) => bail!("certificate {} is of {other}, not of the control plane", cert.display()),
        Err(error) => return Err(anyhow!(error).context(format!("look at certificate {}", cert.display()))),
    }
    let days_left = days_left(&own)?;
    match days_left {
        ..=0 => bail!("certificate {} has expired: run berth-control ca server", cert.display()),
        1..=30 => tracing::warn!(
            days_left,
            "the server's certificate is about to expire: run berth-control ca server"
        ),
        _ => {}
    }
    let certificates = vec![own, authority.certificate().clone()];
    Ok(Chain { certificates, key })
}

fn days_left(certificate: &CertificateDer<'_>) -> anyhow::Result<i64> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).context("parse the server's certificate")?;
    let now = i64::try_from(wall_ms() / 1_000).unwrap_or(i64::MAX);
    Ok((parsed.validity().not_after.timestamp() - now).div_euclid(24 * 60 * 60))
}

fn builder() -> anyhow::Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .context("choose TLS 1.3")
}

fn with_alpn(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Only clients that the authority signed.
pub(super) fn mutual_tls(authority: &Authority, chain: &Chain) -> anyhow::Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).context("trust the authority")?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .context("make the verifier of clients")?;
    let config = builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.certificates.clone(), chain.key.clone_key())
        .context("use the server's certificate")?;
    Ok(with_alpn(config))
}

/// Any client.
pub(super) fn open_tls(chain: &Chain) -> anyhow::Result<TlsAcceptor> {
    let config = builder()?
        .with_no_client_auth()
        .with_single_cert(chain.certificates.clone(), chain.key.clone_key())
        .context("use the server's certificate")?;
    Ok(with_alpn(config))
}
