//! The runtime of a node, held to the claims that the agent's tests make of it in memory: the agent's own program plays
//! every case in the node, in the agent's stead.

use crate::{image, package};
use anyhow::{Context, Result, ensure};
use berth_lab::{Guest, Lab, LabSpec, Suite};
use std::path::Path;
use std::process::Stdio;

/// Where the program is on the node.
const PROGRAM: &str = "/usr/local/sbin/berth-runtime-cases";
/// Its folder, which takes the place of the agent's.
const STATE: &str = "/var/lib/berth-runtime-cases";

/// Plays every case on a node that has the package; its agent is stopped for that long. Prints what came of each.
///
/// # Errors
/// When one of them goes another way than is claimed.
pub fn hold_to_cases(guest: &Guest) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace")?;
    let path = workspace.join("target/e2e/runtime-cases");
    let content = std::fs::read(&path)
        .with_context(|| format!("read {}, which `cargo xtask test` makes", path.display()))?;
    guest.put_file(PROGRAM, &content)?;
    let script = format!(
        "chmod 755 {PROGRAM} && systemctl stop berthd && rm -rf {STATE} && mkdir {STATE} \
         && {PROGRAM} --image {} --state {STATE}",
        image("busybox")
    );
    // Said as it comes: this takes minutes.
    let played = guest.ssh().arg(script).stdin(Stdio::null()).status().context("run ssh")?;
    guest.run_ok(&format!("rm -rf {STATE} {PROGRAM} && systemctl start berthd"))?;
    ensure!(played.success(), "the runtime is not as is claimed");
    Ok(())
}

/// Plays every case on a node of another suite: a lab of its own, with nothing but the package.
///
/// # Errors
/// When the lab does not come up, the package cannot be installed, or a case goes another way than is claimed.
pub fn hold_suite_to_cases(lab: &str, suite: Suite) -> Result<()> {
    let lab = Lab::up(&LabSpec { name: lab.to_owned(), nodes: 1, suite })?;
    let guest = lab.guest(0);
    guest.install_deb(&package("berth-node")?)?;
    println!(
        "{}: {}",
        suite.name(),
        guest.run_ok("containerd --version; systemctl --version | head -1; uname -r")?
    );
    hold_to_cases(&guest)
}
