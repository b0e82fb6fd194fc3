//! Project quotas: whether a file system keeps them, what a project uses, and holding it to a size.

use super::error::{DiskError, Tried};
use super::{ProjectId, sys};
use berth_model::Bytes;
use nix::sys::statfs::fstatfs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The kernel counts limits in blocks of so many bytes (QIF_DQBLKSIZE, linux/quota.h).
const BLOCK_BYTES: u64 = 1024;

/// Whether folders can be held to a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaSupport {
    /// They can.
    Enforced,
    /// They cannot.
    None {
        /// The file system's name.
        filesystem: String,
        /// What is missing.
        why: String,
    },
}

/// What a disk holds, and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is written; none where the file system does not count it.
    pub used: Option<Bytes>,
    /// What may be written; none if nothing but the file system's own size limits it.
    pub limit: Option<Bytes>,
}

impl Usage {
    /// Whether it is full for practical purposes: less than a 32nd of it is left. File systems keep a little of every
    /// quota for their own blocks.
    pub fn is_full(&self) -> bool {
        let both = self.used.zip(self.limit);
        both.is_some_and(|(used, limit)| used.0 >= limit.0 - limit.0 / 32)
    }
}

impl QuotaSupport {
    /// Looks at the file system that holds an open file or folder.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(fd: BorrowedFd<'_>, path: &Path) -> Result<Self, DiskError> {
        let why = match sys::quota_state(fd) {
            Ok((true, true)) => return Ok(Self::Enforced),
            Ok((true, false)) => "project quotas are counted, and not enforced".to_owned(),
            Ok((false, _)) => "project quotas are off: mount it with prjquota".to_owned(),
            Err(error) if is_unsupported(&error) => {
                "project quotas are off: mount it with prjquota".to_owned()
            }
            Err(source) => {
                return Err(DiskError::Io { action: "ask for the quotas of", path: path.to_owned(), source });
            }
        };
        Ok(Self::None { filesystem: filesystem(fd), why })
    }

    /// Looks at the file system that holds a path, or would hold it.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn at(path: &Path) -> Result<Self, DiskError> {
        let here = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let file = File::open(here).tried("open", here)?;
        Self::of(file.as_fd(), here)
    }

    /// Refuses by name where there is none.
    pub(super) fn require(self, path: &Path) -> Result<(), DiskError> {
        match self {
            Self::Enforced => Ok(()),
            Self::None { filesystem, why } => {
                Err(DiskError::QuotaUnsupported { path: path.to_owned(), filesystem, why })
            }
        }
    }
}

/// A file system without such quotas answers in many ways.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, ENOSYS, ENOTSUP, ENOTTY, ESRCH};
    matches!(error.raw_os_error(), Some(ENOSYS | ENOTSUP | ESRCH | EINVAL | ENOTTY | nix::libc::ENOTBLK))
}

/// The kernel's name of the file system, by its magic number (linux/magic.h).
pub(super) fn filesystem(fd: impl AsFd) -> String {
    let Ok(told) = fstatfs(fd) else { return "an unknown file system".to_owned() };
    let known: [(u32, &str); 8] = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x6969, "nfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xf2f5_2010, "f2fs"),
    ];
    let magic = i128::from(told.filesystem_type().0) & 0xffff_ffff;
    let found = known.iter().find(|(number, _)| i128::from(*number) == magic);
    found.map_or_else(|| format!("file system {magic:#x}"), |(_, name)| (*name).to_owned())
}

/// What a project uses and may use, on the file system that holds `fd`.
pub(super) fn usage(fd: BorrowedFd<'_>, project: ProjectId, path: &Path) -> Result<Usage, DiskError> {
    let told = sys::quota(fd, project.0).map_err(|source| DiskError::Quota {
        action: "read",
        project,
        path: path.to_owned(),
        source,
    })?;
    let limit = told.hard_blocks.saturating_mul(BLOCK_BYTES);
    Ok(Usage { used: Some(Bytes(told.used)), limit: (limit != 0).then_some(Bytes(limit)) })
}

/// The limit that a size comes to: whole blocks.
pub(super) fn as_limit(size: Bytes) -> Bytes {
    Bytes(size.0.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES))
}

/// Holds a project to a size, or to none. Below what it uses it cannot shrink.
pub(super) fn hold(
    fd: BorrowedFd<'_>,
    project: ProjectId,
    size: Option<Bytes>,
    path: &Path,
) -> Result<(), DiskError> {
    let now = usage(fd, project, path)?;
    let limit = size.map(as_limit);
    if now.limit == limit {
        return Ok(());
    }
    if let (Some(size), Some(used)) = (limit, now.used)
        && used > size
    {
        return Err(DiskError::ShrinkBelowUse { what: path.display().to_string(), used, size });
    }
    let blocks = limit.map_or(0, |limit| limit.0 / BLOCK_BYTES);
    sys::set_quota(fd, project.0, blocks).map_err(|source| DiskError::Quota {
        action: "set",
        project,
        path: path.to_owned(),
        source,
    })
}

/// Whether nothing on the file system that holds `fd` belongs to the project.
pub(super) fn is_unused(fd: BorrowedFd<'_>, project: ProjectId) -> bool {
    sys::quota(fd, project.0).is_ok_and(|told| told.used == 0 && told.inodes == 0 && told.hard_blocks == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_when_less_than_a_32nd_is_left() {
        let check = |used: Option<u64>, limit: Option<u64>, expected: bool| {
            let usage = Usage { used: used.map(Bytes), limit: limit.map(Bytes) };
            assert_eq!(usage.is_full(), expected, "{usage:?}");
        };
        check(Some(96), Some(100), false);
        check(Some(97), Some(100), true);
        check(Some(100), Some(100), true);
        check(Some(101), Some(100), true);
        check(Some(100), None, false);
        check(None, Some(100), false);
    }
}
