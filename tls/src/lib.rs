//! Who may talk to whom over TCP: identities in certificates, and TLS configurations that accept nobody else.
//!
//! A certificate says who its holder is by one URI, `spiffe://<trust domain>/…`, and by nothing else: no DNS name, no
//! address. Entry points: [`Trust`] makes configurations for servers and clients and tells who a neighbour is,
//! [`Joining`] is for a node that knows only its authority's fingerprint yet, [`Certified`] reads a certificate,
//! [`Greeted`] is a connection that knows who is behind it.
//! TLS 1.3 only, everywhere. Nothing here opens a socket, reads a file or makes a certificate.
#![forbid(unsafe_code)]

mod certified;
mod explain;
mod greeted;
mod identity;
mod trust;
mod verifier;

#[cfg(test)]
mod tests;

pub use certified::Certified;
pub use explain::{reason, tls_error};
pub use greeted::Greeted;
pub use identity::{Holder, Identity, IdentityError, PlatformName, TrustDomain};
pub use trust::{Credential, Joining, Neighbour, Trust, serve_anyone};

use sha2::{Digest, Sha256};

/// sha256 of a certificate, DER.
pub fn fingerprint(certificate_der: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate_der).into()
}
