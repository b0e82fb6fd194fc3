//! From the environment and stdin to a request: everything foreign is checked here, before anything happens.

use crate::config::{NetworkConfig, requested_version};
use crate::environment::{Attachment, AttachmentKey, Command, Lookup};
use crate::error::{CniError, Code};
use crate::result::PreviousResult;
use crate::version::SpecVersion;
use std::path::PathBuf;

/// Longest configuration that is read, in bytes. Real ones have a few hundred; results in them a few thousand.
pub const STDIN_LIMIT_BYTES: u64 = 1 << 20;

/// A well-formed request.
#[derive(Debug)]
pub(crate) enum Request {
    /// Attach, and print the address in the words of `version`.
    Add {
        /// What the configuration speaks.
        version: SpecVersion,
        /// Where `berthd` listens.
        socket: PathBuf,
        /// To which network.
        network: String,
        /// Whose, and where.
        attachment: Attachment,
    },
    /// Detach.
    Del {
        /// Where `berthd` listens. A wrong one is noted, and fails nothing.
        socket: Result<PathBuf, CniError>,
        /// Which.
        key: AttachmentKey,
    },
    /// Compare.
    Check {
        /// Where `berthd` listens.
        socket: PathBuf,
        /// Whose, and where.
        attachment: Attachment,
        /// What ADD gave.
        previous: PreviousResult,
    },
    /// Detach everything else.
    Gc {
        /// Where `berthd` listens.
        socket: PathBuf,
        /// From which network.
        network: String,
        /// What is still in use.
        valid: Vec<AttachmentKey>,
    },
    /// Say whether ADD can be served.
    Status {
        /// Where `berthd` listens.
        socket: PathBuf,
    },
    /// List the versions spoken.
    Version {
        /// What the caller speaks.
        asked: String,
    },
}

impl Request {
    /// Reads and checks a request. Does no I/O.
    pub(crate) fn read(lookup: Lookup<'_>, stdin: &[u8]) -> Result<Self, CniError> {
        match Command::read(lookup)? {
            Command::Add => {
                let attachment = Attachment::read(lookup)?;
                let config = network(stdin)?;
                let (version, socket) = (config.version, config.socket()?);
                Ok(Self::Add { version, socket, network: config.name, attachment })
            }
            Command::Del => {
                let key = AttachmentKey::read(lookup)?;
                let socket = network(stdin)?.socket();
                Ok(Self::Del { socket, key })
            }
            Command::Check => {
                let attachment = Attachment::read(lookup)?;
                let config = network(stdin)?;
                config.version.require(SpecVersion::V0_4_0, "CHECK")?;
                let (socket, previous) = (config.socket()?, config.previous_result()?);
                Ok(Self::Check { socket, attachment, previous })
            }
            Command::Gc => {
                let config = network(stdin)?;
                config.version.require(SpecVersion::V1_1_0, "GC")?;
                let (socket, network) = (config.socket()?, config.name.clone());
                Ok(Self::Gc { socket, network, valid: config.valid_attachments()? })
            }
            Command::Status => {
                let config = network(stdin)?;
                config.version.require(SpecVersion::V1_1_0, "STATUS")?;
                Ok(Self::Status { socket: config.socket()? })
            }
            Command::Version => {
                let newest = || SpecVersion::NEWEST.to_string();
                Ok(Self::Version { asked: requested_version(stdin).unwrap_or_else(newest) })
            }
        }
    }
}

fn network(stdin: &[u8]) -> Result<NetworkConfig, CniError> {
    let length_bytes = u64::try_from(stdin.len()).unwrap_or(u64::MAX);
    if length_bytes > STDIN_LIMIT_BYTES {
        let details = format!("it is longer than {STDIN_LIMIT_BYTES} bytes");
        return Err(CniError::new(Code::Decoding, "cannot decode the configuration", details));
    }
    NetworkConfig::read(stdin)
}
