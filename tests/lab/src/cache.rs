//! Things that take long to make, kept by a hash of their recipe. Several labs share them: whoever makes one holds its
//! lock, and the others wait for what comes of it.

use crate::progress;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Stands between an entry's name and the end of an unfinished one's.
const UNFINISHED: &str = ".building";

/// Where everything is kept: `$BERTH_LAB_CACHE`, or `berth-lab` in the user's cache directory.
pub(crate) fn root() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_LAB_CACHE") {
        return PathBuf::from(path);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("berth-lab")
}

/// The first 16 hexadecimal digits of a recipe's hash.
pub(crate) fn hash(recipe: &str) -> String {
    Sha256::digest(recipe.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The directory made by `recipe`, made now if it is not there. `build` fills a directory beside it, which gets its
/// name only when whole: a crash leaves nothing that looks finished.
pub(crate) fn directory(
    name: &str,
    recipe: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    directory_in(&root(), &format!("{name}-{}", hash(recipe)), build)
}

/// As [`directory`], of this name below `root`.
fn directory_in(root: &Path, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let finished = root.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    let _making = lock_in(root, name)?;
    // Whoever had the lock before may have made it.
    if finished.is_dir() {
        return Ok(finished);
    }
    sweep(root)?;
    let building = root.join(format!("{name}{UNFINISHED}"));
    remove(&building)?;
    fs::create_dir(&building).with_context(|| format!("make {}", building.display()))?;
    progress::step(&format!("make {name}"), || build(&building)).with_context(|| format!("make {name}"))?;
    fs::rename(&building, &finished).with_context(|| format!("name {}", finished.display()))?;
    Ok(finished)
}

/// Waits until nobody else makes the entry of this name; the lock ends with the file, and so with its process.
pub(crate) fn lock(name: &str) -> Result<File> {
    lock_in(&root(), name)
}

fn lock_in(root: &Path, name: &str) -> Result<File> {
    let file = lock_file(root, name)?;
    file.lock().with_context(|| format!("lock the cache's {name}"))?;
    Ok(file)
}

fn lock_file(root: &Path, name: &str) -> Result<File> {
    let locks = root.join("locks");
    fs::create_dir_all(&locks).with_context(|| format!("make {}", locks.display()))?;
    let path = locks.join(name);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

/// Removes what builds that ended half-way have left: unfinished entries that nobody holds the lock of.
fn sweep(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).with_context(|| format!("list {}", root.display()))? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((name, _)) = file_name.to_str().and_then(|name| name.split_once(UNFINISHED)) else {
            continue;
        };
        let lock = lock_file(root, name)?;
        match lock.try_lock() {
            Ok(()) => remove(&entry.path())?,
            // It is being made, by another or by us.
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock the cache's {name}"));
            }
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn make(path: &Path) -> Result<()> {
        fs::write(path.join("content"), "whole").context("write")
    }

    fn content(directory: &Path) -> String {
        fs::read_to_string(directory.join("content")).unwrap()
    }

    #[test]
    fn an_entry_is_made_once_and_by_one() {
        let root = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let get = || {
            let build = |path: &Path| {
                made.fetch_add(1, Ordering::SeqCst);
                make(path)
            };
            content(&directory_in(root.path(), "thing-1", build).unwrap())
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
            for one in all {
                assert_eq!(one.join().unwrap(), "whole");
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_ended_half_way_is_swept_and_what_is_being_made_is_not() {
        let root = tempfile::tempdir().unwrap();
        let failed = directory_in(root.path(), "bad-1", |path| {
            make(path)?;
            anyhow::bail!("no more")
        });
        assert_eq!(format!("{:#}", failed.unwrap_err()), "make bad-1: no more");
        for name in ["bad-1.building", "dead-1.building-4711", "live-1.building"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let _live = lock_in(root.path(), "live-1").unwrap();
        directory_in(root.path(), "thing-1", make).unwrap();
        let mut left: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["live-1.building", "locks", "thing-1"]);
        directory_in(root.path(), "bad-1", make).unwrap();
    }
}
