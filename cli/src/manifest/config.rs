//! A container's configuration files.

use super::scalar::{Base64, FileMode};
use berth_model::{ConfigFile, ConfigFolder, ConfigMode};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFolder {
    path: String,
    files: Vec<FileField>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    content: Option<String>,
    base64: Option<Base64>,
    mode: Option<FileMode>,
}

/// One entry of a container's `config`.
#[derive(Debug, Deserialize)]
#[serde(from = "RawFolder")]
pub(super) struct FolderField(pub(super) ConfigFolder);

impl From<RawFolder> for FolderField {
    fn from(raw: RawFolder) -> Self {
        let files = raw.files.into_iter().map(|file| file.0).collect();
        Self(ConfigFolder { path: raw.path, files })
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawFile")]
struct FileField(ConfigFile);

impl TryFrom<RawFile> for FileField {
    type Error = String;

    fn try_from(raw: RawFile) -> Result<Self, String> {
        let RawFile { name, content, base64, mode } = raw;
        let content = match (content, base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(bytes)) => bytes.0,
            (Some(_), Some(_)) => {
                return Err(format!("file {name}: content and base64 exclude each other"));
            }
            (None, None) => return Err(format!("file {name}: neither content nor base64 is given")),
        };
        let mode = mode.map_or(ConfigMode::DEFAULT, |mode| mode.0);
        Ok(Self(ConfigFile { name, content, mode }))
    }
}
