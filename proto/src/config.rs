//! Configuration files.

use crate::error::{At, InvalidMessage, Result, each};
use crate::v1;
use berth_model::{ConfigFile, ConfigFolder, ConfigMode};

pub(crate) fn config_from(wire: Vec<v1::ConfigFolder>) -> Result<Vec<ConfigFolder>> {
    each(wire, "config", |wire| {
        Ok(ConfigFolder { path: wire.path, files: each(wire.files, "files", file_from)? })
    })
}

fn file_from(wire: v1::ConfigFile) -> Result<ConfigFile> {
    let mode = match wire.mode {
        0 => ConfigMode::DEFAULT,
        bits => ConfigMode::new(bits).map_err(|error| InvalidMessage::new("", error)).at("mode")?,
    };
    Ok(ConfigFile { name: wire.name, content: wire.content, mode })
}

impl From<&ConfigFolder> for v1::ConfigFolder {
    fn from(folder: &ConfigFolder) -> Self {
        Self { path: folder.path.clone(), files: folder.files.iter().map(Into::into).collect() }
    }
}

impl From<&ConfigFile> for v1::ConfigFile {
    fn from(file: &ConfigFile) -> Self {
        Self { name: file.name.clone(), content: file.content.clone(), mode: file.mode.bits() }
    }
}
