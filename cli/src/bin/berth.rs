//! `berth`, for the platform's operator.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_cli::berth(std::env::args_os())
}
