//! Making files as they were elsewhere. Nothing is durable by itself here: whoever copies writes all of it out once.

use super::attributes;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::piece::{Item, ItemKind, Modified};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Nobody else's until all of it is there.
const UNFINISHED_MODE: Mode = Mode::S_IRWXU;

impl Folder {
    /// Makes a folder that is not there yet, and opens it.
    pub(super) fn make_folder(&self, name: &OsStr) -> Result<Self, DiskError> {
        let path = self.path().join(name);
        mkdirat(self, name, UNFINISHED_MODE).tried("make folder", &path)?;
        self.find(name)?.ok_or(Errno::ENOENT).tried("open folder", &path)
    }

    /// Makes a plain file that is not there yet.
    pub(super) fn make_plain(&self, name: &OsStr) -> Result<File, DiskError> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
        let fd = self.open(name, flags).tried("make", &self.path().join(name))?;
        Ok(File::from(fd))
    }

    /// Makes what is neither folder nor plain file, and whole at once.
    pub(super) fn make_other(&self, item: &Item) -> Result<(), DiskError> {
        let (name, path) = (item.name.as_os_str(), self.path().join(&item.name));
        let node = |kind: SFlag, number: u64| {
            mknodat(self, name, kind, UNFINISHED_MODE, number).tried("make", &path)?;
            // The name was not there before, so no link is followed.
            self.own(item, &path)?;
            fchmodat(self, name, mode(item), FchmodatFlags::FollowSymlink).tried("set the mode of", &path)
        };
        match &item.kind {
            ItemKind::Symlink { target } => {
                symlinkat(target.as_os_str(), self, name).tried("make the link", &path)?;
                self.own(item, &path)?;
            }
            ItemKind::BlockDevice { number } => node(SFlag::S_IFBLK, *number)?,
            ItemKind::CharacterDevice { number } => node(SFlag::S_IFCHR, *number)?,
            ItemKind::Fifo => node(SFlag::S_IFIFO, 0)?,
            ItemKind::Socket => node(SFlag::S_IFSOCK, 0)?,
            ItemKind::Folder | ItemKind::Plain { .. } | ItemKind::SameAs { .. } => return Ok(()),
        }
        let modified = time(item.modified);
        utimensat(self, name, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::NoFollowSymlink)
            .tried("set the time of", &path)
    }

    /// Gives a file of this folder another name, here or in another folder.
    pub(super) fn link(&self, name: &OsStr, to: &Self, new: &OsStr) -> Result<(), DiskError> {
        linkat(self, name, to, new, AtFlags::empty()).tried("make another name", &to.path().join(new))
    }

    fn own(&self, item: &Item, path: &Path) -> Result<(), DiskError> {
        let (uid, gid) = (Some(Uid::from_raw(item.uid)), Some(Gid::from_raw(item.gid)));
        fchownat(self, item.name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).tried("give away", path)
    }
}

/// Gives an open file or folder, to which everything was written, its owner, mode, attributes and time, in the order in
/// which none of them takes another away.
pub(super) fn complete(fd: impl AsFd, item: &Item, path: &Path) -> Result<(), DiskError> {
    let (uid, gid) = (Some(Uid::from_raw(item.uid)), Some(Gid::from_raw(item.gid)));
    fchown(&fd, uid, gid).tried("give away", path)?;
    fchmod(&fd, mode(item)).tried("set the mode of", path)?;
    attributes::write(&fd, &item.attributes, path)?;
    futimens(&fd, &TimeSpec::UTIME_OMIT, &time(item.modified)).tried("set the time of", path)
}

fn mode(item: &Item) -> Mode {
    Mode::from_bits_truncate(item.mode & 0o7777)
}

fn time(modified: Modified) -> TimeSpec {
    TimeSpec::new(modified.seconds, i64::from(modified.nanoseconds))
}
