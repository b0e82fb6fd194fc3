//! `cargo xtask bench cni`: how long an ADD and a DEL take, from the plugin's start to its end, beside the reference
//! plugin `host-local`, in turns, in one run. Neither probes an address. Arguments: berth-ipam, host-local, rounds.
//!
//! Prints one JSON array of `{metric, value, unit, floor, ratio, budget}`: `floor` is host-local's figure, `budget`
//! the highest ratio to it that is accepted.
#![allow(dead_code, reason = "shares its parts with the test of the exact fit, which uses more of them")]

#[path = "../tests/exact_fit/node.rs"]
mod node;
#[path = "../tests/exact_fit/plugin.rs"]
mod plugin;
#[path = "../tests/exact_fit/supervisor.rs"]
mod supervisor;

use anyhow::{Context, Result};
use plugin::Caller;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Not measured: pages of both programs are read from disk in these.
const WARM_UP: usize = 20;
/// The highest accepted ratio to host-local.
const BUDGET: f64 = 1.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", folder] => node::serve(Path::new(folder)),
        [berth, reference, rounds] => rounds
            .parse()
            .context("the number of rounds")
            .and_then(|rounds| measure(Path::new(berth), Path::new(reference), rounds)),
        _ => Err(anyhow::anyhow!("give the paths of berth-ipam and host-local, and how many rounds")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// A plugin, and how long its calls took, milliseconds.
struct Subject {
    program: PathBuf,
    ipam: Value,
    add_ms: Vec<f64>,
    del_ms: Vec<f64>,
}

impl Subject {
    fn new(program: &Path, ipam: Value) -> Self {
        Self { program: program.to_owned(), ipam, add_ms: Vec::new(), del_ms: Vec::new() }
    }

    fn round(&mut self, number: usize) -> Result<()> {
        let (pod, sandbox) = (format!("p{}", number % node::PODS), format!("s{number}"));
        let caller = Caller { program: &self.program, ipam: &self.ipam, pod: &pod, sandbox: &sandbox };
        let begun = Instant::now();
        caller.add()?;
        let added = Instant::now();
        caller.del()?;
        if number >= WARM_UP {
            self.add_ms.push((added - begun).as_secs_f64() * 1e3);
            self.del_ms.push(added.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }
}

fn measure(berth: &Path, reference: &Path, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut serving = supervisor::Node::spawn(folder.path())?;
    serving.ready()?;
    let socket = node::socket(folder.path());
    let mut ours = Subject::new(berth, json!({"type": "berth-ipam", "socket": socket}));
    let ranges = json!([[{"subnet": "10.64.0.0/22"}]]);
    let state = folder.path().join("host-local");
    let mut theirs =
        Subject::new(reference, json!({"type": "host-local", "dataDir": state, "ranges": ranges}));
    for number in 0..WARM_UP + rounds {
        ours.round(number)?;
        theirs.round(number)?;
    }
    serving.kill()?;
    let mut figures = Vec::new();
    for (call, ours, theirs) in
        [("add", &mut ours.add_ms, &mut theirs.add_ms), ("del", &mut ours.del_ms, &mut theirs.del_ms)]
    {
        for (name, per_cent) in [("p50", 50), ("p99", 99)] {
            let (value, floor) = (percentile(ours, per_cent), percentile(theirs, per_cent));
            figures.push(json!({
                "metric": format!("cni_{call}_{name}"), "value": value, "unit": "ms", "floor": floor,
                "ratio": value / floor, "budget": BUDGET,
            }));
        }
    }
    println!("{}", Value::Array(figures));
    Ok(())
}

fn percentile(values: &mut [f64], per_cent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * per_cent / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}
