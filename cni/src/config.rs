//! The network configuration on stdin. A plugin for addresses is handed the main plugin's whole configuration,
//! of which it reads its own part and little else.

use crate::environment::{AttachmentKey, is_plain_name};
use crate::error::{CniError, Code};
use crate::object::Object;
use crate::result::PreviousResult;
use crate::version::SpecVersion;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Where `berthd` listens when the configuration does not say.
pub const DEFAULT_SOCKET: &str = "/run/berth/cni.sock";
/// Where GC finds what is still in use.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// What the `ipam` section must name as its plugin.
const PLUGIN_TYPE: &str = "berth-ipam";
/// Longest path of a Unix socket, in bytes: sun_path in unix(7), less the closing NUL.
const SOCKET_MAX_BYTES: usize = 107;

/// A configuration whose version and name are known to be good.
#[derive(Debug)]
pub(crate) struct NetworkConfig {
    pub(crate) version: SpecVersion,
    /// The network's name, which attachments are of.
    pub(crate) name: String,
    ipam: Option<Value>,
    previous: Option<Value>,
    valid: Option<Value>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "cniVersion")]
    version: Option<String>,
    name: Option<String>,
    ipam: Option<Value>,
    #[serde(rename = "prevResult")]
    previous: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Value>,
}

impl NetworkConfig {
    /// Reads what every command but VERSION needs.
    pub(crate) fn read(stdin: &[u8]) -> Result<Self, CniError> {
        let Object::<Wire>(wire) =
            serde_json::from_slice(stdin).map_err(|error| undecodable("configuration", &error))?;
        let version = SpecVersion::of_config(wire.version.as_deref())?;
        let name = wire.name.unwrap_or_default();
        check_name(&name)?;
        Ok(Self { version, name, ipam: wire.ipam, previous: wire.previous, valid: wire.valid })
    }

    /// Our own section: where `berthd` listens.
    pub(crate) fn socket(&self) -> Result<PathBuf, CniError> {
        let Some(Value::Object(ipam)) = &self.ipam else {
            return Err(invalid("ipam is no object".to_owned()));
        };
        if let Some((key, value)) = ipam.iter().find(|(key, _)| !matches!(key.as_str(), "type" | "socket")) {
            let details = format!("ipam.{key} is {value}; known are type and socket");
            return Err(CniError::new(Code::UnsupportedField, "unsupported field", details));
        }
        match ipam.get("type") {
            Some(Value::String(plugin)) if plugin == PLUGIN_TYPE => socket_of(ipam),
            other => Err(invalid(format!("ipam.type is {} instead of {PLUGIN_TYPE:?}", shown(other)))),
        }
    }

    /// What ADD gave, which CHECK compares with.
    pub(crate) fn previous_result(self) -> Result<PreviousResult, CniError> {
        let missing = || invalid("prevResult is missing, which CHECK compares with".to_owned());
        let previous = self.previous.ok_or_else(missing)?;
        let decoded = serde_json::from_value(previous).map(|Object(previous)| previous);
        decoded.map_err(|error| undecodable("prevResult", &error))
    }
}

impl NetworkConfig {
    /// The attachments that GC must spare. A list that is not there is not an empty one: it would end them all.
    pub(crate) fn valid_attachments(self) -> Result<Vec<AttachmentKey>, CniError> {
        let missing =
            || invalid(format!("{VALID_ATTACHMENTS} is missing, by which GC tells what is left over"));
        let valid = self.valid.filter(|valid| !valid.is_null()).ok_or_else(missing)?;
        let decoded = serde_json::from_value::<Vec<Object<AttachmentKey>>>(valid);
        let decoded = decoded.map_err(|error| undecodable(VALID_ATTACHMENTS, &error))?;
        Ok(decoded.into_iter().map(|Object(key)| key).collect())
    }
}

/// The version to answer in, also when the rest of the configuration is no good.
pub(crate) fn spoken_version(stdin: &[u8]) -> SpecVersion {
    requested_version(stdin).and_then(|version| SpecVersion::find(&version)).unwrap_or(SpecVersion::NEWEST)
}

/// The `cniVersion` of the input, whatever it is.
pub(crate) fn requested_version(stdin: &[u8]) -> Option<String> {
    let wire: Map<String, Value> = serde_json::from_slice(stdin).ok()?;
    wire.get("cniVersion").and_then(Value::as_str).map(str::to_owned)
}

fn check_name(name: &str) -> Result<(), CniError> {
    match is_plain_name(name) {
        true => Ok(()),
        false => Err(invalid(format!(
            "network name {name:?} is not made of letters, digits, _, . and -, the first a letter or digit"
        ))),
    }
}

fn socket_of(ipam: &Map<String, Value>) -> Result<PathBuf, CniError> {
    match ipam.get("socket") {
        None => Ok(PathBuf::from(DEFAULT_SOCKET)),
        Some(Value::String(path)) if is_socket_path(path) => Ok(PathBuf::from(path)),
        other => Err(invalid(format!(
            "ipam.socket {} is no absolute path of at most {SOCKET_MAX_BYTES} bytes",
            shown(other)
        ))),
    }
}

fn is_socket_path(path: &str) -> bool {
    Path::new(path).is_absolute() && path.len() <= SOCKET_MAX_BYTES && !path.contains('\0')
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "missing".to_owned(), Value::to_string)
}

fn invalid(details: String) -> CniError {
    CniError::new(Code::InvalidConfig, "invalid network configuration", details)
}

fn undecodable(what: &str, error: &serde_json::Error) -> CniError {
    CniError::new(Code::Decoding, format!("cannot decode the {what}"), error.to_string())
}
