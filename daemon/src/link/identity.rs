//! Who this node is: its key, its certificate and the authority that signed it, as files; and whose a certificate is.

use super::durable::FileError;
use berth_model::NodeName;
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiFiles {
    /// The folder, `<state>/pki`.
    pub folder: PathBuf,
}

impl PkiFiles {
    /// Those below a state directory.
    pub fn below(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("pki") }
    }

    /// The node's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("node.crt")
    }

    /// The node's private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("node.key")
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// This node has not joined.
    #[error("this node has not joined a control plane ({0} is not there): run `berthd join`")]
    NotJoined(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else.
    #[error("{path} holds no {what}: join again by `berthd join --replace`")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate that says nothing about who someone is.
    #[error("the certificate {0}")]
    Certificate(String),
}

/// This node, as it proves itself upstream.
#[derive(Debug)]
pub struct NodeIdentity {
    /// Its name, from the certificate.
    pub node: NodeName,
    /// The fleet's name, from the certificate.
    pub trust_domain: String,
    /// When the certificate ends, milliseconds after the epoch.
    pub expires_at_ms: u64,
    /// The URI in the certificate.
    pub uri: String,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
}

impl NodeIdentity {
    /// Reads the identity.
    ///
    /// # Errors
    /// When the node has not joined, or a file is damaged.
    pub fn load(files: &PkiFiles) -> Result<Self, IdentityError> {
        let certificate_path = files.certificate();
        if !certificate_path.exists() {
            return Err(IdentityError::NotJoined(certificate_path));
        }
        let certificate = read_certificate(&certificate_path)?;
        let authority = read_certificate(&files.authority())?;
        let key_path = files.key();
        let pem = std::fs::read(&key_path).map_err(FileError::wrap("read", &key_path))?;
        let key = PrivateKeyDer::from_pem_slice(&pem);
        let key = key.map_err(|_| IdentityError::Content { path: key_path, what: "private key" })?;
        let uri = uri_of(&certificate)?;
        let (trust_domain, node) = node_of(&uri)?;
        Ok(Self {
            node,
            trust_domain,
            expires_at_ms: expires_at_ms(&certificate)?,
            uri,
            certificate,
            key,
            authority,
        })
    }
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let pem = std::fs::read(path).map_err(FileError::wrap("read", path))?;
    CertificateDer::from_pem_slice(&pem)
        .map_err(|_| IdentityError::Content { path: path.to_owned(), what: "certificate" })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let parsed = X509Certificate::from_der(certificate);
    let malformed = |_| IdentityError::Certificate("cannot be parsed".to_owned());
    parsed.map(|(_, certificate)| certificate).map_err(malformed)
}

fn expires_at_ms(certificate: &CertificateDer<'_>) -> Result<u64, IdentityError> {
    let seconds = parse(certificate)?.validity().not_after.timestamp();
    Ok(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}

/// The one URI that a certificate of ours carries.
pub(crate) fn uri_of(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|_| IdentityError::Certificate("has malformed names".to_owned()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<_> = names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris.as_slice() {
        [uri] => Ok((*uri).to_owned()),
        several => Err(IdentityError::Certificate(format!(
            "carries {} URIs, exactly one is expected",
            several.len()
        ))),
    }
}

/// Trust domain and path of `spiffe://<trust domain>/<path>`.
pub(super) fn split_uri(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("spiffe://")?.split_once('/').filter(|(domain, _)| !domain.is_empty())
}

/// Trust domain and name of a node's URI.
pub(crate) fn node_of(uri: &str) -> Result<(String, NodeName), IdentityError> {
    let other = || IdentityError::Certificate(format!("is of {uri}, which is no node"));
    let (domain, path) = split_uri(uri).ok_or_else(other)?;
    let name = path.strip_prefix("node/").ok_or_else(other)?;
    let node = name.parse().map_err(|_| other())?;
    Ok((domain.to_owned(), node))
}
