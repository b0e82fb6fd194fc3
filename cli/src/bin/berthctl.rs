//! `berthctl`, for who debugs one node.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_cli::berthctl(std::env::args_os())
}
