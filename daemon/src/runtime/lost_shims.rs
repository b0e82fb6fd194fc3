//! Shims that containerd has lost: it died after it had started one and before it had written down where it listens, and at
//! its next start threw away what it found of it. Such a shim waits for ever, for nobody can reach it, and nothing is in it.
//! A container is what lives and may be ended by order only; this is none, and goes.

use super::error::chain;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// Between two looks. What is found at two of them, one after the other, goes.
const LOOK: Duration = Duration::from_secs(30);
/// How the kernel shows the name of a shim: the first 15 characters (`TASK_COMM_LEN`).
const SHIM: &str = "containerd-shim";
/// containerd's namespace for what comes by CRI.
const NAMESPACE: &str = "k8s.io";
/// Of a socket that listens (`__SO_ACCEPTCON`), in the flags that `/proc/PID/net/unix` shows.
const LISTENS: u32 = 1 << 16;
/// What the kernel puts behind the name of what is deleted (proc_pid_cwd(5)).
const DELETED: &str = " (deleted)";

/// Finds and ends them.
#[derive(Debug, Clone)]
pub struct LostShims {
    /// The root of the host's files.
    pub(super) root: PathBuf,
    /// The proc file system.
    pub(super) proc: PathBuf,
    /// Where the containerd listens whose shims these are.
    pub(super) containerd: PathBuf,
}

/// A process, told from one that comes after it under the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shim {
    pid: i32,
    /// Ticks after boot.
    started: u64,
    /// The sandbox that it was for.
    sandbox: String,
}

impl LostShims {
    /// Looks now and then, for ever.
    pub async fn run(self) -> Infallible {
        let mut before = BTreeSet::new();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (eyes, known) = (self.clone(), std::mem::take(&mut before));
            let look = tokio::task::spawn_blocking(move || eyes.look(&known));
            match look.await.map_err(io::Error::other).flatten() {
                Ok(found) => before = found,
                Err(error) => warn!(%error, "cannot look for shims that containerd has lost"),
            }
        }
    }

    /// One look: ends those that were there at the last one, and tells which are there now.
    fn look(&self, before: &BTreeSet<Shim>) -> io::Result<BTreeSet<Shim>> {
        let found = self.find()?;
        for shim in found.intersection(before) {
            match self.end(shim) {
                Ok(()) => {
                    info!(pid = shim.pid, sandbox = shim.sandbox, "ended a shim that containerd had lost");
                }
                Err(error) => {
                    warn!(
                        pid = shim.pid,
                        error = chain(&error),
                        "cannot end a shim that containerd has lost"
                    );
                }
            }
        }
        Ok(found)
    }

    fn find(&self) -> io::Result<BTreeSet<Shim>> {
        let mut processes = Vec::new();
        for entry in std::fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                processes.extend(self.process(pid));
            }
        }
        let parents: BTreeSet<i32> = processes.iter().map(|process| process.parent).collect();
        let empty = processes.into_iter().filter(|process| !parents.contains(&process.pid));
        Ok(empty.filter_map(|process| self.lost(&process)).collect())
    }

    /// None for one that has ended.
    fn process(&self, pid: i32) -> Option<Process> {
        let stat = std::fs::read_to_string(self.folder(pid).join("stat")).ok()?;
        Process::parse(pid, &stat)
    }

    /// A shim of our containerd, whose folder is gone, and the socket that it listens on as well.
    fn lost(&self, process: &Process) -> Option<Shim> {
        let command = std::fs::read(self.folder(process.pid).join("cmdline")).ok()?;
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name.as_bytes())?;
            std::str::from_utf8(words.get(at + 1)?).ok()
        };
        let ours = process.name.starts_with(SHIM)
            && after("-namespace") == Some(NAMESPACE)
            && after("-address").map(Path::new) == Some(&self.containerd);
        let sandbox = after("-id").filter(|_| ours)?.to_owned();
        let folder = std::fs::read_link(self.folder(process.pid).join("cwd")).ok()?;
        let sockets = self.listens_at(process.pid).ok()?;
        let unreachable = folder.to_str()?.ends_with(DELETED)
            && !sockets.is_empty()
            && sockets.iter().all(|socket| !self.root.join(socket.trim_start_matches('/')).exists());
        unreachable.then_some(Shim { pid: process.pid, started: process.started, sandbox })
    }

    /// The paths of the sockets on which a process listens.
    fn listens_at(&self, pid: i32) -> io::Result<Vec<String>> {
        let mut own = BTreeSet::new();
        for entry in std::fs::read_dir(self.folder(pid).join("fd"))? {
            let target = std::fs::read_link(entry?.path())?;
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            own.extend(inode.map(str::to_owned));
        }
        let sockets = std::fs::read_to_string(self.folder(pid).join("net/unix"))?;
        Ok(sockets.lines().filter_map(|line| listening(line, &own)).collect())
    }

    /// By a handle of the process, so that no other one is meant by its number.
    fn end(&self, shim: &Shim) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(shim.pid) else { return Ok(()) };
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let still = self.process(shim.pid).and_then(|process| self.lost(&process));
        match still.as_ref() == Some(shim) {
            true => Ok(pidfd_send_signal(&handle, Signal::KILL)?),
            false => Ok(()),
        }
    }

    fn folder(&self, pid: i32) -> PathBuf {
        self.proc.join(pid.to_string())
    }
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    name: String,
    parent: i32,
    started: u64,
}

impl Process {
    /// Fields by proc_pid_stat(5): the second is the name in parentheses, which may hold any of its own; the fourth is the
    /// parent, and the 22nd when it was started.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { pid, name: name.to_owned(), parent, started })
    }
}

/// The path of a socket that listens and is one of `own`, of a line of `/proc/PID/net/unix`: number, references, protocol,
/// flags, type, state, inode, path. One in the abstract namespace begins with `@`, and ends with its process.
fn listening(line: &str, own: &BTreeSet<String>) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
    let listens = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & LISTENS != 0);
    (listens && own.contains(*inode)).then(|| (*path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A host with these processes: number, name, parent, containerd's socket, folder, its own socket's path.
    struct Made<'a> {
        pid: i32,
        name: &'a str,
        parent: i32,
        address: &'a str,
        folder: &'a str,
        socket: &'a str,
    }

    const LOST: Made<'_> = Made {
        pid: 40,
        name: "containerd-shim",
        parent: 1,
        address: "/run/c.sock",
        folder: "/run/bundle/.abc (deleted)",
        socket: "/run/s/gone",
    };

    fn write(root: &Path, made: &Made<'_>) {
        let folder = root.join("proc").join(made.pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::fs::create_dir_all(folder.join("net")).unwrap();
        let stat = format!(
            "{} ({}) S {} 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 4711 123 456\n",
            made.pid, made.name, made.parent
        );
        std::fs::write(folder.join("stat"), stat).unwrap();
        let command = format!("/usr/bin/shim\0-namespace\0k8s.io\0-id\0abc\0-address\0{}\0", made.address);
        std::fs::write(folder.join("cmdline"), command).unwrap();
        symlink(made.folder, folder.join("cwd")).unwrap();
        symlink("/dev/null", folder.join("fd/0")).unwrap();
        symlink("socket:[12]", folder.join("fd/9")).unwrap();
        let sockets = format!(
            "Num RefCount Protocol Flags Type St Inode Path\n\
             0: 00000002 00000000 00010000 0001 01 11 /run/s/there\n\
             0: 00000003 00000000 00000000 0001 03 12 /run/s/there\n\
             0: 00000002 00000000 00010000 0001 01 12 {}\n",
            made.socket
        );
        std::fs::write(folder.join("net/unix"), sockets).unwrap();
    }

    fn check(all: &[Made<'_>], expected: &[i32]) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/s")).unwrap();
        std::fs::write(root.path().join("run/s/there"), "").unwrap();
        all.iter().for_each(|made| write(root.path(), made));
        let shims = LostShims {
            root: root.path().to_owned(),
            proc: root.path().join("proc"),
            containerd: "/run/c.sock".into(),
        };
        let found = shims.find().unwrap();
        let found: Vec<_> = found.into_iter().map(|shim| (shim.pid, shim.started, shim.sandbox)).collect();
        let expected: Vec<_> = expected.iter().map(|pid| (*pid, 4711, "abc".to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_empty_and_unreachable_is_lost() {
        check(&[LOST], &[40]);
        check(&[LOST, Made { pid: 41, ..LOST }], &[40, 41]);
    }

    #[test]
    fn what_may_be_of_use_is_not() {
        let child = Made { pid: 50, name: "pause", parent: 40, ..LOST };
        check(&[LOST, child], &[]);
        check(&[Made { name: "a program) S 1", ..LOST }], &[]);
        check(&[Made { address: "/run/other/c.sock", ..LOST }], &[]);
        check(&[Made { folder: "/run/bundle/abc", ..LOST }], &[]);
        check(&[Made { socket: "/run/s/there", ..LOST }], &[]);
        check(&[Made { socket: "", ..LOST }], &[]);
    }

    /// A process of the test's own: what is no shim any more is not ended, whatever was seen before.
    #[test]
    fn what_changes_between_two_looks_stays() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &Made { pid, ..LOST });
        let shims = LostShims {
            root: root.path().to_owned(),
            proc: root.path().join("proc"),
            containerd: "/run/c.sock".into(),
        };
        let seen = shims.look(&BTreeSet::new()).unwrap();
        assert_eq!(seen.len(), 1);
        let later = seen.iter().map(|shim| Shim { started: 4712, ..shim.clone() }).collect();
        shims.look(&later).unwrap();
        shims.end(later.first().unwrap()).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "another process of that number was ended");
        shims.look(&seen).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
