//! Running other programs.

use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// cargo, as we were called by, in the repository.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Builds one of our programs, unoptimized; answers where it is.
///
/// Of the whole workspace: what a crate is built with depends on who else is built, and one package alone would have most
/// of its dependencies built once more.
pub(crate) fn program(root: &Path, name: &str) -> Result<PathBuf> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--locked", "--workspace", "--bin", name]);
    succeed(&mut build, &format!("build {name}"))?;
    Ok(target(root).join("debug").join(name))
}

/// Where cargo builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Runs a command that must end with 0.
pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{what}: run {command:?}"))?;
    ensure!(status.success(), "{what}: {command:?} ended with {status}");
    Ok(())
}

/// Does two things at once, and both to the end. Where both fail, the first is the error, and the other one is printed.
pub(crate) fn beside(
    one: impl FnOnce() -> Result<()>,
    other: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        let other = other.join().map_err(|_| anyhow!("a stage panicked"))?;
        if let (Err(_), Err(error)) = (&one, &other) {
            println!("beside that: {error:#}");
        }
        one.and(other)
    })
}

/// Says what begins, does it, and says how long it took.
pub(crate) fn stage<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("── {name}");
    let begun = Instant::now();
    let result = work();
    let word = if result.is_ok() { "done" } else { "FAILED" };
    println!("── {name}: {word} after {:.0} s", begun.elapsed().as_secs_f64());
    result
}
