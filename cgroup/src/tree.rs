//! The cgroup tree, opened beneath a root that is a parameter.
//!
//! A [`Cgroup`] is a directory held open: if it is removed and made again under the same name, reads and writes
//! through it fail instead of reaching the newcomer. No path is followed through a symbolic link or out of the root.

use crate::apply::ControlFiles;
use crate::statistics::{MemoryEvents, Statistics};
use crate::{DeviceId, Pressure, Resource, parse};
use berth_model::{CpuSet, MemSet};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the cgroup filesystem is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRoot(PathBuf);

/// Path of a cgroup below the root, such as `berth.slice/berth-1a2b.slice`; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(String);

/// A text that is no path of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup path {0:?} has an empty part, . or .., or a NUL")]
pub struct InvalidPath(pub String);

/// One cgroup, held open.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
    path: CgroupPath,
}

/// Whether processes are in a cgroup or below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Population {
    /// At least one.
    Populated,
    /// None.
    Empty,
    /// There is no such cgroup, hence none.
    Gone,
}

/// Why a cgroup could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It does not exist, or has been removed since it was opened.
    #[error("cgroup {path} does not exist")]
    Gone {
        /// Which.
        path: CgroupPath,
    },
    /// The kernel refused.
    #[error("{doing} of cgroup {path}")]
    Io {
        /// What was tried, such as `read cpu.stat`.
        doing: String,
        /// Which.
        path: CgroupPath,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's text was not understood.
    #[error("{file} of cgroup {path} says {text:?}")]
    Strange {
        /// Which file.
        file: &'static str,
        /// Which cgroup.
        path: CgroupPath,
        /// What it says.
        text: String,
    },
}

impl CgroupRoot {
    /// A root anywhere, for tests.
    pub fn new(mount_point: impl Into<PathBuf>) -> Self {
        Self(mount_point.into())
    }

    /// The host's.
    pub fn system() -> Self {
        Self::new("/sys/fs/cgroup")
    }

    /// Opens a cgroup.
    ///
    /// # Errors
    /// When it does not exist, is no directory, or a symbolic link is on the way.
    pub fn open(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        self.open_directory(path).map(|directory| Cgroup { directory, path: path.clone() }).map_err(
            |source| match source.kind() {
                io::ErrorKind::NotFound => CgroupError::Gone { path: path.clone() },
                _ => CgroupError::io("open directory", path, source),
            },
        )
    }

    fn open_directory(&self, path: &CgroupPath) -> io::Result<OwnedFd> {
        let root = File::open(&self.0)?;
        let path = match path.0.as_str() {
            "" => ".",
            path => path,
        };
        open_beneath(&root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// Process ids of those in a cgroup and below it.
    ///
    /// # Errors
    /// When it does not exist, or a list cannot be read. A cgroup below that goes meanwhile is no error.
    pub fn processes_beneath(&self, path: &CgroupPath) -> Result<Vec<u32>, CgroupError> {
        let cgroup = self.open(path)?;
        let mut processes = cgroup.processes()?;
        for child in cgroup.children()? {
            // The kernel's names of cgroups are names of ours too, unless someone made a strange one by hand.
            let Ok(below) = path.join(&child) else { continue };
            match self.processes_beneath(&below) {
                Ok(found) => processes.extend(found),
                Err(CgroupError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(processes)
    }

    /// Whether anything is alive in a cgroup or below it.
    ///
    /// # Errors
    /// When it cannot be known: not when the cgroup does not exist, which is an answer.
    pub fn population(&self, path: &CgroupPath) -> Result<Population, CgroupError> {
        match self.open(path).and_then(|cgroup| cgroup.population()) {
            Err(CgroupError::Gone { .. }) => Ok(Population::Gone),
            Ok(population) => Ok(population),
            // Files vanish before their directory's name does: what could not be read may be gone by now.
            Err(error @ (CgroupError::Io { .. } | CgroupError::Strange { .. })) => match self.open(path) {
                Err(CgroupError::Gone { .. }) => Ok(Population::Gone),
                _ => Err(error),
            },
        }
    }

    /// Makes controllers available in a cgroup, by naming them in `cgroup.subtree_control` of everything above it.
    /// systemd does this for the controllers that a unit's properties need; nobody does it for `hugetlb`.
    ///
    /// # Errors
    /// When the kernel refuses one, for instance because it is bound to a cgroup v1 hierarchy.
    pub fn enable_controllers(&self, path: &CgroupPath, controllers: &[&str]) -> Result<(), CgroupError> {
        for ancestor in path.ancestors() {
            let cgroup = self.open(&ancestor)?;
            let enabled = cgroup.read_text("cgroup.subtree_control")?;
            let missing =
                controllers.iter().filter(|name| !enabled.split_whitespace().any(|have| have == **name));
            for name in missing {
                cgroup.write("cgroup.subtree_control", &format!("+{name}")).map_err(|source| {
                    CgroupError::io(&format!("enable controller {name}"), &ancestor, source)
                })?;
            }
        }
        Ok(())
    }

    /// Turns on io.cost for a device, without which the kernel refuses to weigh it by `io.weight`. Its cost model
    /// is the kernel's own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_io_cost(&self, device: DeviceId) -> Result<(), CgroupError> {
        let root = self.open(&CgroupPath::root())?;
        let configured = root.read_text("io.cost.qos")?;
        let enabled = parse::line_of(&configured, device)
            .is_some_and(|line| line.split_whitespace().any(|word| word == "enable=1"));
        if enabled {
            return Ok(());
        }
        root.write("io.cost.qos", &format!("{device} enable=1"))
            .map_err(|source| CgroupError::io(&format!("enable io.cost for {device}"), &root.path, source))
    }
}

impl CgroupPath {
    /// The root.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Itself, without a slash at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cgroup of that name inside this one.
    ///
    /// # Errors
    /// When the name cannot be part of a path.
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        format!("{}/{name}", self.0).parse()
    }

    /// Everything above, the root first.
    fn ancestors(&self) -> Vec<Self> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let inner = self.0.match_indices('/').map(|(at, _)| Self(self.0[..at].to_owned()));
        std::iter::once(Self::root()).chain(inner).collect()
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidPath;

    /// One leading slash, as in systemd's `ControlGroup` and `/proc/<pid>/cgroup`, is dropped.
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let path = text.strip_prefix('/').unwrap_or(text);
        let valid = path.is_empty()
            || path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
        valid.then(|| Self(path.to_owned())).ok_or_else(|| InvalidPath(text.to_owned()))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl CgroupError {
    fn io(doing: &str, path: &CgroupPath, source: io::Error) -> Self {
        Self::Io { doing: doing.to_owned(), path: path.clone(), source }
    }

    /// Of a read: ENODEV is what a file says whose cgroup was removed while it was open.
    fn reading(doing: &str, path: &CgroupPath, source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENODEV) => Self::Gone { path: path.clone() },
            _ => Self::io(doing, path, source),
        }
    }
}

fn open_beneath(directory: &impl std::os::fd::AsFd, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(directory, path, how)?)
}

impl Cgroup {
    /// Where it is.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// Names of its control files.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn files(&self) -> Result<Vec<String>, CgroupError> {
        self.list(nix::dir::Type::File)
    }

    /// Names of the cgroups directly inside it.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn children(&self) -> Result<Vec<String>, CgroupError> {
        self.list(nix::dir::Type::Directory)
    }

    /// Whether anything is alive in it or below it.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn population(&self) -> Result<Population, CgroupError> {
        let text = self.read_text("cgroup.events")?;
        match parse::flat_keyed(&text).get("populated") {
            Some(0) => Ok(Population::Empty),
            Some(_) => Ok(Population::Populated),
            None => Err(CgroupError::Strange { file: "cgroup.events", path: self.path.clone(), text }),
        }
    }

    /// Process ids of those directly in it. A process of another pid namespace shows as 0.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        let text = self.read_text("cgroup.procs")?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// The CPUs that it really runs on: those ordered, without any that are offline or that a cgroup above does not
    /// have. Absent where the cpuset controller is.
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn effective_cpus(&self) -> Result<Option<CpuSet>, CgroupError> {
        self.set("cpuset.cpus.effective")
    }

    /// The memory nodes that it really takes memory from; as [`Cgroup::effective_cpus`].
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn effective_mems(&self) -> Result<Option<MemSet>, CgroupError> {
        self.set("cpuset.mems.effective")
    }

    /// Everything that the kernel counts. What it does not offer here is absent.
    ///
    /// # Errors
    /// When the cgroup is gone, or a file that exists cannot be read.
    pub fn statistics(&self) -> Result<Statistics, CgroupError> {
        Statistics::read_with(|file| self.read_if_present(file))
    }

    /// How much of the time work waited for a resource; absent where the kernel does not count it.
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn pressure(&self, of: Resource) -> Result<Option<Pressure>, CgroupError> {
        let text = self.read_if_present(of.file())?;
        Ok(text.map(|text| Pressure::parse(&text)))
    }

    /// What happened at memory limits, in it and below; absent where memory is not controlled.
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn memory_events(&self) -> Result<Option<MemoryEvents>, CgroupError> {
        let text = self.read_if_present("memory.events")?;
        Ok(text.map(|text| MemoryEvents::parse(&text)))
    }

    /// How much memory is in use in it and below, bytes (`memory.current`); absent where memory is not controlled.
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn memory_current_bytes(&self) -> Result<Option<u64>, CgroupError> {
        self.set("memory.current")
    }

    /// What `memory.high` says, as the kernel prints it; `max` where memory is not controlled.
    ///
    /// # Errors
    /// When the cgroup is gone, or the file exists and cannot be read.
    pub fn memory_high(&self) -> Result<String, CgroupError> {
        let text = self.read_if_present("memory.high")?;
        Ok(text.map_or_else(|| "max".to_owned(), |text| text.trim().to_owned()))
    }

    fn set<S: FromStr>(&self, file: &'static str) -> Result<Option<S>, CgroupError> {
        let Some(text) = self.read_if_present(file)? else {
            return Ok(None);
        };
        text.trim().parse().map(Some).map_err(|_| CgroupError::Strange {
            file,
            path: self.path.clone(),
            text: text.trim().to_owned(),
        })
    }

    fn list(&self, wanted: nix::dir::Type) -> Result<Vec<String>, CgroupError> {
        let failed = |errno: Errno| CgroupError::reading("list directory", &self.path, errno.into());
        let directory = open_beneath(&self.directory, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|source| CgroupError::reading("list directory", &self.path, source))?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(directory).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type() == Some(wanted) && name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read_text(&self, file: &str) -> Result<String, CgroupError> {
        self.read(file).map_err(|source| CgroupError::reading(&format!("read {file}"), &self.path, source))
    }

    fn read_if_present(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_not_offered(&error) => self.must_exist().map(|()| None),
            Err(error) => Err(CgroupError::reading(&format!("read {file}"), &self.path, error)),
        }
    }

    /// Tells a file that the kernel does not offer from one that is gone with its cgroup: `cgroup.controllers` is in
    /// every cgroup.
    fn must_exist(&self) -> Result<(), CgroupError> {
        match self.read("cgroup.controllers") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CgroupError::Gone { path: self.path.clone() })
            }
            Err(error) => Err(CgroupError::reading("read cgroup.controllers", &self.path, error)),
            Ok(_) => Ok(()),
        }
    }
}

/// The file is not there, or is there and the kernel was booted without what it shows (`psi=0`).
fn is_not_offered(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::EOPNOTSUPP))
}

impl ControlFiles for Cgroup {
    fn name(&self) -> &str {
        self.path.as_str()
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        File::from(open_beneath(&self.directory, file, OFlag::O_RDONLY)?).read_to_string(&mut text)?;
        Ok(text)
    }

    fn write(&self, file: &str, line: &str) -> io::Result<()> {
        // One write call for one line, since the kernel parses each call on its own; the newline makes an empty
        // value a write at all.
        let mut file = File::from(open_beneath(&self.directory, file, OFlag::O_WRONLY | OFlag::O_TRUNC)?);
        file.write_all(format!("{line}\n").as_bytes())
    }
}
