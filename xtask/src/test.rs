//! `cargo xtask test`: everything that a change must pass.

use crate::drill::{self, Drill};
use crate::run::{beside, cargo, stage, succeed};
use crate::{e2e, fuzz, layers, prereqs, reference};
use anyhow::Result;
use std::path::Path;

/// Runs all stages, the quick ones first; the first that fails ends it, once what runs beside it is over.
pub(crate) fn run(root: &Path, long: bool, fast: bool) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    stage("format", || succeed(cargo(root).args(["fmt", "--all", "--check"]), "check the format"))?;
    stage("layers", || layers::run(root))?;
    if fast {
        lints(root)?;
        unit_tests(root, long)?;
    } else {
        prereqs::ensure(prereqs::LAB)?;
        reference::host_local()?;
        // Much of both is waiting: the one for timers and for single threads, the other for hosts to boot.
        let tests = || {
            lints(root)?;
            unit_tests(root, long)?;
            stage("programs for the cases", || e2e::build_test_programs(root))
        };
        beside(tests, || e2e::prepare_cases(root))?;
    }
    if long {
        fuzz::run(root, &fuzz::Fuzz::all(fuzz::DEFAULT_SECONDS))?;
    }
    if fast {
        return Ok(());
    }
    e2e::test(root, if long { e2e::Cases::All } else { e2e::Cases::Usual })?;
    drill::play(root, &Drill::Power { count: 4, seed: 1 })?;
    if long {
        drill::play(root, &Drill::Reboot { pods: 10 })?;
        e2e::other_suites(root)?;
    }
    Ok(())
}

fn lints(root: &Path) -> Result<()> {
    stage("lints", || {
        lint(root, &["--all-targets"])?;
        // What is tested by name only.
        lint(root, &["--test", "cases"])?;
        // What only the cases' own programs are made of.
        let of_the_cases = ["--bin", "berthd", "--example", "runtime_cases", "--example", "many_pods"];
        lint(root, &[&of_the_cases[..], &["--features", "berthd/crash-points,berthd/fake"]].concat())
    })
}

fn unit_tests(root: &Path, long: bool) -> Result<()> {
    stage("unit tests", || {
        let mut tests = cargo(root);
        tests.args(["test", "--quiet", "--locked", "--workspace"]);
        tests.env("BERTH_CNI_REFERENCE", reference::host_local()?);
        if long {
            tests.env("BERTH_LONG", "1");
        }
        succeed(&mut tests, "run the unit tests")
    })
}

fn lint(root: &Path, what: &[&str]) -> Result<()> {
    let mut clippy = cargo(root);
    clippy.args(["clippy", "--quiet", "--locked", "--workspace"]).args(what).args(["--", "-D", "warnings"]);
    succeed(&mut clippy, "lint")
}
