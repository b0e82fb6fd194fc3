//! QEMU's command line, its monitor, and starting a guest from a saved state.

use crate::image::Image;
use crate::{cache, network};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The emulator.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
/// Memory of a guest, MiB, half on each of two memory nodes.
const MEMORY_MIB: u32 = 2_048;

/// The files of one guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestFiles {
    pub(crate) number: u8,
    pub(crate) directory: PathBuf,
}

impl GuestFiles {
    pub(crate) fn root_disk(&self) -> PathBuf {
        self.directory.join("root.qcow2")
    }
    pub(crate) fn data_disk(&self) -> PathBuf {
        self.directory.join("data.qcow2")
    }
    pub(crate) fn monitor(&self) -> PathBuf {
        self.directory.join("qmp")
    }
    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// New disks on top of the given ones.
    pub(crate) fn make_disks(&self, root: &Path, root_format: &str, data: &Path) -> Result<()> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))?;
        for (over, base, format) in
            [(self.root_disk(), root, root_format), (self.data_disk(), data, root_format)]
        {
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(over);
            crate::command::succeed(&mut create)?;
        }
        Ok(())
    }
}

/// How the guest's processors are run. The mere existence of `/dev/kvm` proves nothing, so it is used when asked for.
fn accelerator() -> &'static str {
    match std::env::var("BERTH_LAB_KVM").as_deref() {
        Ok("1") => "kvm",
        Ok(_) | Err(_) => "tcg,thread=multi,tb-size=512",
    }
}

/// The command that runs a guest; with `state` it continues from there, stopped until told.
pub(crate) fn command(image: &Image, files: &GuestFiles, state: Option<&Path>) -> Command {
    let number = files.number;
    let half = MEMORY_MIB / 2;
    let [management, pods] = network::taps(number);
    let mut qemu = Command::new(PROGRAM);
    let mut arg = |text: &str| {
        qemu.args(text.split(' '));
    };
    arg(&format!("-nodefaults -display none -accel {} -cpu max", accelerator()));
    arg(&format!("-smp 4,sockets=2,cores=2 -m {MEMORY_MIB}"));
    for node in 0..2 {
        let cpus = if node == 0 { "0-1" } else { "2-3" };
        arg(&format!("-object memory-backend-ram,id=m{node},size={half}M"));
        arg(&format!("-numa node,nodeid={node},cpus={cpus},memdev=m{node}"));
    }
    arg("-device virtio-rng-pci");
    for (index, disk) in [files.root_disk(), files.data_disk()].iter().enumerate() {
        arg(&format!("-drive if=none,id=d{index},format=qcow2,cache=unsafe,file={}", disk.display()));
        arg(&format!("-device virtio-blk-pci,drive=d{index}"));
    }
    for (index, (tap, mac)) in [(management, "52"), (pods, "53")].iter().enumerate() {
        arg(&format!("-netdev tap,id=n{index},ifname={tap},script=no,downscript=no"));
        arg(&format!("-device virtio-net-pci,netdev=n{index},romfile=,mac=02:00:00:00:{mac}:{number:02x}"));
    }
    arg(&format!("-serial file:{}", files.console().display()));
    arg(&format!("-qmp unix:{},server=on,wait=off", files.monitor().display()));
    arg(&format!("-kernel {} -initrd {}", image.kernel().display(), image.initrd().display()));
    qemu.arg("-append").arg(kernel_arguments(number));
    if let Some(state) = state {
        qemu.arg("-S").arg("-incoming").arg(format!("exec:cat {}", state.display()));
    }
    qemu
}

/// `panic=1`: under software emulation a kernel that patches its own code while all CPUs start dies of it once in a
/// while (an `int3` that one of them still sees). It then boots again by itself, instead of standing still.
fn kernel_arguments(number: u8) -> String {
    format!(
        "root=/dev/vda rw rootflags=prjquota console=ttyS0 net.ifnames=0 mitigations=off panic=1 quiet \
         lab.node={number} systemd.hostname=node-{number} systemd.machine_id={number:032x} \
         systemd.show_status=false"
    )
}

/// A guest's saved state: its disks as they were, and its memory.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    directory: PathBuf,
}

impl Saved {
    /// Where the state of guest `number` of an image is kept; other options of the emulator make another state.
    pub(crate) fn of(image: &Image, number: u8) -> Self {
        let probe = GuestFiles { number, directory: PathBuf::from("/") };
        let recipe = format!("{:?}", command(image, &probe, None));
        let directory = cache::root().join(format!("warm-{number}-{}", cache::hash(&recipe)));
        Self { directory }
    }
    pub(crate) fn exists(&self) -> bool {
        self.memory().exists()
    }
    pub(crate) fn memory(&self) -> PathBuf {
        self.directory.join("memory")
    }
    pub(crate) fn root_disk(&self) -> PathBuf {
        self.directory.join("root.qcow2")
    }
    pub(crate) fn data_disk(&self) -> PathBuf {
        self.directory.join("data.qcow2")
    }

    /// Saves a running guest, which ends by it; its disks move to the saved state.
    pub(crate) fn save(&self, files: &GuestFiles, monitor: &mut Monitor) -> Result<()> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))?;
        let partial = self.directory.join("memory.partial");
        monitor.execute("stop", &json!({}))?;
        monitor.execute("migrate", &json!({ "uri": format!("exec:cat > {}", partial.display()) }))?;
        monitor.wait_for("query-migrate", "completed")?;
        monitor.execute("quit", &json!({}))?;
        fs::rename(files.root_disk(), self.root_disk()).context("keep the root disk")?;
        fs::rename(files.data_disk(), self.data_disk()).context("keep the data disk")?;
        // The memory's name comes last: where it is, everything is.
        fs::rename(partial, self.memory()).context("keep the memory")
    }
}

/// A connection to QEMU's monitor (QMP).
pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let connect = || Ok(UnixStream::connect(path).ok());
        let stream = crate::wait_until("QEMU's monitor", Duration::from_secs(30), connect)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        let mut monitor = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        monitor.read()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("read QEMU's monitor")? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("understand QEMU's {line:?}"))
    }

    pub(crate) fn execute(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({ "execute": name, "arguments": arguments }).to_string();
        request.push('\n');
        self.writer.write_all(request.as_bytes()).context("write to QEMU's monitor")?;
        loop {
            let reply = self.read()?;
            if let Some(error) = reply.get("error") {
                bail!("QEMU refused {name}: {error}");
            }
            if let Some(value) = reply.get("return") {
                return Ok(value.clone());
            }
            // Anything else is an event.
        }
    }

    /// Asks `query` until its status is `wanted`.
    pub(crate) fn wait_for(&mut self, query: &str, wanted: &str) -> Result<()> {
        crate::wait_until(&format!("{query}: {wanted}"), Duration::from_secs(600), || {
            let answer = self.execute(query, &json!({}))?;
            match answer.get("status").and_then(Value::as_str) {
                Some(status) if status == wanted => Ok(Some(())),
                Some("failed") => bail!("{query}: {answer}"),
                Some(_) | None => Ok(None),
            }
        })
    }

    /// Lets a guest that was loaded from a saved state go on, once the load is done.
    pub(crate) fn continue_loaded(&mut self) -> Result<()> {
        crate::wait_until("the saved state to be loaded", Duration::from_secs(300), || {
            let answer = self.execute("query-status", &json!({}))?;
            let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
            Ok((status != "inmigrate").then_some(()))
        })?;
        self.execute("cont", &json!({})).map(drop)
    }
}
