//! An authority for nodes of a test.

use crate::link::PkiFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::path::Path;

pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![uri("spiffe://berth.test")];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Stores an identity, as joining does; `name` is all of it, `spiffe://…`.
    pub(super) fn identify(&self, folder: &Path, name: &str) -> PkiFiles {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = PkiFiles::below(folder);
        std::fs::create_dir_all(&files.folder).unwrap();
        std::fs::write(files.certificate(), certificate.pem()).unwrap();
        std::fs::write(files.key(), key.serialize_pem()).unwrap();
        std::fs::write(files.authority(), self.issuer.pem()).unwrap();
        files
    }
}
