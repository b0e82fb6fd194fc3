//! What TLS says when it refuses, in words for people.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{CertificateError, Error};

/// What TLS says, where an error comes from it.
pub fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The source of an I/O error is that of the error inside, not the error inside.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inside.and_then(|inside| inside.downcast_ref()).or_else(|| error.downcast_ref());
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}

/// The verifier's own words, without rustls' around them.
pub fn reason(error: &Error) -> String {
    match error {
        Error::General(text) => text.clone(),
        // Another crate's enumeration, which may grow.
        other => other.to_string(),
    }
}

/// Why a chain does not hold: a certificate of another time is mostly a clock of another time.
pub(crate) fn explain(error: Error, whose: &str, now: UnixTime) -> Error {
    let clock = |when: &str| {
        Error::General(format!(
            "{whose} certificate {when}: this host's clock says {}, is it right?",
            date(Duration::from_secs(now.as_secs()))
        ))
    };
    match &error {
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => clock("is not valid yet"),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            clock("has expired")
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Error::General(format!("{whose} certificate is not signed by our authority"))
        }
        // Another crate's enumeration, which may grow.
        _ => error,
    }
}

fn date(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    match x509_parser::time::ASN1Time::from_timestamp(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds} s after the epoch"),
    }
}
