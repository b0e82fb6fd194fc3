//! Reads the environment and stdin, prints the answer, and ends with 0 or 1 as the CNI specification asks.

use berth_cni::{Answer, STDIN_LIMIT_BYTES, answer};
use std::io::{self, Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let answer = run().unwrap_or_else(|error| Answer::io_failure(&error));
    if let Some(note) = &answer.note {
        // Nothing is left to do about a stderr that cannot be written.
        let _ = writeln!(io::stderr(), "berth-ipam: {note}");
    }
    let printed = io::stdout().write_all(answer.stdout.as_bytes());
    match printed.is_ok() && answer.succeeded {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<Answer> {
    let mut stdin = Vec::new();
    // One byte more than the limit tells an input that is too long from one that just fits.
    io::stdin().take(STDIN_LIMIT_BYTES + 1).read_to_end(&mut stdin)?;
    // One thread: the process lives for a single call, and starts once per pod.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(answer(&|name| std::env::var_os(name), &stdin)))
}
