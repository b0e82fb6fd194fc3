//! What is mounted beneath the agent's folder: devices and memory.

use super::Usage;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::store::{Disks, OWN_MODE, folder_of};
use berth_model::{Bytes, DiskName, PodId};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::fstat;
use nix::sys::statvfs::fstatvfs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Nothing on it becomes a device or another user's program on the host.
pub(super) const MOUNT_FLAGS: MsFlags = MsFlags::MS_NODEV.union(MsFlags::MS_NOSUID);

/// Where a kind of disk is mounted: a folder beneath the agent's, with one for each pod in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MountPlace {
    Devices,
    Memory,
}

impl MountPlace {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Memory => "memory",
        }
    }
}

impl Disks {
    /// The root of what is mounted for a disk, if anything is.
    pub(super) fn mounted(
        &self,
        place: MountPlace,
        pod: &PodId,
        disk: &DiskName,
    ) -> Result<Option<Folder>, DiskError> {
        let Some(of_pod) = self.root()?.ensure(place.folder(), OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(None);
        };
        let around = device_of(&of_pod)?;
        let Some(top) = of_pod.find(disk.as_str())? else { return Ok(None) };
        let here = device_of(&top)? != around;
        Ok(here.then_some(top))
    }

    /// What the mounted file system holds, and its size.
    pub(super) fn mounted_usage(
        &self,
        place: MountPlace,
        pod: &PodId,
        disk: &DiskName,
    ) -> Result<Usage, DiskError> {
        let Some(top) = self.mounted(place, pod, disk)? else {
            return Ok(Usage { used: None, limit: None });
        };
        let told = fstatvfs(top.as_fd()).tried("look at", top.path())?;
        let bytes = |blocks: u64| Some(Bytes(blocks.saturating_mul(told.fragment_size())));
        Ok(Usage { used: bytes(told.blocks() - told.blocks_free()), limit: bytes(told.blocks()) })
    }

    /// Unmounts what is mounted for a disk, and removes the folders that it was mounted at.
    pub(super) fn unmount(&self, place: MountPlace, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        let folder = self.root()?.ensure(place.folder(), OWN_MODE)?;
        let Some(of_pod) = folder.find(folder_of(pod))? else { return Ok(()) };
        if let Some(top) = self.mounted(place, pod, disk)? {
            let path = top.path().to_owned();
            drop(top);
            umount2(&path, MntFlags::UMOUNT_NOFOLLOW).tried("unmount", &path)?;
        }
        of_pod.remove_if_empty(disk.as_str())?;
        folder.remove_if_empty(folder_of(pod))
    }
}

pub(super) fn device_of(folder: &Folder) -> Result<u64, DiskError> {
    Ok(fstat(folder.as_fd()).tried("look at", folder.path())?.st_dev)
}

/// A mount that the agent makes must be the host's: the runtime has to find it.
pub(super) fn expect_host_mounts() -> Result<(), DiskError> {
    let of = |who: &str| {
        let path = PathBuf::from(format!("/proc/{who}/ns/mnt"));
        std::fs::read_link(&path).tried("read", Path::new(&path))
    };
    let (own, host) = (of("self")?, of("1")?);
    if own == host {
        return Ok(());
    }
    let (found, expected) = ("a mount namespace of the agent's own".to_owned(), "the host's".to_owned());
    Err(DiskError::Unexpected { path: "/proc/self/ns/mnt".into(), found, expected })
}
