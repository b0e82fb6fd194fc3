//! `cargo xtask bench`: measures in a virtual host, beside a floor of the same run.

use anyhow::{Context, Result};
use berth_e2e::Report;
use berth_e2e::bench::{exit, footprint, start};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Figures beside a floor of the same run.
#[derive(Parser)]
struct Arguments {
    /// The lab's name.
    #[arg(long, default_value = "bench")]
    lab: String,
    /// Where the values go, as JSON.
    #[arg(long)]
    out: PathBuf,
    what: Bench,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// From an order to its container's start, beside the runtime's bare calls.
    Start,
    /// From a container's death to the report of it, beside containerd's own event.
    Exit,
    /// Memory and idle CPU time with pods.
    Footprint,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) if report.wrongs().is_empty() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("bench: {}", report.wrongs().join("\n  "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report> {
    let (name, report) = match arguments.what {
        Bench::Start => ("start", start(&arguments.lab)?),
        Bench::Exit => ("exit", exit(&arguments.lab)?),
        Bench::Footprint => ("footprint", footprint(&arguments.lab)?),
    };
    print!("{}", report.table());
    let file = arguments.out.join(format!("{name}.json"));
    report.save(&file).with_context(|| format!("keep the values of bench {name}"))?;
    println!("written to {}", file.display());
    Ok(report)
}
