//! The topology as the kernel shows it. Source of the files: `Documentation/ABI/stable/sysfs-devices-node`,
//! `Documentation/admin-guide/cputopology.rst`, `Documentation/ABI/testing/sysfs-devices-system-cpu`.

use crate::caches::{NO_SHARED_CACHE, name_groups_without_cache};
use crate::topology::{Core, HugePages, InvalidTopology, LOCAL_DISTANCE, MemoryNode, Topology};
use berth_model::{Bytes, CpuSet, MemSet, ParseSetError};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Why the topology could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SysfsError {
    /// A file could not be read.
    #[error("read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A list of CPUs or nodes was not understood.
    #[error("{path} is no list")]
    List {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseSetError,
    },
    /// A text was not understood.
    #[error("{path} has no {what}: {text:?}")]
    Strange {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What it says.
        text: String,
    },
    /// The parts contradict each other, as they may while a CPU goes on or off: look again.
    #[error("the topology that the kernel shows contradicts itself")]
    Contradiction(#[from] InvalidTopology),
}

/// Reads the topology below `root`, which is `/` on a host: `sys/devices/system/{cpu,node}`, and `proc/meminfo` on a
/// kernel that was built without NUMA and shows no nodes.
///
/// # Errors
/// When a file is missing or not understood, with its path.
pub fn read_sysfs(root: &Path) -> Result<Topology, SysfsError> {
    let system = root.join("sys/devices/system");
    let online: CpuSet = list(&system.join("cpu/online"))?;
    let nodes = match system.join("node/online").exists() {
        true => read_nodes(&system.join("node"), &online)?,
        false => vec![only_node(root, &online)?],
    };
    let cores = read_cores(&system.join("cpu"), &online)?;
    Ok(Topology::new(&nodes, cores, online)?)
}

fn read_nodes(directory: &Path, online: &CpuSet) -> Result<Vec<MemoryNode>, SysfsError> {
    let ids: MemSet = list(&directory.join("online"))?;
    ids.iter().map(|id| read_node(id, &directory.join(format!("node{id}")), online)).collect()
}

fn read_node(id: u32, directory: &Path, online: &CpuSet) -> Result<MemoryNode, SysfsError> {
    let cpus: CpuSet = list(&directory.join("cpulist"))?;
    Ok(MemoryNode {
        id,
        cpus: cpus.intersection(online),
        memory: mem_total(&directory.join("meminfo"))?,
        huge_pages: read_huge_pages(&directory.join("hugepages"))?,
        distances: read_distances(&directory.join("distance"))?,
    })
}

fn only_node(root: &Path, online: &CpuSet) -> Result<MemoryNode, SysfsError> {
    Ok(MemoryNode {
        id: 0,
        cpus: online.clone(),
        memory: mem_total(&root.join("proc/meminfo"))?,
        huge_pages: read_huge_pages(&root.join("sys/kernel/mm/hugepages"))?,
        distances: vec![LOCAL_DISTANCE],
    })
}

/// `MemTotal` in kB, which are KiB, of `/proc/meminfo` or of a node's `meminfo`, whose lines begin with `Node 0`.
fn mem_total(path: &Path) -> Result<Bytes, SysfsError> {
    let text = read(path)?;
    text.lines()
        .find_map(|line| line.split_once("MemTotal:"))
        .and_then(|(_, rest)| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1_024))
        .map(Bytes)
        .ok_or_else(|| strange(path, "MemTotal in kB", &text))
}

/// One number for each online node, ascending.
fn read_distances(path: &Path) -> Result<Vec<u32>, SysfsError> {
    let text = read(path)?;
    text.split_whitespace()
        .map(|word| word.parse().map_err(|_| strange(path, "row of distances", &text)))
        .collect()
}

/// Empty where the kernel has no huge pages at all.
fn read_huge_pages(directory: &Path) -> Result<Vec<HugePages>, SysfsError> {
    let mut pages = Vec::new();
    for name in names(directory)? {
        let Some(kib) =
            name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB")?.parse::<u64>().ok())
        else {
            continue;
        };
        pages.push(HugePages {
            page_size: Bytes(kib.saturating_mul(1_024)),
            total: number(&directory.join(&name).join("nr_hugepages"))?,
            free: number(&directory.join(&name).join("free_hugepages"))?,
        });
    }
    pages.sort_unstable();
    Ok(pages)
}

fn read_cores(directory: &Path, online: &CpuSet) -> Result<Vec<Core>, SysfsError> {
    let mut cores = Vec::new();
    let mut seen = BTreeSet::new();
    for cpu in online.iter() {
        if seen.contains(&cpu) {
            continue;
        }
        let core = read_core(cpu, &directory.join(format!("cpu{cpu}")), online)?;
        seen.extend(core.cpus.iter());
        cores.push(core);
    }
    name_groups_without_cache(&mut cores);
    Ok(cores)
}

fn read_core(cpu: u32, directory: &Path, online: &CpuSet) -> Result<Core, SysfsError> {
    // The old name of the file; `core_cpus_list` is there only since 5.3 and says the same.
    let threads: CpuSet = list(&directory.join("topology/thread_siblings_list"))?;
    let cpus = threads.intersection(online);
    let socket_path = directory.join("topology/physical_package_id");
    let socket_text = read(&socket_path)?;
    let socket: i64 =
        socket_text.trim().parse().map_err(|_| strange(&socket_path, "socket number", &socket_text))?;
    Ok(Core {
        id: cpu,
        // -1 where the firmware does not say.
        socket: u32::try_from(socket.max(0)).unwrap_or(0),
        l3: last_cache(&directory.join("cache"), &cpus, online)?,
        cpus,
    })
}

/// The lowest CPU of those that share the last cache.
fn last_cache(directory: &Path, core: &CpuSet, online: &CpuSet) -> Result<u32, SysfsError> {
    let mut last: Option<(u64, CpuSet)> = None;
    for name in names(directory)?.iter().filter(|name| name.starts_with("index")) {
        let level = number(&directory.join(name).join("level"))?;
        let sharers: CpuSet = list(&directory.join(name).join("shared_cpu_list"))?;
        if last.as_ref().is_none_or(|(highest, _)| level > *highest) {
            last = Some((level, sharers.intersection(online)));
        }
    }
    Ok(last
        .filter(|(_, sharers)| !sharers.is_subset(core))
        .and_then(|(_, sharers)| sharers.iter().next())
        .unwrap_or(NO_SHARED_CACHE))
}

fn read(path: &Path) -> Result<String, SysfsError> {
    fs::read_to_string(path).map_err(|source| SysfsError::Io { path: path.to_owned(), source })
}

fn list<S: FromStr<Err = ParseSetError>>(path: &Path) -> Result<S, SysfsError> {
    read(path)?.parse().map_err(|source| SysfsError::List { path: path.to_owned(), source })
}

fn number(path: &Path) -> Result<u64, SysfsError> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| strange(path, "number", &text))
}

/// Names in a directory, sorted; none if there is no such directory.
fn names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Io { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn strange(path: &Path, what: &'static str, text: &str) -> SysfsError {
    SysfsError::Strange { path: path.to_owned(), what, text: text.trim().to_owned() }
}
