//! Data disks of a pod, their mounts, and the size of a system disk.

use super::scalar::{Device, DiskLabel, Size};
use berth_model::{Access, Bytes, DataDisk, DiskLife, DiskMount, DiskSource, Filesystem};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawDisk {
    name: DiskLabel,
    size: Option<Size>,
    device: Option<RawDevice>,
    memory: Option<Size>,
    page_size: Option<Size>,
    #[serde(default)]
    movable: bool,
    #[serde(default)]
    scratch: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    id: Device,
    filesystem: Option<RawFilesystem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFilesystem {
    Ext4,
    Xfs,
}

/// One entry of `spec.disks`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawDisk")]
struct DiskField(DataDisk);

/// `spec.disks`.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Vec<DiskField>")]
pub(super) struct DisksField(pub(super) Vec<DataDisk>);

impl From<Vec<DiskField>> for DisksField {
    fn from(fields: Vec<DiskField>) -> Self {
        Self(fields.into_iter().map(|field| field.0).collect())
    }
}

impl TryFrom<RawDisk> for DiskField {
    type Error = String;

    fn try_from(raw: RawDisk) -> Result<Self, String> {
        let source = match (raw.device, raw.memory, raw.size) {
            (Some(_), Some(_), _) => return Err("device and memory exclude each other".to_owned()),
            (Some(_), None, Some(_)) => {
                return Err("size goes with a directory only: a device has the size it has".to_owned());
            }
            (None, Some(_), Some(_)) => {
                return Err("size goes with a directory only: memory says its size itself".to_owned());
            }
            (Some(device), None, None) => DiskSource::Device {
                id: device.id.0,
                filesystem: device.filesystem.map_or_else(Filesystem::default, Into::into),
            },
            (None, Some(size), None) => {
                DiskSource::Memory { size: size.0, page_size: raw.page_size.as_ref().map(|size| size.0) }
            }
            (None, None, size) => DiskSource::Directory { size: size.map(|size| size.0) },
        };
        if raw.page_size.is_some() && !matches!(source, DiskSource::Memory { .. }) {
            return Err("pageSize goes with memory only".to_owned());
        }
        let scratch = raw.scratch || matches!(source, DiskSource::Memory { .. });
        let life = match (raw.movable, scratch) {
            (true, true) => {
                return Err("movable does not go with scratch: it ends where its pod leaves".to_owned());
            }
            (true, false) => DiskLife::Movable,
            (false, true) => DiskLife::Scratch,
            (false, false) => DiskLife::Kept,
        };
        Ok(Self(DataDisk { name: raw.name.0, source, life }))
    }
}

impl From<RawFilesystem> for Filesystem {
    fn from(raw: RawFilesystem) -> Self {
        match raw {
            RawFilesystem::Ext4 => Self::Ext4,
            RawFilesystem::Xfs => Self::Xfs,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMount {
    disk: DiskLabel,
    path: String,
    #[serde(default)]
    read_only: bool,
}

/// One entry of a container's `mounts`.
#[derive(Debug, Deserialize)]
#[serde(from = "RawMount")]
pub(super) struct MountField(pub(super) DiskMount);

impl From<RawMount> for MountField {
    fn from(raw: RawMount) -> Self {
        let access = if raw.read_only { Access::ReadOnly } else { Access::ReadWrite };
        Self(DiskMount { disk: raw.disk.0, path: raw.path, access })
    }
}

/// A container's `systemDisk`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemDiskField {
    size: Size,
}

impl SystemDiskField {
    pub(super) fn size(&self) -> Bytes {
        self.size.0
    }
}
