//! Which disk is beneath which mount point.
//!
//! `io.max` takes whole disks only, so a partition is followed to its disk. All mount points are resolved at once
//! into [`BlockDevices`], a plain table, so that planning stays pure.

use crate::{BlockDevice, DeviceId, DeviceKind, Mount, NoDevice, parse_mountinfo};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// The mount table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read mount table {path}")]
pub struct DevicesError {
    path: String,
    #[source]
    source: io::Error,
}

/// The disk beneath each mount point of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockDevices {
    by_mount_point: BTreeMap<String, Result<BlockDevice, NoDevice>>,
}

impl BlockDevices {
    /// A table that is known already. Of two entries for one mount point the later counts.
    pub fn new(entries: impl IntoIterator<Item = (String, Result<BlockDevice, NoDevice>)>) -> Self {
        Self { by_mount_point: entries.into_iter().collect() }
    }

    /// Resolves every mount point of a `mountinfo` file (usually `/proc/1/mountinfo`, the host's own view) against a
    /// sysfs (usually `/sys`).
    ///
    /// # Errors
    /// When the mount table cannot be read. A single mount that cannot be resolved is an entry that says why.
    pub fn read(mountinfo: &Path, sysfs: &Path) -> Result<Self, DevicesError> {
        let text = fs::read_to_string(mountinfo)
            .map_err(|source| DevicesError { path: mountinfo.display().to_string(), source })?;
        let mounts = parse_mountinfo(&text);
        Ok(Self::new(mounts.into_iter().map(|mount| {
            let device = resolve(&mount, sysfs);
            (mount.mount_point, device)
        })))
    }

    /// The disk beneath a mount point.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(&self, mount_point: &str) -> Result<BlockDevice, NoDevice> {
        self.by_mount_point.get(mount_point).cloned().unwrap_or(Err(NoDevice::NotAMountPoint))
    }

    /// The mount points that have a disk beneath, ascending: those that I/O limits can name.
    pub fn mount_points(&self) -> impl Iterator<Item = (&str, BlockDevice)> {
        self.by_mount_point
            .iter()
            .filter_map(|(point, device)| Some((point.as_str(), *device.as_ref().ok()?)))
    }
}

fn resolve(mount: &Mount, sysfs: &Path) -> Result<BlockDevice, NoDevice> {
    if mount.device.is_anonymous() {
        return Err(NoDevice::Anonymous { filesystem: mount.filesystem.clone() });
    }
    whole_disk(mount.device, sysfs).map_err(|why| NoDevice::Unknown { device: mount.device, why })
}

fn whole_disk(device: DeviceId, sysfs: &Path) -> Result<BlockDevice, String> {
    let link = sysfs.join("dev/block").join(device.to_string());
    let directory =
        fs::canonicalize(&link).map_err(|error| format!("resolve {}: {error}", link.display()))?;
    // The directory of a partition lies inside that of its disk.
    let disk = match directory.join("partition").exists() {
        true => directory.parent().ok_or_else(|| format!("partition {} has no disk", directory.display()))?,
        false => &directory,
    };
    let number = disk.join("dev");
    let text = fs::read_to_string(&number).map_err(|error| format!("read {}: {error}", number.display()))?;
    let id = text.trim().parse().map_err(|error| format!("{}: {error}", number.display()))?;
    Ok(BlockDevice { id, kind: kind(disk) })
}

fn kind(disk: &Path) -> DeviceKind {
    let made_of_others = fs::read_dir(disk.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    match made_of_others {
        true => DeviceKind::Stacked,
        false => DeviceKind::Disk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// vda with partition vda1, vdb whole, dm-0 upon vdb.
    fn sysfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, files: &[(&str, &str)]| {
            let directory = root.path().join("devices").join(path);
            fs::create_dir_all(&directory).unwrap();
            for (name, text) in files {
                fs::write(directory.join(name), text).unwrap();
            }
            let number = files.iter().find(|(name, _)| *name == "dev").unwrap().1.trim();
            fs::create_dir_all(root.path().join("dev/block")).unwrap();
            symlink(format!("../../devices/{path}"), root.path().join("dev/block").join(number)).unwrap();
        };
        make("pci/block/vda", &[("dev", "254:0\n")]);
        make("pci/block/vda/vda1", &[("dev", "254:1\n"), ("partition", "1\n")]);
        make("pci/block/vdb", &[("dev", "254:16\n")]);
        fs::create_dir_all(root.path().join("devices/pci/block/vdb/slaves")).unwrap();
        make("virtual/block/dm-0", &[("dev", "253:0\n")]);
        fs::create_dir_all(root.path().join("devices/virtual/block/dm-0/slaves/vdb")).unwrap();
        make("broken/block/xvda", &[("dev", "202:0\n")]);
        fs::write(root.path().join("devices/broken/block/xvda/dev"), "nonsense").unwrap();
        root
    }

    const MOUNTINFO: &str = "\
        29 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
        30 29 254:16 / /data rw - xfs /dev/vdb rw\n\
        31 29 253:0 / /lvm rw - ext4 /dev/mapper/x rw\n\
        32 29 0:33 / /run rw - tmpfs tmpfs rw\n\
        33 29 202:0 / /broken rw - ext4 /dev/xvda rw\n\
        34 29 8:99 / /lost rw - ext4 /dev/sdz rw\n\
        35 29 0:40 / /twice rw - tmpfs tmpfs rw\n\
        36 35 254:16 /sub /twice rw - xfs /dev/vdb rw\n";

    fn check(mount_point: &str, expected: &str) {
        let root = sysfs();
        let mountinfo = root.path().join("mountinfo");
        fs::write(&mountinfo, MOUNTINFO).unwrap();
        let devices = BlockDevices::read(&mountinfo, root.path()).unwrap();
        let said = match devices.get(mount_point) {
            Ok(device) => format!("{} {:?}", device.id, device.kind),
            Err(why) => why.to_string(),
        };
        assert!(said.contains(expected), "{mount_point}: {said}");
    }

    #[test]
    fn mount_points() {
        check("/", "254:0 Disk");
        check("/data", "254:16 Disk");
        check("/lvm", "253:0 Stacked");
        check("/run", "filesystem tmpfs has no single block device beneath");
        check("/broken", "\"nonsense\" is no device number");
        check("/lost", "block device 8:99: resolve");
        check("/twice", "254:16 Disk");
        check("/nowhere", "nothing is mounted there");
        check("/data/", "nothing is mounted there");
    }

    #[test]
    fn those_that_limits_can_name() {
        let root = sysfs();
        let mountinfo = root.path().join("mountinfo");
        fs::write(&mountinfo, MOUNTINFO).unwrap();
        let devices = BlockDevices::read(&mountinfo, root.path()).unwrap();
        let points: Vec<_> = devices.mount_points().map(|(point, _)| point).collect();
        assert_eq!(points, ["/", "/data", "/lvm", "/twice"]);
    }

    #[test]
    fn a_missing_mount_table_is_named() {
        let error = BlockDevices::read(Path::new("/nonexistent/mountinfo"), Path::new("/sys")).unwrap_err();
        assert_eq!(error.to_string(), "read mount table /nonexistent/mountinfo");
    }
}
