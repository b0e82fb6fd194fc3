//! A guest's saved state: its disks as they were, and its memory. Starting from it saves the boot.

use crate::disks::{DISKS, GuestFiles};
use crate::image::Image;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::{cache, qemu};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;

/// A saved state.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    name: String,
}

impl Saved {
    /// The state of guest `number` of an image; other options of the emulator make another state.
    pub(crate) fn of(image: &Image, number: u8) -> Self {
        let probe = GuestFiles { number, directory: PathBuf::from("/") };
        let recipe = format!("{:?}", qemu::command(image, &probe, &Machine::default(), None));
        Self { name: format!("warm-{number}-{}", cache::hash(&recipe)) }
    }

    /// Waits until no other lab makes it.
    pub(crate) fn lock(&self) -> Result<File> {
        cache::lock(&self.name)
    }

    pub(crate) fn exists(&self) -> bool {
        self.memory().exists()
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.directory().join("memory")
    }

    pub(crate) fn disk(&self, disk: &str) -> PathBuf {
        self.directory().join(format!("{disk}.qcow2"))
    }

    fn directory(&self) -> PathBuf {
        cache::root().join(&self.name)
    }

    /// Saves a running guest, which ends by it; its disks move to the saved state.
    pub(crate) fn save(&self, files: &GuestFiles, monitor: &mut Monitor) -> Result<()> {
        let directory = self.directory();
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let partial = directory.join("memory.partial");
        monitor.execute("stop", &json!({}))?;
        monitor.execute("migrate", &json!({ "uri": format!("exec:cat > {}", partial.display()) }))?;
        monitor.wait_for("query-migrate", "completed")?;
        monitor.execute("quit", &json!({}))?;
        for disk in DISKS {
            fs::rename(files.disk(disk), self.disk(disk)).with_context(|| format!("keep the {disk} disk"))?;
        }
        // The memory's name comes last: where it is, everything is.
        fs::rename(partial, self.memory()).context("keep the memory")
    }
}
