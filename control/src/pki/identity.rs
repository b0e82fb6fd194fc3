//! Who a peer is: the one URI in its certificate, `spiffe://<trust domain>/node/<name>`, `/platform/<name>` or `/control`.

use berth_model::NodeName;
use std::fmt;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest trust domain (SPIFFE ID specification, section 2.1).
const TRUST_DOMAIN_MAX_BYTES: usize = 255;

/// The name that a fleet's certificates share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain(String);

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The control plane.
    Control,
    /// A node.
    Node(NodeName),
    /// A platform, or an operator.
    Platform(PlatformName),
}

/// Name of a platform: a DNS label, as all names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlatformName(String);

/// Why a name or a certificate says nothing about who someone is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No trust domain.
    #[error("trust domain {0:?} is not made of lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain(String),
    /// No name of a platform.
    #[error("platform name {0:?} is no DNS label")]
    Platform(String),
    /// The certificate is malformed.
    #[error("certificate cannot be parsed")]
    Malformed,
    /// The certificate carries no URI, or several.
    #[error("certificate carries {0} URIs, exactly one is expected")]
    Uris(usize),
    /// The URI is of another trust domain or no identity of ours.
    #[error("{uri:?} is no identity of trust domain {domain}")]
    Foreign {
        /// The URI.
        uri: String,
        /// Ours.
        domain: String,
    },
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let byte = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        let valid = (1..=TRUST_DOMAIN_MAX_BYTES).contains(&text.len()) && text.bytes().all(byte);
        if valid { Ok(Self(text.to_owned())) } else { Err(IdentityError::TrustDomain(text.to_owned())) }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TrustDomain {
    /// The URI of the domain itself, which its authority carries.
    pub fn uri(&self) -> String {
        format!("spiffe://{}", self.0)
    }

    /// Reads the authority's URI.
    ///
    /// # Errors
    /// When it is no trust domain.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        uri.strip_prefix("spiffe://").ok_or_else(|| IdentityError::TrustDomain(uri.to_owned()))?.parse()
    }
}

impl FromStr for PlatformName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        NodeName::new(text)
            .map(|label| Self(label.to_string()))
            .map_err(|_| IdentityError::Platform(text.to_owned()))
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Platform(name) => write!(f, "platform/{name}"),
        }
    }
}

impl Identity {
    /// The identity as a certificate carries it.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!("{}/{self}", domain.uri())
    }

    /// Reads a certificate's URI.
    ///
    /// # Errors
    /// When it is of another domain, or no identity of ours.
    pub fn from_uri(uri: &str, domain: &TrustDomain) -> Result<Self, IdentityError> {
        let foreign = || IdentityError::Foreign { uri: uri.to_owned(), domain: domain.to_string() };
        let path =
            uri.strip_prefix(&domain.uri()).and_then(|rest| rest.strip_prefix('/')).ok_or_else(foreign)?;
        match path.split_once('/') {
            None if path == "control" => Ok(Self::Control),
            Some(("node", name)) => NodeName::new(name).map(Self::Node).map_err(|_| foreign()),
            Some(("platform", name)) => name.parse().map(Self::Platform).map_err(|_| foreign()),
            Some(_) | None => Err(foreign()),
        }
    }
}

/// The URIs of a certificate.
pub(crate) fn uris(certificate_der: &[u8]) -> Result<Vec<String>, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Malformed)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let names = names.map_or([].as_slice(), |names| &names.value.general_names);
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        // A foreign enum: whatever else a certificate is for does not say who its holder is.
        _ => None,
    };
    Ok(names.iter().filter_map(uri).collect())
}

/// Who the holder of a verified certificate is.
///
/// # Errors
/// When it carries no identity of this trust domain, or more than one.
pub fn identity_of(certificate_der: &[u8], domain: &TrustDomain) -> Result<Identity, IdentityError> {
    match uris(certificate_der)?.as_slice() {
        [uri] => Identity::from_uri(uri, domain),
        several => Err(IdentityError::Uris(several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<&str>) {
        let domain = "berth.example".parse().unwrap();
        let identity = Identity::from_uri(uri, &domain);
        assert_eq!(identity.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{uri}");
        if let Ok(identity) = identity {
            assert_eq!(identity.uri(&domain), uri);
        }
    }

    #[test]
    fn uris() {
        check("spiffe://berth.example/control", Some("control"));
        check("spiffe://berth.example/node/n1", Some("node/n1"));
        check("spiffe://berth.example/platform/ops", Some("platform/ops"));
        check("spiffe://berth.example.evil/node/n1", None);
        check("spiffe://berth.exampl/node/n1", None);
        check("spiffe://berth.example/node/", None);
        check("spiffe://berth.example/node/n1/x", None);
        check("spiffe://berth.example/node/N1", None);
        check("spiffe://berth.example/peer/n1", None);
        check("spiffe://berth.example", None);
        check("https://berth.example/control", None);
        check("", None);
    }

    #[test]
    fn trust_domains() {
        for bad in ["", "Berth", "a/b", "a:1", "a b", &"a".repeat(256)] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
        }
        assert!("berth.example-1".parse::<TrustDomain>().is_ok());
    }
}
