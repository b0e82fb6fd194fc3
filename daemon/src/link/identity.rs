//! Who this node is: its key, its certificate and the authority that signed it, as files.

use super::durable::FileError;
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
    /// When the certificate ends, milliseconds after the epoch.
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
        let certified = Certified::read(&certificate)?;
        let (holder, node) = node_of(&certified)?;
        let trust = Trust::new(&[authority], holder.domain.clone())
            .map_err(|source| IdentityError::Authority { path: files.authority(), source })?;
        Ok(Self {
            node,
            expires_at_ms: certified.expires_at_ms,
            uri: holder.to_string(),
            credential: Credential::new(vec![certificate], key),
            trust,
        })
    }
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let pem = std::fs::read(path).map_err(FileError::wrap("read", path))?;
    CertificateDer::from_pem_slice(&pem)
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
