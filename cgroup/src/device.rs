//! Block devices, by the numbers that `io.max` takes.

use std::fmt;
use std::str::FromStr;

/// A device number, printed `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// A text that is no device number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device number such as 8:0")]
pub struct InvalidDeviceId(pub String);

impl DeviceId {
    /// Whether the kernel made the number up for a filesystem that has no single device beneath
    /// (tmpfs, overlay, btrfs, NFS, ZFS).
    pub fn is_anonymous(self) -> bool {
        self.major == 0
    }

    /// Its node under `/dev/block`. systemd reads the numbers out of this path without looking at the disk.
    pub fn node_path(self) -> String {
        format!("/dev/block/{self}")
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, InvalidDeviceId> {
        let number = |digits: &str| -> Option<u32> {
            let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits_only.then(|| digits.parse().ok()).flatten()
        };
        text.split_once(':')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }))
            .ok_or_else(|| InvalidDeviceId(text.to_owned()))
    }
}

/// What a block device is made of; decides who can be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// A disk, or what the kernel shows as one (a loop device, a namespace of an NVMe controller).
    Disk,
    /// Made of other block devices (device-mapper, md). The kernel throttles it like a disk, but systemd, told of
    /// it, would go down to the disks beneath and limit those: so it is never told.
    Stacked,
}

/// A block device that `io.max` and `io.weight` apply to: never a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockDevice {
    /// Its number.
    pub id: DeviceId,
    /// What it is made of.
    pub kind: DeviceKind,
}

/// Why there is no block device beneath a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDevice {
    /// Nothing is mounted exactly there.
    #[error("nothing is mounted there")]
    NotAMountPoint,
    /// A filesystem without a single device beneath.
    #[error("filesystem {filesystem} has no single block device beneath")]
    Anonymous {
        /// Its type, such as `tmpfs`.
        filesystem: String,
    },
    /// sysfs does not show the device, or shows it in a way that is not understood.
    #[error("block device {device}: {why}")]
    Unknown {
        /// Its number as mounted.
        device: DeviceId,
        /// What was found.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("8:0", Some((8, 0))),
            ("259:1048575", Some((259, 1_048_575))),
            ("8", None),
            ("8:", None),
            (":0", None),
            ("+8:0", None),
            ("8:-1", None),
            ("8:0:1", None),
            ("4294967296:0", None),
        ] {
            let found = text.parse::<DeviceId>().ok().map(|id| (id.major, id.minor));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
