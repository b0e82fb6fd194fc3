//! Asking for a certificate, and whether what came is what was asked for.

use super::identity::node_of;
use crate::report::chain;
use berth_model::NodeName;
use berth_tls::{Certified, Trust, reason};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

/// A fresh key, and the request for a certificate of it.
pub(super) struct KeyRequest {
    key: KeyPair,
    /// The request, PEM. It names nobody: upstream says whose the certificate is.
    pub request_pem: String,
}

impl KeyRequest {
    /// Makes both.
    pub(super) fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let request_pem = CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
        Ok(Self { key, request_pem })
    }

    /// The key, PEM.
    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Whether this is a certificate of the key, for `node`, by whom we trust; the error says what is wrong with it.
    pub(super) fn check(&self, certificate_pem: &str, node: &NodeName, trust: &Trust) -> Result<(), String> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
        let certificate = certificate.map_err(|_| "it holds no certificate".to_owned())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // As the control plane itself will check it when we dial.
        trust
            .check_client(&certificate, UnixTime::since_unix_epoch(now))
            .map_err(|error| format!("the certificate does not hold here: {}", reason(&error)))?;
        let certified = Certified::read(&certificate).map_err(|error| error.to_string())?;
        if certified.public_key != self.key.subject_public_key_info() {
            return Err("the certificate is of another key".to_owned());
        }
        let (holder, named) = node_of(&certified).map_err(|error| chain(&error))?;
        match named == *node && holder.domain == *trust.domain() {
            true => Ok(()),
            false => Err(format!("the certificate is for {holder}")),
        }
    }
}
