//! How an answer of containerd becomes "try again" or "it will not help".
//!
//! | code | means | so |
//! | --- | --- | --- |
//! | `Unavailable`, `DeadlineExceeded`, `Cancelled`, `Aborted`, `ResourceExhausted`, `Internal` | containerd is away, slow or busy | transient |
//! | `Unknown` | containerd's word for most of what goes wrong below it | transient, unless the text is in [`HOPELESS`] |
//! | `NotFound`, `FailedPrecondition`, `AlreadyExists` | the world is not what we saw | transient: the next look decides; a pull of what no registry has is permanent |
//! | `InvalidArgument`, `OutOfRange`, `Unimplemented`, `PermissionDenied`, `Unauthenticated`, `DataLoss` | we ask for what cannot be | permanent |

use super::RuntimeError;
use crate::network::IN_USE;
use tonic::{Code, Status};

/// What an effect was about, for the cases where one code means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// A pull: what no registry has will not appear by asking again.
    Pull,
    /// Anything that starts a process by the spec.
    Launch,
    /// Anything else.
    Plain,
}

/// Texts by which runc and containerd say that the spec itself cannot work, whatever is tried.
/// They arrive with code `Unknown`, or `NotFound` where runc says ENOENT of the program. An address that somebody else has
/// is our own word, by way of the CNI plugin: it will not be free by asking again.
const HOPELESS: [&str; 9] = [
    IN_USE,
    "executable file not found",
    "exec format error",
    "no such file or directory: unknown",
    ": permission denied: unknown",
    "unable to find user",
    "no users found",
    "is not a directory: unknown",
    "no command specified",
];

/// Names what was tried, and judges the answer.
pub(super) fn refused(what: impl Into<String>, call: Call, status: &Status) -> RuntimeError {
    // A broken connection is told by the source only.
    let source =
        std::error::Error::source(status).map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    let (what, why) = (what.into(), format!("{} ({:?}){source}", status.message(), status.code()));
    match is_permanent(call, status.code(), status.message()) {
        true => RuntimeError::Permanent { what, why },
        false => RuntimeError::Transient { what, why },
    }
}

fn is_permanent(call: Call, code: Code, message: &str) -> bool {
    let hopeless = call == Call::Launch && HOPELESS.iter().any(|text| message.contains(text));
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::DataLoss => true,
        Code::NotFound => call == Call::Pull || hopeless,
        Code::Unknown => hopeless,
        Code::Ok
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => false,
    }
}

/// Trying again may help.
#[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
pub(super) fn transient(what: impl Into<String>, why: impl ToString) -> RuntimeError {
    RuntimeError::Transient { what: what.into(), why: why.to_string() }
}

/// Trying again will not help.
#[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
pub(super) fn permanent(what: impl Into<String>, why: impl ToString) -> RuntimeError {
    RuntimeError::Permanent { what: what.into(), why: why.to_string() }
}

/// An error and its sources, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_as_the_table_says() {
        let enoent = "runc create failed: unable to start container process: exec: \"/no\": \
                      stat /no: no such file or directory: unknown";
        let cases = [
            (Call::Plain, Code::Unavailable, "connection refused", false),
            (Call::Plain, Code::Unknown, "ttrpc: closed", false),
            (Call::Plain, Code::NotFound, "container not found", false),
            (Call::Plain, Code::InvalidArgument, "bad", true),
            (Call::Pull, Code::NotFound, "manifest unknown", true),
            (Call::Pull, Code::Unknown, "dial tcp: connection refused", false),
            (Call::Launch, Code::Unknown, enoent, true),
            (Call::Launch, Code::NotFound, enoent, true),
            (Call::Launch, Code::NotFound, "image not found", false),
            (
                Call::Launch,
                Code::Unknown,
                "address 10.0.0.7 of pod shop/web is in use by 02:00:00:00:00:01",
                true,
            ),
            (Call::Launch, Code::Unknown, "dbus: connection closed by user", false),
        ];
        for (call, code, message, permanent) in cases {
            let error = refused("try", call, &Status::new(code, message));
            assert_eq!(
                matches!(error, RuntimeError::Permanent { .. }),
                permanent,
                "{call:?} {code:?} {message}"
            );
        }
    }
}
