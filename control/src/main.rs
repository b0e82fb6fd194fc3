//! The control plane's program: reads the command line and says what went wrong.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match berth_control::run(berth_control::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}
