//! Image names and digests, as in the OCI distribution specification.

use std::fmt;
use std::str::FromStr;

/// Why an image name or digest was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// No `registry/repository:tag` or `registry/repository@digest`.
    #[error("image {0:?} is not of the form registry/repository:tag or registry/repository@sha256:…")]
    NotAName(String),
    /// No sha256 digest.
    #[error("digest {0:?} is not sha256: and 64 hexadecimal digits in lower case")]
    NotADigest(String),
}

/// A sha256 digest of a manifest or blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest as text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidImage;
    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let valid =
            text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidImage::NotADigest(text.to_owned())) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A full image name: registry, repository, and a tag or a digest. Nothing is defaulted:
/// a short name would mean another image on another host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageName {
    /// Registry and repository, such as `registry.example:5000/shop/web`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest that the name pins, if it does.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same repository at exactly `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }
}

fn is_repository(text: &str) -> bool {
    let Some((registry, path)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "5000"));
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let path_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let component = |part: &str| {
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !part.is_empty()
            && part.bytes().all(path_byte)
            && part.as_bytes().first().is_some_and(edge)
            && part.as_bytes().last().is_some_and(edge)
    };
    // Without a dot or a port the first part would be read as a path below a default registry.
    let names_registry = registry.contains('.') || registry.contains(':') || registry == "localhost";
    names_registry
        && text.len() <= 255
        && !host.is_empty()
        && host.bytes().all(host_byte)
        && port.parse::<u16>().is_ok()
        && path.split('/').all(component)
}

fn is_tag(text: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len())
        && text.bytes().all(byte)
        && text.as_bytes().first().is_some_and(|first| first.is_ascii_alphanumeric() || *first == b'_')
}

impl FromStr for ImageName {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let not_a_name = || InvalidImage::NotAName(text.to_owned());
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let after_slash = name.rfind('/').ok_or_else(not_a_name)?;
        let (repository, tag) = match name[after_slash..].find(':') {
            Some(colon) => (&name[..after_slash + colon], Some(&name[after_slash + colon + 1..])),
            None => (name, None),
        };
        let named = tag.is_some() || digest.is_some();
        if !named || !is_repository(repository) || !tag.is_none_or(is_tag) {
            return Err(not_a_name());
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        let parsed = text.parse::<ImageName>();
        assert_eq!(parsed.is_ok(), valid, "{text:?}");
        if let Ok(name) = parsed {
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn names() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        check("registry.example/shop/web:1.2", true);
        check("10.88.0.1:5000/library/redis:7", true);
        check("localhost/web:1", true);
        check(&format!("registry.example/web@{digest}"), true);
        check(&format!("registry.example/web:1@{digest}"), true);
        check("redis", false);
        check("redis:7", false);
        check("library/redis:7", false);
        check("registry.example/web", false);
        check("registry.example/Web:1", false);
        check("registry.example/web:", false);
        check("registry.example/../web:1", false);
        check("registry.example:x/web:1", false);
        check("registry.example/web@sha256:abc", false);
        check("", false);
    }
}
