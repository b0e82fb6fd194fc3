//! The cases in virtual hosts, and the demo: packages are built, and everything else happens in `tests/e2e`.

use crate::run::{cargo, stage, succeed};
use crate::{lab, package, prereqs};
use anyhow::Result;
use std::path::Path;

/// The lab that the cases share.
const LAB: &str = "e2e";

/// Runs every case in virtual hosts, and takes them down whatever came of it.
pub(crate) fn test(root: &Path) -> Result<()> {
    prepare(root)?;
    let down = || lab::run(root, &["--name".to_owned(), LAB.to_owned(), "down".to_owned()]);
    down()?;
    let result = stage("cases in virtual hosts", || {
        let mut tests = cargo(root);
        // One after another: they share two cores with an emulator.
        tests.args(["test", "--locked", "--package", "berth-e2e", "--", "--test-threads=1", "--nocapture"]);
        succeed(&mut tests, "run the cases in virtual hosts")
    });
    down().and(result)
}

/// Runs the demo.
pub(crate) fn demo(root: &Path) -> Result<()> {
    prepare(root)?;
    succeed(
        cargo(root).args(["run", "--quiet", "--locked", "--package", "berth-e2e", "--bin", "berth-demo"]),
        "demo",
    )
}

pub(crate) fn prepare(root: &Path) -> Result<()> {
    prereqs::ensure(prereqs::BUILD)?;
    prereqs::ensure(prereqs::LAB)?;
    stage("packages", || package::run(root).map(drop))?;
    lab::program(root).map(drop)
}
