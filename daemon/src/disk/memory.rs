//! Memory disks: a tmpfs or a hugetlbfs of a pod, which is scratch. What is written to a tmpfs counts towards the pod's limits
//! on memory (the kernel's Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"), huge pages towards those on huge
//! pages. Nothing of either is left after a reboot.

use super::Fault;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::mounted::{MOUNT_FLAGS, MountPlace, expect_host_mounts};
use super::store::{Disks, OWN_MODE, folder_of};
use berth_model::{Bytes, DiskName, PodId};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::fstatvfs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// tmpfs counts whole pages; every machine that Berth runs on has pages of this size.
const PAGE_BYTES: u64 = 4096;

/// What a memory disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Held to so much.
    pub size: Bytes,
    /// Made of huge pages of this size; of ordinary memory when absent.
    pub page_size: Option<Bytes>,
}

impl Memory {
    /// As the file system counts it.
    fn rounded(self) -> Bytes {
        Bytes(self.size.0.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES))
    }

    fn page_bytes(self) -> u64 {
        self.page_size.map_or(PAGE_BYTES, |size| size.0)
    }

    fn filesystem(self) -> &'static str {
        match self.page_size {
            None => "tmpfs",
            Some(_) => "hugetlbfs",
        }
    }

    /// Any user of a container may write, as on a directory disk. Huge pages are set aside when it is mounted (`min_size`): the
    /// kernel ends a process that touches one that is not to be had (Documentation/admin-guide/mm/hugetlbpage.rst).
    fn options(self) -> String {
        let size = self.size.0;
        match self.page_size {
            None => format!("size={size},mode=0777"),
            Some(Bytes(page)) => format!("pagesize={page},size={size},min_size={size},mode=0777"),
        }
    }
}

/// What a mounted file system counts in: its pages.
fn page_bytes(top: &Folder) -> Result<u64, DiskError> {
    Ok(fstatvfs(top.as_fd()).tried("look at", top.path())?.fragment_size())
}

impl Disks {
    /// Mounts it, or holds the one that is there to another size.
    ///
    /// # Errors
    /// When it cannot be mounted, or holds more than the size.
    pub fn ensure_memory(&self, pod: &PodId, disk: &DiskName, memory: Memory) -> Result<(), DiskError> {
        expect_host_mounts()?;
        let of_pod =
            self.root()?.ensure(MountPlace::Memory.folder(), OWN_MODE)?.ensure(folder_of(pod), OWN_MODE)?;
        let point = of_pod.ensure(disk.as_str(), OWN_MODE)?;
        if let Some(used) =
            self.mounted_usage(MountPlace::Memory, pod, disk)?.used.filter(|used| *used > memory.rounded())
        {
            return Err(DiskError::ShrinkBelowUse {
                what: point.path().display().to_string(),
                used,
                size: memory.size,
            });
        }
        let (flags, options) = match self.mounted(MountPlace::Memory, pod, disk)? {
            None => (MOUNT_FLAGS, memory.options()),
            // Of huge pages the kernel holds a mount to what it began with.
            Some(top) if memory.page_size.is_some() || page_bytes(&top)? != memory.page_bytes() => {
                let found = format!("mounted with pages of {}", Bytes(page_bytes(&top)?));
                let expected = format!("{} in pages of {}", memory.size, Bytes(memory.page_bytes()));
                return Err(DiskError::Unexpected { path: top.path().to_owned(), found, expected });
            }
            Some(_) => (MOUNT_FLAGS | MsFlags::MS_REMOUNT, format!("size={}", memory.size.0)),
        };
        // By descriptor, so that no link can be put in the way.
        let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
        let mounted =
            mount(Some("berth"), target.as_str(), Some(memory.filesystem()), flags, Some(options.as_str()));
        match (mounted, memory.page_size) {
            (Err(Errno::ENOMEM), Some(page_size)) => {
                Err(DiskError::NoHugePages { size: memory.size, page_size })
            }
            (mounted, _) => mounted.tried("mount memory at", point.path()),
        }
    }

    /// What is different from what is ordered; none if nothing is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn memory_fault(
        &self,
        pod: &PodId,
        disk: &DiskName,
        memory: Memory,
    ) -> Result<Option<Fault>, DiskError> {
        if self.memory_point(pod, disk)?.is_none() {
            return Ok(Some(Fault::Absent));
        }
        let Some(top) = self.mounted(MountPlace::Memory, pod, disk)? else {
            return Ok(Some(Fault::Wrong("it is not mounted".to_owned())));
        };
        let (found, wanted) = (page_bytes(&top)?, memory.page_bytes());
        if found != wanted {
            let why = format!("it is made of pages of {}, ordered are {}", Bytes(found), Bytes(wanted));
            return Ok(Some(Fault::Wrong(why)));
        }
        let wanted = memory.rounded();
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
