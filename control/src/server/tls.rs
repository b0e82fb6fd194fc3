//! What the listeners show of themselves.

use crate::clock::wall_ms;
use crate::pki::{self, Authority};
use anyhow::{Context, bail};
use berth_tls::{Certified, Credential, Identity, Trust};
use std::path::Path;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// A server's certificate that has no more days than this is warned of at start.
const WARN_DAYS: u64 = 30;

/// Whom the main port lets in.
pub(super) fn trust(authority: &Authority) -> anyhow::Result<Trust> {
    Trust::new(&[authority.certificate().clone()], authority.trust_domain().clone())
        .context("trust the authority")
}

/// Our certificate and, for nodes that know only its hash yet, the authority's; and when ours ends, milliseconds after the
/// epoch.
pub(super) fn server_credential(dir: &Path, authority: &Authority) -> anyhow::Result<(Credential, u64)> {
    let (cert, key) = (dir.join(pki::SERVER_CERT), dir.join(pki::SERVER_KEY));
    let own = CertificateDer::from_pem_file(&cert)
        .with_context(|| format!("read certificate {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("read key {}", key.display()))?;
    let expires_at_ms =
        check(&own, authority).with_context(|| format!("look at certificate {}", cert.display()))?;
    Ok((Credential::new(vec![own, authority.certificate().clone()], key), expires_at_ms))
}

fn check(own: &CertificateDer<'_>, authority: &Authority) -> anyhow::Result<u64> {
    let certified = Certified::read(own)?;
    let identity = Identity::from_uri(certified.uri()?, authority.trust_domain())?;
    if identity != Identity::Control {
        bail!("it is of {identity}, not of the control plane");
    }
    match certified.expires_at_ms.checked_sub(wall_ms()).map(|left_ms| left_ms / DAY_MS) {
        None | Some(0) => bail!("it has expired: run berth-control ca server"),
        Some(days_left) if days_left <= WARN_DAYS => tracing::warn!(
            days_left,
            "the server's certificate expires in {days_left} days: run berth-control ca server"
        ),
        Some(_) => {}
    }
    Ok(certified.expires_at_ms)
}
