//! A folder beneath which paths are opened: none of them leaves it, and none follows a link.

use super::error::{DiskError, Tried};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open folder and where it is, for people.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) is_folder: bool,
    /// A plain file: no link, socket or device.
    pub(super) is_file: bool,
}

impl Folder {
    /// Opens the root itself, making it if it is not there. Links on the way to it are the administrator's.
    pub(super) fn root(path: &Path) -> Result<Self, DiskError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).tried("make", path)?;
        let file = File::open(path).tried("open", path)?;
        Ok(Self { fd: file.into(), path: path.to_owned() })
    }

    /// Opens a folder that somebody else has made.
    pub(super) fn existing(path: &Path) -> Result<Self, DiskError> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).custom_flags(nix::libc::O_DIRECTORY).open(path).tried("open", path)?;
        Ok(Self { fd: file.into(), path: path.to_owned() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder beneath; none if it is not there.
    pub(super) fn find(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>, DiskError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match self.open(name, OFlag::O_DIRECTORY | OFlag::O_RDONLY) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error).tried("open folder", &path),
        }
    }

    /// Opens a folder beneath, making it if it is not there; durable once this returns.
    pub(super) fn ensure(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, DiskError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => self.sync()?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error).tried("make folder", &path),
        }
        self.find(name)?.ok_or(Errno::ENOENT).tried("open folder", &path)
    }

    /// Makes an empty file that is not there yet; durable once this returns.
    pub(super) fn make_file(&self, name: impl AsRef<OsStr>) -> Result<File, DiskError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let fd = self.open(name, flags).tried("make", &path)?;
        self.sync()?;
        Ok(File::from(fd))
    }

    /// Opens a file to read; none if it is not there.
    pub(super) fn find_file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>, DiskError> {
        let name = name.as_ref();
        match self.open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error).tried("open", &self.path.join(name)),
        }
    }

    pub(super) fn open(&self, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mut how = OpenHow::new().flags(flags).resolve(resolve);
        if flags.contains(OFlag::O_CREAT) {
            how = how.mode(Mode::from_bits_truncate(0o600));
        }
        openat2(&self.fd, name, how)
    }

    /// What is in it, by name, without `.` and `..`.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, DiskError> {
        let mut entries = self.some_entries(usize::MAX)?;
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// At most so many of what is in it, in no order.
    pub(super) fn some_entries(&self, limit: usize) -> Result<Vec<Entry>, DiskError> {
        let again =
            self.open(OsStr::new("."), OFlag::O_DIRECTORY | OFlag::O_RDONLY).tried("open", &self.path)?;
        let mut list = Dir::from_fd(again).tried("list", &self.path)?;
        let mut entries = Vec::new();
        for entry in list.iter() {
            let entry = entry.tried("list", &self.path)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == limit {
                break;
            }
            let (is_folder, is_file) = match entry.file_type() {
                Some(kind) => (kind == Type::Directory, kind == Type::File),
                None => self.stat(&name)?.map_or((false, false), |stat| kind(&stat)),
            };
            entries.push(Entry { name, is_folder, is_file });
        }
        Ok(entries)
    }

    /// What an entry is, itself and not what it may point to; none if it is not there.
    pub(super) fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<FileStat>, DiskError> {
        let name = name.as_ref();
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error).tried("look at", &self.path.join(name)),
        }
    }

    /// Moves an entry to another folder of the same file system; durable once this returns. Replaces nothing.
    pub(super) fn move_to(&self, name: impl AsRef<OsStr>, to: &Self, new: &str) -> Result<(), DiskError> {
        let name = name.as_ref();
        self.move_to_quickly(name, to, new)?;
        // The new name first: after a crash the entry is in both folders' past, and never in neither.
        to.sync()?;
        self.sync()
    }

    /// Likewise, and not durable: for what may come back after a crash.
    pub(super) fn move_to_quickly(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new: &str,
    ) -> Result<(), DiskError> {
        let name = name.as_ref();
        renameat2(&self.fd, name, &to.fd, OsStr::new(new), RenameFlags::RENAME_NOREPLACE)
            .tried("move away", &self.path.join(name))
    }

    /// Exchanges an entry for that of the same name in another folder; durable once this returns.
    pub(super) fn exchange(&self, name: &str, with: &Self) -> Result<(), DiskError> {
        renameat2(&self.fd, name, &with.fd, name, RenameFlags::RENAME_EXCHANGE)
            .tried("exchange", &self.path.join(name))?;
        with.sync()?;
        self.sync()
    }

    /// Puts a file in the place of another, or of none; durable once this returns.
    pub(super) fn replace(&self, name: &str, with: &str) -> Result<(), DiskError> {
        renameat2(&self.fd, with, &self.fd, name, RenameFlags::empty())
            .tried("replace", &self.path.join(name))?;
        self.sync()
    }

    /// Removes a file; one that is gone is removed.
    pub(super) fn remove_file(&self, name: impl AsRef<OsStr>) -> Result<(), DiskError> {
        let name = name.as_ref();
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error).tried("remove", &self.path.join(name)),
        }
    }

    /// Removes a folder that may not be empty: then it stays.
    pub(super) fn remove_if_empty(&self, name: impl AsRef<OsStr>) -> Result<(), DiskError> {
        let name = name.as_ref();
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(error) => Err(error).tried("remove folder", &self.path.join(name)),
        }
    }

    /// Makes its entries durable.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        nix::unistd::fsync(&self.fd).tried("write out", &self.path)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether it is a folder, and whether a plain file.
fn kind(stat: &FileStat) -> (bool, bool) {
    let kind = stat.st_mode & nix::libc::S_IFMT;
    (kind == nix::libc::S_IFDIR, kind == nix::libc::S_IFREG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_and_nothing_outside_is_reached() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        let root = Folder::root(&inside.path().join("disks")).unwrap();
        root.ensure("a", 0o700).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("disks/link")).unwrap();
        assert!(root.find("a").unwrap().is_some());
        assert!(root.find("absent").unwrap().is_none());
        for bad in ["link", "..", "a/../..", "/", "link/x"] {
            assert!(root.find(bad).is_err(), "{bad}");
        }
        assert!(root.ensure("link", 0o700).is_err());
        assert!(root.make_file("link/x").is_err());
    }

    #[test]
    fn entries_come_in_order() {
        let at = tempfile::tempdir().unwrap();
        let root = Folder::root(at.path()).unwrap();
        root.ensure("b", 0o700).unwrap();
        root.make_file("a").unwrap();
        let entries: Vec<_> =
            root.entries().unwrap().into_iter().map(|entry| (entry.name, entry.is_folder)).collect();
        assert_eq!(entries, [("a".into(), false), ("b".into(), true)]);
        root.remove_file("a").unwrap();
        root.remove_file("a").unwrap();
        root.remove_if_empty("b").unwrap();
        assert_eq!(root.entries().unwrap(), []);
    }
}
