//! `cargo xtask package`: the Debian packages, in `target/debian/`.

use crate::pause_image;
use crate::run::{cargo, succeed};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed of cargo-deb, from crates.io into `target/tools`.
const CARGO_DEB_VERSION: &str = "3.8.0";
/// Crates whose programs are in a package.
const CRATES: [&str; 5] = ["berthd", "berth-control", "berth-cli", "berth-cni", "berth-containerd-config"];
/// Crates that carry a package's metadata, and the package's name.
const PACKAGES: [(&str, &str); 2] = [("berthd", "berth-node"), ("berth-control", "berth-control")];

/// Builds everything that goes into a package, then the packages; answers where they are.
pub(crate) fn run(root: &Path) -> Result<Vec<PathBuf>> {
    println!("package: programs");
    let mut build = cargo(root);
    build.args(["build", "--release", "--locked"]);
    for name in CRATES {
        build.args(["--package", name]);
    }
    succeed(&mut build, "build the programs")?;
    let staging = root.join("target/package");
    fs::create_dir_all(&staging).with_context(|| format!("make {}", staging.display()))?;
    println!("package: pause image");
    pause_image::build(root, &staging.join("pause.tar"))?;
    println!("package: man pages and completions");
    generate_manuals(root, &staging)?;
    let cargo_deb = install_cargo_deb(root)?;
    PACKAGES.iter().map(|(krate, package)| build_deb(root, &cargo_deb, krate, package)).collect()
}

fn generate_manuals(root: &Path, staging: &Path) -> Result<()> {
    for (kind, directory) in [("man", "man"), ("completions", "completions")] {
        let directory = staging.join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        for program in ["berth", "berthctl"] {
            let mut generate = Command::new(root.join("target/release").join(program));
            generate.arg("generate").arg(kind).arg(&directory);
            succeed(&mut generate, &format!("generate {kind} of {program}"))?;
        }
    }
    Ok(())
}

/// cargo-deb, installed once; a later version of this file installs its own.
fn install_cargo_deb(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools").join(format!("cargo-deb-{CARGO_DEB_VERSION}"));
    let program = tools.join("bin/cargo-deb");
    if !program.exists() {
        println!("package: installing cargo-deb {CARGO_DEB_VERSION} into {} (once)", tools.display());
        let mut install = cargo(root);
        install.args([
            "install",
            "cargo-deb",
            "--locked",
            "--quiet",
            "--version",
            CARGO_DEB_VERSION,
            "--root",
        ]);
        succeed(install.arg(&tools), "install cargo-deb")?;
    }
    Ok(program)
}

fn build_deb(root: &Path, cargo_deb: &Path, krate: &str, package: &str) -> Result<PathBuf> {
    println!("package: {package}");
    let output = root.join("target/debian").join(format!("{package}.deb"));
    let mut deb = Command::new(cargo_deb);
    deb.current_dir(root).args(["--package", krate, "--no-build", "--no-strip", "--output"]).arg(&output);
    succeed(&mut deb, &format!("build {package}"))?;
    Ok(output)
}
