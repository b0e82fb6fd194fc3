//! What both programs do around a command: parse, run, print a failure, choose the exit code; and the generation of
//! manual pages and shell completions for packages.

use crate::failure::{Failure, Result};
use crate::output::{BROKEN_PIPE, Format};
use clap::{Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::{Request, Response, Status};

/// What packages are made with.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Generate {
    /// Write manual pages, one for each command
    Man {
        /// Where to
        dir: PathBuf,
    },
    /// Write completions for bash, zsh and fish
    Completions {
        /// Where to
        dir: PathBuf,
    },
}

impl Generate {
    pub(crate) fn run(&self, command: Command) -> Result<()> {
        let (dir, written) = match self {
            Self::Man { dir } => (dir, prepare(dir).and_then(|()| clap_mangen::generate_to(command, dir))),
            Self::Completions { dir } => (dir, prepare(dir).and_then(|()| completions(command, dir))),
        };
        written
            .map_err(|error| Failure::refused("Io", format!("cannot write into {}: {error}", dir.display())))
    }
}

fn prepare(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)
}

fn completions(mut command: Command, dir: &Path) -> std::io::Result<()> {
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, dir)?;
    }
    Ok(())
}

/// Parses `args` and runs `command` on a runtime of its own.
pub(crate) fn run<C, F>(
    args: impl IntoIterator<Item = OsString>,
    command: impl FnOnce(C) -> (Format, F),
) -> ExitCode
where
    C: Parser + CommandFactory,
    F: Future<Output = Result<()>>,
{
    let parsed = match C::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let (format, future) = command(parsed);
    // One connection and one terminal need no more than one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => Err(Failure::refused("Io", format!("cannot start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.code == BROKEN_PIPE => ExitCode::SUCCESS,
        Err(failure) => {
            print_failure(&C::command(), format, &failure);
            failure.exit.into()
        }
    }
}

/// Help and version are no failures; clap knows which is which and where each is printed.
fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    // A closed terminal is no reason to say more.
    let _ = error.print();
    code
}

fn print_failure(command: &Command, format: Format, failure: &Failure) {
    match format {
        Format::Json => crate::output::progress(&failure.to_json().to_string()),
        Format::Table | Format::Wide => {
            // Words of the other side must not move the terminal's cursor.
            let text = failure.to_string().replace(|c: char| c.is_control() && c != '\n', " ");
            crate::output::progress(&format!("{}: {text}", command.get_name()));
        }
    }
}

/// The answer of a call, or what its refusal means. `what` says what was tried.
pub(crate) async fn ask<T>(
    what: &str,
    call: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    call.await.map(Response::into_inner).map_err(|status| Failure::from_status(&status, what))
}

/// A request that is given up after a while. Everything asked here is answered from memory or after one commit.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(std::time::Duration::from_secs(30));
    request
}
