//! Taking a directory disk apart, piece by piece. Nothing is changed, and little is held: the folders that are open, and
//! the numbers of files of which not all names were seen yet.

use super::attributes;
use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::piece::{Item, ItemKind, MAX_DEPTH, Modified, PIECE_BYTES, Piece};
use super::quota::Usage;
use super::store::{Disks, Shelf};
use berth_model::{DiskName, PodId};
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{Whence, lseek};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Most files with several names of which not all were seen yet: some 20 MB.
const MAX_LINKED: usize = 1 << 18;

impl Disks {
    /// Takes a directory disk apart; answers what it holds, too.
    ///
    /// # Errors
    /// When there is no such disk, or it cannot be read.
    pub fn depart(&self, pod: &PodId, disk: &DiskName) -> Result<(Usage, Departure), DiskError> {
        let absent = || DiskError::Absent { pod: pod.clone(), disk: disk.clone() };
        let folder = self.find_directory(Shelf::Kept, pod, disk)?.ok_or_else(absent)?;
        let usage = self.usage_of(&folder)?;
        Ok((usage, Departure::new(folder)))
    }
}

/// The pieces of a disk, in order. After an error there are none.
#[derive(Debug)]
pub struct Departure {
    /// What comes next, if not from a folder.
    state: State,
    levels: Vec<Level>,
    /// By inode: the number it was given, and how many names are still to come.
    linked: BTreeMap<u64, (u64, u64)>,
    next_link: u64,
}

#[derive(Debug)]
enum State {
    Root(Folder),
    Between,
    Reading(Reading),
    Over,
}

#[derive(Debug)]
struct Level {
    folder: Folder,
    list: OwningIter,
}

#[derive(Debug)]
struct Reading {
    file: File,
    path: PathBuf,
    offset: u64,
    /// Where the data at the offset ends.
    data_end: u64,
    size_bytes: u64,
}

impl Iterator for Departure {
    type Item = Result<Piece, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step().transpose();
        if !matches!(next, Some(Ok(_))) {
            (self.state, self.levels) = (State::Over, Vec::new());
        }
        next
    }
}

impl Departure {
    fn new(root: Folder) -> Self {
        Self { state: State::Root(root), levels: Vec::new(), linked: BTreeMap::new(), next_link: 1 }
    }

    fn step(&mut self) -> Result<Option<Piece>, DiskError> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Root(folder) => self.enter(OsString::new(), folder).map(Some),
            State::Reading(mut reading) => match reading.next()? {
                Some(piece) => {
                    self.state = State::Reading(reading);
                    Ok(Some(piece))
                }
                None => self.go_on(),
            },
            State::Between => self.go_on(),
            State::Over => Ok(None),
        }
    }

    /// The next file of the innermost folder, or its end.
    fn go_on(&mut self) -> Result<Option<Piece>, DiskError> {
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        let entry = level.list.find(|entry| match entry {
            Ok(entry) => !matches!(entry.file_name().to_bytes(), b"." | b".."),
            Err(_) => true,
        });
        let Some(entry) = entry else {
            self.levels.pop();
            return Ok(Some(Piece::FolderEnd));
        };
        let entry = entry.tried("list", level.folder.path())?;
        self.visit(OsStr::from_bytes(entry.file_name().to_bytes())).map(Some)
    }

    fn visit(&mut self, name: &OsStr) -> Result<Piece, DiskError> {
        let gone = |path: &PathBuf| DiskError::NotCopied {
            path: path.clone(),
            why: "has gone meanwhile".to_owned(),
        };
        let Some(level) = self.levels.last() else { return Ok(Piece::FolderEnd) };
        let path = level.folder.path().join(name);
        let stat = level.folder.stat(name)?.ok_or_else(|| gone(&path))?;
        if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR {
            let folder = level.folder.find(name)?.ok_or_else(|| gone(&path))?;
            return self.enter(name.to_owned(), folder);
        }
        let link = self.link_of(&stat, &path)?;
        if let Some((link, Seen::Before)) = link {
            return Ok(Piece::Item(item(name.to_owned(), ItemKind::SameAs { link }, &stat)));
        }
        let Some(level) = self.levels.last() else { return Ok(Piece::FolderEnd) };
        let kind = match stat.st_mode & nix::libc::S_IFMT {
            nix::libc::S_IFREG => {
                let file = level.folder.find_file(name)?.ok_or_else(|| gone(&path))?;
                let attributes = attributes::read(&file, &path)?;
                let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
                self.state = State::Reading(Reading { file, path, offset: 0, data_end: 0, size_bytes });
                let plain = item(name.to_owned(), ItemKind::Plain { size_bytes }, &stat);
                return Ok(Piece::Item(Item { attributes, link: link.map(|(link, _)| link), ..plain }));
            }
            nix::libc::S_IFLNK => {
                let target = readlinkat(&level.folder, name).tried("read the link", &path)?;
                ItemKind::Symlink { target }
            }
            nix::libc::S_IFBLK => ItemKind::BlockDevice { number: stat.st_rdev },
            nix::libc::S_IFCHR => ItemKind::CharacterDevice { number: stat.st_rdev },
            nix::libc::S_IFIFO => ItemKind::Fifo,
            nix::libc::S_IFSOCK => ItemKind::Socket,
            other => {
                let why = format!("is of a kind that nobody knows ({other:o})");
                return Err(DiskError::NotCopied { path, why });
            }
        };
        Ok(Piece::Item(Item { link: link.map(|(link, _)| link), ..item(name.to_owned(), kind, &stat) }))
    }

    fn enter(&mut self, name: OsString, folder: Folder) -> Result<Piece, DiskError> {
        if self.levels.len() == MAX_DEPTH {
            let why = format!("is more than {MAX_DEPTH} folders deep");
            return Err(DiskError::NotCopied { path: folder.path().to_owned(), why });
        }
        let stat = fstat(&folder).tried("look at", folder.path())?;
        let attributes = attributes::read(&folder, folder.path())?;
        let again = folder.open(OsStr::new("."), OFlag::O_DIRECTORY | OFlag::O_RDONLY);
        let list = again.and_then(Dir::from_fd).tried("list", folder.path())?.into_iter();
        self.levels.push(Level { folder, list });
        Ok(Piece::Item(Item { attributes, ..item(name, ItemKind::Folder, &stat) }))
    }

    /// The number of a file with several names, and whether it was seen before.
    fn link_of(&mut self, stat: &FileStat, path: &std::path::Path) -> Result<Option<(u64, Seen)>, DiskError> {
        if stat.st_nlink < 2 {
            return Ok(None);
        }
        if let Some((link, left)) = self.linked.get_mut(&stat.st_ino) {
            let link = *link;
            *left -= 1;
            if *left == 0 {
                self.linked.remove(&stat.st_ino);
            }
            return Ok(Some((link, Seen::Before)));
        }
        if self.linked.len() == MAX_LINKED {
            let why = format!("is one of more than {MAX_LINKED} files with several names");
            return Err(DiskError::NotCopied { path: path.to_owned(), why });
        }
        let link = self.next_link;
        self.next_link += 1;
        self.linked.insert(stat.st_ino, (link, stat.st_nlink - 1));
        Ok(Some((link, Seen::First)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    First,
    Before,
}

fn item(name: OsString, kind: ItemKind, stat: &FileStat) -> Item {
    Item {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: Modified {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        attributes: Vec::new(),
        link: None,
    }
}

impl Reading {
    /// The next bytes; none at the end.
    fn next(&mut self) -> Result<Option<Piece>, DiskError> {
        if self.offset >= self.data_end && !self.find_data()? {
            return Ok(None);
        }
        let left = usize::try_from(self.data_end - self.offset).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(PIECE_BYTES)];
        let length = self.file.read_at(&mut data, self.offset).tried("read", &self.path)?;
        if length == 0 {
            let why = "became shorter while it was copied".to_owned();
            return Err(DiskError::NotCopied { path: self.path.clone(), why });
        }
        data.truncate(length);
        let offset = self.offset;
        self.offset += length as u64;
        Ok(Some(Piece::Bytes { offset, data }))
    }

    /// Goes to where the next data are; false when there are none.
    fn find_data(&mut self) -> Result<bool, DiskError> {
        let seek = |from: u64, whence| {
            let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
            lseek(self.file.as_fd(), from, whence).map(|at| u64::try_from(at).unwrap_or(0))
        };
        let start = match seek(self.offset, Whence::SeekData) {
            Ok(start) => start,
            // From here on there is only a hole, or nothing.
            Err(Errno::ENXIO) => return Ok(false),
            Err(error) => return Err(error).tried("look for data in", &self.path),
        };
        let end = seek(start, Whence::SeekHole).tried("look for holes in", &self.path)?.min(self.size_bytes);
        if start >= end {
            return Ok(false);
        }
        (self.offset, self.data_end) = (start, end);
        Ok(true)
    }
}
