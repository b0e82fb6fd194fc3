//! The supervisor's guests: started from their saved state, booted again on the same disks, cut off their power.

use crate::disks::GuestFiles;
use crate::guest::{Guest, control_path};
use crate::machine::{Machine, Writes};
use crate::monitor::Monitor;
use crate::saved::Saved;
use crate::supervisor::Supervisor;
use crate::{network, progress, qemu, wait_until};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// From a cold start to ssh; an emulated guest needs about 75 s, two at once on two cores twice that.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// Ends with 0 once the guest has come up; says what systemd thinks of it.
const BOOTED: &str = "state=$(systemctl is-system-running --wait) || :; systemctl is-active --quiet containerd ssh \
    && sync && echo \"$state\" && systemctl list-units --failed --plain --no-legend";

/// The name of a guest's QEMU among the lab's processes.
pub(crate) fn process_name(number: u8) -> String {
    format!("qemu-{number}")
}

impl Supervisor {
    fn guest(&self, number: u8) -> Guest {
        Guest { number, directory: self.directory.clone() }
    }

    fn files(&self, number: u8) -> GuestFiles {
        GuestFiles::of(&self.directory, number)
    }

    /// A guest from its saved state; the first time it is booted, and its state is saved.
    pub(crate) fn start_guest(self: Arc<Self>, number: u8) -> Result<()> {
        let files = self.files(number);
        let saved = Saved::of(&self.image, number);
        if !saved.exists() {
            let _saving = saved.lock()?;
            // Another lab may have saved it while we waited.
            if !saved.exists() {
                progress::step(&format!("boot node-{number} for the first time"), || {
                    self.boot_and_save(&files, &saved)
                })?;
            }
        }
        progress::step(&format!("start node-{number} from its saved state"), || {
            files.layer_over_saved(&saved)?;
            let machine = Machine::default();
            self.spawn_qemu(qemu::command(&self.image, &files, &machine, Some(&saved.memory())), number)?;
            Monitor::connect(&files.monitor())?.continue_loaded()?;
            self.keep_connected(number);
            let guest = self.guest(number);
            wait_until(&format!("ssh to {}", guest.name()), BOOT_LIMIT, || {
                Ok(guest.run("true")?.success().then_some(()))
            })?;
            guest.set_clock()
        })
    }

    fn boot_and_save(&self, files: &GuestFiles, saved: &Saved) -> Result<()> {
        files.layer_over_image(&self.image)?;
        let machine = Machine::default();
        let mut qemu = qemu::command(&self.image, files, &machine, None).spawn().context("start QEMU")?;
        let mut master = self.ssh_master(files.number);
        let guest = self.guest(files.number);
        let mut connection = master.spawn().context("start ssh")?;
        let booted = wait_until(&format!("{} to boot", guest.name()), BOOT_LIMIT, || {
            if connection.try_wait()?.is_some() {
                connection = master.spawn().context("start ssh")?;
            }
            let output = guest.run(BOOTED)?;
            Ok(output.success().then_some(output.stdout))
        });
        // The saved guest must not wait for a peer that is gone.
        self.disconnect(files.number);
        let _ = connection.wait();
        let state = booted.with_context(|| format!("see {}", files.console().display()))?;
        ensure!(state.trim() == "running", "{} has booted, and systemd says {state:?}", guest.name());
        let mut monitor = Monitor::connect(&files.monitor())?;
        saved.save(files, &mut monitor)?;
        qemu.wait().context("wait for QEMU")?;
        Ok(())
    }

    /// Boots a guest that is off, on the disks that it has.
    pub(crate) fn boot(&self, number: u8, machine: &Machine) -> Result<()> {
        self.known(number)?;
        ensure!(!self.runs(&process_name(number)), "node-{number} runs");
        let files = self.files(number);
        match machine.writes {
            Writes::Kept => {}
            Writes::Logged => files.prepare_log()?,
        }
        let (console, earlier) = (files.console(), files.directory.join("console.earlier.log"));
        fs::rename(&console, &earlier).with_context(|| format!("keep {}", console.display()))?;
        self.spawn_qemu(qemu::command(&self.image, &files, machine, None), number)?;
        self.disconnect(number);
        Ok(())
    }

    /// Ends a guest's QEMU at once: what it had in memory is gone.
    pub(crate) fn cut_power(&self, number: u8) -> Result<()> {
        self.known(number)?;
        let mut qemu = self.take(&process_name(number))?;
        qemu.kill().context("end QEMU")?;
        qemu.wait().context("wait for QEMU")?;
        self.disconnect(number);
        Ok(())
    }

    fn known(&self, number: u8) -> Result<()> {
        if !(1..=self.nodes).contains(&number) {
            bail!("the lab has no node-{number}");
        }
        Ok(())
    }

    fn spawn_qemu(&self, mut command: Command, number: u8) -> Result<()> {
        let log = File::create(self.directory.join(format!("qemu-{number}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start QEMU")?;
        self.add(process_name(number), child);
        Ok(())
    }

    /// Closes the open connection, whose peer may be gone: the next one is made anew.
    fn disconnect(&self, number: u8) {
        let mut exit = self.guest(number).ssh();
        exit.args(["-O", "exit"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // There may be none.
        let _ = exit.status();
    }

    fn ssh_master(&self, number: u8) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.current_dir(&self.directory)
            .args(["-M", "-N", "-F", "none", "-o", &format!("ControlPath={}", control_path(number))])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"])
            // A guest that says nothing for a while is slow; that it is gone we know better than ssh does.
            .args(["-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=45"])
            .arg("-i")
            .arg(self.image.ssh_key())
            .arg(format!("root@{}", network::guest_address(number)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ssh
    }

    /// Keeps an ssh connection open for as long as the lab lives: a handshake costs seconds in an emulated guest.
    fn keep_connected(self: &Arc<Self>, number: u8) {
        let supervisor = Arc::clone(self);
        thread::spawn(move || {
            loop {
                let ended = supervisor.ssh_master(number).spawn().and_then(|mut child| child.wait());
                if let Err(error) = ended {
                    println!("lab: ssh to node-{number}: {error}");
                }
                pause();
            }
        });
    }
}

/// Between two tries to connect.
fn pause() {
    let _ = wait_until("nothing", Duration::from_secs(1), || Ok(None::<()>));
}
