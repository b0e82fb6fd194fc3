//! Giving disks up: first moved into the trash, which is durable and instant, then removed piece by piece.
//!
//! What is in the trash is removed flat: a folder's files are unlinked, its folders moved up into the trash, and the
//! folder itself removed. So no depth and no crash can stop it, and it needs no more than two open folders.

use super::beneath::{Entry, Folder};
use super::error::DiskError;
use super::project::Owner;
use super::quota::{self, QuotaSupport};
use super::store::{Disks, OWN_MODE, Shelf, folder_of};
use berth_model::{Bytes, DiskName, PodId};
use std::os::fd::AsFd;

/// How much of one folder is listed at a time.
const BATCH: usize = 1024;
/// Where disks go that were given up.
const TRASH: &str = ".trash";

/// What is left after a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Something: go on later.
    Something,
}

impl Disks {
    /// Gives a directory disk up: it is gone under its name once this returns, durably, and removed by
    /// [`Disks::empty_trash`] later. One that is not there is given up.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn give_up_directory(&self, shelf: Shelf, pod: &PodId, disk: &DiskName) -> Result<(), DiskError> {
        let _turn = self.turn();
        let root = self.root()?;
        let pods = root.ensure(shelf.folder(), OWN_MODE)?;
        let Some(of_pod) = pods.find(folder_of(pod))? else {
            return Ok(());
        };
        if of_pod.stat(disk.as_str())?.is_some() {
            let trash = root.ensure(TRASH, OWN_MODE)?;
            of_pod.move_to(disk.as_str(), &trash, &free_name(&trash, &mut 0)?)?;
        }
        pods.remove_if_empty(folder_of(pod))
    }

    /// Moves a file or folder of the disks' own folders into the trash; durable once this returns.
    pub(super) fn throw_away(&self, from: &Folder, name: &str) -> Result<(), DiskError> {
        let trash = self.root()?.ensure(TRASH, OWN_MODE)?;
        from.move_to(name, &trash, &free_name(&trash, &mut 0)?)
    }

    /// Removes at most so many files and folders of what was given up.
    ///
    /// # Errors
    /// The first thing that could not be removed; the others are.
    pub fn empty_trash(&self, budget: usize) -> Result<Left, DiskError> {
        let trash = self.root()?.ensure(TRASH, OWN_MODE)?;
        let mut work = Work { budget, next_name: 0 };
        let mut first = None;
        'rounds: loop {
            let entries = trash.some_entries(BATCH)?;
            let mut progress = false;
            for entry in &entries {
                if work.budget == 0 {
                    break 'rounds;
                }
                match remove_one(&trash, entry, &mut work) {
                    Ok(()) => progress = true,
                    Err(error) => first = first.or(Some(error)),
                }
            }
            if !progress {
                break;
            }
        }
        match (first, trash.some_entries(1)?.is_empty()) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(Left::Nothing),
            (None, false) => Ok(Left::Something),
        }
    }

    /// Frees every project id whose disk is gone and that the file system counts nothing for any more. XFS counts what was
    /// removed until it has freed it, a moment later; then there is something left.
    ///
    /// # Errors
    /// When usage cannot be read, or an id not be freed.
    pub fn free_projects(&self) -> Result<Left, DiskError> {
        let _turn = self.turn();
        let root = self.root()?;
        if QuotaSupport::of(root.as_fd(), root.path())? != QuotaSupport::Enforced {
            return Ok(Left::Nothing);
        }
        let mut left = Left::Nothing;
        let projects = self.projects()?;
        for (id, owner) in projects.all()? {
            let Some(owner) = owner else { continue };
            let gone = match &owner {
                Owner::Data { pod, disk } => self.find_directory(Shelf::Kept, pod, disk)?.is_none(),
                Owner::Scratch { pod, disk } => self.find_directory(Shelf::Scratch, pod, disk)?.is_none(),
                Owner::Arriving { pod, disk } => !self.is_arriving(pod, disk)?,
                Owner::Trash { .. } => true,
                // Its snapshot is the runtime's; whoever removes that says so.
                Owner::System { .. } => false,
            };
            if !gone {
                continue;
            }
            let holds = quota::usage(root.as_fd(), id, root.path())?.used;
            if holds == Some(Bytes(0)) {
                quota::hold(root.as_fd(), id, None, root.path())?;
            }
            match holds == Some(Bytes(0)) && quota::is_unused(root.as_fd(), id) {
                true => projects.free(id, &owner)?,
                false => left = Left::Something,
            }
        }
        Ok(left)
    }
}

struct Work {
    /// How much may still be removed.
    budget: usize,
    next_name: u64,
}

/// Removes a file, or what is in a folder, and the folder once it is empty.
fn remove_one(trash: &Folder, entry: &Entry, work: &mut Work) -> Result<(), DiskError> {
    let name = &entry.name;
    work.budget = work.budget.saturating_sub(1);
    if !entry.is_folder {
        return trash.remove_file(name);
    }
    let Some(folder) = trash.find(name)? else {
        return Ok(());
    };
    loop {
        let entries = folder.some_entries(BATCH.min(work.budget))?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            work.budget = work.budget.saturating_sub(1);
            match entry.is_folder {
                true => {
                    let name = free_name(trash, &mut work.next_name)?;
                    folder.move_to_quickly(&entry.name, trash, &name)?;
                }
                false => folder.remove_file(&entry.name)?,
            }
        }
    }
    trash.remove_if_empty(name)
}

/// The lowest number from `next` on that no entry of the folder has; `next` is behind it then.
fn free_name(trash: &Folder, next: &mut u64) -> Result<String, DiskError> {
    loop {
        let name = next.to_string();
        *next += 1;
        if trash.stat(&name)?.is_none() {
            return Ok(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::path::Path;

    fn pod() -> PodId {
        PodId::new("shop", "web").unwrap()
    }

    fn disk(name: &str) -> DiskName {
        DiskName::new(name).unwrap()
    }

    fn entries(path: &Path) -> usize {
        std::fs::read_dir(path).map_or(0, Iterator::count)
    }

    #[test]
    fn a_disk_is_made_kept_given_up_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let disks = Disks::new(state.path());
        disks.ensure_directory(Shelf::Kept, &pod(), &disk("db"), None).unwrap();
        let path = disks.directory_path(Shelf::Kept, &pod(), &disk("db"));
        std::fs::write(path.join("file"), "kept").unwrap();
        disks.ensure_directory(Shelf::Kept, &pod(), &disk("db"), None).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "kept");
        let names = |disks: &Disks| {
            disks.all().unwrap().into_iter().map(|found| found.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&disks), ["db"]);
        disks.give_up_directory(Shelf::Kept, &pod(), &disk("db")).unwrap();
        disks.give_up_directory(Shelf::Kept, &pod(), &disk("db")).unwrap();
        assert_eq!((names(&disks).len(), path.exists()), (0, false));
        // The name is free at once, and what was there does not come back.
        disks.ensure_directory(Shelf::Kept, &pod(), &disk("db"), None).unwrap();
        assert_eq!(entries(&path), 0);
        assert_eq!(disks.empty_trash(usize::MAX).unwrap(), Left::Nothing);
        assert_eq!((entries(&state.path().join("disks/.trash")), path.exists()), (0, true));
    }

    #[test]
    fn the_trash_is_emptied_in_pieces_whatever_is_in_it() {
        let state = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("safe"), "").unwrap();
        let disks = Disks::new(state.path());
        disks.ensure_directory(Shelf::Kept, &pod(), &disk("db"), None).unwrap();
        let mut path = disks.directory_path(Shelf::Kept, &pod(), &disk("db"));
        std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
        std::fs::write(path.join(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\n")), "x")
            .unwrap();
        for depth in 0..40 {
            path = path.join(format!("d{depth}"));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("file"), "x").unwrap();
        }
        disks.give_up_directory(Shelf::Kept, &pod(), &disk("db")).unwrap();
        let mut rounds = 0;
        while disks.empty_trash(10).unwrap() == Left::Something {
            rounds += 1;
            assert!(rounds < 100, "the trash is never empty");
        }
        assert!(rounds > 2, "{rounds} rounds");
        assert!(outside.path().join("safe").exists());
    }
}
