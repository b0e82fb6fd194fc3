//! What the kernel counts for a cgroup. A field is absent where the kernel, or the controllers that are enabled,
//! do not offer it: absent is not zero.

use crate::{DeviceId, parse};
use std::collections::BTreeMap;

/// `cpu.stat`. Times are µs since the cgroup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuStat {
    /// CPU time used.
    pub usage_us: Option<u64>,
    /// Of it, in user space.
    pub user_us: Option<u64>,
    /// Of it, in the kernel.
    pub system_us: Option<u64>,
    /// Periods of `cpu.max` in which it ran.
    pub periods: Option<u64>,
    /// Of those, periods in which it used up its quota.
    pub throttled_periods: Option<u64>,
    /// Time it was held back.
    pub throttled_us: Option<u64>,
}

/// Some of `memory.stat`. Amounts are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryStat {
    /// Anonymous memory.
    pub anon_bytes: Option<u64>,
    /// Page cache.
    pub file_bytes: Option<u64>,
    /// Memory of the kernel for it.
    pub kernel_bytes: Option<u64>,
    /// Of the page cache, shared memory and tmpfs.
    pub shmem_bytes: Option<u64>,
    /// Of the page cache, not used lately: goes first.
    pub inactive_file_bytes: Option<u64>,
    /// Of the kernel's memory, caches of file systems that it can drop.
    pub slab_reclaimable_bytes: Option<u64>,
    /// Network buffers.
    pub sock_bytes: Option<u64>,
    /// Page faults that had to wait for a disk.
    pub major_faults: Option<u64>,
}

/// `memory.events`: how often, since the cgroup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryEvents {
    /// Reclaimed although below `memory.low`.
    pub low: Option<u64>,
    /// Throttled above `memory.high`.
    pub high: Option<u64>,
    /// About to go over `memory.max`.
    pub max: Option<u64>,
    /// Reclaim failed at the limit.
    pub oom: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kill: Option<u64>,
}

/// A line of `io.stat`: since the cgroup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoDeviceStat {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Read operations.
    pub read_ops: u64,
    /// Write operations.
    pub write_ops: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Discard operations.
    pub discard_ops: u64,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// CPU time.
    pub cpu: Option<CpuStat>,
    /// Memory in use, bytes.
    pub memory_current_bytes: Option<u64>,
    /// The most memory ever in use, bytes (kernel 5.19 and later).
    pub memory_peak_bytes: Option<u64>,
    /// Swap in use, bytes.
    pub swap_current_bytes: Option<u64>,
    /// What the memory is.
    pub memory: Option<MemoryStat>,
    /// What happened at memory limits.
    pub memory_events: Option<MemoryEvents>,
    /// Processes and threads.
    pub pids_current: Option<u64>,
    /// I/O by device.
    pub io: BTreeMap<DeviceId, IoDeviceStat>,
}

impl Statistics {
    /// Reads all files through `read`, which answers `None` for a file that is not there.
    ///
    /// # Errors
    /// The first that `read` has.
    pub fn read_with<E>(read: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Self, E> {
        let number = |file| Ok(read(file)?.as_deref().and_then(parse::number));
        Ok(Self {
            cpu: read("cpu.stat")?.as_deref().map(CpuStat::parse),
            memory_current_bytes: number("memory.current")?,
            memory_peak_bytes: number("memory.peak")?,
            swap_current_bytes: number("memory.swap.current")?,
            memory: read("memory.stat")?.as_deref().map(MemoryStat::parse),
            memory_events: read("memory.events")?.as_deref().map(MemoryEvents::parse),
            pids_current: number("pids.current")?,
            io: read("io.stat")?.as_deref().map(parse_io_stat).unwrap_or_default(),
        })
    }

    /// Every number that is there, named `file` or `file key`, for showing to people.
    pub fn to_map(&self) -> BTreeMap<String, u64> {
        let single = [
            ("memory.current", self.memory_current_bytes),
            ("memory.peak", self.memory_peak_bytes),
            ("memory.swap.current", self.swap_current_bytes),
            ("pids.current", self.pids_current),
        ];
        let cpu = self.cpu.iter().flat_map(|stat| stat.named());
        let memory = self.memory.iter().flat_map(|stat| stat.named());
        let events = self.memory_events.iter().flat_map(|events| events.named());
        let fixed = single.into_iter().chain(cpu).chain(memory).chain(events);
        let fixed = fixed.filter_map(|(name, number)| Some((name.to_owned(), number?)));
        let io = self.io.iter().flat_map(|(device, stat)| {
            stat.named().map(move |(key, number)| (format!("io.stat {device} {key}"), number))
        });
        fixed.chain(io).collect()
    }
}

impl CpuStat {
    /// Reads the text of `cpu.stat`.
    pub fn parse(text: &str) -> Self {
        let keys = parse::flat_keyed(text);
        let get = |key| keys.get(key).copied();
        Self {
            usage_us: get("usage_usec"),
            user_us: get("user_usec"),
            system_us: get("system_usec"),
            periods: get("nr_periods"),
            throttled_periods: get("nr_throttled"),
            throttled_us: get("throttled_usec"),
        }
    }

    fn named(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("cpu.stat usage_usec", self.usage_us),
            ("cpu.stat user_usec", self.user_us),
            ("cpu.stat system_usec", self.system_us),
            ("cpu.stat nr_periods", self.periods),
            ("cpu.stat nr_throttled", self.throttled_periods),
            ("cpu.stat throttled_usec", self.throttled_us),
        ]
    }
}

impl MemoryStat {
    /// Reads the text of `memory.stat`.
    pub fn parse(text: &str) -> Self {
        let keys = parse::flat_keyed(text);
        let get = |key| keys.get(key).copied();
        Self {
            anon_bytes: get("anon"),
            file_bytes: get("file"),
            kernel_bytes: get("kernel"),
            shmem_bytes: get("shmem"),
            inactive_file_bytes: get("inactive_file"),
            slab_reclaimable_bytes: get("slab_reclaimable"),
            sock_bytes: get("sock"),
            major_faults: get("pgmajfault"),
        }
    }

    fn named(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("memory.stat anon", self.anon_bytes),
            ("memory.stat file", self.file_bytes),
            ("memory.stat kernel", self.kernel_bytes),
            ("memory.stat shmem", self.shmem_bytes),
            ("memory.stat inactive_file", self.inactive_file_bytes),
            ("memory.stat slab_reclaimable", self.slab_reclaimable_bytes),
            ("memory.stat sock", self.sock_bytes),
            ("memory.stat pgmajfault", self.major_faults),
        ]
    }
}

impl MemoryEvents {
    /// Reads the text of `memory.events`.
    pub fn parse(text: &str) -> Self {
        let keys = parse::flat_keyed(text);
        let get = |key| keys.get(key).copied();
        Self {
            low: get("low"),
            high: get("high"),
            max: get("max"),
            oom: get("oom"),
            oom_kill: get("oom_kill"),
        }
    }

    fn named(&self) -> [(&'static str, Option<u64>); 5] {
        [
            ("memory.events low", self.low),
            ("memory.events high", self.high),
            ("memory.events max", self.max),
            ("memory.events oom", self.oom),
            ("memory.events oom_kill", self.oom_kill),
        ]
    }
}

impl IoDeviceStat {
    fn parse(rest: &str) -> Self {
        let keys: BTreeMap<_, _> = parse::sub_keys(rest).collect();
        let get = |key| keys.get(key).and_then(|value| parse::number(value)).unwrap_or_default();
        Self {
            read_bytes: get("rbytes"),
            written_bytes: get("wbytes"),
            read_ops: get("rios"),
            write_ops: get("wios"),
            discarded_bytes: get("dbytes"),
            discard_ops: get("dios"),
        }
    }

    fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("rbytes", self.read_bytes),
            ("wbytes", self.written_bytes),
            ("rios", self.read_ops),
            ("wios", self.write_ops),
            ("dbytes", self.discarded_bytes),
            ("dios", self.discard_ops),
        ]
    }
}

fn parse_io_stat(text: &str) -> BTreeMap<DeviceId, IoDeviceStat> {
    parse::device_lines(text).map(|(device, rest)| (device, IoDeviceStat::parse(rest))).collect()
}
