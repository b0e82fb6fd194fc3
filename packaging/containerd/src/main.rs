//! Called by the package's maintainer scripts.

use anyhow::{Context, Result};
use berth_containerd_config::{Undo, amend, restore};
use clap::{Parser, Subcommand};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Amends containerd's configuration for Berth, and gives it back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// containerd's configuration.
    #[arg(long, default_value = "/etc/containerd/config.toml")]
    config: PathBuf,
    /// Where what stood there before is noted.
    #[arg(long, default_value = "/var/lib/berth/containerd-config.undo.toml")]
    undo: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Set what Berth needs: the pause image, the systemd cgroup driver, the plugins' directory.
    /// Prints `changed` if containerd needs a restart, `unchanged` otherwise.
    Amend,
    /// Undo that, except for keys that somebody has changed since.
    Restore,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.action {
        Action::Amend => run_amend(&arguments.config, &arguments.undo),
        Action::Restore => run_restore(&arguments.config, &arguments.undo),
    }
}

fn run_amend(config: &Path, undo: &Path) -> Result<()> {
    let original = read(config)?;
    let earlier = read_undo(undo)?;
    let amended = amend(original.as_deref(), earlier.as_ref())
        .with_context(|| format!("amend {}", config.display()))?;
    if original.as_deref() == Some(&amended.text) {
        println!("unchanged");
        return Ok(());
    }
    // The note first: a crash between the two leaves a note that names what still stands there.
    replace(undo, &amended.undo.to_string())?;
    replace(config, &amended.text)?;
    println!("changed");
    Ok(())
}

fn run_restore(config: &Path, undo: &Path) -> Result<()> {
    let (Some(current), Some(note)) = (read(config)?, read_undo(undo)?) else {
        println!("unchanged");
        return Ok(());
    };
    let restored = restore(&current, &note).with_context(|| format!("restore {}", config.display()))?;
    for key in restored.left_alone {
        eprintln!("{}: {key} was changed since and is left as it is", config.display());
    }
    match restored.text {
        Some(text) => replace(config, &text)?,
        None => fs::remove_file(config).with_context(|| format!("remove {}", config.display()))?,
    }
    fs::remove_file(undo).with_context(|| format!("remove {}", undo.display()))?;
    println!("changed");
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn read_undo(path: &Path) -> Result<Option<Undo>> {
    let Some(text) = read(path)? else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("read {}", path.display()))
}

/// Writes a file so that a crash leaves the old one or the new one, whole; the mode stays.
fn replace(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let temporary = path.with_extension("berth-new");
        let mut file = File::create(&temporary)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}
