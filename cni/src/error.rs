//! The error object of the specification.

use crate::version::SpecVersion;
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// Error codes: those below 100 are the specification's, those from 100 are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Code {
    /// 1: the configuration's version is not spoken, or has no such command.
    IncompatibleVersion = 1,
    /// 2: a key in the configuration that nothing here knows.
    UnsupportedField = 2,
    /// 3: `berthd` knows no such attachment, so there is nothing to clean up.
    UnknownContainer = 3,
    /// 4: a variable of the environment is missing or malformed.
    InvalidEnvironment = 4,
    /// 5: stdin could not be read.
    Io = 5,
    /// 6: the configuration could not be decoded.
    Decoding = 6,
    /// 7: the configuration was decoded and makes no sense.
    InvalidConfig = 7,
    /// 11: `berthd` does not answer, or is busy.
    TryAgainLater = 11,
    /// 50: `berthd` does not answer, in reply to STATUS.
    NotAvailable = 50,
    /// 100: no address is granted to the pod on this node.
    NoGrant = 100,
    /// 101: `berthd` refused: another incarnation, or the address is attached elsewhere.
    Refused = 101,
    /// 102: the container has another address than the one granted.
    Mismatch = 102,
    /// 103: `berthd` answered what the plugin cannot use.
    UnexpectedAnswer = 103,
}

/// Why an operation failed, as the caller will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CniError {
    code: Code,
    message: String,
    details: String,
}

impl CniError {
    /// A short `message` that says what failed, and longer `details` that say why and name the values.
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    /// The error object in the words of `version`.
    pub(crate) fn to_json(&self, version: SpecVersion) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(rename = "cniVersion")]
            version: SpecVersion,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        crate::result::to_json(&Object {
            version,
            code: self.code as u32,
            msg: &self.message,
            details: &self.details,
        })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.details.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.message, self.details),
        }
    }
}

impl Error for CniError {}

/// An error and what caused it, in one line. A source whose text its holder repeats is said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let reason = source.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        next = source.source();
    }
    text
}
