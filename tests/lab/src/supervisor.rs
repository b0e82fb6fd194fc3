//! The supervisor: it makes the network, keeps the guests and the registry, and starts processes on request. PID 1 of
//! the lab is its parent and ends with it, and then the kernel ends everything else.

use crate::image::{self, Image, Suite};
use crate::protocol::{Answer, Process, Request};
use crate::{apps, init, network, progress, wait_until};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A client sends its request within this time, or goes without an answer: requests are taken one after another.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Between SIGTERM and SIGKILL of a process that is stopped.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    ready: bool,
    processes: BTreeMap<String, Child>,
}

pub(crate) struct Supervisor {
    pub(crate) directory: PathBuf,
    pub(crate) nodes: u8,
    pub(crate) image: Image,
    state: Mutex<State>,
}

/// Runs a lab until it is told to end. Called as PID 1 of namespaces of its own, it keeps a child that does it.
///
/// # Errors
/// When the network, a guest or the registry cannot be brought up.
pub fn supervise(directory: &Path, nodes: u8, suite: Suite) -> Result<()> {
    if std::process::id() == 1 {
        return init::run();
    }
    ensure!(
        std::os::unix::process::parent_id() == 1,
        "the supervisor is started by `berth-lab up`, in namespaces of its own"
    );
    let image = image::get(suite)?;
    let listener =
        UnixListener::bind(directory.join("supervisor.sock")).context("make the supervisor's socket")?;
    let supervisor =
        Arc::new(Supervisor { directory: directory.to_owned(), nodes, image, state: Mutex::default() });
    let serving = Arc::clone(&supervisor);
    let server = thread::spawn(move || serving.serve(&listener));
    network::set_up(nodes)?;
    supervisor.start_registry()?;
    let guests: Vec<_> = (1..=nodes)
        .map(|number| {
            let supervisor = Arc::clone(&supervisor);
            thread::spawn(move || supervisor.start_guest(number))
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
            Request::Boot { number, machine } => self.boot(number, &machine),
            Request::CutPower { number } => self.cut_power(number),
        }
    }

    fn spawn(&self, process: Process) -> Result<()> {
        ensure!(!self.runs(&process.name), "process {} runs already", process.name);
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
        self.add(process.name, child);
        Ok(())
    }

    pub(crate) fn add(&self, name: String, child: Child) {
        self.lock().processes.insert(name, child);
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.lock().processes.get_mut(name).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Takes a process out of the books: whoever calls ends it.
    pub(crate) fn take(&self, name: &str) -> Result<Child> {
        self.lock().processes.remove(name).with_context(|| format!("no process {name} runs"))
    }

    fn stop(&self, name: &str) -> Result<()> {
        let mut child = self.take(name)?;
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
