//! The token by which a node joins, once: `berth1.<id>.<secret>.<sha256 of the authority's certificate>`.

/// Longest text that is looked at.
const MAX_BYTES: usize = 256;
/// Bytes of a sha256.
const FINGERPRINT_BYTES: usize = 32;

/// A token as it was handed to this node.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    fingerprint: [u8; FINGERPRINT_BYTES],
}

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token is not of the form berth1.<id>.<secret>.<fingerprint>: copy it whole, as `berth-control token create` prints it"
)]
pub struct NotAToken;

impl Token {
    /// Reads a token's text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(NotAToken);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let ["berth1", id, secret, fingerprint] = parts.as_slice() else {
            return Err(NotAToken);
        };
        if !is_hex(id) || !is_hex(secret) {
            return Err(NotAToken);
        }
        let fingerprint = unhex(fingerprint).ok_or(NotAToken)?;
        Ok(Self { text: text.to_owned(), fingerprint })
    }

    /// sha256 of the authority's certificate: the one root that this token trusts.
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        self.fingerprint
    }

    /// The whole text, secret included, for the server.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn unhex(text: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    if !is_hex(text) || text.len() != FINGERPRINT_BYTES * 2 {
        return None;
    }
    let mut bytes = [0; FINGERPRINT_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(Token::parse(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn texts() {
        let (id, secret, print) = ("0".repeat(16), "1".repeat(64), "2f".repeat(32));
        check(&format!("berth1.{id}.{secret}.{print}\n"), true);
        check("", false);
        check("berth1", false);
        check(&format!("berth2.{id}.{secret}.{print}"), false);
        check(&format!("berth1.{id}.{secret}"), false);
        check(&format!("berth1.{id}.{secret}.{print}.x"), false);
        check(&format!("berth1.{id}.{secret}.{}", &print[1..]), false);
        check(&format!("berth1.{id}.{secret}.{}", "G".repeat(64)), false);
        check(&format!("berth1.{id}..{print}"), false);
        check(&"berth1.".repeat(100), false);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let token =
            Token::parse(&format!("berth1.{}.{}.{}", "0", "5ec7e7".replace('7', "a"), "2f".repeat(32)));
        let token = token.unwrap();
        assert!(!format!("{token:?}").contains("5ecaea"));
        assert_eq!(token.fingerprint(), [0x2f; 32]);
    }
}
