//! What a container has of its host.

use berth_model::{Access, HostPath};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHostPath {
    source: String,
    path: Option<String>,
    #[serde(default)]
    read_only: bool,
}

/// One entry of a container's `hostPaths`.
#[derive(Debug, Deserialize)]
#[serde(from = "RawHostPath")]
pub(super) struct HostPathField(pub(super) HostPath);

impl From<RawHostPath> for HostPathField {
    fn from(raw: RawHostPath) -> Self {
        let access = if raw.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let path = raw.path.unwrap_or_else(|| raw.source.clone());
        Self(HostPath { source: raw.source, path, access })
    }
}
