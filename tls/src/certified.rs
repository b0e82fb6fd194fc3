//! What a certificate says.

use crate::identity::{Holder, IdentityError};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// What a certificate says; whether it is believed is [`crate::Trust`]'s to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Its URIs: one, if it is of ours.
    pub uris: Vec<String>,
    /// When it begins, milliseconds after the epoch.
    pub begins_at_ms: u64,
    /// When it ends, milliseconds after the epoch.
    pub expires_at_ms: u64,
    /// Its key, an encoded SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl Certified {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn read(certificate_der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Malformed)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
        let names = names.map_or([].as_slice(), |names| &names.value.general_names);
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            // A foreign enum: whatever else a certificate is for does not say who its holder is.
            _ => None,
        };
        let epoch_ms = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000);
        let validity = certificate.validity();
        Ok(Self {
            uris: names.iter().filter_map(uri).collect(),
            begins_at_ms: epoch_ms(validity.not_before),
            expires_at_ms: epoch_ms(validity.not_after),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// The one URI.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn uri(&self) -> Result<&str, IdentityError> {
        match self.uris.as_slice() {
            [uri] => Ok(uri),
            several => Err(IdentityError::Uris(several.len())),
        }
    }

    /// Whose it is, of whatever trust domain.
    ///
    /// # Errors
    /// When it carries no identity, or more than one.
    pub fn holder(&self) -> Result<Holder, IdentityError> {
        Holder::from_uri(self.uri()?)
    }
}
