//! Shims that containerd has lost: it died after it had started one and before it had written down where it listens, or in
//! the middle of shutting one down, and at its next start threw away what it found of it. Such a shim waits for ever, for
//! nobody knows where to reach it, and nothing is in it. A container is what lives and may be ended by order only; this is
//! none, and goes.

use super::error::chain;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// Between two looks. What is found at two of them, one after the other, goes.
const LOOK: Duration = Duration::from_secs(15);
/// The shim that holds on to all that ever ran below it (`PR_SET_CHILD_SUBREAPER`), as not every other one does.
const SHIM: &str = "containerd-shim-runc-v2";
/// How the kernel shows its name: 15 bytes of it (`TASK_COMM_LEN`).
const SHIM_COMM: &[u8] = b"containerd-shim";
/// containerd's namespace for what comes by CRI.
const NAMESPACE: &str = "k8s.io";
/// In the folder of each sandbox and container, where its shim listens: by containerd 1.x, and by 2.x.
const ADDRESS_FILES: [&str; 2] = ["address", "bootstrap.json"];
/// Longest of them that is read, bytes.
const ADDRESS_LIMIT_BYTES: u64 = 64 << 10;
/// Of a socket that listens (`__SO_ACCEPTCON`), in the flags that `/proc/PID/net/unix` shows.
const LISTENS: u32 = 1 << 16;
/// What the kernel puts behind the name of what is deleted (proc_pid_cwd(5)).
const DELETED: &str = " (deleted)";

/// Finds and ends them.
#[derive(Debug, Clone)]
pub struct LostShims {
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
                Err(error) => warn!("cannot look for shims that containerd has lost: {error}"),
            }
        }
    }

    /// One look: ends those that were there at the last one, and tells which are there now.
    fn look(&self, before: &BTreeSet<Shim>) -> io::Result<BTreeSet<Shim>> {
        let found = self.find()?;
        for shim in found.intersection(before) {
            match self.end(shim) {
                Ok(true) => {
                    info!("ended shim {} of sandbox {}, which containerd had lost", shim.pid, shim.sandbox);
                }
                Ok(false) => {}
                Err(error) => {
                    warn!("cannot end shim {}, which containerd has lost: {}", shim.pid, chain(&error));
                }
            }
        }
        Ok(found)
    }

    /// Most often there is none, which costs a short read for each process of the host.
    fn find(&self) -> io::Result<BTreeSet<Shim>> {
        let pids = self.pids()?;
        let mut lost = BTreeSet::new();
        for pid in pids {
            let name = unless_ended(std::fs::read(self.folder(pid).join("comm")))?.unwrap_or_default();
            if !name.starts_with(SHIM_COMM) || !unless_ended(self.is_of_the_host(pid))?.unwrap_or(false) {
                continue;
            }
            if let Some(shim) = self.shim(pid)?
                && unless_ended(self.is_reachable(pid))? == Some(false)
            {
                lost.insert(shim);
            }
        }
        if !lost.is_empty() {
            let parents = self.parents()?;
            lost.retain(|shim| !parents.contains(&shim.pid));
        }
        Ok(lost)
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let names = std::fs::read_dir(&self.proc)?.map(|entry| Ok(entry?.file_name()));
        let names: io::Result<Vec<_>> = names.collect();
        Ok(names?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// No process of a container is, whatever it calls itself: each pod has a namespace of its own for its processes.
    fn is_of_the_host(&self, pid: i32) -> io::Result<bool> {
        let own = std::fs::read_link(self.proc.join("self/ns/pid"))?;
        Ok(std::fs::read_link(self.folder(pid).join("ns/pid"))? == own)
    }

    /// Who has a child. To miss one could be to take a shim for empty, so this succeeds only where it has seen all of them.
    fn parents(&self) -> io::Result<BTreeSet<i32>> {
        let mut parents = BTreeSet::new();
        for pid in self.pids()? {
            parents.extend(self.process(pid)?.map(|process| process.parent));
        }
        Ok(parents)
    }

    /// None for one that has ended.
    fn process(&self, pid: i32) -> io::Result<Option<Process>> {
        let Some(stat) = unless_ended(std::fs::read(self.folder(pid).join("stat")))? else { return Ok(None) };
        let process = Process::parse(&String::from_utf8_lossy(&stat));
        process.map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
    }

    /// The shim that a process is, if it is one of our containerd.
    fn shim(&self, pid: i32) -> io::Result<Option<Shim>> {
        let Some(Process { started, .. }) = self.process(pid)? else { return Ok(None) };
        let command = unless_ended(std::fs::read(self.folder(pid).join("cmdline")))?.unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name.as_bytes())?;
            std::str::from_utf8(words.get(at + 1)?).ok()
        };
        let program = words.first().and_then(|word| std::str::from_utf8(word).ok()).map(Path::new);
        let ours = program.and_then(Path::file_name).is_some_and(|name| name == SHIM)
            && after("-namespace") == Some(NAMESPACE)
            && after("-address").map(Path::new) == Some(&self.containerd);
        let sandbox = after("-id").filter(|_| ours).map(str::to_owned);
        Ok(sandbox.map(|sandbox| Shim { pid, started, sandbox }))
    }

    /// Whether somebody is connected to a shim, or can find out where it listens.
    fn is_reachable(&self, pid: i32) -> io::Result<bool> {
        let folder = std::fs::read_link(self.folder(pid).join("cwd"))?;
        let Some(folder) = folder.to_str().and_then(|folder| folder.strip_suffix(DELETED)) else {
            return Ok(true);
        };
        let sockets = self.sockets(pid)?;
        let connected = sockets.iter().any(|socket| !socket.listens && !socket.path.is_empty());
        let listens: Vec<&str> =
            sockets.iter().filter(|socket| socket.listens).map(|socket| socket.path.as_str()).collect();
        if connected || listens.is_empty() {
            return Ok(true);
        }
        // The folders of everything that lives in a shim lie side by side.
        let Some(bundles) = Path::new(folder).parent() else { return Ok(true) };
        named_in(&self.folder(pid).join("root").join(bundles.strip_prefix("/").unwrap_or(bundles)), &listens)
    }

    /// The local sockets that a process has open.
    fn sockets(&self, pid: i32) -> io::Result<Vec<Socket>> {
        let mut own = BTreeSet::new();
        for entry in std::fs::read_dir(self.folder(pid).join("fd"))? {
            let target = std::fs::read_link(entry?.path())?;
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            own.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
        let all = std::fs::read(self.folder(pid).join("net/unix"))?;
        let all = String::from_utf8_lossy(&all);
        Ok(all.lines().filter_map(Socket::parse).filter(|socket| own.contains(&socket.inode)).collect())
    }

    /// By a handle of the process, so that no other one is meant by its number; false if it is not lost after all.
    fn end(&self, shim: &Shim) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(shim.pid) else { return Ok(false) };
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let is_lost = self.find()?.contains(shim);
        if is_lost {
            pidfd_send_signal(&handle, Signal::KILL)?;
        }
        Ok(is_lost)
    }

    fn folder(&self, pid: i32) -> PathBuf {
        self.proc.join(pid.to_string())
    }
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    started: u64,
}

impl Process {
    /// Fields by proc_pid_stat(5): the second is the name in parentheses, which may hold any of its own; the fourth is the
    /// parent, and the 22nd when it was started.
    fn parse(stat: &str) -> Option<Self> {
        let (_, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, started })
    }
}

/// A line of `/proc/PID/net/unix`: number, references, protocol, flags, type, state, inode, and a path where there is one,
/// which may hold spaces. A connection that was taken has the path of the socket that listens.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    listens: bool,
    inode: u64,
    path: String,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let inode = fields.nth(2)?;
        let path = fields.collect::<Vec<_>>().join(" ");
        Some(Self { listens: flags & LISTENS != 0, inode: inode.parse().ok()?, path })
    }
}

/// Whether a file in one of a folder's folders says that somebody listens at one of these paths.
fn named_in(bundles: &Path, sockets: &[&str]) -> io::Result<bool> {
    for entry in std::fs::read_dir(bundles)? {
        let bundle = entry?.path();
        for file in ADDRESS_FILES {
            let Some(said) = unless_ended(beginning(&bundle.join(file)))? else { continue };
            if sockets.iter().any(|socket| said.contains(socket)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What a file begins with, as far as an address may be in it.
fn beginning(path: &Path) -> io::Result<String> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut said = Vec::new();
    file.take(ADDRESS_LIMIT_BYTES).read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// What is asked of a process that has ended meanwhile, or of a file that has gone, is no failure.
fn unless_ended<T>(asked: io::Result<T>) -> io::Result<Option<T>> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A process of a host: its program, its parent, containerd's socket, its folder, where it listens, and whether somebody
    /// is connected.
    struct Made<'a> {
        pid: i32,
        program: &'a str,
        parent: i32,
        address: &'a str,
        folder: &'a str,
        socket: &'a str,
        connected: bool,
        namespace: &'a str,
    }

    const LOST: Made<'_> = Made {
        pid: 40,
        program: "/usr/bin/containerd-shim-runc-v2",
        parent: 1,
        address: "/run/c.sock",
        folder: "/run/bundles/.abc (deleted)",
        socket: "/run/s/with a space",
        connected: false,
        namespace: "pid:[1]",
    };

    /// A host on which the folder of a container says that its shim listens at `/run/s/known`.
    fn host(all: &[Made<'_>]) -> (tempfile::TempDir, LostShims) {
        let root = tempfile::tempdir().unwrap();
        let bundle = root.path().join("run/bundles/def");
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("address"), "unix:///run/s/known").unwrap();
        std::fs::write(bundle.join("bootstrap.json"), r#"{"address": "unix:///run/s/newer"}"#).unwrap();
        std::fs::create_dir_all(root.path().join("proc/self/ns")).unwrap();
        symlink("pid:[1]", root.path().join("proc/self/ns/pid")).unwrap();
        all.iter().for_each(|made| write(root.path(), made));
        let shims = LostShims { proc: root.path().join("proc"), containerd: "/run/c.sock".into() };
        (root, shims)
    }

    fn write(root: &Path, made: &Made<'_>) {
        let folder = root.join("proc").join(made.pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::fs::create_dir_all(folder.join("net")).unwrap();
        std::fs::create_dir_all(folder.join("ns")).unwrap();
        symlink(made.namespace, folder.join("ns/pid")).unwrap();
        symlink(root, folder.join("root")).unwrap();
        let name = b") \xff (";
        let rest = format!(") S {} 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 4711 123 456\n", made.parent);
        let comm = made.program.rsplit('/').next().unwrap();
        std::fs::write(folder.join("comm"), &comm[..comm.len().min(15)]).unwrap();
        std::fs::write(folder.join("stat"), [b"7 (", name.as_slice(), rest.as_bytes()].concat()).unwrap();
        let command = format!("{}\0-namespace\0k8s.io\0-id\0abc\0-address\0{}\0", made.program, made.address);
        std::fs::write(folder.join("cmdline"), command).unwrap();
        symlink(made.folder, folder.join("cwd")).unwrap();
        symlink("/dev/null", folder.join("fd/0")).unwrap();
        symlink("socket:[12]", folder.join("fd/9")).unwrap();
        let inode = if made.connected { "12" } else { "13" };
        let sockets = format!(
            "Num RefCount Protocol Flags Type St Inode Path\n\
             0: 00000002 00000000 00010000 0001 01 11 /run/s/another\n\
             0: 00000003 00000000 00000000 0001 03 {inode} {}\n\
             0: 00000003 00000000 00000000 0001 03 12\n\
             0: 00000002 00000000 00010000 0001 01 12 {}\n",
            made.socket, made.socket
        );
        std::fs::write(folder.join("net/unix"), sockets).unwrap();
    }

    fn check(all: &[Made<'_>], expected: &[i32]) {
        let (_root, shims) = host(all);
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
        let child = Made { pid: 50, program: "/pause", parent: 40, ..LOST };
        check(&[LOST, child], &[]);
        check(&[Made { program: "/usr/bin/containerd-shim-kata-v2", ..LOST }], &[]);
        check(&[Made { address: "/run/other/c.sock", ..LOST }], &[]);
        check(&[Made { folder: "/run/bundles/abc", ..LOST }], &[]);
        check(&[Made { connected: true, ..LOST }], &[]);
        check(&[Made { namespace: "pid:[2]", ..LOST }], &[]);
        check(&[Made { socket: "/run/s/known", ..LOST }], &[]);
        check(&[Made { socket: "/run/s/newer", ..LOST }], &[]);
        check(&[Made { folder: "/run/elsewhere/.abc (deleted)", ..LOST }], &[]);
    }

    #[test]
    fn a_look_that_does_not_see_everything_finds_nothing() {
        let child = Made { pid: 50, program: "/pause", parent: 40, ..LOST };
        let (root, shims) = host(&[LOST, child]);
        std::fs::write(root.path().join("proc/50/stat"), "50 (pause) S").unwrap();
        assert!(shims.find().is_err());
    }

    /// A process of the test's own: what is no shim any more is not ended, whatever was seen before.
    #[test]
    fn what_changes_between_two_looks_stays() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (_root, shims) = host(&[Made { pid, ..LOST }]);
        let seen = shims.look(&BTreeSet::new()).unwrap();
        assert_eq!(seen.len(), 1);
        let later = seen.iter().map(|shim| Shim { started: 4712, ..shim.clone() }).collect();
        shims.look(&later).unwrap();
        assert!(!shims.end(later.first().unwrap()).unwrap());
        assert!(child.try_wait().unwrap().is_none(), "another process of that number was ended");
        shims.look(&seen).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
