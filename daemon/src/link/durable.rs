//! Files that are there whole or not at all, whatever happens meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file could not be made, read or replaced.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}")]
pub struct FileError {
    /// What we tried.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl FileError {
    pub(super) fn wrap(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// Writes `content` beside `path`, flushes it, and puts it in place; `mode` is the file's from its first instant.
///
/// # Errors
/// When any of that fails; then `path` is as it was.
pub fn write_durably(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.{}", std::process::id()));
    let written = write_new(&beside, content, mode)
        .map_err(FileError::wrap("write", &beside))
        .and_then(|()| std::fs::rename(&beside, path).map_err(FileError::wrap("put in place", path)));
    if let Err(error) = written {
        // Nobody reads it; if it stays, the next write begins by removing it.
        drop(std::fs::remove_file(&beside));
        return Err(error);
    }
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(FileError::wrap("flush folder", parent))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaced_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        for content in ["first", "second"] {
            write_durably(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write_durably(Path::new("/nonexistent/berth/file"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/berth"), "{error}");
    }
}
