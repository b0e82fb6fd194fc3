//! Names and counters. Names are DNS labels (RFC 1123): they end up in host names, paths and cgroup names.

use std::fmt;
use std::str::FromStr;

/// Longest DNS label, in bytes (RFC 1123 section 2.1).
const LABEL_MAX_BYTES: usize = 63;

/// Why a name was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is empty.
    #[error("name is empty")]
    Empty,
    /// The name is longer than a DNS label may be.
    #[error("name {0:?} is longer than 63 bytes")]
    TooLong(String),
    /// The name is no DNS label.
    #[error("name {0:?} is no DNS label (lower-case letters, digits and inner dashes only)")]
    NotALabel(String),
    /// A pod identity is not of the form `namespace/name`.
    #[error("pod identity {0:?} is not of the form namespace/name")]
    NotAnIdentity(String),
    /// An order id is not 26 characters of Crockford base 32.
    #[error("order id {0:?} is no ULID")]
    NotAUlid(String),
}

fn check_label(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > LABEL_MAX_BYTES {
        return Err(InvalidName::TooLong(text.to_owned()));
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: u8| byte != b'-';
    let bytes = text.as_bytes();
    let valid = bytes.iter().copied().all(inner) && edge(bytes[0]) && edge(bytes[bytes.len() - 1]);
    valid.then_some(()).ok_or_else(|| InvalidName::NotALabel(text.to_owned()))
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses a DNS label.
            ///
            /// # Errors
            /// When the text is no DNS label of at most 63 bytes.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check_label(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    };
}

label! {
    /// Name of a container, unique in its pod.
    ContainerName
}
label! {
    /// Name of a data disk, unique in its pod.
    DiskName
}
label! {
    /// Name of a node, unique in the fleet.
    NodeName
}
label! {
    /// Name of a pool: of shared CPUs on a node, or of addresses in a layer-2 domain.
    PoolName
}
label! {
    /// Name of a rollout, unique among those that are remembered.
    RolloutName
}

/// A pod's identity, `namespace/name`: unique in the fleet and stable over restarts, reboots and moves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    namespace: String,
    name: String,
}

impl PodId {
    /// Makes an identity of two DNS labels.
    ///
    /// # Errors
    /// When either is no DNS label.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, InvalidName> {
        let (namespace, name) = (namespace.into(), name.into());
        check_label(&namespace)?;
        check_label(&name)?;
        Ok(Self { namespace, name })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name inside the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (namespace, name) =
            text.split_once('/').ok_or_else(|| InvalidName::NotAnIdentity(text.to_owned()))?;
        Self::new(namespace, name)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The next value.
            ///
            /// # Panics
            /// When the counter is exhausted, which one increment a nanosecond would take centuries to reach.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("counter exhausted"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Set by the control plane at each placement of an identity. A node that holds an older one is fenced.
    Incarnation(u64)
}
counter! {
    /// Revision of the spec inside one incarnation.
    Generation(u64)
}
counter! {
    /// Per identity, on every order that changes something. The ledger keeps its high-water mark for ever.
    Seq(u64)
}
counter! {
    /// The control plane's leadership term. Orders of a term below the highest seen are refused.
    Term(u64)
}
counter! {
    /// Local counter of sandboxes, and of each container's successors.
    Attempt(u32)
}

/// Identity of one order: a ULID, 26 characters of Crockford base 32.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(String);

impl OrderId {
    /// Parses a ULID, upper case.
    ///
    /// # Errors
    /// When the text is no ULID.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let crockford = |byte: u8| {
            byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !matches!(byte, b'I' | b'L' | b'O' | b'U'))
        };
        // The first character carries three bits: 26 × 5 is 130, a ULID has 128.
        let valid =
            text.len() == 26 && text.bytes().all(crockford) && matches!(text.as_bytes()[0], b'0'..=b'7');
        if valid { Ok(Self(text)) } else { Err(InvalidName::NotAUlid(text)) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OrderId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(ContainerName::new(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn labels() {
        check("web", true);
        check("0-a-9", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        check("", false);
        check("-web", false);
        check("web-", false);
        check("Web", false);
        check("we.b", false);
        check("we/b", false);
        check("wéb", false);
        check("..", false);
    }

    #[test]
    fn identities() {
        assert_eq!("shop/web".parse::<PodId>().unwrap().to_string(), "shop/web");
        for bad in ["web", "a/b/c", "/web", "shop/", "Shop/web", ""] {
            assert!(bad.parse::<PodId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ulids() {
        assert!(OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").is_ok());
        for bad in
            ["", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU"]
        {
            assert!(OrderId::new(bad).is_err(), "{bad:?}");
        }
    }
}
