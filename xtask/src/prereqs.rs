//! System packages that a task needs: what is missing is named, with its reason, and installed.

use anyhow::{Context, Result, bail, ensure};
use std::process::Command;

/// A package and why it is needed.
pub(crate) type Need = (&'static str, &'static str);

/// For building.
pub(crate) const BUILD: &[Need] = &[
    ("gcc", "links programs, and compiles SQLite and the TLS library"),
    ("libc6-dev", "is what programs link with"),
    ("binutils", "strips programs that go into virtual hosts"),
    ("protobuf-compiler", "compiles the runtime's protocol files"),
    ("libprotobuf-dev", "has the well-known protocol types"),
    ("pkg-config", "finds libraries"),
    ("libhwloc-dev", "is what the topology's cross-check links with"),
    ("libudev-dev", "is what hwloc links with"),
    ("iproute2", "makes the links of the tests of address probing"),
    ("util-linux", "makes their network namespaces"),
    ("dpkg-dev", "finds a package's dependencies"),
];

/// For the fuzzers.
pub(crate) const FUZZ: &[Need] = &[("g++", "compiles libFuzzer")];

/// For the lab.
pub(crate) const LAB: &[Need] = &[
    ("qemu-system-x86", "runs virtual hosts"),
    ("qemu-utils", "makes their disks"),
    ("mmdebstrap", "makes their system from packages"),
    ("e2fsprogs", "makes their file systems"),
    ("iproute2", "makes their network"),
    ("util-linux", "makes namespaces"),
    ("openssh-client", "reaches them"),
    ("skopeo", "pushes images to the lab's registry"),
    ("ca-certificates", "fetches packages"),
];

/// Makes sure that these packages are installed.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|(package, _)| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (package, reason) in &missing {
        println!("prereqs: installing {package}, which {reason}");
    }
    let names: Vec<_> = missing.iter().map(|(package, _)| *package).collect();
    install(&names)
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn install(packages: &[&str]) -> Result<()> {
    let mut words = packages.iter().map(|&package| package.to_owned()).collect::<Vec<_>>();
    apt(&["update", "-qq"])?;
    // The emulator and its tools break each other unless they are of one version: both are named with it.
    if packages.contains(&"qemu-system-x86") {
        let version = candidate("qemu-system-x86")?;
        words.retain(|word| !word.starts_with("qemu-"));
        words.extend(["qemu-system-x86", "qemu-utils"].map(|package| format!("{package}={version}")));
    }
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends", "--allow-downgrades"];
    arguments.extend(words.iter().map(String::as_str));
    apt(&arguments)
}

/// The version that apt would install.
fn candidate(package: &str) -> Result<String> {
    let output = Command::new("apt-cache").args(["policy", package]).output().context("run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
    let version = line.map(str::trim).filter(|version| *version != "(none)");
    version.map(str::to_owned).with_context(|| format!("Debian has no package {package}"))
}

fn apt(arguments: &[&str]) -> Result<()> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let sudo =
        !root && Command::new("sudo").args(["-n", "true"]).status().is_ok_and(|status| status.success());
    if !root && !sudo {
        bail!("packages are missing and only root installs them; run: sudo apt-get {}", arguments.join(" "));
    }
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if sudo {
        command.arg("apt-get");
    }
    let status =
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status().context("run apt-get")?;
    ensure!(status.success(), "apt-get {} ended with {status}", arguments.join(" "));
    Ok(())
}
