//! Certificates of every kind.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

/// When a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Now.
    Now,
    /// Long ago.
    LongAgo,
    /// In years.
    InYears,
    /// Since long, and until tomorrow: more than half of it is over.
    UntilTomorrow,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Being served.
    Client,
    /// Serving.
    Server,
}

/// Signs whatever it is asked to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A fresh one, of trust domain `berth.test`.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![uri("spiffe://berth.test")];
        let key = KeyPair::generate().unwrap();
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate_pem }
    }

    /// One that is there already, from its certificate and its key.
    pub fn from_pem(certificate_pem: String, key_pem: &str) -> Self {
        let key = KeyPair::from_pem(key_pem).unwrap();
        Self { issuer: Issuer::from_ca_cert_pem(&certificate_pem, key).unwrap(), certificate_pem }
    }

    /// Its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate with these URIs, for clients, that holds now.
    pub fn client(&self, uris: &[&str]) -> Credentials {
        self.issue(uris, Usage::Client, Holds::Now)
    }

    /// A certificate with these URIs.
    pub fn issue(&self, uris: &[&str], usage: Usage, holds: Holds) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let certificate_pem = params(uris, usage, holds).signed_by(&key, &self.issuer).unwrap().pem();
        Credentials { certificate_pem, key_pem: key.serialize_pem() }
    }

    /// A certificate for clients with this URI, of the key of a request; PEM, both.
    pub fn sign_request(&self, request_pem: &str, uri: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(request_pem).unwrap();
        let params = params(&[uri], Usage::Client, Holds::Now);
        params.signed_by(&request.public_key, &self.issuer).unwrap().pem()
    }
}

fn params(uris: &[&str], usage: Usage, holds: Holds) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
    params.extended_key_usages = vec![match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    (params.not_before, params.not_after) = match holds {
        Holds::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(4000, 1, 1)),
        Holds::LongAgo => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        Holds::InYears => (date_time_ymd(3900, 1, 1), date_time_ymd(4000, 1, 1)),
        Holds::UntilTomorrow => (date_time_ymd(2000, 1, 1), (SystemTime::now() + DAY).into()),
    };
    params
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}
