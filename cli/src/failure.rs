//! What both programs say when something goes wrong: what it was, why, what to do about it, and the exit code.

use serde_json::json;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use tonic::{Code, Status};

/// How a run ends that did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was refused, or failed: 1.
    Refused,
    /// It was asked wrongly; nothing was sent: 2.
    Usage,
    /// Nobody answered, or nobody that can be trusted: 3.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
    }
}

/// Why a run did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// Stable, for programs.
    pub code: String,
    /// What and why, for people.
    pub message: String,
    /// What to do about it; empty where nobody can know.
    pub remedy: String,
}

/// Shorthand for everything that talks to somebody.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// An error and its sources in one line. Sources that only repeat what was said are left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

impl Failure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), remedy: String::new() }
    }

    /// It was asked wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Usage", message)
    }

    /// A manifest is not acceptable.
    pub(crate) fn manifest(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "InvalidManifest", message)
    }

    /// Nobody that can be trusted answered.
    pub(crate) fn unreachable(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, code, message)
    }

    /// It was refused or failed, with a code of the API's own.
    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// What an answer means that is no success.
    pub(crate) fn from_status(status: &Status, what: &str) -> Self {
        // A status with a source was made on this side: the connection broke, and nobody answered.
        let broken = status.source().is_some()
            && matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Cancelled);
        if broken || status.code() == Code::Unavailable {
            return Self::unreachable("Unavailable", format!("{what}: {}", words(status)))
                .remedy("try again; if it stays so, look at the other side's log");
        }
        let exit = match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Exit::Unreachable,
            Code::Ok
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Exit::Refused,
        };
        Self {
            exit,
            code: format!("{:?}", status.code()),
            message: format!("{what}: {}", words(status)),
            remedy: remedy_of(status.code()).to_owned(),
        }
    }

    /// As a program reads it: `{"error": {"code", "message", "remedy"}}`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({ "error": { "code": self.code, "message": self.message, "remedy": self.remedy } })
    }
}

fn words(status: &Status) -> String {
    match (status.message(), status.source()) {
        ("", None) => "no reason was given".to_owned(),
        ("", Some(source)) => chain(source),
        (message, None) => message.to_owned(),
        (message, Some(source)) => match chain(source) {
            said if said.contains(message) => said,
            said => format!("{message}: {said}"),
        },
    }
}

fn remedy_of(code: Code) -> &'static str {
    match code {
        Code::NotFound => {
            "the lists show what there is: berth get, nodes, pools, orders; berthctl pods, orders"
        }
        Code::PermissionDenied | Code::Unauthenticated => {
            "use a certificate that was issued for this: berth-control platform-cert makes those of platforms"
        }
        Code::ResourceExhausted => "free some, ask for less, or add nodes or addresses",
        Code::Unimplemented => "the other side is of another version: compare --version on both",
        Code::DeadlineExceeded => "nothing is undone by this: look at how it stands, then decide",
        Code::Internal | Code::DataLoss => "this is a defect: report it with the other side's log",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable => "",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.remedy) }
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &Status, exit: Exit, text: &str) {
        let failure = Failure::from_status(status, "get pod shop/web");
        assert_eq!(failure.exit, exit, "{status:?}");
        assert!(failure.to_string().starts_with(text), "{failure}");
    }

    #[test]
    fn statuses() {
        let not_found = Status::not_found("there is no pod shop/web");
        check(&not_found, Exit::Refused, "NotFound: get pod shop/web: there is no pod shop/web\n  the lists");
        check(
            &Status::invalid_argument("node: x"),
            Exit::Refused,
            "InvalidArgument: get pod shop/web: node: x",
        );
        check(
            &Status::unavailable("store stopped"),
            Exit::Unreachable,
            "Unavailable: get pod shop/web: store",
        );
        check(&Status::internal(""), Exit::Refused, "Internal: get pod shop/web: no reason was given");
        let broken = Status::from_error(Box::new(std::io::Error::other("tls alert")));
        check(&broken, Exit::Unreachable, "Unavailable: get pod shop/web: tls alert");
    }
}
