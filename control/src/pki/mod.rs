//! Keys and certificates: the authority, and the files they live in.
//!
//! Entry points: [`init`] makes everything once, [`Authority::load`] reads it back. A name in a certificate request is
//! never believed: the authority signs the request's key for the identity that the caller has established.

mod authority;
mod files;

pub use authority::{Authority, Issued, PkiError, Validity, init};
pub use files::FileError;
pub(crate) use files::{give_to_owner, write_new};

/// The authority's certificate.
pub(crate) const CA_CERT: &str = "ca.crt";
/// The authority's key.
pub(crate) const CA_KEY: &str = "ca.key";
/// The server's certificate.
pub(crate) const SERVER_CERT: &str = "control.crt";
/// The server's key.
pub(crate) const SERVER_KEY: &str = "control.key";
