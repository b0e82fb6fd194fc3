//! Files that hold secrets: made for the owner alone, whole or not at all, and the owner is the service's account.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// A file could not be handled.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}")]
pub struct FileError {
    /// What we tried.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    /// Names what was tried with which file.
    pub fn wrap(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// Makes a file that is not there yet, readable by its owner alone.
///
/// # Errors
/// When it is there, or cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), FileError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| write_whole(file, text))
        .map_err(FileError::wrap("create", path))?;
    sync_parent(path)
}

/// Replaces a file, so that a reader sees the old or the new one and nothing between.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_over(path: &Path, text: &str) -> Result<(), FileError> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::wrap("remove left-over", &fresh)(error));
        }
        Ok(()) | Err(_) => {}
    }
    write_new(&fresh, text)?;
    std::fs::rename(&fresh, path).map_err(FileError::wrap("replace", path))?;
    sync_parent(path)
}

fn write_whole(mut file: File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(FileError::wrap("flush directory", parent))
}

/// Gives a file that an administrator made to the owner of the directory it belongs under: the service must read it.
/// A file that is not there, or belongs to the right account, is left alone.
///
/// # Errors
/// When the owner cannot be looked up or changed.
pub(crate) fn give_to_owner(path: &Path, of: &Path) -> Result<(), FileError> {
    let wanted = of.metadata().map_err(FileError::wrap("look at", of))?;
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::wrap("look at", path)(error)),
    };
    if (found.uid(), found.gid()) == (wanted.uid(), wanted.gid()) || found.is_symlink() {
        return Ok(());
    }
    chown(path, Some(wanted.uid()), Some(wanted.gid())).map_err(FileError::wrap("change the owner of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, "one").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let error = write_new(&path, "two").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }

    #[test]
    fn a_replaced_file_is_whole_and_a_left_over_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.crt");
        std::fs::write(dir.path().join("control.new"), "half").unwrap();
        write_over(&path, "one").unwrap();
        write_over(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
