//! Putting a folder with everything in it into a project.

use super::beneath::Folder;
use super::directory::set;
use super::error::{DiskError, Tried};
use super::project::ProjectId;
use super::sys::{self, Inherit};
use std::os::fd::AsFd;

/// Deeper than any path that a process can name in one piece (PATH_MAX 4096, two bytes a folder, halved again).
const MAX_DEPTH: usize = 1024;

/// Puts the folder and all folders and plain files beneath it into the project, the folder itself last: so one that
/// carries the project is done. Links, sockets and devices carry none; they hold no bytes.
pub(super) fn put_in_project(folder: &Folder, id: ProjectId) -> Result<(), DiskError> {
    if sys::project(folder.as_fd()).tried("read the project of", folder.path())? == (id.0, true) {
        return Ok(());
    }
    descend(folder, id, 0)?;
    set(folder, id, Inherit::Folder)
}

fn descend(folder: &Folder, id: ProjectId, depth: usize) -> Result<(), DiskError> {
    if depth == MAX_DEPTH {
        return Err(DiskError::Unexpected {
            path: folder.path().to_owned(),
            found: format!("{MAX_DEPTH} folders deep"),
            expected: "a tree that can be walked".to_owned(),
        });
    }
    for entry in folder.entries()? {
        if entry.is_folder {
            if let Some(inner) = folder.find(&entry.name)? {
                descend(&inner, id, depth + 1)?;
                set(&inner, id, Inherit::Folder)?;
            }
        } else if entry.is_file
            && let Some(file) = folder.find_file(&entry.name)?
        {
            let path = folder.path().join(&entry.name);
            sys::set_project(file.as_fd(), id.0, Inherit::File).tried("set the project of", &path)?;
        }
    }
    Ok(())
}
