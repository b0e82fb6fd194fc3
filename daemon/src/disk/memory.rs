//! Memory disks: a tmpfs of a pod, which is scratch. What is written there counts towards the pod's limits (the kernel's
//! Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"), and nothing of it is left after a reboot.

use super::beneath::Folder;
use super::device::{device_of, expect_host_mounts};
use super::error::{DiskError, Tried};
use super::store::{Disks, OWN_MODE, folder_of};
use super::{Fault, Usage};
use berth_model::{Bytes, DiskName, PodId};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::fstatvfs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// Nothing in it becomes a device or another user's program on the host.
const MOUNT_FLAGS: MsFlags = MsFlags::MS_NODEV.union(MsFlags::MS_NOSUID);
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
        let of_pod = self.root()?.ensure("memory", OWN_MODE)?.ensure(folder_of(pod), OWN_MODE)?;
        let point = of_pod.ensure(disk.as_str(), OWN_MODE)?;
        if let Some(used) = self.memory_usage(pod, disk)?.used.filter(|used| *used > rounded(size)) {
            return Err(DiskError::ShrinkBelowUse { what: point.path().display().to_string(), used, size });
        }
        let (flags, options) = match self.mounted_memory(pod, disk)? {
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
        if self.mounted_memory(pod, disk)?.is_none() {
            return Ok(Some(Fault::Wrong("it is not mounted".to_owned())));
        }
        let wanted = rounded(size);
        let limit = self.memory_usage(pod, disk)?.limit;
        Ok((limit != Some(wanted)).then(|| {
            let limit = limit.map_or_else(|| "no size".to_owned(), |limit| limit.to_string());
            Fault::Wrong(format!("it is held to {limit}, ordered is {wanted}"))
        }))
    }

    /// Where the pod's containers get it from.
    pub fn memory_path(&self, pod: &PodId, disk: &DiskName) -> PathBuf {
        self.path().join("memory").join(folder_of(pod)).join(disk.as_str())
    }

    /// Unmounts it, and with that frees it.
    ///
    /// # Errors
    /// When it is in use.
    pub fn give_up_memory(&self, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        let memory = self.root()?.ensure("memory", OWN_MODE)?;
        let Some(of_pod) = memory.find(folder_of(pod))? else { return Ok(()) };
        if let Some(top) = self.mounted_memory(pod, disk)? {
            let path = top.path().to_owned();
            drop(top);
            umount2(&path, MntFlags::UMOUNT_NOFOLLOW).tried("unmount", &path)?;
        }
        of_pod.remove_if_empty(disk.as_str())?;
        memory.remove_if_empty(folder_of(pod))
    }

    /// The pod's memory disks, mounted or not.
    pub(super) fn memory_of_pod(&self, pod: &PodId) -> Result<Vec<DiskName>, DiskError> {
        let Some(of_pod) = self.root()?.ensure("memory", OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(Vec::new());
        };
        let names =
            of_pod.entries()?.into_iter().filter_map(|entry| DiskName::new(entry.name.to_str()?).ok());
        Ok(names.collect())
    }

    /// What it holds, and may hold.
    pub(super) fn memory_usage(&self, pod: &PodId, disk: &DiskName) -> Result<Usage, DiskError> {
        let Some(top) = self.mounted_memory(pod, disk)? else {
            return Ok(Usage { used: None, limit: None });
        };
        let told = fstatvfs(top.as_fd()).tried("look at", top.path())?;
        let bytes = |blocks: u64| Some(Bytes(blocks.saturating_mul(told.fragment_size())));
        Ok(Usage { used: bytes(told.blocks() - told.blocks_free()), limit: bytes(told.blocks()) })
    }

    fn memory_point(&self, pod: &PodId, disk: &DiskName) -> Result<Option<Folder>, DiskError> {
        match self.root()?.ensure("memory", OWN_MODE)?.find(folder_of(pod))? {
            Some(of_pod) => of_pod.find(disk.as_str()),
            None => Ok(None),
        }
    }

    /// The root of the mounted memory.
    fn mounted_memory(&self, pod: &PodId, disk: &DiskName) -> Result<Option<Folder>, DiskError> {
        let Some(of_pod) = self.root()?.ensure("memory", OWN_MODE)?.find(folder_of(pod))? else {
            return Ok(None);
        };
        let around = device_of(&of_pod)?;
        let Some(top) = of_pod.find(disk.as_str())? else { return Ok(None) };
        let is_mounted = device_of(&top)? != around;
        Ok(is_mounted.then_some(top))
    }
}
