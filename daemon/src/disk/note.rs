//! What was written to a device, noted before it was.

use super::beneath::Folder;
use super::error::{DiskError, Tried};
use berth_model::{DeviceId, DiskName, Filesystem};
use std::io::{Read, Write};
use std::path::Path;

/// No note is longer: three lines and a path.
const MAX_BYTES: u64 = 4096;
/// The kernel's own source of random UUIDs.
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

/// One device disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// Which device.
    pub(super) device: DeviceId,
    /// What it is formatted with.
    pub(super) filesystem: Filesystem,
    /// Its file system's UUID.
    pub(super) uuid: String,
    /// How far it is.
    pub(super) stage: Stage,
}

/// How far a device disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being formatted: nothing of value was ever written to it.
    Formatting,
    /// Formatted; never again.
    Ready,
    /// Being given up.
    Releasing,
}

const STAGES: [(Stage, &str); 3] =
    [(Stage::Formatting, "formatting"), (Stage::Ready, "ready"), (Stage::Releasing, "releasing")];
const FILESYSTEMS: [Filesystem; 2] = [Filesystem::Ext4, Filesystem::Xfs];

impl Note {
    /// The first note of a device, with a UUID that nothing else has.
    pub(super) fn begin(device: &DeviceId, filesystem: Filesystem) -> Result<Self, DiskError> {
        let uuid = std::fs::read_to_string(RANDOM_UUID).tried("read", Path::new(RANDOM_UUID))?;
        let uuid = uuid.trim().to_owned();
        Ok(Self { device: device.clone(), filesystem, uuid, stage: Stage::Formatting })
    }

    /// The note of a disk, if there is one.
    pub(super) fn read(folder: &Folder, disk: &DiskName) -> Result<Option<Self>, DiskError> {
        let Some(file) = folder.find_file(disk.as_str())? else {
            return Ok(None);
        };
        let path = folder.path().join(disk.as_str());
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).tried("read", &path)?;
        let unreadable = || DiskError::Unexpected {
            path: path.clone(),
            found: format!("{text:?}"),
            expected: "the note of a device disk".to_owned(),
        };
        Self::parse(&text).map(Some).ok_or_else(unreadable)
    }

    /// Puts it in the place of the one before, whole or not at all, durably.
    pub(super) fn write(&self, folder: &Folder, disk: &DiskName) -> Result<(), DiskError> {
        // No disk's name: it holds a dot.
        let new = format!("{disk}.new");
        folder.remove_file(&new)?;
        let mut file = folder.make_file(&new)?;
        let path = folder.path().join(&new);
        file.write_all(self.text().as_bytes()).and_then(|()| file.sync_all()).tried("write", &path)?;
        folder.replace(disk.as_str(), &new)
    }

    /// A disk does not wander from one device to another.
    pub(super) fn expect_device(self, ordered: &DeviceId) -> Result<Self, DiskError> {
        if self.device == *ordered {
            return Ok(self);
        }
        let (found, expected) =
            ("ordered for the disk".to_owned(), format!("{}, which it is on", self.device));
        Err(DiskError::Unexpected { path: ordered.as_str().into(), found, expected })
    }

    fn text(&self) -> String {
        let stage = STAGES.iter().find(|(stage, _)| *stage == self.stage).map_or("", |(_, word)| word);
        format!("{}\n{}\n{}\n{stage}\n", self.device, self.filesystem.as_str(), self.uuid)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().collect();
        let [device, filesystem, uuid, stage] = lines[..] else { return None };
        Some(Self {
            device: device.parse().ok()?,
            filesystem: FILESYSTEMS.into_iter().find(|known| known.as_str() == filesystem)?,
            uuid: uuid.to_owned(),
            stage: STAGES.iter().find(|(_, word)| *word == stage)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_and_others_are_refused() {
        let at = tempfile::tempdir().unwrap();
        let folder = Folder::root(at.path()).unwrap();
        let disk = DiskName::new("raw").unwrap();
        assert_eq!(Note::read(&folder, &disk).unwrap(), None);
        let first = Note::begin(&"/dev/disk/by-id/a".parse().unwrap(), Filesystem::Xfs).unwrap();
        assert_eq!(first.uuid.len(), 36);
        for (stage, _) in STAGES {
            let note = Note { stage, ..first.clone() };
            note.write(&folder, &disk).unwrap();
            assert_eq!(Note::read(&folder, &disk).unwrap(), Some(note));
        }
        assert!(first.clone().expect_device(&"/dev/disk/by-id/b".parse().unwrap()).is_err());
        for bad in ["", "a\nb\nc\nd\n", "/dev/sdb\next4\nu\nready\n", "/dev/disk/by-id/a\next4\nu\n"] {
            std::fs::write(at.path().join("raw"), bad).unwrap();
            assert!(Note::read(&folder, &disk).is_err(), "{bad:?}");
        }
    }
}
