//! Who a peer is: the one URI in its certificate, `spiffe://<trust domain>/node/<name>`, `/platform/<name>` or `/control`.

use berth_model::NodeName;
use std::fmt;
use std::str::FromStr;

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
    /// There is no certificate.
    #[error("no certificate was shown")]
    NoCertificate,
    /// The URI is no identity of Berth's.
    #[error("{0:?} is no identity: spiffe://<trust domain>/control, /node/<name> or /platform/<name> is")]
    NoIdentity(String),
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
        match Holder::from_uri(uri) {
            Ok(holder) if holder.domain == *domain => Ok(holder.identity),
            Ok(_) | Err(_) => Err(IdentityError::Foreign { uri: uri.to_owned(), domain: domain.to_string() }),
        }
    }
}

/// Someone, of whatever trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The fleet.
    pub domain: TrustDomain,
    /// Who in it.
    pub identity: Identity,
}

impl Holder {
    /// Reads a certificate's URI.
    ///
    /// # Errors
    /// When it is no identity of ours.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let stranger = || IdentityError::NoIdentity(uri.to_owned());
        let (domain, path) =
            uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(stranger)?;
        let domain = domain.parse().map_err(|_| stranger())?;
        let identity = match path.split_once('/') {
            None if path == "control" => Identity::Control,
            Some(("node", name)) => Identity::Node(NodeName::new(name).map_err(|_| stranger())?),
            Some(("platform", name)) => Identity::Platform(name.parse().map_err(|_| stranger())?),
            Some(_) | None => return Err(stranger()),
        };
        Ok(Self { domain, identity })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity.uri(&self.domain))
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
        check("spiffe://berth.example/control/", None);
        check("spiffe:///control", None);
        check("https://berth.example/control", None);
        check("", None);
    }

    #[test]
    fn anyones() {
        let holder = Holder::from_uri("spiffe://other.example/node/n1").unwrap();
        assert_eq!(
            (holder.domain.to_string(), holder.identity.to_string()),
            ("other.example".into(), "node/n1".into())
        );
        assert_eq!(holder.to_string(), "spiffe://other.example/node/n1");
        assert!(Holder::from_uri("spiffe://Other/node/n1").is_err());
    }

    #[test]
    fn trust_domains() {
        for bad in ["", "Berth", "a/b", "a:1", "a b", &"a".repeat(256)] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
        }
        assert!("berth.example-1".parse::<TrustDomain>().is_ok());
    }
}
