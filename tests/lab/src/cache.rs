//! Things that take long to make, kept by a hash of their recipe.

use crate::progress;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

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
    let finished = root().join(format!("{name}-{}", hash(recipe)));
    if finished.is_dir() {
        return Ok(finished);
    }
    let building = root().join(format!("{name}-{}.building-{}", hash(recipe), std::process::id()));
    fs::create_dir_all(&building).with_context(|| format!("make {}", building.display()))?;
    let built = progress::step(&format!("make {name}"), || build(&building));
    if built.is_err() {
        // What is left of a failed build is of no use; not being able to remove it changes nothing.
        let _ = fs::remove_dir_all(&building);
    }
    built.with_context(|| format!("make {name}"))?;
    fs::rename(&building, &finished).with_context(|| format!("name {}", finished.display()))?;
    Ok(finished)
}
