//! A guest's power: off in good order, pulled out, cut, and on again with another kernel or other hardware.

use crate::disks::{DISKS, GuestFiles};
use crate::guest::Guest;
use crate::hosts::{BOOT_LIMIT, process_name};
use crate::lab::socket;
use crate::machine::Machine;
use crate::protocol::{Request, ask};
use crate::wait_until;
use crate::write_log::{self, Fate};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::time::Duration;

/// From the wish to power off until the guest is off: systemd gives what does not end 90 s.
const OFF_LIMIT: Duration = Duration::from_secs(300);
/// The log is read by pieces of this size, bytes: it has a small request and its data in one.
const READ_BYTES: usize = 1 << 20;

/// What a power cut left of one disk's writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CutReport {
    /// Which disk.
    pub disk: String,
    /// Requests that are on the disk, by a flush or by luck.
    pub kept: usize,
    /// Requests that are there in part.
    pub torn: usize,
    /// Requests that are gone.
    pub lost: usize,
}

impl Guest {
    /// Whether the guest's machine is on.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub fn is_on(&self) -> Result<bool> {
        let answer = ask(&socket(&self.directory), &Request::Status)?;
        Ok(answer.processes.contains(&process_name(self.number)))
    }

    /// Powers the guest off as a person would, and waits until it is.
    ///
    /// # Errors
    /// When it does not go off.
    pub fn power_off(&self) -> Result<()> {
        // The connection may end before the command does.
        let said = self.run("systemctl poweroff")?;
        wait_until(&format!("{} to power off", self.name()), OFF_LIMIT, || Ok((!self.is_on()?).then_some(())))
            .with_context(|| format!("systemctl poweroff said {said:?}"))
    }

    /// Boots a guest that is off, on the disks that it has, and waits until systemd is done.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&self, machine: &Machine) -> Result<()> {
        ask(&socket(&self.directory), &Request::Boot { number: self.number, machine: *machine })?;
        wait_until(&format!("{} to boot", self.name()), BOOT_LIMIT, || {
            ensure!(self.is_on()?, "{}'s QEMU has ended; see qemu-{}.log", self.name(), self.number);
            let done = self.run("systemctl is-system-running --wait | grep -qxE 'running|degraded'")?;
            Ok(done.success().then_some(()))
        })
        .with_context(|| format!("see {}", self.files().console().display()))
    }

    /// Powers the guest off in good order, and boots it again.
    ///
    /// # Errors
    /// When it does not go off, or does not come up.
    pub fn reboot_into(&self, machine: &Machine) -> Result<()> {
        self.power_off()?;
        self.boot(machine)
    }

    /// Cuts the power of a guest whose writes are logged ([`Writes::Logged`](crate::Writes::Logged)), and makes its
    /// disks anew: all that was flushed, and of the rest what the seed says. The logs stay until the next such boot.
    ///
    /// # Errors
    /// When the guest is off, or its writes are not logged.
    pub fn cut_power(&self, seed: u64) -> Result<Vec<CutReport>> {
        ask(&socket(&self.directory), &Request::CutPower { number: self.number })?;
        let files = self.files();
        DISKS.iter().zip(seed..).map(|(disk, seed)| replay(&files, disk, seed)).collect()
    }

    /// Ends a guest at once, as if its plug were pulled out. Of what its kernel had handed to its disks all is there,
    /// flushed or not: [`Guest::cut_power`] is the one that loses writes.
    ///
    /// # Errors
    /// When it is off.
    pub fn pull_plug(&self) -> Result<()> {
        ask(&socket(&self.directory), &Request::CutPower { number: self.number }).map(drop)
    }

    fn files(&self) -> GuestFiles {
        GuestFiles::of(&self.directory, self.number)
    }
}

/// Replays what survives into the whole disk, which has not changed since the boot.
fn replay(files: &GuestFiles, disk: &str, seed: u64) -> Result<CutReport> {
    let live = files.live_disk(disk);
    ensure!(live.exists(), "the writes to the {disk} disk of node-{} are not logged", files.number);
    let path = files.log(disk);
    let open = || File::open(&path).with_context(|| format!("open {}", path.display()));
    // Most of the log is skipped here, so that reading ahead would be a waste.
    let log = write_log::read(&mut open()?).with_context(|| format!("read {}", path.display()))?;
    let fates = write_log::survivors(&log, seed);
    let whole = files.whole_disk(disk);
    let target =
        File::options().write(true).open(&whole).with_context(|| format!("open {}", whole.display()))?;
    let mut source = BufReader::with_capacity(READ_BYTES, open()?);
    write_log::replay(&log, &fates, &mut source, &mut BufWriter::new(target))
        .with_context(|| format!("replay {} into {}", path.display(), whole.display()))?;
    fs::remove_file(&live).with_context(|| format!("remove {}", live.display()))?;
    let count = |wanted: fn(&Fate) -> bool| fates.iter().filter(|fate| wanted(fate)).count();
    Ok(CutReport {
        disk: (*disk).to_owned(),
        kept: count(|fate| matches!(fate, Fate::Kept)),
        torn: count(|fate| matches!(fate, Fate::Torn { .. })),
        lost: count(|fate| matches!(fate, Fate::Lost)),
    })
}
