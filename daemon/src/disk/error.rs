//! Why something about a disk was not done.

use super::ProjectId;
use berth_model::{Bytes, DeviceId, DiskName, PodId};
use std::io;
use std::path::{Path, PathBuf};

/// Why something about a disk was not done. It changed nothing, or what it began is finished by trying again.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system cannot hold a folder to a size.
    #[error("{path} is on {filesystem}, which keeps no project quota here: {why}")]
    QuotaUnsupported {
        /// What was to be held to a size.
        path: PathBuf,
        /// The file system's name.
        filesystem: String,
        /// What the kernel said.
        why: String,
    },
    /// More is written than would fit.
    #[error("{what} holds {used}, and cannot shrink to {size}: remove what is not needed first")]
    ShrinkBelowUse {
        /// Which disk.
        what: String,
        /// What it holds.
        used: Bytes,
        /// What it was to shrink to.
        size: Bytes,
    },
    /// Huge pages that are not there to be set aside.
    #[error(
        "{size} in huge pages of {page_size} are not free: the administrator sets them aside (/proc/sys/vm/nr_hugepages)"
    )]
    NoHugePages {
        /// So much is wanted.
        size: Bytes,
        /// The size of a page.
        page_size: Bytes,
    },
    /// Something else is where the disk should be.
    #[error("{path} is {found}, expected was {expected}")]
    Unexpected {
        /// Where.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Every project id of the range is in use.
    #[error("all {0} project ids of this agent are in use")]
    NoProjectLeft(u32),
    /// The kernel refused a quota.
    #[error("{action} the quota of project {project} at {path}")]
    Quota {
        /// `read`, or `set`.
        action: &'static str,
        /// Which.
        project: ProjectId,
        /// On the file system that holds this.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disk does not fit where it is to be copied to.
    #[error("{path} has room for {room}, and {needed} are to be copied there")]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What is free.
        room: Bytes,
        /// What is needed.
        needed: Bytes,
    },
    /// What came is no disk that could have been sent.
    #[error("what is copied to {path} makes no sense: {why}")]
    Nonsense {
        /// Where to.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A disk is of a shape that cannot be copied.
    #[error("{path} {why}")]
    NotCopied {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// There is no such disk.
    #[error("pod {pod} has no data disk {disk} on this node")]
    Absent {
        /// Whose.
        pod: PodId,
        /// Which.
        disk: DiskName,
    },
    /// There is no such device.
    #[error("device {device} is not on this host: {why}")]
    NoDevice {
        /// Which.
        device: DeviceId,
        /// What was found.
        why: String,
    },
    /// A device holds what is not ours. It was not touched.
    #[error(
        "device {device} holds {found}: it is not formatted; wipe its first MiB if nobody needs that any more"
    )]
    ForeignDevice {
        /// Which.
        device: String,
        /// What it holds.
        found: String,
    },
    /// A program of the host failed.
    #[error("{tool} {path}: {said}")]
    Tool {
        /// Which.
        tool: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// A file could not be worked on.
    #[error("{action} {path}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DiskError {
    /// Whether trying again will not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::QuotaUnsupported { .. }
            | Self::ShrinkBelowUse { .. }
            | Self::Unexpected { .. }
            | Self::NoHugePages { .. }
            | Self::NoRoom { .. }
            | Self::Nonsense { .. }
            | Self::NotCopied { .. }
            | Self::NoDevice { .. }
            | Self::ForeignDevice { .. }
            | Self::NoProjectLeft(_)
            | Self::Absent { .. } => true,
            // Room that is gone does not come back by trying again.
            Self::Io { source, .. } => {
                matches!(source.raw_os_error(), Some(nix::libc::ENOSPC | nix::libc::EDQUOT))
            }
            Self::Tool { .. } | Self::Quota { .. } => false,
        }
    }
}

/// Says what was tried on a path.
pub(super) trait Tried<T> {
    fn tried(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::Io { action, path: path.to_owned(), source: source.into() })
    }
}
