//! The files of one guest, and its disks in their three forms: a layer over the saved state, a whole disk once a log
//! of writes is to be replayed into it, and the layer and the log of a boot whose writes are logged.

use crate::command::succeed;
use crate::image::Image;
use crate::saved::Saved;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The disks' names, in the order in which the guest sees them: `vda` and so on. The names are their serials, too.
pub(crate) const DISKS: [&str; 3] = ["root", "data", "spare"];

/// The files of one guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestFiles {
    pub(crate) number: u8,
    pub(crate) directory: PathBuf,
}

impl GuestFiles {
    /// Of guest `number` of the lab in `lab`.
    pub(crate) fn of(lab: &Path, number: u8) -> Self {
        Self { number, directory: lab.join(format!("node-{number}")) }
    }

    /// The disk as a layer over what the guest started from.
    pub(crate) fn disk(&self, disk: &str) -> PathBuf {
        self.directory.join(format!("{disk}.qcow2"))
    }

    /// The disk whole; where it is, the layer is out of date.
    pub(crate) fn whole_disk(&self, disk: &str) -> PathBuf {
        self.directory.join(format!("{disk}.raw"))
    }

    /// The layer that a guest sees whose writes are logged; it is worth nothing once the power is cut.
    pub(crate) fn live_disk(&self, disk: &str) -> PathBuf {
        self.directory.join(format!("{disk}.live.qcow2"))
    }

    /// The log of such a guest's writes.
    pub(crate) fn log(&self, disk: &str) -> PathBuf {
        self.directory.join(format!("{disk}.log"))
    }

    pub(crate) fn monitor(&self) -> PathBuf {
        self.directory.join("qmp")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// New disks over the image's.
    pub(crate) fn layer_over_image(&self, image: &Image) -> Result<()> {
        self.make_directory()?;
        DISKS.iter().try_for_each(|disk| layer(&self.disk(disk), &image.disk(disk), "raw"))
    }

    /// New disks over the saved state's.
    pub(crate) fn layer_over_saved(&self, saved: &Saved) -> Result<()> {
        self.make_directory()?;
        DISKS.iter().try_for_each(|disk| layer(&self.disk(disk), &saved.disk(disk), "qcow2"))
    }

    fn make_directory(&self) -> Result<()> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))
    }

    /// The disk as it now is, and its format.
    pub(crate) fn current(&self, disk: &str) -> (PathBuf, &'static str) {
        let whole = self.whole_disk(disk);
        match whole.exists() {
            true => (whole, "raw"),
            false => (self.disk(disk), "qcow2"),
        }
    }

    /// Makes the disks ready for a boot whose writes are logged.
    pub(crate) fn prepare_log(&self) -> Result<()> {
        for disk in DISKS {
            let whole = self.whole_disk(disk);
            if !whole.exists() {
                let unfinished = whole.with_extension("raw.unfinished");
                let mut convert = Command::new("qemu-img");
                convert.args(["convert", "-q", "-f", "qcow2", "-O", "raw"]).arg(self.disk(disk));
                succeed(convert.arg(&unfinished))?;
                fs::rename(&unfinished, &whole).with_context(|| format!("name {}", whole.display()))?;
            }
            layer(&self.live_disk(disk), &whole, "raw")?;
            let log = self.log(disk);
            fs::write(&log, "").with_context(|| format!("make {}", log.display()))?;
        }
        Ok(())
    }
}

fn layer(over: &Path, base: &Path, format: &str) -> Result<()> {
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(over);
    succeed(&mut create).map(drop)
}
