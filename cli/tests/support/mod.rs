//! What the tests of both programs share: running them, fakes of what they talk to, and certificates.
#![allow(unreachable_pub, reason = "a folder of test files is a crate of its own each time")]
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

pub mod node;
pub mod pki;
pub mod platform;

use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A program that has not ended by then hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a run of a program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The run ended with this code, and said all of this.
    #[track_caller]
    pub fn check(&self, code: i32, stdout: &[&str], stderr: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for text in stdout {
            assert!(self.stdout.contains(text), "{text:?} is not in {}\n{self:#?}", self.stdout);
        }
        for text in stderr {
            assert!(self.stderr.contains(text), "{text:?} is not in {}\n{self:#?}", self.stderr);
        }
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a program with nothing of our own environment, and `input` on standard input.
pub async fn run(program: &str, args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input ends before all is written.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let ended = tokio::time::timeout(DEADLINE, child.wait_with_output());
    let output = ended.await.unwrap_or_else(|_| panic!("{program} {args:?} has not ended")).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
