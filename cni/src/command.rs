//! Carries a request out and says what came of it.

use crate::config::spoken_version;
use crate::daemon::{Daemon, Meaning};
use crate::environment::{Attachment, AttachmentKey, Lookup};
use crate::error::{CniError, Code, chain};
use crate::request::Request;
use crate::result::{PreviousResult, Success, Versions, to_json};
use crate::version::SpecVersion;
use std::io;
use std::path::{Path, PathBuf};

/// What the process prints and ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A JSON object, or nothing.
    pub stdout: String,
    /// A line for whoever reads the caller's log.
    pub note: Option<String>,
    /// Whether the exit code is 0.
    pub succeeded: bool,
}

impl Answer {
    /// Input could not be read, or no runtime be made to work with it.
    pub fn io_failure(error: &io::Error) -> Self {
        let error = CniError::new(Code::Io, "cannot read the request", chain(error));
        Self::failure(&error, SpecVersion::NEWEST)
    }

    fn failure(error: &CniError, version: SpecVersion) -> Self {
        Self { stdout: error.to_json(version), note: Some(error.to_string()), succeeded: false }
    }

    fn success(stdout: String) -> Self {
        Self { stdout, note: None, succeeded: true }
    }
}

/// Answers one request. Must be called inside a tokio runtime with I/O and time.
pub async fn answer(lookup: Lookup<'_>, stdin: &[u8]) -> Answer {
    match read(lookup, stdin) {
        Ok(Checked(request)) => {
            let carried_out = carry_out(request).await;
            carried_out.unwrap_or_else(|error| Answer::failure(&error, spoken_version(stdin)))
        }
        Err(refused) => refused,
    }
}

/// A request that may be carried out.
#[derive(Debug)]
pub struct Checked(Request);

/// The first half of [`answer`]: reads and checks a request, and asks nobody.
///
/// # Errors
/// The answer to one that is malformed.
pub fn read(lookup: Lookup<'_>, stdin: &[u8]) -> Result<Checked, Answer> {
    Request::read(lookup, stdin).map(Checked).map_err(|error| Answer::failure(&error, spoken_version(stdin)))
}

async fn carry_out(request: Request) -> Result<Answer, CniError> {
    match request {
        Request::Add { version, socket, network, attachment } => {
            add(version, &Daemon::at(&socket), network, attachment).await
        }
        Request::Del { socket, key } => Ok(del(socket, key).await),
        Request::Check { socket, attachment, previous } => check(&socket, attachment, &previous).await,
        Request::Gc { socket, network, valid } => gc(&socket, network, valid).await,
        Request::Status { socket } => status(&socket).await,
        Request::Version { asked } => Ok(Answer::success(to_json(&Versions::new(&asked)))),
    }
}

async fn add(
    version: SpecVersion,
    daemon: &Daemon<'_>,
    network: String,
    attachment: Attachment,
) -> Result<Answer, CniError> {
    let what = format!("cannot attach {}", attachment.pod.pod);
    let granted = daemon.attach(network, attachment).await;
    let grants = granted.map_err(|error| {
        let code = match error.meaning() {
            Meaning::Absent => Code::TryAgainLater,
            Meaning::Unknown => Code::NoGrant,
            Meaning::Refused => Code::Refused,
            Meaning::Confused => Code::UnexpectedAnswer,
        };
        CniError::new(code, what, error.story())
    })?;
    Ok(Answer::success(to_json(&Success::new(version, &grants))))
}

/// Never fails: a sandbox must be removable whatever state the node is in, and nothing is lost if `berthd` does not
/// hear of it. The address stays granted either way.
async fn del(socket: Result<PathBuf, CniError>, key: AttachmentKey) -> Answer {
    let what = format!("attachment {} {} is gone, unheard", key.sandbox_id, key.interface);
    let detached = match socket {
        Ok(socket) => Daemon::at(&socket).detach(key).await.map_err(|error| error.story()),
        Err(error) => Err(error.to_string()),
    };
    Answer { note: detached.err().map(|why| format!("{what}: {why}")), ..Answer::success(String::new()) }
}

async fn check(socket: &Path, attachment: Attachment, previous: &PreviousResult) -> Result<Answer, CniError> {
    let what = format!("cannot check {}", attachment.pod.pod);
    let granted = Daemon::at(socket).check(attachment).await;
    let grants = granted.map_err(|error| {
        let code = match error.meaning() {
            Meaning::Absent => Code::TryAgainLater,
            Meaning::Unknown => Code::UnknownContainer,
            Meaning::Refused => Code::Refused,
            Meaning::Confused => Code::UnexpectedAnswer,
        };
        CniError::new(code, what, error.story())
    })?;
    match previous.contradiction(&grants) {
        Some(details) => Err(CniError::new(Code::Mismatch, "address is not the one granted", details)),
        None => Ok(Answer::success(String::new())),
    }
}

/// Says so when `berthd` did not hear of it: who calls this comes again, and until then only notes are left over.
async fn gc(socket: &Path, network: String, valid: Vec<AttachmentKey>) -> Result<Answer, CniError> {
    let what = format!("cannot collect what is left over of network {network}");
    let collected = Daemon::at(socket).collect(network, valid).await;
    collected.map_err(|error| {
        let code = match error.meaning() {
            Meaning::Absent => Code::TryAgainLater,
            Meaning::Refused => Code::Refused,
            Meaning::Unknown | Meaning::Confused => Code::UnexpectedAnswer,
        };
        CniError::new(code, what, error.story())
    })?;
    Ok(Answer::success(String::new()))
}

/// Whatever the reason: ADD cannot be served now, and running containers do not notice.
async fn status(socket: &Path) -> Result<Answer, CniError> {
    let ready = Daemon::at(socket).check_ready().await;
    ready.map_err(|error| CniError::new(Code::NotAvailable, "berthd is not available", error.story()))?;
    Ok(Answer::success(String::new()))
}
