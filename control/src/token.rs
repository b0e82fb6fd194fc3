//! Tokens by which a node joins, once: `berth1.<id>.<secret>.<sha256 of the authority's certificate>`.
//!
//! The last part is for the node: it accepts the server on the enrollment port only if that certificate is the root
//! of the server's chain. Only a hash of the secret is ever stored.

use crate::random::{self, NoRandomness};
use sha2::{Digest, Sha256};

/// Version of the text.
const PREFIX: &str = "berth1";
/// Longest text that is looked at.
const MAX_BYTES: usize = 256;

/// A token, as it is handed to a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Which one; not secret.
    pub id: String,
    secret: String,
    /// sha256 of the authority's certificate, hexadecimal.
    pub fingerprint: String,
}

/// A text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token is not of the form berth1.<id>.<secret>.<fingerprint>")]
pub struct NotAToken;

impl Token {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(fingerprint: String) -> Result<Self, NoRandomness> {
        Ok(Self {
            id: random::hex(&random::bytes::<8>()?),
            secret: random::hex(&random::bytes::<32>()?),
            fingerprint,
        })
    }

    /// Reads a token's text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        if text.len() > MAX_BYTES {
            return Err(NotAToken);
        }
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, fingerprint] = parts.as_slice() else {
            return Err(NotAToken);
        };
        let hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = hex(id, 16) && hex(secret, 64) && hex(fingerprint, 64);
        valid
            .then(|| Self {
                id: (*id).to_owned(),
                secret: (*secret).to_owned(),
                fingerprint: (*fingerprint).to_owned(),
            })
            .ok_or(NotAToken)
    }

    /// What is stored of the secret. It has 256 random bits, so one plain hash is enough.
    pub fn secret_hash(&self) -> Vec<u8> {
        Sha256::digest(self.secret.as_bytes()).to_vec()
    }

    /// The whole text, secret included.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}", self.id, self.secret, self.fingerprint)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_written_and_read() {
        let token = Token::generate("ab".repeat(32)).unwrap();
        assert_eq!(Token::parse(&format!("{}\n", token.reveal())).unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        assert_ne!(Token::generate(String::new()).unwrap().secret, token.secret);
    }

    #[test]
    fn other_texts() {
        let (id, secret, print) = ("0".repeat(16), "1".repeat(64), "2".repeat(64));
        for bad in [
            String::new(),
            format!("berth2.{id}.{secret}.{print}"),
            format!("berth1.{id}.{secret}"),
            format!("berth1.{id}.{secret}.{print}.x"),
            format!("berth1.{id}.{}.{print}", &secret[1..]),
            format!("berth1.{id}.{}.{print}", "G".repeat(64)),
            "berth1.".repeat(100),
        ] {
            assert_eq!(Token::parse(&bad), Err(NotAToken), "{bad}");
        }
    }
}
