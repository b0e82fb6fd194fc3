//! A lab from outside: up, down, and what can be asked of it.

use crate::guest::Guest;
use crate::image::{self, Suite};
use crate::protocol::{Answer, Process, Request, ask};
use crate::{apps, wait_until};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// From the start of the supervisor until all guests are up, the first, cold start included.
const UP_LIMIT: Duration = Duration::from_secs(900);
/// From the wish to end until everything has.
const DOWN_LIMIT: Duration = Duration::from_secs(30);

/// Which lab.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// Labs of different names do not know of each other.
    pub name: String,
    /// How many guests, 1 to 9.
    pub nodes: u8,
    /// What they are made from.
    pub suite: Suite,
}

/// A lab that is up.
#[derive(Debug, Clone)]
pub struct Lab {
    directory: PathBuf,
    nodes: u8,
    /// The supervisor, as the machine's own PID namespace sees it.
    pid: i32,
}

impl Lab {
    /// Brings a lab up, or finds it up.
    ///
    /// # Errors
    /// When an image cannot be made, or a guest does not come up.
    pub fn up(spec: &LabSpec) -> Result<Self> {
        ensure!((1..=9).contains(&spec.nodes), "a lab has 1 to 9 guests, not {}", spec.nodes);
        let directory = directory(&spec.name);
        let _bringing_up = lock(&directory)?;
        if let Ok(answer) = ask(&socket(&directory), &Request::Status) {
            ensure!(
                answer.nodes >= spec.nodes,
                "lab {} is up with {} guests, {} are wanted: take it down first",
                spec.name,
                answer.nodes,
                spec.nodes
            );
            // It may still be on its way up, by another's wish.
            if !answer.ready {
                wait_ready(&directory)?;
            }
            return Self::found(directory, answer.nodes);
        }
        image::get(spec.suite)?;
        apps::get_all()?;
        // Whatever an earlier lab of that name left is of no use: its processes went with its supervisor.
        end_supervisor(&directory)?;
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        start_supervisor(spec, &directory)?;
        wait_ready(&directory)?;
        Self::found(directory, spec.nodes)
    }

    /// A lab that is up already.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(name: &str) -> Result<Self> {
        let directory = directory(name);
        let answer = ask(&socket(&directory), &Request::Status)
            .with_context(|| format!("lab {name} is not up: `cargo xtask lab up` brings it up"))?;
        Self::found(directory, answer.nodes)
    }

    fn found(directory: PathBuf, nodes: u8) -> Result<Self> {
        let unshare = read_pid(&directory)?.context("the lab's pid file is missing")?;
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let children = fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
        let pid = children.split_whitespace().next().context("the lab's supervisor has ended")?;
        Ok(Self { directory, nodes, pid: pid.parse().context("the supervisor's pid")? })
    }

    /// Guest `index`, from 0.
    ///
    /// # Panics
    /// When the lab has fewer guests.
    pub fn guest(&self, index: u8) -> Guest {
        assert!(index < self.nodes, "the lab has {} guests, not {}", self.nodes, index + 1);
        Guest { number: index + 1, directory: self.directory.clone() }
    }

    /// All guests.
    pub fn guests(&self) -> Vec<Guest> {
        (0..self.nodes).map(|index| self.guest(index)).collect()
    }

    /// The lab's own files: logs, sockets, disks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that runs beside the guests, in the lab's network.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Starts a process beside the guests; it ends with the lab. Its output goes to `<name>.log` in the lab's directory.
    ///
    /// # Errors
    /// When one of that name runs, or it cannot be started.
    pub fn spawn(&self, process: Process) -> Result<()> {
        ask(&socket(&self.directory), &Request::Spawn(process)).map(drop)
    }

    /// Ends a process that [`Lab::spawn`] started.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn stop(&self, name: &str) -> Result<()> {
        ask(&socket(&self.directory), &Request::Stop { name: name.to_owned() }).map(drop)
    }

    /// Names of the processes beside the guests.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub fn processes(&self) -> Result<Vec<String>> {
        Ok(ask(&socket(&self.directory), &Request::Status)?.processes)
    }

    /// Takes a lab down, whatever state it is in; one that is not there is down.
    ///
    /// # Errors
    /// When its supervisor does not end.
    pub fn down(name: &str) -> Result<()> {
        let directory = directory(name);
        // Asking is a courtesy; what counts is that the supervisor ends.
        let _: Result<Answer> = ask(&socket(&directory), &Request::Down);
        end_supervisor(&directory)
    }
}

fn directory(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let base = if target.is_absolute() { target } else { workspace().join(target) };
    base.join("lab").join(name)
}

/// Waits until nobody else brings this lab up: two that found it down would remove each other's files.
fn lock(directory: &Path) -> Result<File> {
    let (labs, name) = directory.parent().zip(directory.file_name()).context("a lab has a directory")?;
    fs::create_dir_all(labs).with_context(|| format!("make {}", labs.display()))?;
    let path = labs.join(format!("{}.lock", name.to_string_lossy()));
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("supervisor.sock")
}

/// The pid of the lab's outermost process, if it still is that process: pids come back, start times do not.
fn read_pid(directory: &Path) -> Result<Option<i32>> {
    let Ok(text) = fs::read_to_string(directory.join("supervisor.pid")) else { return Ok(None) };
    let (pid, started) = text.trim().split_once(' ').context("understand supervisor.pid")?;
    let pid: i32 = pid.parse().context("understand supervisor.pid")?;
    Ok((start_time(pid).as_deref() == Some(started)).then_some(pid))
}

/// When a process was started, in clock ticks after boot (proc_pid_stat(5), field 22).
fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

fn start_supervisor(spec: &LabSpec, directory: &Path) -> Result<()> {
    let log = File::create(directory.join("supervisor.log")).context("make the supervisor's log")?;
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--"]);
    unshare.arg(lab_program()?).args(["supervise", "--nodes", &spec.nodes.to_string()]);
    unshare.args(["--suite", spec.suite.name()]).arg("--directory").arg(directory);
    let child = unshare
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start the lab's supervisor by unshare")?;
    let pid = i32::try_from(child.id()).context("the supervisor's pid")?;
    let started = start_time(pid).context("the supervisor ended at once")?;
    fs::write(directory.join("supervisor.pid"), format!("{pid} {started}\n"))
        .context("note the supervisor's pid")
}

/// This program when it is the lab's own, and the one beside it when a test brings a lab up.
fn lab_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    if own.file_name().is_some_and(|name| name == "berth-lab") {
        return Ok(own);
    }
    let beside = |directory: &Path| Some(directory.join("berth-lab")).filter(|program| program.exists());
    own.ancestors().skip(1).take(3).find_map(beside).context(
        "the program berth-lab is not built: `cargo build --package berth-lab` builds it, `cargo xtask test` does too",
    )
}

/// Prints what the supervisor says until all guests are up.
fn wait_ready(directory: &Path) -> Result<()> {
    let mut told = 0;
    wait_until("the lab", UP_LIMIT, || {
        told = tell(directory, told)?;
        if read_pid(directory)?.is_none() {
            bail!("the lab's supervisor has ended; see {}", directory.join("supervisor.log").display());
        }
        let ready = ask(&socket(directory), &Request::Status).is_ok_and(|answer| answer.ready);
        Ok(ready.then_some(()))
    })?;
    tell(directory, told).map(drop)
}

fn tell(directory: &Path, from: u64) -> Result<u64> {
    let mut log = File::open(directory.join("supervisor.log")).context("read the supervisor's log")?;
    log.seek(SeekFrom::Start(from))?;
    let mut news = String::new();
    log.read_to_string(&mut news)?;
    print!("{news}");
    Ok(from + news.len() as u64)
}

/// Waits for the supervisor to end, and ends it if it does not: exactly that process, and with it all that it started.
fn end_supervisor(directory: &Path) -> Result<()> {
    let Some(pid) = read_pid(directory)? else { return Ok(()) };
    let gone = || Ok(read_pid(directory)?.is_none().then_some(()));
    if ask(&socket(directory), &Request::Status).is_err() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    if wait_until("the lab to end", DOWN_LIMIT, gone).is_err() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    wait_until("the lab's supervisor to end", DOWN_LIMIT, gone)
}
