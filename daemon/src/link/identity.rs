//! Who this node is: its certificate and key, and the authority that signed it, as files.
//!
//! Certificate and key are one file, so that a renewal replaces both or none.

use super::durable::{FileError, write_durably};
use berth_model::NodeName;
use berth_tls::{Certified, Credential, Holder, Identity, Trust};
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::Error as TlsError;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

    /// The node's certificate and its private key.
    pub fn node(&self) -> PathBuf {
        self.folder.join("node.pem")
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Replaces the node's certificate and key, PEM both.
    pub(super) fn store_node(&self, certificate_pem: &str, key_pem: &str) -> Result<(), FileError> {
        write_durably(&self.node(), format!("{certificate_pem}{key_pem}").as_bytes(), 0o600)
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
    #[error("look at the certificate")]
    Certificate(#[from] berth_tls::IdentityError),
    /// Somebody else's certificate.
    #[error("the certificate is of {0}, which is no node")]
    NoNode(Holder),
    /// An authority that cannot be trusted.
    #[error("trust the authority in {path}: join again by `berthd join --replace`")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: TlsError,
    },
}

/// This node, as it proves itself upstream.
#[derive(Debug)]
pub struct NodeIdentity {
    /// Its name, from the certificate.
    pub node: NodeName,
    /// When the certificate begins, milliseconds after the epoch.
    pub begins_at_ms: u64,
    /// When it ends, milliseconds after the epoch.
    pub expires_at_ms: u64,
    /// The URI in the certificate.
    pub uri: String,
    /// What it shows of itself.
    pub(crate) credential: Credential,
    /// Whom it trusts, from the authority and the certificate.
    pub(crate) trust: Trust,
}

impl NodeIdentity {
    /// Reads the identity.
    ///
    /// # Errors
    /// When the node has not joined, or a file is damaged.
    pub fn load(files: &PkiFiles) -> Result<Self, IdentityError> {
        let path = files.node();
        if !path.exists() {
            return Err(IdentityError::NotJoined(path));
        }
        let pem = read(&path)?;
        let certificate = certificate_in(&pem, &path)?;
        let key = PrivateKeyDer::from_pem_slice(&pem);
        let key = key.map_err(|_| IdentityError::Content { path, what: "private key" })?;
        let authority = certificate_in(&read(&files.authority())?, &files.authority())?;
        let certified = Certified::read(&certificate)?;
        let (holder, node) = node_of(&certified)?;
        let trust = Trust::new(&[authority], holder.domain.clone())
            .map_err(|source| IdentityError::Authority { path: files.authority(), source })?;
        Ok(Self {
            node,
            begins_at_ms: certified.begins_at_ms,
            expires_at_ms: certified.expires_at_ms,
            uri: holder.to_string(),
            credential: Credential::new(vec![certificate], key),
            trust,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(FileError::wrap("read", path))
}

fn certificate_in(pem: &[u8], path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem)
        .map_err(|_| IdentityError::Content { path: path.to_owned(), what: "certificate" })
}

/// The node whose certificate this is.
pub(super) fn node_of(certified: &Certified) -> Result<(Holder, NodeName), IdentityError> {
    let holder = certified.holder()?;
    match holder.identity.clone() {
        Identity::Node(node) => Ok((holder, node)),
        Identity::Control | Identity::Platform(_) => Err(IdentityError::NoNode(holder)),
    }
}
