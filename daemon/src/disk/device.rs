//! Device disks: formatted once if they are empty, mounted beneath the state folder, never taken from anybody.
//!
//! What is about to be written to a device is noted durably first: which device, and the UUID that its file system will
//! have. So whatever is cut off, the device is known again: with our UUID it is ours, empty it is formatted (again) only
//! while the note says that formatting was not finished, and with anything else on it it is refused.

use super::Fault;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::mounted::{MOUNT_FLAGS, MountPlace, device_of, expect_host_mounts};
use super::note::{Note, Stage};
use super::probe::{self, Content};
use super::store::{Disks, OWN_MODE, folder_of, set_mode};
use berth_model::{DeviceId, DiskName, Filesystem, PodId};
use nix::mount::mount;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// What the pod sees of a mounted device: not its root, which holds `lost+found`, and is no place for a database.
const DATA: &str = "data";
/// As in a directory disk.
const NEW_DISK_MODE: u32 = 0o777;

/// A device disk, as it is ordered.
#[derive(Debug, Clone, Copy)]
pub struct DeviceDisk<'a> {
    /// Whose.
    pub pod: &'a PodId,
    /// Its name in the pod.
    pub disk: &'a DiskName,
    /// Which device.
    pub id: &'a DeviceId,
    /// What an empty one is formatted with.
    pub filesystem: Filesystem,
}

impl Disks {
    /// Formats the device if it is empty and was never ours, and mounts it.
    ///
    /// # Errors
    /// When it is not there, holds anything that is not ours, or was wiped since it was formatted.
    pub fn ensure_device(&self, ordered: DeviceDisk<'_>) -> Result<(), DiskError> {
        let DeviceDisk { pod, disk, id, filesystem } = ordered;
        let device = probe::open(id)?;
        let notes = self.notes(pod)?;
        let note = match Note::read(&notes, disk)? {
            Some(note) => note.expect_device(id)?,
            None => {
                probe::expect_empty(&device)?;
                let note = Note::begin(id, filesystem)?;
                note.write(&notes, disk)?;
                note
            }
        };
        let note = match note.stage {
            Stage::Formatting => {
                match probe::content(&device)? {
                    Content::Nothing => {}
                    Content::Filesystem { uuid, .. } if uuid == note.uuid => {}
                    found @ (Content::Filesystem { .. } | Content::Other(_)) => {
                        return Err(probe::foreign(&device, &found));
                    }
                }
                probe::format(&device, note.filesystem, &note.uuid)?;
                let done = Note { stage: Stage::Ready, ..note };
                done.write(&notes, disk)?;
                done
            }
            Stage::Ready => note,
            Stage::Releasing => {
                let path = device.path.clone();
                let (found, expected) = ("on its way to be released".to_owned(), "in use".to_owned());
                return Err(DiskError::Unexpected { path, found, expected });
            }
        };
        probe::expect_ours(&device, &note.uuid)?;
        self.mount(ordered, &device, note.filesystem)
    }

    fn mount(
        &self,
        ordered: DeviceDisk<'_>,
        device: &probe::Device,
        filesystem: Filesystem,
    ) -> Result<(), DiskError> {
        expect_host_mounts()?;
        let of_pod = self.root()?.ensure("devices", OWN_MODE)?.ensure(folder_of(ordered.pod), OWN_MODE)?;
        let point = of_pod.ensure(ordered.disk.as_str(), OWN_MODE)?;
        if device_of(&point)? != device.number {
            // By descriptor, so that no link can be put in the way.
            let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
            mount(Some(&device.path), target.as_str(), Some(filesystem.as_str()), MOUNT_FLAGS, None::<&str>)
                .tried("mount a device at", point.path())?;
        }
        let top = of_pod
            .find(ordered.disk.as_str())?
            .ok_or(nix::errno::Errno::ENOENT)
            .tried("open", point.path())?;
        if device_of(&top)? != device.number {
            let (found, expected) = ("not the mounted device".to_owned(), device.path.display().to_string());
            return Err(DiskError::Unexpected { path: top.path().to_owned(), found, expected });
        }
        if top.find(DATA)?.is_none() {
            set_mode(&top.ensure(DATA, OWN_MODE)?, NEW_DISK_MODE)?;
            top.sync()?;
        }
        Ok(())
    }

    /// What is different from what is ordered; none if nothing is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn device_fault(&self, pod: &PodId, disk: &DiskName) -> Result<Option<Fault>, DiskError> {
        let notes = self.root()?.ensure("notes", OWN_MODE)?.find(folder_of(pod))?;
        let note = notes.map(|notes| Note::read(&notes, disk)).transpose()?.flatten();
        let Some(note) = note else {
            return Ok(Some(Fault::Absent));
        };
        let wrong = |why: &str| Ok(Some(Fault::Wrong(format!("device {} {why}", note.device))));
        match note.stage {
            Stage::Formatting => wrong("is not formatted yet"),
            Stage::Releasing => wrong("is on its way to be released"),
            Stage::Ready => match self.mounted(MountPlace::Devices, pod, disk)? {
                Some(_) => Ok(None),
                None => wrong("is not mounted"),
            },
        }
    }

    /// Where the pod's containers get it from.
    pub fn device_path(&self, pod: &PodId, disk: &DiskName) -> PathBuf {
        self.path().join("devices").join(folder_of(pod)).join(disk.as_str()).join(DATA)
    }

    /// The pod's device disks.
    pub(super) fn devices_of_pod(&self, pod: &PodId) -> Result<Vec<(DiskName, DeviceId)>, DiskError> {
        let Some(notes) = self.root()?.ensure("notes", OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in notes.entries()? {
            let name = entry.name.to_str().and_then(|name| DiskName::new(name).ok());
            if let Some(name) = name
                && let Some(note) = Note::read(&notes, &name)?
            {
                found.push((name, note.device));
            }
        }
        Ok(found)
    }

    /// Gives a device up: unmounts it and wipes its first MiB, so that it is empty for whoever has it next. The data
    /// beyond stay on it, without a file system that would find them. One that is gone from the host is given up too.
    ///
    /// # Errors
    /// When it is in use, or cannot be written.
    pub fn give_up_device(&self, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        let Some(notes) = self.root()?.ensure("notes", OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(());
        };
        let Some(note) = Note::read(&notes, disk)? else {
            return Ok(());
        };
        let note = Note { stage: Stage::Releasing, ..note };
        note.write(&notes, disk)?;
        self.unmount(MountPlace::Devices, pod, disk)?;
        match probe::open(&note.device) {
            Ok(device) => match probe::content(&device)? {
                Content::Filesystem { uuid, .. } if uuid == note.uuid => probe::wipe(&device)?,
                Content::Nothing => {}
                Content::Filesystem { .. } | Content::Other(_) => {
                    let device = &note.device;
                    tracing::warn!(%device, "device {device} holds what is not ours; it is released as it is");
                }
            },
            Err(DiskError::NoDevice { .. }) => {
                let device = &note.device;
                tracing::warn!(%device, "device {device} is gone from this host; its data disk is given up");
            }
            Err(error) => return Err(error),
        }
        notes.remove_file(disk.as_str())?;
        notes.sync()?;
        self.root()?.ensure("notes", OWN_MODE)?.remove_if_empty(folder_of(pod))
    }

    fn notes(&self, pod: &PodId) -> Result<Folder, DiskError> {
        self.root()?.ensure("notes", OWN_MODE)?.ensure(folder_of(pod), OWN_MODE)
    }
}
