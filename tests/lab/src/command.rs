//! Commands: run to the end, with what they said in the error.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 + n for signal n.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

/// Runs a command to its end, whatever that is.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    use std::os::unix::process::ExitStatusExt;
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let status = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    Ok(Output {
        status: status.unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that must end with 0; answers its standard output.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if output.success() {
        return Ok(output.stdout);
    }
    bail!(
        "{command:?} ended with {}: {}{}",
        output.status,
        output.stdout.trim_end(),
        output.stderr.trim_end()
    )
}

/// A command that sees itself as root: it is, or it gets a user namespace in which it is.
pub(crate) fn rooted(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-auto",
        "--map-root-user",
        "--setuid",
        "0",
        "--setgid",
        "0",
        "--",
        program,
    ]);
    command
}
