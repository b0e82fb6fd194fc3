//! The `CNI_*` variables, which are the parameters of an operation.

use crate::args::PodArgs;
use crate::error::{CniError, Code};
use serde::Deserialize;
use std::ffi::OsString;

/// Looks a variable up. A parameter, so that nothing but `main` reads the process's environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Longest interface name, in bytes: the kernel's IFNAMSIZ less the closing NUL.
const INTERFACE_MAX_BYTES: usize = 15;
/// Longest container id, in bytes. Runtimes use 64; the bound keeps `berthd`'s records small.
const CONTAINER_ID_MAX_BYTES: usize = 253;
/// Longest path that the kernel takes, in bytes: PATH_MAX less the closing NUL.
const PATH_MAX_BYTES: usize = 4095;

/// What the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    /// Attach a container.
    Add,
    /// Forget an attachment.
    Del,
    /// Compare an attachment with what is granted.
    Check,
    /// Forget all attachments but those that are listed.
    Gc,
    /// Say whether ADD can be served.
    Status,
    /// List the versions spoken.
    Version,
}

impl Command {
    /// Reads `CNI_COMMAND`.
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let [name] = require(lookup, ["CNI_COMMAND"])?;
        Self::find(&name)
    }

    fn find(name: &str) -> Result<Self, CniError> {
        match name {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            _ => Err(invalid(format!("CNI_COMMAND {name:?} is not supported"))),
        }
    }
}

/// One interface of one sandbox: what attachments are keyed on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AttachmentKey {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub(crate) sandbox_id: String,
    /// `CNI_IFNAME`.
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

impl AttachmentKey {
    /// Reads what DEL needs. The network namespace may be gone, so nothing looks at `CNI_NETNS`.
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let [sandbox_id, interface] = require(lookup, ["CNI_CONTAINERID", "CNI_IFNAME"])?;
        Self::new(sandbox_id, interface)
    }

    fn new(sandbox_id: String, interface: String) -> Result<Self, CniError> {
        check_container_id(&sandbox_id)?;
        check_interface(&interface)?;
        Ok(Self { sandbox_id, interface })
    }
}

/// An interface of a pod's sandbox, with the network namespace that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Which.
    pub(crate) key: AttachmentKey,
    /// `CNI_NETNS`, an absolute path.
    pub(crate) netns: String,
    /// Whose, from `CNI_ARGS`.
    pub(crate) pod: PodArgs,
}

impl Attachment {
    /// Reads what ADD and CHECK need.
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, CniError> {
        let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"];
        let [sandbox_id, interface, netns] = require(lookup, names)?;
        let key = AttachmentKey::new(sandbox_id, interface)?;
        if !netns.starts_with('/') || netns.len() > PATH_MAX_BYTES {
            return Err(invalid(format!("CNI_NETNS {netns:?} is no absolute path")));
        }
        let args = text(lookup, "CNI_ARGS")?.unwrap_or_default();
        let pod = PodArgs::parse(&args, &key.sandbox_id)?;
        Ok(Self { key, netns, pod })
    }
}

/// The variables, all of which must be there. Reports all that are missing at once.
fn require<const N: usize>(lookup: Lookup<'_>, names: [&str; N]) -> Result<[String; N], CniError> {
    let mut values = [const { String::new() }; N];
    let mut missing = Vec::new();
    for (name, value) in names.into_iter().zip(&mut values) {
        match text(lookup, name)? {
            Some(text) => *value = text,
            None => missing.push(name),
        }
    }
    match missing.is_empty() {
        true => Ok(values),
        false => Err(invalid(format!("{} missing or empty", missing.join(", ")))),
    }
}

/// A variable, if it is set to anything. The specification does not tell unset from empty.
fn text(lookup: Lookup<'_>, name: &str) -> Result<Option<String>, CniError> {
    let text = lookup(name).map(OsString::into_string).transpose();
    let text = text.map_err(|raw| invalid(format!("{name} {raw:?} is not UTF-8")))?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn check_container_id(id: &str) -> Result<(), CniError> {
    match is_plain_name(id) && id.len() <= CONTAINER_ID_MAX_BYTES {
        true => Ok(()),
        false => Err(invalid(format!(
            "CNI_CONTAINERID {id:?} is not 1 to {CONTAINER_ID_MAX_BYTES} letters, digits, _, . and -, the first a letter or digit"
        ))),
    }
}

/// The alphabet that the specification has for container ids and network names.
pub(crate) fn is_plain_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().all(inner) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// The kernel's own rule (dev_valid_name in net/core/dev.c).
fn check_interface(name: &str) -> Result<(), CniError> {
    let forbidden = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    let valid = name.len() <= INTERFACE_MAX_BYTES && !matches!(name, "." | "..") && !name.contains(forbidden);
    match valid {
        true => Ok(()),
        false => Err(invalid(format!(
            "CNI_IFNAME {name:?} is no interface name (at most {INTERFACE_MAX_BYTES} bytes, without / : and white space)"
        ))),
    }
}

/// A variable that is missing or malformed; `details` names it.
pub(crate) fn invalid(details: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, "invalid environment", details)
}
