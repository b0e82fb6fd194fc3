//! The cases in virtual hosts, and the demo: packages are built, and everything else happens in `tests/e2e`.

use crate::run::{cargo, program, stage, succeed, target};
use crate::{drill, lab, package, prereqs};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The lab that the cases share.
const LAB: &str = "e2e";

/// Which cases are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cases {
    /// Those that every change must pass.
    Usual,
    /// Those of the module `long` too, and all of them at full length.
    All,
}

/// Makes what the cases are run on: packages, and hosts that have been booted once.
pub(crate) fn prepare_cases(root: &Path) -> Result<()> {
    prepare(root)?;
    stage("hosts of the cases", || {
        run_lab(root, &["down"])?;
        let up = run_lab(root, &["up", "--nodes", "3"]);
        run_lab(root, &["down"]).and(up)
    })
}

/// Runs cases in virtual hosts, once [`prepare_cases`] and [`build_test_programs`] have made what they need, and takes the
/// hosts down whatever came of it.
pub(crate) fn test(root: &Path, cases: Cases) -> Result<()> {
    run_lab(root, &["down"])?;
    let result = stage("cases in virtual hosts", || {
        let mut tests = cargo(root);
        // One after another: they share two cores with an emulator.
        tests.args([
            "test",
            "--locked",
            "--workspace",
            "--test",
            "cases",
            "--",
            "--test-threads=1",
            "--nocapture",
        ]);
        match cases {
            Cases::Usual => tests.args(["--skip", "long::"]),
            Cases::All => tests.env("BERTH_LONG", "1"),
        };
        succeed(&mut tests, "run the cases in virtual hosts")
    });
    run_lab(root, &["down"]).and(result)
}

fn run_lab(root: &Path, words: &[&str]) -> Result<()> {
    let arguments: Vec<_> = ["--name", LAB].iter().chain(words).map(|word| (*word).to_owned()).collect();
    lab::run(root, &arguments)
}

/// Runs the demo.
pub(crate) fn demo(root: &Path) -> Result<()> {
    prepare(root)?;
    succeed(&mut Command::new(program(root, "berth-demo")?), "demo")
}

/// Programs for virtual hosts that no package has, apart from every other build so that nobody takes them for the real
/// ones: the agent that dies where it is told, and the agent's own cases for the runtime. Unoptimized, since everything
/// beneath them is there from the unit tests; stripped, since they go over ssh.
pub(crate) fn build_test_programs(root: &Path) -> Result<()> {
    let mut build = cargo(root);
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bin",
        "berthd",
        "--example",
        "runtime_cases",
    ]);
    build.args(["--features", "berthd/crash-points,berthd/fake"]);
    succeed(&mut build, "build the cases' programs")?;
    let (folder, built) = (root.join("target/e2e"), target(root).join("debug"));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for (from, to) in [("berthd", "berthd-crash-points"), ("examples/runtime_cases", "runtime-cases")] {
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(folder.join(to)).arg(built.join(from));
        succeed(&mut strip, &format!("strip {to}"))?;
    }
    // What is left under the usual name is the usual program.
    program(root, "berthd").map(drop)
}

/// Holds the runtimes of other suites to the cases that the tests hold the usual one to.
pub(crate) fn other_suites(root: &Path) -> Result<()> {
    ["bookworm", "forky"]
        .into_iter()
        .try_for_each(|suite| drill::play(root, &drill::Drill::Runtime { suite: suite.to_owned() }))
}

pub(crate) fn prepare(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    prereqs::ensure(prereqs::LAB)?;
    stage("packages", || package::run(root).map(drop))?;
    program(root, "berth-lab").map(drop)
}
