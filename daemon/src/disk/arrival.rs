//! Putting a directory disk together from its pieces: beside its place first, and in its place once all of it is there
//! and written out. What was cut off is thrown away, and begun anew.
//!
//! Pieces come from another node, which is believed no more than it must be: a name is one name, nothing that is there
//! is opened or replaced, and no link is followed.

use super::beneath::Folder;
use super::error::{DiskError, Tried};
use super::making::complete;
use super::piece::{Item, ItemKind, MAX_DEPTH, PIECE_BYTES, Piece};
use super::project::{Owner, ProjectId};
use super::quota::{self, QuotaSupport};
use super::store::{Disks, OWN_MODE, Shelf, folder_of};
use super::sys::Inherit;
use super::{directory, sys};
use berth_model::{Bytes, DiskName, PodId};
use nix::sys::statvfs::fstatvfs;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where disks are put together.
const ARRIVING: &str = "arriving";
/// A nanosecond more is another second.
const SECOND_NS: u32 = 1_000_000_000;

/// Which disk arrives.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Whose.
    pub pod: &'a PodId,
    /// Which.
    pub disk: &'a DiskName,
    /// What it is held to; as large as the node's disk when absent.
    pub size: Option<Bytes>,
    /// What it holds, if that was counted.
    pub used: Option<Bytes>,
}

/// A disk that arrives.
#[derive(Debug)]
pub struct Arrival {
    pod: PodId,
    disk: DiskName,
    size: Option<Bytes>,
    /// The folder beside its place.
    root: Folder,
    /// Where files with several names are known by their numbers; made for the first.
    links: Option<Folder>,
    state: State,
    /// Folders that have not ended, without the disk's own.
    levels: Vec<(Folder, Item)>,
    /// The disk's own folder, once it has come.
    own: Option<Item>,
}

#[derive(Debug)]
enum State {
    Nothing,
    Writing(Writing),
    Whole,
}

#[derive(Debug)]
struct Writing {
    file: File,
    path: PathBuf,
    item: Item,
    size_bytes: u64,
}

impl Disks {
    /// Begins a disk beside its place, held to its size. What an earlier try has left there is thrown away.
    ///
    /// # Errors
    /// When there is no room for it, or a folder cannot be made.
    pub fn expect(&self, expected: Expected<'_>) -> Result<Arrival, DiskError> {
        let Expected { pod, disk, size, used } = expected;
        self.abandon(pod, disk)?;
        let _turn = self.turn();
        let support = self.quota_support()?;
        if size.is_some() {
            support.clone().require(&self.directory_path(Shelf::Kept, pod, disk))?;
        }
        let of_pod = self.arriving()?.ensure(folder_of(pod), OWN_MODE)?;
        check_room(&of_pod, used)?;
        let root = match support {
            QuotaSupport::Enforced => {
                let owner = Owner::Arriving { pod: pod.clone(), disk: disk.clone() };
                let id = self.project_for(&owner, &of_pod, true)?;
                let root = of_pod.ensure(disk.as_str(), OWN_MODE)?;
                directory::set(&root, id, Inherit::Folder)?;
                quota::hold(root.as_fd(), id, size, root.path())?;
                root
            }
            QuotaSupport::None { .. } => of_pod.ensure(disk.as_str(), OWN_MODE)?,
        };
        let (pod, disk) = (pod.clone(), disk.clone());
        Ok(Arrival {
            pod,
            disk,
            size,
            root,
            links: None,
            state: State::Nothing,
            levels: Vec::new(),
            own: None,
        })
    }

    /// Writes the disk out and puts it in its place, instead of what is there. Durable once this returns.
    ///
    /// # Errors
    /// When it is not whole, is larger than it may be, or cannot be moved.
    pub fn accept(&self, arrival: Arrival) -> Result<(), DiskError> {
        let Arrival { pod, disk, size, root, state, .. } = arrival;
        match state {
            State::Whole => {}
            State::Nothing | State::Writing(_) => return Err(nonsense(&root, "it is not whole")),
        }
        nix::unistd::syncfs(&root).tried("write out", root.path())?;
        if let (Some(size), Some(used)) = (size.map(quota::as_limit), self.usage_of(&root)?.used)
            && used > size
        {
            return Err(DiskError::NoRoom { path: root.path().to_owned(), room: size, needed: used });
        }
        let turn = self.turn();
        let from = self.arriving()?.ensure(folder_of(&pod), OWN_MODE)?;
        let to = self.root()?.ensure("pods", OWN_MODE)?.ensure(folder_of(&pod), OWN_MODE)?;
        match to.stat(disk.as_str())?.is_some() {
            true => from.exchange(disk.as_str(), &to)?,
            false => from.move_to(disk.as_str(), &to, disk.as_str())?,
        }
        self.hand_over_project(&pod, &disk, &root)?;
        drop(turn);
        self.abandon(&pod, &disk)
    }

    /// Throws away what has arrived of a disk so far, and what it replaced.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn abandon(&self, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        let _turn = self.turn();
        let arriving = self.arriving()?;
        let Some(of_pod) = arriving.find(folder_of(pod))? else { return Ok(()) };
        for name in [disk.to_string(), links_of(disk)] {
            if of_pod.stat(&name)?.is_some() {
                self.throw_away(&of_pod, &name)?;
            }
        }
        arriving.remove_if_empty(folder_of(pod))
    }

    /// Throws away whatever was arriving when the agent last ended: all of it is begun anew.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn abandon_all(&self) -> Result<(), DiskError> {
        let _turn = self.turn();
        let arriving = self.arriving()?;
        for entry in arriving.entries()? {
            if let Some(name) = entry.name.to_str() {
                self.throw_away(&arriving, name)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_arriving(&self, pod: &PodId, disk: &DiskName) -> Result<bool, DiskError> {
        let of_pod = self.arriving()?.find(folder_of(pod))?;
        of_pod.map_or(Ok(false), |of_pod| Ok(of_pod.stat(disk.as_str())?.is_some()))
    }

    fn arriving(&self) -> Result<Folder, DiskError> {
        self.root()?.ensure(ARRIVING, OWN_MODE)
    }

    /// The project that the disk arrived in is the disk's, and an older disk's is the trash's.
    fn hand_over_project(&self, pod: &PodId, disk: &DiskName, root: &Folder) -> Result<(), DiskError> {
        if QuotaSupport::of(root.as_fd(), root.path())? != QuotaSupport::Enforced {
            return Ok(());
        }
        let (ours, _) = sys::project(root.as_fd()).tried("read the project of", root.path())?;
        let (pod, disk) = (pod.clone(), disk.clone());
        let new = Owner::Data { pod: pod.clone(), disk: disk.clone() };
        let projects = self.projects()?;
        for (id, owner) in projects.all()? {
            if owner.as_ref() == Some(&new) && id != ProjectId(ours) {
                projects.hand_over(id, &new, &Owner::Trash { name: id.to_string() })?;
            }
        }
        let arriving = Owner::Arriving { pod, disk };
        match projects.find(&arriving)? {
            Some(id) => projects.hand_over(id, &arriving, &new),
            None => Ok(()),
        }
    }
}

/// No disk's name has a dot.
fn links_of(disk: &DiskName) -> String {
    format!("{disk}.links")
}

fn check_room(on: &Folder, needed: Option<Bytes>) -> Result<(), DiskError> {
    let told = fstatvfs(on).tried("ask for the room of", on.path())?;
    let room = Bytes(told.blocks_available().saturating_mul(told.fragment_size()));
    match needed.filter(|needed| *needed > room) {
        Some(needed) => Err(DiskError::NoRoom { path: on.path().to_owned(), room, needed }),
        None => Ok(()),
    }
}

fn nonsense(folder: &Folder, why: impl Into<String>) -> DiskError {
    DiskError::Nonsense { path: folder.path().to_owned(), why: why.into() }
}

impl Arrival {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When it makes no sense after those before, or cannot be written.
    pub fn take(&mut self, piece: Piece) -> Result<(), DiskError> {
        match piece {
            Piece::Bytes { offset, data } => self.write(offset, &data),
            Piece::Item(item) => {
                self.end_file()?;
                self.make(item)
            }
            Piece::FolderEnd => {
                self.end_file()?;
                self.end_folder()
            }
        }
    }

    fn innermost(&self) -> &Folder {
        self.levels.last().map_or(&self.root, |(folder, _)| folder)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let State::Writing(writing) = &self.state else {
            return Err(nonsense(self.innermost(), "bytes came, and no plain file before them"));
        };
        let end = offset.checked_add(data.len() as u64);
        if data.len() > PIECE_BYTES || end.is_none_or(|end| end > writing.size_bytes) {
            let why = format!("{} bytes at {offset} of a file of {}", data.len(), writing.size_bytes);
            return Err(DiskError::Nonsense { path: writing.path.clone(), why });
        }
        writing.file.write_all_at(data, offset).tried("write", &writing.path)
    }

    fn end_file(&mut self) -> Result<(), DiskError> {
        match std::mem::replace(&mut self.state, State::Nothing) {
            State::Nothing => Ok(()),
            State::Writing(Writing { file, path, item, .. }) => complete(&file, &item, &path),
            State::Whole => Err(nonsense(&self.root, "more came after the disk's own folder had ended")),
        }
    }

    fn end_folder(&mut self) -> Result<(), DiskError> {
        match (self.levels.pop(), &self.own) {
            (Some((folder, item)), _) => complete(&folder, &item, folder.path()),
            (None, Some(own)) => {
                complete(&self.root, own, self.root.path())?;
                self.state = State::Whole;
                Ok(())
            }
            (None, None) => Err(nonsense(&self.root, "a folder ended, and none had begun")),
        }
    }

    fn make(&mut self, item: Item) -> Result<(), DiskError> {
        if item.modified.nanoseconds >= SECOND_NS {
            return Err(nonsense(self.innermost(), format!("{} ns of a second", item.modified.nanoseconds)));
        }
        match (&self.own, &item.kind) {
            (None, ItemKind::Folder) if item.name.is_empty() => {
                self.own = Some(item);
                return Ok(());
            }
            (None, _) => return Err(nonsense(&self.root, "the disk's own folder does not come first")),
            (Some(_), _) => check_name(&item.name).map_err(|why| nonsense(self.innermost(), why))?,
        }
        match &item.kind {
            ItemKind::Folder => return self.enter(item),
            ItemKind::Plain { size_bytes } => {
                let (file, path) =
                    (self.innermost().make_plain(&item.name)?, self.innermost().path().join(&item.name));
                file.set_len(*size_bytes).tried("set the length of", &path)?;
                self.remember(&item)?;
                let size_bytes = *size_bytes;
                self.state = State::Writing(Writing { file, path, item, size_bytes });
                return Ok(());
            }
            ItemKind::SameAs { link } => {
                let name = link.to_string();
                let Some(links) = &self.links else {
                    return Err(nonsense(self.innermost(), format!("no file {name} came before")));
                };
                return links.link(OsStr::new(&name), self.innermost(), &item.name);
            }
            ItemKind::Symlink { .. }
            | ItemKind::BlockDevice { .. }
            | ItemKind::CharacterDevice { .. }
            | ItemKind::Fifo
            | ItemKind::Socket => self.innermost().make_other(&item)?,
        }
        self.remember(&item)
    }

    fn enter(&mut self, item: Item) -> Result<(), DiskError> {
        if self.levels.len() + 1 == MAX_DEPTH {
            return Err(nonsense(self.innermost(), format!("more than {MAX_DEPTH} folders deep")));
        }
        let folder = self.innermost().make_folder(&item.name)?;
        self.levels.push((folder, item));
        Ok(())
    }

    /// Keeps a file with further names to come where it is found by its number.
    fn remember(&mut self, item: &Item) -> Result<(), DiskError> {
        let Some(link) = item.link else { return Ok(()) };
        let links = match self.links.take() {
            Some(links) => links,
            None => self.make_links()?,
        };
        self.innermost().link(&item.name, &links, OsStr::new(&link.to_string()))?;
        self.links = Some(links);
        Ok(())
    }

    /// In the same project, since a file has names in one project only.
    fn make_links(&self) -> Result<Folder, DiskError> {
        let beside = self.root.path().parent().unwrap_or(self.root.path());
        let of_pod = Folder::existing(beside)?;
        let links = of_pod.make_folder(OsStr::new(&links_of(&self.disk)))?;
        match sys::project(self.root.as_fd()) {
            Ok((0, _)) => {}
            Err(error) if quota::is_unsupported(&error) => {}
            Err(error) => return Err(error).tried("read the project of", self.root.path()),
            Ok((id, _)) => directory::set(&links, ProjectId(id), Inherit::Folder)?,
        }
        Ok(links)
    }
}

/// One name, and not one that stands for another folder.
fn check_name(name: &OsStr) -> Result<(), String> {
    let bytes = name.as_bytes();
    match bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        true => Err(format!("{name:?} is no name of a file")),
        false => Ok(()),
    }
}
