//! Data disks and where containers see them.

use crate::error::{At, InvalidMessage, Result, each};
use crate::pod::enumeration;
use crate::v1;
use berth_model::{Access, Bytes, DataDisk, DeviceId, DiskLife, DiskMount, DiskSource, Filesystem};

enumeration!(Filesystem, filesystem_from, default Ext4, { Ext4, Xfs });
enumeration!(Access, access_from, default ReadWrite, { ReadWrite, ReadOnly });

pub(crate) fn disks_from(wire: Vec<v1::DataDisk>) -> Result<Vec<DataDisk>> {
    each(wire, "disks", |wire| {
        Ok(DataDisk {
            name: wire.name.parse().at("name")?,
            source: source_from(wire.source)?,
            life: match (wire.movable, wire.scratch) {
                (false, false) => DiskLife::Kept,
                (true, false) => DiskLife::Movable,
                (false, true) => DiskLife::Scratch,
                (true, true) => {
                    return Err(InvalidMessage::new(
                        "movable",
                        "scratch does not go along when its pod moves",
                    ));
                }
            },
        })
    })
}

fn source_from(wire: Option<v1::data_disk::Source>) -> Result<DiskSource> {
    use v1::data_disk::Source;
    match wire {
        Some(Source::Directory(wire)) => Ok(DiskSource::Directory { size: wire.size_bytes.map(Bytes) }),
        Some(Source::Device(wire)) => Ok(DiskSource::Device {
            id: wire.id.parse::<DeviceId>().at("device.id")?,
            filesystem: filesystem_from(wire.filesystem).at("device.filesystem")?,
        }),
        Some(Source::Memory(wire)) => Ok(DiskSource::Memory {
            size: Bytes(wire.size_bytes),
            page_size: wire.page_size_bytes.map(Bytes),
        }),
        None => Err(InvalidMessage::missing("source")),
    }
}

pub(crate) fn mounts_from(wire: Vec<v1::DiskMount>) -> Result<Vec<DiskMount>> {
    each(wire, "mounts", |wire| {
        Ok(DiskMount {
            disk: wire.disk.parse().at("disk")?,
            path: wire.path,
            access: access_from(wire.access).at("access")?,
        })
    })
}

impl From<&DataDisk> for v1::DataDisk {
    fn from(disk: &DataDisk) -> Self {
        use v1::data_disk::Source;
        let source = match &disk.source {
            DiskSource::Directory { size } => {
                Source::Directory(v1::DirectoryDisk { size_bytes: size.map(|size| size.0) })
            }
            DiskSource::Device { id, filesystem } => Source::Device(v1::DeviceDisk {
                id: id.to_string(),
                filesystem: v1::Filesystem::from(*filesystem).into(),
            }),
            DiskSource::Memory { size, page_size } => Source::Memory(v1::MemoryDisk {
                size_bytes: size.0,
                page_size_bytes: page_size.map(|size| size.0),
            }),
        };
        let (movable, scratch) = match disk.life {
            DiskLife::Kept => (false, false),
            DiskLife::Movable => (true, false),
            DiskLife::Scratch => (false, true),
        };
        Self { name: disk.name.to_string(), source: Some(source), movable, scratch }
    }
}

impl From<&DiskMount> for v1::DiskMount {
    fn from(mount: &DiskMount) -> Self {
        Self {
            disk: mount.disk.to_string(),
            path: mount.path.clone(),
            access: v1::Access::from(mount.access).into(),
        }
    }
}
