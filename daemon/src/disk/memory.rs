//! Memory disks: a tmpfs of a pod, which is scratch. What is written there counts towards the pod's limits (the
//! kernel's Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"), and nothing of it is left after a reboot.

use super::Fault;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::mounted::{MOUNT_FLAGS, MountPlace, expect_host_mounts};
use super::store::{Disks, OWN_MODE, folder_of};
use berth_model::{Bytes, DiskName, PodId};
use nix::mount::{MsFlags, mount};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// tmpfs counts whole pages; every machine that Berth runs on has pages of this size.
const PAGE_BYTES: u64 = 4096;

fn rounded(size: Bytes) -> Bytes {
    Bytes(size.0.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES))
}

impl Disks {
    /// Mounts it, or holds the one that is there to another size.
    ///
    /// # Errors
    /// When it cannot be mounted, or holds more than the size.
    pub fn ensure_memory(&self, pod: &PodId, disk: &DiskName, size: Bytes) -> Result<(), DiskError> {
        expect_host_mounts()?;
        let of_pod =
            self.root()?.ensure(MountPlace::Memory.folder(), OWN_MODE)?.ensure(folder_of(pod), OWN_MODE)?;
        let point = of_pod.ensure(disk.as_str(), OWN_MODE)?;
        if let Some(used) =
            self.mounted_usage(MountPlace::Memory, pod, disk)?.used.filter(|used| *used > rounded(size))
        {
            return Err(DiskError::ShrinkBelowUse { what: point.path().display().to_string(), used, size });
        }
        let (flags, options) = match self.mounted(MountPlace::Memory, pod, disk)? {
            // Any user of a container may write, as on a directory disk.
            None => (MOUNT_FLAGS, format!("size={},mode=0777", size.0)),
            Some(_) => (MOUNT_FLAGS | MsFlags::MS_REMOUNT, format!("size={}", size.0)),
        };
        // By descriptor, so that no link can be put in the way.
        let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
        mount(Some("berth"), target.as_str(), Some("tmpfs"), flags, Some(options.as_str()))
            .tried("mount memory at", point.path())
    }

    /// What is different from what is ordered; none if nothing is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn memory_fault(
        &self,
        pod: &PodId,
        disk: &DiskName,
        size: Bytes,
    ) -> Result<Option<Fault>, DiskError> {
        if self.memory_point(pod, disk)?.is_none() {
            return Ok(Some(Fault::Absent));
        }
        if self.mounted(MountPlace::Memory, pod, disk)?.is_none() {
            return Ok(Some(Fault::Wrong("it is not mounted".to_owned())));
        }
        let wanted = rounded(size);
        let limit = self.mounted_usage(MountPlace::Memory, pod, disk)?.limit;
        Ok((limit != Some(wanted)).then(|| {
            let limit = limit.map_or_else(|| "no size".to_owned(), |limit| limit.to_string());
            Fault::Wrong(format!("it is held to {limit}, ordered is {wanted}"))
        }))
    }

    /// Where the pod's containers get it from.
    pub fn memory_path(&self, pod: &PodId, disk: &DiskName) -> PathBuf {
        self.path().join(MountPlace::Memory.folder()).join(folder_of(pod)).join(disk.as_str())
    }

    /// Unmounts it, and with that frees it.
    ///
    /// # Errors
    /// When it is in use.
    pub fn give_up_memory(&self, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        self.unmount(MountPlace::Memory, pod, disk)
    }

    /// The pod's memory disks, mounted or not.
    pub(super) fn memory_of_pod(&self, pod: &PodId) -> Result<Vec<DiskName>, DiskError> {
        let Some(of_pod) =
            self.root()?.ensure(MountPlace::Memory.folder(), OWN_MODE)?.find(folder_of(pod))?
        else {
            return Ok(Vec::new());
        };
        let names =
            of_pod.entries()?.into_iter().filter_map(|entry| DiskName::new(entry.name.to_str()?).ok());
        Ok(names.collect())
    }

    fn memory_point(&self, pod: &PodId, disk: &DiskName) -> Result<Option<Folder>, DiskError> {
        match self.root()?.ensure(MountPlace::Memory.folder(), OWN_MODE)?.find(folder_of(pod))? {
            Some(of_pod) => of_pod.find(disk.as_str()),
            None => Ok(None),
        }
    }
}
