//! Data disks: named directories, devices or pieces of memory that are mounted into a pod, and are kept until they are
//! released, or are scratch.

use crate::pod::is_clean_absolute_path;
use crate::{Bytes, ContainerName, DiskName};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Most data disks of one pod: a bound for the daemon's work, far above any real pod.
pub const MAX_DISKS: usize = 32;
/// Largest memory disk: a bound that keeps all arithmetic, the kernel's too, far from its ends.
const MAX_MEMORY_BYTES: u64 = 1 << 50;
/// Where programs expect a tmpfs to share memory by (shm_overview(7)). What the runtime mounts there by itself, 64 MiB, a
/// disk may take the place of.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";
/// Most mounts of one container.
pub const MAX_MOUNTS: usize = 64;

/// One data disk of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDisk {
    /// Unique in the pod.
    pub name: DiskName,
    /// What it is made of.
    pub source: DiskSource,
    /// How long it lasts, and whether it moves.
    pub life: DiskLife,
}

/// What a data disk is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A directory on the node's own disk.
    Directory {
        /// Held to so much by a project quota; as large as the node's disk when absent.
        size: Option<Bytes>,
    },
    /// A block device of the node. An empty one is formatted once; one that holds anything else is refused.
    Device {
        /// Which.
        id: DeviceId,
        /// What an empty one is formatted with.
        filesystem: Filesystem,
    },
    /// Memory of the pod, which counts towards its limits on memory, or on huge pages. It is scratch, and empty after a
    /// reboot.
    Memory {
        /// Held to so much.
        size: Bytes,
        /// Made of huge pages of this size (hugetlbfs), all of which are set aside at once; of ordinary memory (tmpfs) when
        /// absent.
        page_size: Option<Bytes>,
    },
}

impl DataDisk {
    /// The size of the huge pages that it is made of, if it is made of any.
    pub fn page_size(&self) -> Option<Bytes> {
        match self.source {
            DiskSource::Memory { page_size, .. } => page_size,
            DiskSource::Directory { .. } | DiskSource::Device { .. } => None,
        }
    }

    /// Whether a disk that both sets have is made of something else in the new one: that no running pod can take on.
    /// A disk may be added, and a directory or ordinary memory may be held to another size; one that the new set has not
    /// is kept as it is until it is released.
    pub fn any_made_anew(old: &[Self], new: &[Self]) -> bool {
        new.iter().any(|new| {
            let old = old.iter().find(|old| old.name == new.name);
            let is_scratch = |disk: &Self| disk.life == DiskLife::Scratch;
            old.is_some_and(|old| match (&old.source, &new.source) {
                _ if is_scratch(old) != is_scratch(new) => true,
                (DiskSource::Directory { .. }, DiskSource::Directory { .. })
                | (
                    DiskSource::Memory { page_size: None, .. },
                    DiskSource::Memory { page_size: None, .. },
                ) => false,
                (old, new) => old != new,
            })
        })
    }
}

/// A file system that devices are formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Filesystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl Filesystem {
    /// As mount(8) and the kernel call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// How long a data disk lasts, and whether a migration takes it along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DiskLife {
    /// Until it is released; it stays on its node, and its pod with it.
    #[default]
    Kept,
    /// Until it is released; it goes where its pod goes.
    Movable,
    /// Until its pod leaves the node: the pod begins anew elsewhere without what was on it.
    Scratch,
}

/// Where a container sees a data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskMount {
    /// One of the pod's.
    pub disk: DiskName,
    /// In the container: absolute, without `.` and `..`.
    pub path: String,
    /// What the container may do there.
    pub access: Access,
}

/// What a container may do on a data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only.
    ReadOnly,
}

/// A block device by a name that stays its own over reboots: a link that udev makes in one of
/// [`DeviceId::FOLDERS`]. Names like `/dev/sdb` are given in the order of discovery, and are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(String);

impl DeviceId {
    /// Where stable names are.
    pub const FOLDERS: [&'static str; 3] =
        ["/dev/disk/by-id/", "/dev/disk/by-path/", "/dev/disk/by-partuuid/"];
    /// Longest file name (NAME_MAX of Linux), bytes.
    const NAME_MAX_BYTES: usize = 255;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link's name, without its folder.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for DeviceId {
    type Err = InvalidDisks;

    fn from_str(text: &str) -> Result<Self, InvalidDisks> {
        let name = Self::FOLDERS.iter().find_map(|folder| text.strip_prefix(folder));
        let valid = name.is_some_and(|name| {
            let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            printable && !matches!(name, "" | "." | "..") && name.len() <= Self::NAME_MAX_BYTES
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidDisks::Device(text.to_owned())) }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why disks were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDisks {
    /// More disks than a pod may have.
    #[error("pod has {0} data disks, at most {MAX_DISKS} are possible")]
    TooMany(usize),
    /// Two disks of one name.
    #[error("data disk {0} is given twice")]
    Duplicate(DiskName),
    /// One device as two disks.
    #[error("device {0} is given twice")]
    DuplicateDevice(DeviceId),
    /// Memory that is to be kept.
    #[error(
        "data disk {0} is memory, which lasts no longer than its pod is on the node: it can only be scratch"
    )]
    KeptMemory(DiskName),
    /// A device that is to end with its pod.
    #[error("data disk {0} is a device, which is kept until it is released: it cannot be scratch")]
    ScratchDevice(DiskName),
    /// More memory than any host has.
    #[error("data disk {0} has more memory than 1Pi")]
    TooLarge(DiskName),
    /// Huge pages that cannot make up the disk.
    #[error("data disk {disk} of {size} is no whole number of pages of {page_size}")]
    PartOfAPage {
        /// Which disk.
        disk: DiskName,
        /// Its size.
        size: Bytes,
        /// The size of a page.
        page_size: Bytes,
    },
    /// A disk without room.
    #[error("{0} has a size of 0")]
    Empty(String),
    /// No stable name of a device.
    #[error(
        "device {0:?} is not named by /dev/disk/by-id/, /dev/disk/by-path/ or /dev/disk/by-partuuid/: \
         other names change over reboots"
    )]
    Device(String),
    /// A device in a request that leaves the node open.
    #[error("data disk on device {0}: the request must name the node that has it (node: NAME)")]
    NoNode(DeviceId),
    /// More mounts than a container may have.
    #[error("container {container} has {count} mounts, at most {MAX_MOUNTS} are possible")]
    TooManyMounts {
        /// Which container.
        container: ContainerName,
        /// How many.
        count: usize,
    },
    /// A mount of a disk that the pod does not have.
    #[error("container {container} mounts data disk {disk}, which the pod does not have")]
    Unknown {
        /// Which container.
        container: ContainerName,
        /// The disk.
        disk: DiskName,
    },
    /// A mount at a path that cannot be one.
    #[error("container {container}: mount path {path:?} {why}")]
    Path {
        /// Which container.
        container: ContainerName,
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What one container has of disks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerDisks<'a> {
    pub(crate) container: &'a ContainerName,
    pub(crate) mounts: &'a [DiskMount],
    pub(crate) system_disk_size: Option<Bytes>,
}

/// Checks a pod's disks against each other, and its containers' mounts against them.
pub(crate) fn validate_disks<'a>(
    disks: &[DataDisk],
    containers: impl Iterator<Item = ContainerDisks<'a>>,
) -> Result<(), InvalidDisks> {
    if disks.len() > MAX_DISKS {
        return Err(InvalidDisks::TooMany(disks.len()));
    }
    let (mut names, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for disk in disks {
        if !names.insert(&disk.name) {
            return Err(InvalidDisks::Duplicate(disk.name.clone()));
        }
        match &disk.source {
            DiskSource::Directory { size: Some(Bytes(0)) } | DiskSource::Memory { size: Bytes(0), .. } => {
                return Err(InvalidDisks::Empty(format!("data disk {}", disk.name)));
            }
            DiskSource::Device { .. } if disk.life == DiskLife::Scratch => {
                return Err(InvalidDisks::ScratchDevice(disk.name.clone()));
            }
            DiskSource::Memory { size, page_size: Some(page_size) }
                if !page_size.0.is_power_of_two() || !size.0.is_multiple_of(page_size.0) =>
            {
                return Err(InvalidDisks::PartOfAPage {
                    disk: disk.name.clone(),
                    size: *size,
                    page_size: *page_size,
                });
            }
            DiskSource::Memory { size, .. } if size.0 > MAX_MEMORY_BYTES => {
                return Err(InvalidDisks::TooLarge(disk.name.clone()));
            }
            DiskSource::Device { id, .. } if !devices.insert(id) => {
                return Err(InvalidDisks::DuplicateDevice(id.clone()));
            }
            DiskSource::Memory { .. } if disk.life != DiskLife::Scratch => {
                return Err(InvalidDisks::KeptMemory(disk.name.clone()));
            }
            DiskSource::Directory { .. } | DiskSource::Device { .. } | DiskSource::Memory { .. } => {}
        }
    }
    for container in containers {
        container.validate(&names)?;
    }
    Ok(())
}

impl ContainerDisks<'_> {
    fn validate(&self, names: &BTreeSet<&DiskName>) -> Result<(), InvalidDisks> {
        let container = || self.container.clone();
        if self.system_disk_size == Some(Bytes(0)) {
            return Err(InvalidDisks::Empty(format!("the system disk of container {}", self.container)));
        }
        if self.mounts.len() > MAX_MOUNTS {
            return Err(InvalidDisks::TooManyMounts { container: container(), count: self.mounts.len() });
        }
        let mut paths = BTreeSet::new();
        for mount in self.mounts {
            if !names.contains(&mount.disk) {
                return Err(InvalidDisks::Unknown { container: container(), disk: mount.disk.clone() });
            }
            let wrong = wrong_path(&mount.path);
            let twice = (!paths.insert(&mount.path)).then_some("is given twice");
            if let Some(why) = wrong.or(twice) {
                return Err(InvalidDisks::Path { container: container(), path: mount.path.clone(), why });
            }
        }
        Ok(())
    }
}

/// Why nothing can be mounted there; none if something can.
pub(crate) fn wrong_path(path: &str) -> Option<&'static str> {
    let beneath = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| matches!(rest.bytes().next(), None | Some(b'/')))
    };
    if !is_clean_absolute_path(path) {
        Some("is no absolute path without . and ..")
    } else if path == "/" {
        Some("is the system disk's")
    } else if path != SHARED_MEMORY && ["/proc", "/sys", "/dev"].into_iter().any(beneath) {
        Some("is the kernel's")
    } else if ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].contains(&path) {
        Some("is the agent's")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> DataDisk {
        let source = DiskSource::Directory { size: Some(Bytes(1)) };
        DataDisk { name: name.parse().unwrap(), source, life: DiskLife::Kept }
    }

    fn device(name: &str, id: &str) -> DataDisk {
        let source = DiskSource::Device { id: id.parse().unwrap(), filesystem: Filesystem::Ext4 };
        DataDisk { source, ..directory(name) }
    }

    fn check(disks: &[DataDisk], mounts: &[(&str, &str)], expected: Result<(), &str>) {
        let container = "app".parse().unwrap();
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(disk, path)| DiskMount {
                disk: disk.parse().unwrap(),
                path: (*path).to_owned(),
                access: Access::ReadWrite,
            })
            .collect();
        let one = ContainerDisks { container: &container, mounts: &mounts, system_disk_size: None };
        let said = validate_disks(disks, std::iter::once(one)).map_err(|error| error.to_string());
        assert_eq!(said, expected.map_err(str::to_owned), "{disks:?} {mounts:?}");
    }

    #[test]
    fn disks_and_mounts() {
        let db = || directory("db");
        check(&[], &[], Ok(()));
        check(&[db()], &[("db", "/data")], Ok(()));
        check(&[db()], &[("db", "/data"), ("db", "/data/inner")], Ok(()));
        check(&[db()], &[("db", "/device")], Ok(()));
        check(&[db(), db()], &[], Err("data disk db is given twice"));
        let memory = |bytes: u64, life: DiskLife| DataDisk {
            source: DiskSource::Memory { size: Bytes(bytes), page_size: None },
            life,
            ..directory("shm")
        };
        check(&[memory(1, DiskLife::Scratch)], &[("shm", "/shm")], Ok(()));
        check(&[memory(0, DiskLife::Scratch)], &[], Err("data disk shm has a size of 0"));
        let kept = "data disk shm is memory, which lasts no longer than its pod is on the node: it can only be scratch";
        check(&[memory(1, DiskLife::Kept)], &[], Err(kept));
        check(&[memory(1, DiskLife::Movable)], &[], Err(kept));
        check(
            &[memory((1 << 50) + 1, DiskLife::Scratch)],
            &[],
            Err("data disk shm has more memory than 1Pi"),
        );
        let pages = |size: u64, page_size: u64| DataDisk {
            source: DiskSource::Memory { size: Bytes(size), page_size: Some(Bytes(page_size)) },
            life: DiskLife::Scratch,
            ..directory("huge")
        };
        check(&[pages(4 << 20, 2 << 20)], &[], Ok(()));
        let part = "data disk huge of 3Mi is no whole number of pages of 2Mi";
        check(&[pages(3 << 20, 2 << 20)], &[], Err(part));
        check(&[pages(4 << 20, 0)], &[], Err("data disk huge of 4Mi is no whole number of pages of 0"));
        let anew = DataDisk::any_made_anew(&[pages(4 << 20, 2 << 20)], &[pages(8 << 20, 2 << 20)]);
        assert!(anew, "the kernel holds huge pages to the size that they were mounted with");
        let raw = DataDisk { life: DiskLife::Scratch, ..device("raw", "/dev/disk/by-id/a") };
        let kept = "data disk raw is a device, which is kept until it is released: it cannot be scratch";
        check(&[raw], &[], Err(kept));
        let scratch = |life: DiskLife| vec![DataDisk { life, ..directory("tmp") }];
        let anew = |old, new| DataDisk::any_made_anew(&scratch(old), &scratch(new));
        assert!(anew(DiskLife::Kept, DiskLife::Scratch) && anew(DiskLife::Scratch, DiskLife::Movable));
        assert!(!anew(DiskLife::Kept, DiskLife::Movable) && !anew(DiskLife::Scratch, DiskLife::Scratch));
        check(
            &[db()],
            &[("log", "/data")],
            Err("container app mounts data disk log, which the pod does not have"),
        );
        let path = |path: &str, why: &str| {
            let text = format!("container app: mount path {path:?} {why}");
            check(&[db()], &[("db", path)], Err(&text));
        };
        path("/", "is the system disk's");
        path("/dev", "is the kernel's");
        path("/dev/shm/x", "is the kernel's");
        check(&[db()], &[("db", "/dev/shm")], Ok(()));
        path("/proc/sys", "is the kernel's");
        path("/etc/hosts", "is the agent's");
        for bad in ["data", "", "/data/", "/a/../b", "//a", "/a\nb"] {
            path(bad, "is no absolute path without . and ..");
        }
        check(
            &[db()],
            &[("db", "/data"), ("db", "/data")],
            Err("container app: mount path \"/data\" is given twice"),
        );
        let id = "/dev/disk/by-id/virtio-data";
        check(&[device("a", id)], &[], Ok(()));
        let text = format!("device {id} is given twice");
        check(&[device("a", id), device("b", id)], &[], Err(&text));
        let empty = DataDisk { source: DiskSource::Directory { size: Some(Bytes(0)) }, ..db() };
        check(&[empty], &[], Err("data disk db has a size of 0"));
    }

    #[test]
    fn devices_have_stable_names() {
        for good in ["/dev/disk/by-id/virtio-data", "/dev/disk/by-path/pci-0:1", "/dev/disk/by-partuuid/0-1"]
        {
            assert_eq!(good.parse::<DeviceId>().unwrap().to_string(), good);
        }
        let long = format!("/dev/disk/by-id/{}", "a".repeat(256));
        for bad in [
            "/dev/sdb",
            "/dev/disk/by-uuid/1",
            "/dev/disk/by-id/",
            "/dev/disk/by-id/..",
            "/dev/disk/by-id/../../sdb",
            "/dev/disk/by-id/a b",
            "by-id/a",
            &long,
        ] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
    }
}
