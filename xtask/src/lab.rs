//! `cargo xtask lab`: installs what the lab needs, and hands over to it.

use crate::prereqs;
use crate::run::{cargo, succeed};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the lab's own program.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    prereqs::ensure(prereqs::LAB)?;
    succeed(Command::new(program(root)?).args(arguments), "lab")
}

/// Builds the lab's program; answers where it is.
pub(crate) fn program(root: &Path) -> Result<PathBuf> {
    succeed(cargo(root).args(["build", "--quiet", "--package", "berth-lab"]), "build the lab")?;
    Ok(target(root).join("debug/berth-lab"))
}

/// Where cargo builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}
