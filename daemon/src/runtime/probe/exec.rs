//! What containerd's answer to `ExecSync` says of a container's readiness.

use super::not_ready;
use crate::runtime::RuntimeError;
use crate::runtime::error::{Call, refused};
use berth_model::ProbeAnswer;
use k8s_cri::v1::ExecSyncResponse;
use std::time::Duration;
use tonic::{Code, Status};

/// The most of containerd's words that is told, characters.
const SAID_LIMIT: usize = 150;

/// The command has ended.
pub(in crate::runtime) fn ended(answer: &ExecSyncResponse) -> ProbeAnswer {
    if answer.exit_code == 0 {
        return ProbeAnswer::Ready;
    }
    let said = last_line(&answer.stderr).or_else(|| last_line(&answer.stdout));
    let said = said.map(|line| format!(": {line}")).unwrap_or_default();
    not_ready(format!("its probe ended with code {}{said}", answer.exit_code))
}

/// The command did not end, or was not run. A containerd that is away or goes away says nothing of the container; by any
/// other refusal it says that this command, in this container, does not end well in its time.
pub(in crate::runtime) fn not_ended(what: String, status: &Status) -> Result<ProbeAnswer, RuntimeError> {
    // What has a source is our connection's word and not containerd's.
    let away = std::error::Error::source(status).is_some()
        || matches!(status.code(), Code::Unavailable | Code::Cancelled);
    match away {
        true => Err(refused(what, Call::Plain, status)),
        false => Ok(not_ready(format!("its probe did not end: {}", the_end(status.message())))),
    }
}

/// What an unfinished command tells: it went on beyond its time, and containerd with it.
pub(in crate::runtime) fn hung(within: Duration) -> ProbeAnswer {
    not_ready(format!("its probe did not end within {} ms", within.as_millis()))
}

/// The end of what containerd says: it begins with long ids, and ends with what is wrong.
fn the_end(said: &str) -> String {
    let skipped = said.chars().count().saturating_sub(SAID_LIMIT);
    said.chars().skip(skipped).collect()
}

/// The last line of what a program wrote.
fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_tells_by_its_code_and_its_last_words() {
        let check = |exit_code: i32, stdout: &[u8], stderr: &[u8], expected: &str| {
            let answer = ExecSyncResponse { exit_code, stdout: stdout.to_vec(), stderr: stderr.to_vec() };
            let said = match ended(&answer) {
                ProbeAnswer::Ready => String::new(),
                ProbeAnswer::NotReady(why) => why,
            };
            assert_eq!(said, expected);
        };
        check(0, b"", b"noise", "");
        check(1, b"", b"", "its probe ended with code 1");
        check(2, b"out\n", b"first\nlast\n\n", "its probe ended with code 2: last");
        check(3, b"only\x1b[31m out\n", b"", "its probe ended with code 3: only [31m out");
        check(4, b"\xff\n", b"", "its probe ended with code 4: \u{fffd}");
    }

    #[test]
    fn what_is_wrong_with_a_command_is_told() {
        let id = "4f1c".repeat(16);
        let said = format!(
            "failed to exec in container: failed to start exec \"{id}\": OCI runtime exec failed: exec failed: unable \
             to start container process: exec: \"health\": executable file not found in $PATH: unknown"
        );
        let answer = not_ended("ask".to_owned(), &Status::unknown(said)).unwrap();
        let ProbeAnswer::NotReady(why) = answer else { panic!("it is ready") };
        assert!(
            why.starts_with("its probe did not end: ")
                && why.contains("\"health\": executable file not found"),
            "{why}"
        );
    }

    #[test]
    fn a_containerd_that_is_away_says_nothing_of_the_container() {
        let check = |code: Code, known: bool| {
            let said = not_ended("ask".to_owned(), &Status::new(code, "so it is"));
            assert_eq!(matches!(said, Ok(ProbeAnswer::NotReady(_))), known, "{code:?}: {said:?}");
        };
        check(Code::Unavailable, false);
        check(Code::Cancelled, false);
        // Its time is up; runc found no such program; the container has just ended.
        check(Code::DeadlineExceeded, true);
        check(Code::Unknown, true);
        check(Code::NotFound, true);
        check(Code::Unimplemented, true);
        let mut broken = Status::unknown("transport error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("broken pipe")));
        assert!(not_ended("ask".to_owned(), &broken).is_err());
    }
}
