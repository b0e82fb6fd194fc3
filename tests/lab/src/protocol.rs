//! What is said to a lab's supervisor over its socket: one JSON line each way, one request a connection.

use crate::machine::Machine;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A process beside the guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// By which it is stopped.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the supervisor's own environment.
    pub env: Vec<(String, String)>,
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// How far it is.
    Status,
    /// Start a process; its output goes to `<name>.log` in the lab's directory.
    Spawn(Process),
    /// End a process that was started so: SIGTERM, and SIGKILL after ten seconds.
    Stop { name: String },
    /// Boot a guest that is off, on the disks that it has.
    Boot { number: u8, machine: Machine },
    /// End a guest at once.
    CutPower { number: u8 },
    /// End everything.
    Down,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Why not, if it did not work.
    pub(crate) error: Option<String>,
    /// Whether all guests are up.
    pub(crate) ready: bool,
    /// How many guests there are.
    pub(crate) nodes: u8,
    /// Processes that run beside the guests.
    pub(crate) processes: Vec<String>,
}

/// Asks the supervisor behind `socket`.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context("ask the lab")?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).context("read the lab's answer")?;
    let answer: Answer = serde_json::from_str(&reply).with_context(|| format!("understand {reply:?}"))?;
    match &answer.error {
        Some(error) => bail!("the lab says: {error}"),
        None => Ok(answer),
    }
}
