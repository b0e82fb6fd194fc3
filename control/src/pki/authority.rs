//! The certificate authority: made once, kept beside the store, signs for identities.

use super::files::{FileError, write_new, write_over};
use super::{CA_CERT, CA_KEY, SERVER_CERT, SERVER_KEY};
use crate::random::{self, NoRandomness};
use berth_tls::{Certified, Identity, IdentityError, TrustDomain, fingerprint};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The authority's own life: replacing it means joining every node again.
const CA_VALIDITY: Duration = DAY.saturating_mul(3_650);
/// The server's: `berth-control ca server` makes a new one at any time.
const SERVER_VALIDITY: Duration = DAY.saturating_mul(825);
/// A platform's: people renew by hand.
const PLATFORM_VALIDITY: Duration = DAY.saturating_mul(365);
/// How far a clock may be behind ours and still believe a fresh certificate, unless it holds for a short time only …
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// … since half of a life must lie ahead of its middle: then it is this part of it.
const BACKDATED_PART: u32 = 10;
/// Largest certificate request that is looked at; one with a 4096-bit RSA key has 1.7 KiB.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Why a key or a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// There is an authority already, or half of one.
    #[error(
        "{0} is there already: certificates that it signed would become worthless; move it away to begin anew"
    )]
    Exists(String),
    /// A file.
    #[error("keep keys and certificates")]
    File(#[from] FileError),
    /// A file that holds something else.
    #[error("{path} holds no {what}")]
    Content {
        /// Which file.
        path: String,
        /// What it should hold.
        what: &'static str,
    },
    /// The authority says nothing of its trust domain.
    #[error("read the trust domain of the authority")]
    Identity(#[from] IdentityError),
    /// A key or certificate could not be made.
    #[error("make {what}")]
    Make {
        /// Which.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// No randomness.
    #[error("make a serial number")]
    Random(#[from] NoRandomness),
    /// A certificate request that is too large.
    #[error("certificate request has {0} bytes, at most {MAX_REQUEST_BYTES} are accepted")]
    RequestSize(usize),
    /// A certificate request that cannot be parsed, or whose signature does not prove the key.
    #[error("certificate request is malformed or not signed by its own key")]
    Request(#[source] rcgen::Error),
}

/// A certificate and, where we made it, its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The key, PEM.
    pub key_pem: String,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    domain: TrustDomain,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// When a certificate holds, times since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    from: Duration,
    until: Duration,
}

impl Validity {
    /// From `now`, or rather from a little earlier, for so long.
    pub fn of(life: Duration, now: Duration) -> Self {
        Self { from: now.saturating_sub(BACKDATED.min(life / BACKDATED_PART)), until: now + life }
    }

    /// Not before this time.
    #[must_use]
    pub fn not_before(self, earliest: Duration) -> Self {
        Self { from: self.from.max(earliest), ..self }
    }
}

struct Profile<'a> {
    identity: &'a Identity,
    names: &'a [String],
    usage: ExtendedKeyUsagePurpose,
    validity: Validity,
}

/// Makes an authority and the server's certificate. `now` is the time since the epoch.
///
/// # Errors
/// When there is one already, or a file cannot be made.
pub fn init(
    dir: &Path,
    domain: &TrustDomain,
    names: &[String],
    now: Duration,
) -> Result<Authority, PkiError> {
    for name in [CA_CERT, CA_KEY, SERVER_CERT, SERVER_KEY] {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(PkiError::Exists(path.display().to_string()));
        }
    }
    let making = |source| PkiError::Make { what: "the authority", source };
    let key = KeyPair::generate().map_err(making)?;
    let mut params = params(&format!("Berth authority of {domain}"), Validity::of(CA_VALIDITY, now))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&domain.uri()).map_err(making)?];
    let certificate = params.self_signed(&key).map_err(making)?;
    // The certificate goes last: where it is, everything is.
    write_new(&dir.join(CA_KEY), &key.serialize_pem())?;
    let authority = Authority {
        certificate: certificate.der().clone(),
        certificate_pem: certificate.pem(),
        issuer: Issuer::new(params, key),
        domain: domain.clone(),
    };
    authority.write_server(dir, names, now)?;
    write_new(&dir.join(CA_CERT), &authority.certificate_pem)?;
    Ok(authority)
}

fn params(name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.from;
    params.not_after = epoch + validity.until;
    params.serial_number = Some(SerialNumber::from_slice(&random::bytes::<16>()?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

fn server_name(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

impl Authority {
    /// Reads the authority back.
    ///
    /// # Errors
    /// When a file is missing or holds something else.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path)
                .map_err(FileError::wrap("read", &path))
                .map(|text| (path.display().to_string(), text))
        };
        let (cert_path, certificate_pem) = read(CA_CERT)?;
        let (key_path, key_pem) = read(CA_KEY)?;
        let content = |path: &str, what| {
            let path = path.to_owned();
            move || PkiError::Content { path, what }
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|_| content(&key_path, "private key")())?;
        let no_certificate = content(&cert_path, "certificate");
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
        let Ok(certificate) = certificate else { return Err(no_certificate()) };
        let issuer = Issuer::from_ca_cert_der(&certificate, key);
        let Ok(issuer) = issuer else { return Err(no_certificate()) };
        let domain = TrustDomain::from_uri(Certified::read(&certificate)?.uri()?)?;
        Ok(Self { issuer, certificate, certificate_pem, domain })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The name that its certificates share.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// sha256 of the certificate, hexadecimal: how a joining node knows that it talks to us.
    pub fn fingerprint(&self) -> String {
        random::hex(&fingerprint(&self.certificate))
    }

    /// Makes the server's key and certificate, replacing what is there.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn write_server(&self, dir: &Path, names: &[String], now: Duration) -> Result<(), PkiError> {
        let issued = self.issue(&Profile {
            identity: &Identity::Control,
            names,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            validity: Validity::of(SERVER_VALIDITY, now),
        })?;
        write_over(&dir.join(SERVER_KEY), &issued.key_pem)?;
        write_over(&dir.join(SERVER_CERT), &issued.certificate_pem)?;
        Ok(())
    }

    /// Makes a key and a client certificate for a platform.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn issue_platform(&self, identity: &Identity, now: Duration) -> Result<Issued, PkiError> {
        self.issue(&Profile {
            identity,
            names: &[],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            validity: Validity::of(PLATFORM_VALIDITY, now),
        })
    }

    /// Signs the key of a node's request for `identity`; whatever names the request holds are left out.
    ///
    /// # Errors
    /// When the request is too large, malformed, or not signed by its own key.
    pub fn sign_request(
        &self,
        request_pem: &str,
        identity: &Identity,
        validity: Validity,
    ) -> Result<String, PkiError> {
        if request_pem.len() > MAX_REQUEST_BYTES {
            return Err(PkiError::RequestSize(request_pem.len()));
        }
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(PkiError::Request)?;
        let profile = Profile { identity, names: &[], usage: ExtendedKeyUsagePurpose::ClientAuth, validity };
        self.sign(&profile, &request.public_key)
    }

    fn issue(&self, profile: &Profile<'_>) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Make { what: "a key", source })?;
        Ok(Issued { certificate_pem: self.sign(profile, &key)?, key_pem: key.serialize_pem() })
    }

    fn sign(&self, profile: &Profile<'_>, key: &impl PublicKeyData) -> Result<String, PkiError> {
        let making = |source| PkiError::Make { what: "a certificate", source };
        let mut params = params(&profile.identity.to_string(), profile.validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![profile.usage.clone()];
        params.subject_alt_names = vec![uri(&profile.identity.uri(&self.domain)).map_err(making)?];
        for name in profile.names {
            params.subject_alt_names.push(server_name(name).map_err(making)?);
        }
        let certificate = params.signed_by(key, &self.issuer).map_err(making)?;
        Ok(certificate.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const LIFE: Validity =
        Validity { from: NOW, until: Duration::from_secs(1_800_000_000 + 30 * 24 * 60 * 60) };

    fn authority(dir: &Path) -> Authority {
        init(dir, &"berth.example".parse().unwrap(), &["localhost".to_owned()], NOW).unwrap()
    }

    fn request(names: &[&str]) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let request = CertificateParams::new(names).unwrap().serialize_request(&key).unwrap();
        (request.pem().unwrap(), key)
    }

    #[test]
    fn made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let made = authority(dir.path());
        let read = Authority::load(dir.path()).unwrap();
        assert_eq!(read.fingerprint(), made.fingerprint());
        assert_eq!(read.trust_domain().to_string(), "berth.example");
        let again = init(dir.path(), read.trust_domain(), &[], NOW).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
        assert_eq!(Authority::load(dir.path()).unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_request_gets_the_callers_name_and_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let node = Identity::from_uri("spiffe://berth.example/node/n1", authority.trust_domain()).unwrap();
        let (request, _) = request(&["control.berth.example", "n2"]);
        let pem = authority.sign_request(&request, &node, LIFE).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let holder = Certified::read(&der).unwrap().holder().unwrap();
        assert_eq!((&holder.domain, holder.identity), (authority.trust_domain(), node));
        assert!(!pem.is_empty() && !String::from_utf8_lossy(&der).contains("control.berth.example"));
    }

    #[test]
    fn certificates_begin_a_little_earlier_and_no_earlier_than_they_may() {
        let check = |life_s: u64, earliest_s: u64, from_s: u64| {
            let validity = Validity::of(Duration::from_secs(life_s), NOW);
            let validity = validity.not_before(Duration::from_secs(earliest_s));
            let expected =
                Validity { from: Duration::from_secs(from_s), until: NOW + Duration::from_secs(life_s) };
            assert_eq!(validity, expected, "{life_s} s, not before {earliest_s} s");
        };
        check(30 * 24 * 60 * 60, 0, 1_799_996_400);
        check(120, 0, 1_799_999_988);
        check(120, 1_799_999_995, 1_799_999_995);
        check(120, 1_800_000_001, 1_800_000_001);
    }

    #[test]
    fn bad_requests() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let check = |pem: &str, expected: &str| {
            let error = authority.sign_request(pem, &Identity::Control, LIFE).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("", "malformed");
        check("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "malformed");
        check(authority.certificate_pem(), "malformed");
        check(&"x".repeat(MAX_REQUEST_BYTES + 1), "at most 16384");
    }

    #[test]
    fn spoiled_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path());
        std::fs::write(dir.path().join(CA_CERT), "nothing").unwrap();
        let error = Authority::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt holds no certificate"), "{error}");
        std::fs::remove_file(dir.path().join(CA_KEY)).unwrap();
        let error = crate::error::chain(&Authority::load(dir.path()).unwrap_err());
        assert!(error.contains("ca.key"), "{error}");
    }
}
