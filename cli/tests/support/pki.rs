//! Certificates of a fleet, made afresh.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this URI.
    pub fn issue(&self, uri: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Writes what `berth` needs into `dir`, and returns its configuration file.
pub fn write_config(dir: &Path, server: &str, authority: &Authority, identity: &Identity) -> PathBuf {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("ca.crt", &authority.pem());
    write("client.crt", &identity.certificate);
    write("client.key", &identity.key);
    let text = format!("server = '{server}'\nca = 'ca.crt'\ncert = 'client.crt'\nkey = 'client.key'\n");
    write("config.toml", &text);
    dir.join("config.toml")
}
