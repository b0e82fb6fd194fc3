//! What is on a device, and formatting or wiping it.

use super::error::{DiskError, Tried};
use berth_model::{DeviceId, Filesystem};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What must be zero for a device to count as empty, and what is zeroed when one is given up: every file system and
/// partition table that a host may boot with has its signature there.
const HEAD_BYTES: usize = 1 << 20;

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    /// By its stable name, for people.
    pub(super) name: String,
    /// Its node.
    pub(super) path: PathBuf,
    /// Its number, as `st_dev` of what is on it.
    pub(super) number: u64,
}

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// No signature, and nothing in the first MiB.
    Nothing,
    /// A file system.
    Filesystem {
        /// Its kind.
        kind: String,
        /// Its UUID; empty if it has none.
        uuid: String,
    },
    /// Something else, for people.
    Other(String),
}

/// Finds a device by its stable name.
pub(super) fn open(id: &DeviceId) -> Result<Device, DiskError> {
    let absent = |why: String| DiskError::NoDevice { device: id.clone(), why };
    let path = std::fs::canonicalize(id.as_str()).map_err(|error| absent(error.to_string()))?;
    let facts = std::fs::metadata(&path).map_err(|error| absent(error.to_string()))?;
    if !facts.file_type().is_block_device() {
        return Err(absent(format!("{} is no block device", path.display())));
    }
    Ok(Device { name: id.to_string(), number: facts.rdev(), path })
}

/// What is on it, by libblkid's low-level probing (blkid(8)), and by its first MiB where that finds nothing.
pub(super) fn content(device: &Device) -> Result<Content, DiskError> {
    let head = read_head(&device.path)?;
    let told = Command::new("blkid")
        .args(["--probe", "--output", "export"])
        .arg(&device.path)
        .stdin(Stdio::null())
        .output()
        .tried("run blkid on", &device.path)?;
    let text = String::from_utf8_lossy(&told.stdout);
    // 2: nothing found; 8: several, which contradict each other (blkid(8)).
    match told.status.code() {
        Some(0) => Ok(parse(&text)),
        Some(2) if head.iter().all(|byte| *byte == 0) => Ok(Content::Nothing),
        Some(2) => Ok(Content::Other("data of a kind that is not known".to_owned())),
        Some(8) => Ok(Content::Other("several signatures that contradict each other".to_owned())),
        _ => Err(DiskError::Tool {
            tool: "blkid",
            path: device.path.clone(),
            said: String::from_utf8_lossy(&told.stderr).trim().to_owned(),
        }),
    }
}

fn parse(text: &str) -> Content {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match (value("TYPE"), value("USAGE"), value("PTTYPE")) {
        (Some(kind), Some("filesystem"), _) => {
            Content::Filesystem { kind: kind.to_owned(), uuid: value("UUID").unwrap_or_default().to_owned() }
        }
        (Some(kind), ..) => Content::Other(kind.to_owned()),
        (None, _, Some(table)) => Content::Other(format!("a partition table ({table})")),
        (None, _, None) => Content::Other(text.trim().replace('\n', ", ")),
    }
}

/// Refuses what holds anything.
pub(super) fn expect_empty(device: &Device) -> Result<(), DiskError> {
    match content(device)? {
        Content::Nothing => Ok(()),
        found @ (Content::Filesystem { .. } | Content::Other(_)) => Err(foreign(device, &found)),
    }
}

/// Refuses what does not hold the file system of that UUID.
pub(super) fn expect_ours(device: &Device, ours: &str) -> Result<(), DiskError> {
    match content(device)? {
        Content::Filesystem { uuid, .. } if uuid == ours => Ok(()),
        found @ (Content::Nothing | Content::Filesystem { .. } | Content::Other(_)) => {
            Err(foreign(device, &found))
        }
    }
}

/// The device holds what is not ours.
pub(super) fn foreign(device: &Device, found: &Content) -> DiskError {
    let found = match found {
        Content::Nothing => "nothing any more, and was formatted before".to_owned(),
        Content::Filesystem { kind, uuid } => format!("file system {kind} with UUID {uuid}"),
        Content::Other(what) => what.clone(),
    };
    DiskError::ForeignDevice { device: device.name.clone(), found }
}

/// Formats it. The program that does so holds a lock on the device (systemd's "Locking Block Device Access"), so that
/// none of an agent that has died is joined by another.
pub(super) fn format(device: &Device, filesystem: Filesystem, uuid: &str) -> Result<(), DiskError> {
    let lock = lock(&device.path)?;
    let (tool, arguments): (_, &[&str]) = match filesystem {
        Filesystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-U", uuid]),
        Filesystem::Xfs => ("mkfs.xfs", &["-q", "-f", "-m"]),
    };
    let mut command = Command::new(tool);
    command.args(arguments);
    if filesystem == Filesystem::Xfs {
        command.arg(format!("uuid={uuid}"));
    }
    let held = lock.try_clone().tried("hold a lock on", &device.path)?;
    let done = command.arg(&device.path).stdin(held).output().map_err(|error| DiskError::Tool {
        tool,
        path: device.path.clone(),
        said: error.to_string(),
    })?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(DiskError::Tool { tool, path: device.path.clone(), said });
    }
    lock.sync_all().tried("write out", &device.path)
}

/// Zeroes its first MiB.
pub(super) fn wipe(device: &Device) -> Result<(), DiskError> {
    let mut file = lock(&device.path)?;
    file.rewind()
        .and_then(|()| file.write_all(&vec![0; HEAD_BYTES]))
        .and_then(|()| file.sync_all())
        .tried("wipe", &device.path)
}

fn lock(path: &Path) -> Result<Flock<File>, DiskError> {
    // A block device that is mounted, or part of another, cannot be opened exclusively.
    let exclusive = nix::libc::O_EXCL;
    drop(OpenOptions::new().read(true).custom_flags(exclusive).open(path).tried("have for itself", path)?);
    let file = OpenOptions::new().read(true).write(true).open(path).tried("open", path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).tried("lock", path)
}

fn read_head(path: &Path) -> Result<Vec<u8>, DiskError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let file = File::open(path).tried("open", path)?;
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).tried("read", path)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in the place of a device.
    fn device(at: &Path) -> Device {
        let path = at.join("device");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        Device { name: "test".to_owned(), path, number: 0 }
    }

    #[test]
    fn only_what_is_empty_counts_as_empty() {
        let at = tempfile::tempdir().unwrap();
        let device = device(at.path());
        assert_eq!(content(&device).unwrap(), Content::Nothing);
        let uuid = "0b5c6f0e-7f0e-4a52-9d21-4f9f8d3d7a11";
        format(&device, Filesystem::Ext4, uuid).unwrap();
        expect_ours(&device, uuid).unwrap();
        assert!(matches!(expect_empty(&device), Err(DiskError::ForeignDevice { .. })));
        assert!(matches!(expect_ours(&device, "another"), Err(DiskError::ForeignDevice { .. })));
        wipe(&device).unwrap();
        expect_empty(&device).unwrap();
        OpenOptions::new().write(true).open(&device.path).unwrap().write_all(b"unknown").unwrap();
        assert!(matches!(content(&device).unwrap(), Content::Other(_)));
    }

    #[test]
    fn what_blkid_says_is_understood() {
        let check = |text: &str, expected: Content| assert_eq!(parse(text), expected, "{text}");
        let (kind, uuid) = ("xfs".to_owned(), "u".to_owned());
        check("DEVNAME=/dev/vdb\nUUID=u\nTYPE=xfs\nUSAGE=filesystem\n", Content::Filesystem { kind, uuid });
        check("TYPE=LVM2_member\nUSAGE=raid\nUUID=u\n", Content::Other("LVM2_member".to_owned()));
        check("PTUUID=x\nPTTYPE=gpt\n", Content::Other("a partition table (gpt)".to_owned()));
    }
}
