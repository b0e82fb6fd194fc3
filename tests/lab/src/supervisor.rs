//! The supervisor: PID 1 of the lab. It makes the network, keeps the guests and the registry, and starts processes on
//! request. When it ends, the kernel ends everything else.

use crate::guest::{Guest, control_path};
use crate::image::{self, Image, Suite};
use crate::protocol::{Answer, Process, Request};
use crate::qemu::{self, GuestFiles, Monitor, Saved};
use crate::{apps, network, progress, wait_until};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From a cold start to ssh; an emulated guest needs about 75 s, two at once on two cores twice that.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// A client sends its request within this time, or goes without an answer: requests are taken one after another.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Between SIGTERM and SIGKILL of a process that is stopped.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    ready: bool,
    processes: BTreeMap<String, Child>,
}

struct Supervisor {
    directory: PathBuf,
    nodes: u8,
    state: Mutex<State>,
}

/// Runs a lab until it is told to end. It must be PID 1 of namespaces of its own.
///
/// # Errors
/// When the network, a guest or the registry cannot be brought up.
pub fn supervise(directory: &Path, nodes: u8, suite: Suite) -> Result<()> {
    ensure!(std::process::id() == 1, "the supervisor is started by `berth-lab up`, in namespaces of its own");
    let image = image::get(suite)?;
    let listener =
        UnixListener::bind(directory.join("supervisor.sock")).context("make the supervisor's socket")?;
    let supervisor = Arc::new(Supervisor { directory: directory.to_owned(), nodes, state: Mutex::default() });
    let serving = Arc::clone(&supervisor);
    let server = thread::spawn(move || serving.serve(&listener));
    network::set_up(nodes)?;
    supervisor.start_registry()?;
    let guests: Vec<_> = (1..=nodes)
        .map(|number| {
            let (supervisor, image) = (Arc::clone(&supervisor), image.clone());
            thread::spawn(move || supervisor.start_guest(&image, number))
        })
        .collect();
    progress::step("push the application images", apps::push_all)?;
    for guest in guests {
        guest.join().map_err(|_| anyhow::anyhow!("a guest's thread panicked"))??;
    }
    supervisor.lock().ready = true;
    println!("lab: ready");
    server.join().map_err(|_| anyhow::anyhow!("the server's thread panicked"))?
}

impl Supervisor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_registry(&self) -> Result<()> {
        let config = self.directory.join("registry.yml");
        std::fs::write(&config, apps::registry_config()).context("write the registry's configuration")?;
        self.spawn(Process {
            name: "registry".to_owned(),
            argv: vec![
                apps::registry_program()?.display().to_string(),
                "serve".to_owned(),
                config.display().to_string(),
            ],
            env: Vec::new(),
        })
    }

    /// A guest from its saved state; the first time it is booted, and its state is saved.
    fn start_guest(self: Arc<Self>, image: &Image, number: u8) -> Result<()> {
        let files = GuestFiles { number, directory: self.directory.join(format!("node-{number}")) };
        let saved = Saved::of(image, number);
        if !saved.exists() {
            progress::step(&format!("boot node-{number} for the first time"), || {
                self.boot_and_save(image, &files, &saved)
            })?;
        }
        progress::step(&format!("start node-{number} from its saved state"), || {
            files.make_disks(&saved.root_disk(), "qcow2", &saved.data_disk())?;
            self.spawn_qemu(qemu::command(image, &files, Some(&saved.memory())), number)?;
            Monitor::connect(&files.monitor())?.continue_loaded()?;
            self.keep_connected(image, number);
            let guest = self.guest(number);
            wait_until(&format!("ssh to {}", guest.name()), BOOT_LIMIT, || {
                Ok(guest.run("true")?.success().then_some(()))
            })?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            guest.run_ok(&format!("date -s @{now}")).map(drop)
        })
    }

    fn guest(&self, number: u8) -> Guest {
        Guest { number, directory: self.directory.clone() }
    }

    fn boot_and_save(&self, image: &Image, files: &GuestFiles, saved: &Saved) -> Result<()> {
        files.make_disks(&image.root_disk(), "raw", &image.data_disk())?;
        let mut qemu = qemu::command(image, files, None).spawn().context("start QEMU")?;
        let mut master = self.ssh_master(image, files.number);
        let ready = "systemctl is-system-running --wait >/dev/null; systemctl is-active --quiet containerd ssh \
            && sync";
        let guest = self.guest(files.number);
        let mut connection = master.spawn().context("start ssh")?;
        let booted = wait_until(&format!("{} to boot", guest.name()), BOOT_LIMIT, || {
            if connection.try_wait()?.is_some() {
                connection = master.spawn().context("start ssh")?;
            }
            Ok(guest.run(ready)?.success().then_some(()))
        });
        // The saved guest must not wait for a peer that is gone.
        let _ = guest.ssh().args(["-O", "exit"]).stderr(Stdio::null()).status();
        let _ = connection.wait();
        booted.with_context(|| format!("see {}", files.console().display()))?;
        let mut monitor = Monitor::connect(&files.monitor())?;
        saved.save(files, &mut monitor)?;
        qemu.wait().context("wait for QEMU")?;
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
        self.lock().processes.insert(format!("qemu-{number}"), child);
        Ok(())
    }

    fn ssh_master(&self, image: &Image, number: u8) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.current_dir(&self.directory)
            .args(["-M", "-N", "-o", &format!("ControlPath={}", control_path(number))])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args([
                "-o",
                "ConnectTimeout=60",
                "-o",
                "LogLevel=ERROR",
                "-o",
                "IdentitiesOnly=yes",
                "-F",
                "none",
            ])
            .args(["-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=6"])
            .arg("-i")
            .arg(image.ssh_key())
            .arg(format!("root@{}", network::guest_address(number)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ssh
    }

    /// Keeps an ssh connection open for as long as the lab lives: a handshake costs seconds in an emulated guest.
    fn keep_connected(self: &Arc<Self>, image: &Image, number: u8) {
        let (supervisor, image) = (Arc::clone(self), image.clone());
        thread::spawn(move || {
            loop {
                let ended = supervisor.ssh_master(&image, number).spawn().and_then(|mut child| child.wait());
                if let Err(error) = ended {
                    println!("lab: ssh to node-{number}: {error}");
                }
                pause();
            }
        });
    }

    fn serve(&self, listener: &UnixListener) -> Result<()> {
        for stream in listener.incoming() {
            let stream = stream.context("accept a connection")?;
            // A client that says nothing, or nonsense, is its own trouble and nobody else's.
            match read_request(&stream) {
                Ok(Request::Down) => {
                    self.answer(&stream, None)?;
                    return Ok(());
                }
                Ok(request) => self.answer(&stream, self.carry_out(request).err())?,
                Err(error) => self.answer(&stream, Some(error))?,
            }
        }
        Ok(())
    }

    fn answer(&self, mut stream: &UnixStream, error: Option<anyhow::Error>) -> Result<()> {
        let mut state = self.lock();
        state.processes.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        let answer = Answer {
            error: error.map(|error| format!("{error:#}")),
            ready: state.ready,
            nodes: self.nodes,
            processes: state.processes.keys().cloned().collect(),
        };
        drop(state);
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        // Who asked may have gone away.
        let _ = stream.write_all(line.as_bytes());
        Ok(())
    }

    fn carry_out(&self, request: Request) -> Result<()> {
        match request {
            Request::Status | Request::Down => Ok(()),
            Request::Spawn(process) => self.spawn(process),
            Request::Stop { name } => self.stop(&name),
        }
    }

    fn spawn(&self, process: Process) -> Result<()> {
        let mut state = self.lock();
        let running =
            state.processes.get_mut(&process.name).is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        ensure!(!running, "process {} runs already", process.name);
        let (program, arguments) = process.argv.split_first().context("a process has a program")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("{}.log", process.name)))
            .context("make the process's log")?;
        let child = Command::new(program)
            .args(arguments)
            .envs(process.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        state.processes.insert(process.name, child);
        Ok(())
    }

    fn stop(&self, name: &str) -> Result<()> {
        let child = self.lock().processes.remove(name);
        let mut child = child.with_context(|| format!("no process {name} runs"))?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let ended = wait_until("the process to end", GRACE, || Ok(child.try_wait()?.map(drop)));
        if ended.is_err() {
            child.kill().context("kill the process")?;
            child.wait().context("wait for the process")?;
        }
        Ok(())
    }
}

fn read_request(stream: &UnixStream) -> Result<Request> {
    stream.set_read_timeout(Some(REQUEST_LIMIT)).context("set the time for a request")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("read the request")?;
    serde_json::from_str(&line).with_context(|| format!("understand {line:?}"))
}

/// Between two tries to connect.
fn pause() {
    let _ = wait_until("nothing", Duration::from_secs(1), || Ok(None::<()>));
}
