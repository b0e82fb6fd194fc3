//! What a peer shows of itself: a URI, and a certificate as PEM or DER, up to who it is taken for.

use berth_tls::{Certified, Identity, TrustDomain};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// The first line is a URI, the rest a certificate.
pub fn certificates(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let domain: TrustDomain = "berth.example".parse().expect("is a trust domain");
    if let Ok(uri) = std::str::from_utf8(&data[..at]) {
        match Identity::from_uri(uri, &domain) {
            Ok(identity) => assert_eq!(identity.uri(&domain), uri, "a URI is taken for another one"),
            Err(error) => assert!(!error.to_string().is_empty(), "{uri:?} is refused without a reason"),
        }
    }
    let rest = data.get(at + 1..).unwrap_or_default();
    let der = CertificateDer::from_pem_slice(rest).unwrap_or_else(|_| CertificateDer::from(rest));
    let certified = Certified::read(&der);
    if let Ok(identity) = certified.and_then(|certified| Identity::from_uri(certified.uri()?, &domain)) {
        let uri = identity.uri(&domain);
        let there = der.windows(uri.len()).any(|part| part == uri.as_bytes());
        assert!(there, "{uri} is not in the certificate");
    }
}
