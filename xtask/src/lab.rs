//! `cargo xtask lab`: installs what the lab needs, and hands over to it.

use crate::prereqs;
use crate::run::{program, succeed};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Runs the lab's own program.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    prereqs::ensure(prereqs::LAB)?;
    succeed(Command::new(program(root, "berth-lab")?).args(arguments), "lab")
}
