//! What the kernel is told to hold a pod or a container to, in the terms of cgroup v2.
//!
//! Source of names, units and ranges: Linux `Documentation/admin-guide/cgroup-v2.rst`.

use crate::Bytes;
use std::fmt;

/// Relative share of CPU time, as in `cpu.weight`: 1 to 10 000, default 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuWeight(u16);

impl CpuWeight {
    /// The range that `cpu.weight` takes.
    pub const RANGE: std::ops::RangeInclusive<u16> = 1..=10_000;
    /// The range of cgroup v1's `cpu.shares`, which platforms still speak.
    pub const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;

    /// A weight as the kernel takes it.
    ///
    /// # Errors
    /// Outside 1 to 10 000.
    pub fn new(weight: u64) -> Result<Self, InvalidLimits> {
        u16::try_from(weight)
            .ok()
            .filter(|weight| Self::RANGE.contains(weight))
            .map(Self)
            .ok_or(InvalidLimits::CpuWeight(weight))
    }

    /// A weight from `cpu.shares`, by the linear map of KEP-2254:
    /// `1 + (shares - 2) * 9999 / 262142`, so that 1024 becomes 39.
    ///
    /// # Errors
    /// Outside 2 to 262 144.
    pub fn from_shares(shares: u64) -> Result<Self, InvalidLimits> {
        if !Self::SHARES_RANGE.contains(&shares) {
            return Err(InvalidLimits::CpuShares(shares));
        }
        Self::new(1 + (shares - 2) * 9_999 / 262_142)
    }

    /// The number written to `cpu.weight`.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// What kind of application a pod runs; it decides the CPU weight where none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AppClass {
    /// Answers people: wins every contention.
    LatencyCritical,
    /// An ordinary service.
    #[default]
    Standard,
    /// Finishes work that nobody waits for.
    Batch,
    /// Takes what is left over.
    BestEffort,
}

impl AppClass {
    /// All classes, most important first.
    pub const ALL: [Self; 4] = [Self::LatencyCritical, Self::Standard, Self::Batch, Self::BestEffort];

    /// The CPU weight of a pod of this class that names none itself. `Standard` is the kernel's own default;
    /// the steps of ten keep a class from being starved by the one below under any load.
    pub fn cpu_weight(self) -> CpuWeight {
        CpuWeight(match self {
            Self::LatencyCritical => 1_000,
            Self::Standard => 100,
            Self::Batch => 10,
            Self::BestEffort => 1,
        })
    }
}

impl fmt::Display for AppClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LatencyCritical => "latency-critical",
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::BestEffort => "best-effort",
        })
    }
}

/// CPU bandwidth: `quota_us` of run time in every `period_us`, as in `cpu.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuMax {
    /// Run time in each period, at least 1 000 µs.
    pub quota_us: u64,
    /// Length of a period, 1 000 to 1 000 000 µs.
    pub period_us: u64,
}

impl CpuMax {
    /// The kernel's default period.
    pub const DEFAULT_PERIOD_US: u64 = 100_000;
    /// The kernel refuses a smaller quota or period (`min_cfs_quota_period`).
    pub const MIN_US: u64 = 1_000;
    /// The kernel refuses a longer period (`max_cfs_quota_period`).
    pub const MAX_PERIOD_US: u64 = 1_000_000;
}

/// Memory protection and limits in bytes, as in `memory.{min,low,high,max}`. None is the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct MemoryLimits {
    /// Never reclaimed below this.
    pub min: Option<Bytes>,
    /// Reclaimed below this only if nothing unprotected is left.
    pub low: Option<Bytes>,
    /// Throttled and reclaimed above this.
    pub high: Option<Bytes>,
    /// The wall: reclaim fails, the OOM killer comes.
    pub max: Option<Bytes>,
}

/// Swap in bytes, as in `memory.swap.max`: swap alone, not memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapLimit(pub Bytes);

/// Share of a device's time under contention, as in `io.weight`: 1 to 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoWeight(u16);

impl IoWeight {
    /// A weight as the kernel takes it.
    ///
    /// # Errors
    /// Outside 1 to 10 000.
    pub fn new(weight: u64) -> Result<Self, InvalidLimits> {
        u16::try_from(weight)
            .ok()
            .filter(|weight| CpuWeight::RANGE.contains(weight))
            .map(Self)
            .ok_or(InvalidLimits::IoWeight(weight))
    }

    /// The number written to `io.weight`.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// I/O limits on one device, named by a path mounted from it: the node resolves the disk beneath.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoLimit {
    /// Absolute path of a mount point on the host, such as `/` or `/data`.
    pub mount_point: String,
    /// Bytes read in a second.
    pub read_bytes_per_sec: Option<u64>,
    /// Bytes written in a second.
    pub write_bytes_per_sec: Option<u64>,
    /// Read operations in a second.
    pub read_ops_per_sec: Option<u64>,
    /// Write operations in a second.
    pub write_ops_per_sec: Option<u64>,
    /// Share under contention.
    pub weight: Option<IoWeight>,
}

impl IoLimit {
    fn or(self, other: &Self) -> Self {
        Self {
            read_bytes_per_sec: self.read_bytes_per_sec.or(other.read_bytes_per_sec),
            write_bytes_per_sec: self.write_bytes_per_sec.or(other.write_bytes_per_sec),
            read_ops_per_sec: self.read_ops_per_sec.or(other.read_ops_per_sec),
            write_ops_per_sec: self.write_ops_per_sec.or(other.write_ops_per_sec),
            weight: self.weight.or(other.weight),
            ..self
        }
    }
}

/// Huge pages of one size, as in `hugetlb.<size>.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HugetlbLimit {
    /// Size of one page, a power of two.
    pub page_size: Bytes,
    /// Most bytes in pages of that size.
    pub max: Bytes,
}

/// Everything a cgroup is held to, apart from which CPUs and memory nodes it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Limits {
    /// `cpu.weight`.
    pub cpu_weight: Option<CpuWeight>,
    /// `cpu.max`.
    pub cpu_max: Option<CpuMax>,
    /// `memory.min`, `.low`, `.high`, `.max`.
    pub memory: MemoryLimits,
    /// `memory.swap.max`.
    pub swap_max: Option<SwapLimit>,
    /// `pids.max`: most processes and threads.
    pub pids_max: Option<u64>,
    /// `io.max` and `io.weight`, a line for each device.
    pub io: Vec<IoLimit>,
    /// `hugetlb.<size>.max`.
    pub hugetlb: Vec<HugetlbLimit>,
}

/// Why limits were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimits {
    /// `cpu.weight` out of range.
    #[error("cpu weight {0} is outside 1 to 10000")]
    CpuWeight(u64),
    /// `cpu.shares` out of range.
    #[error("cpu shares {0} are outside 2 to 262144")]
    CpuShares(u64),
    /// `io.weight` out of range.
    #[error("io weight {0} is outside 1 to 10000")]
    IoWeight(u64),
    /// `cpu.max` out of range.
    #[error(
        "cpu quota {quota_us} us in {period_us} us: quota and period are at least 1000 us, the period at most 1000000 us"
    )]
    CpuMax {
        /// What was asked.
        quota_us: u64,
        /// What was asked.
        period_us: u64,
    },
    /// `memory.min <= low <= high <= max` does not hold.
    #[error("memory.{lower} is {lower_bytes} and above memory.{upper}, which is {upper_bytes}")]
    MemoryOrder {
        /// Name of the lower one.
        lower: &'static str,
        /// Its value.
        lower_bytes: Bytes,
        /// Name of the upper one.
        upper: &'static str,
        /// Its value.
        upper_bytes: Bytes,
    },
    /// A limit of zero, which nothing could run under.
    #[error("{0} is 0: nothing could run")]
    Zero(&'static str),
    /// A mount point that is no clean absolute path.
    #[error("io mount point {0:?} is no absolute path without . and ..")]
    MountPoint(String),
    /// Two lines for one mount point or page size.
    #[error("{0} is limited twice")]
    Twice(String),
    /// A page size that is no power of two.
    #[error("huge page size {0} is no power of two")]
    PageSize(Bytes),
    /// A hugetlb limit that is not made of whole pages.
    #[error("hugetlb limit {max} is not a multiple of its page size {page_size}")]
    NotWholePages {
        /// The limit.
        max: Bytes,
        /// The page size.
        page_size: Bytes,
    },
}

impl Limits {
    /// These, and where they say nothing, what `other` says.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let memory = self.memory;
        self.memory = MemoryLimits {
            min: memory.min.or(other.memory.min),
            low: memory.low.or(other.memory.low),
            high: memory.high.or(other.memory.high),
            max: memory.max.or(other.memory.max),
        };
        for theirs in other.io {
            match self.io.iter_mut().find(|ours| ours.mount_point == theirs.mount_point) {
                Some(ours) => *ours = ours.clone().or(&theirs),
                None => self.io.push(theirs),
            }
        }
        for theirs in other.hugetlb {
            if self.hugetlb.iter().all(|ours| ours.page_size != theirs.page_size) {
                self.hugetlb.push(theirs);
            }
        }
        Self {
            cpu_weight: self.cpu_weight.or(other.cpu_weight),
            cpu_max: self.cpu_max.or(other.cpu_max),
            swap_max: self.swap_max.or(other.swap_max),
            pids_max: self.pids_max.or(other.pids_max),
            ..self
        }
    }

    /// Checks what no single field can know: order, zero, doubles.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidLimits> {
        self.validate_cpu_max()?;
        self.memory.validate()?;
        if self.pids_max == Some(0) {
            return Err(InvalidLimits::Zero("pids.max"));
        }
        self.validate_io()?;
        self.validate_hugetlb()
    }

    fn validate_cpu_max(&self) -> Result<(), InvalidLimits> {
        let Some(CpuMax { quota_us, period_us }) = self.cpu_max else {
            return Ok(());
        };
        let valid = quota_us >= CpuMax::MIN_US
            && (CpuMax::MIN_US..=CpuMax::MAX_PERIOD_US).contains(&period_us)
            // The kernel's bound on quota: it must fit in 44 bits of microseconds (`max_cfs_runtime`).
            && quota_us < 1 << 44;
        valid.then_some(()).ok_or(InvalidLimits::CpuMax { quota_us, period_us })
    }

    fn validate_io(&self) -> Result<(), InvalidLimits> {
        for (index, io) in self.io.iter().enumerate() {
            if !crate::pod::is_clean_absolute_path(&io.mount_point) {
                return Err(InvalidLimits::MountPoint(io.mount_point.clone()));
            }
            if self.io[..index].iter().any(|other| other.mount_point == io.mount_point) {
                return Err(InvalidLimits::Twice(io.mount_point.clone()));
            }
            let rates =
                [io.read_bytes_per_sec, io.write_bytes_per_sec, io.read_ops_per_sec, io.write_ops_per_sec];
            if rates.contains(&Some(0)) {
                return Err(InvalidLimits::Zero("a rate in io.max"));
            }
        }
        Ok(())
    }

    fn validate_hugetlb(&self) -> Result<(), InvalidLimits> {
        for (index, huge) in self.hugetlb.iter().enumerate() {
            if !huge.page_size.0.is_power_of_two() {
                return Err(InvalidLimits::PageSize(huge.page_size));
            }
            if !huge.max.0.is_multiple_of(huge.page_size.0) {
                return Err(InvalidLimits::NotWholePages { max: huge.max, page_size: huge.page_size });
            }
            if self.hugetlb[..index].iter().any(|other| other.page_size == huge.page_size) {
                return Err(InvalidLimits::Twice(format!("hugetlb.{}", huge.page_size)));
            }
        }
        Ok(())
    }
}

impl MemoryLimits {
    fn validate(&self) -> Result<(), InvalidLimits> {
        if self.max == Some(Bytes(0)) {
            return Err(InvalidLimits::Zero("memory.max"));
        }
        let set = [("min", self.min), ("low", self.low), ("high", self.high), ("max", self.max)];
        let given: Vec<_> = set.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))).collect();
        for pair in given.windows(2) {
            let [(lower, lower_bytes), (upper, upper_bytes)] = [pair[0], pair[1]];
            if lower_bytes > upper_bytes {
                return Err(InvalidLimits::MemoryOrder { lower, lower_bytes, upper, upper_bytes });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight() {
        for (shares, weight) in [(2, 1), (512, 20), (1_024, 39), (262_144, 10_000)] {
            assert_eq!(CpuWeight::from_shares(shares).unwrap().get(), weight, "{shares}");
        }
        for shares in [0, 1, 262_145, u64::MAX] {
            assert!(CpuWeight::from_shares(shares).is_err(), "{shares}");
        }
    }

    fn check(limits: &Limits, expected: &str) {
        let said = limits.validate().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{limits:?}: {said:?}");
    }

    #[test]
    fn limits() {
        let memory = |min, low, high, max| Limits {
            memory: MemoryLimits {
                min: Option::map(min, Bytes),
                low: Option::map(low, Bytes),
                high: Option::map(high, Bytes),
                max: Option::map(max, Bytes),
            },
            ..Limits::default()
        };
        check(&Limits::default(), "");
        check(&memory(Some(1), Some(1), Some(2), Some(3)), "");
        check(&memory(Some(4), None, None, Some(3)), "memory.min is 4 and above memory.max");
        check(&memory(None, None, None, Some(0)), "memory.max is 0");
        let cpu_max = |quota_us, period_us| Limits {
            cpu_max: Some(CpuMax { quota_us, period_us }),
            ..Limits::default()
        };
        check(&cpu_max(50_000, 100_000), "");
        check(&cpu_max(999, 100_000), "cpu quota");
        check(&cpu_max(50_000, 1_000_001), "cpu quota");
        check(&Limits { pids_max: Some(0), ..Limits::default() }, "pids.max is 0");
        let huge = |size, max| Limits {
            hugetlb: vec![HugetlbLimit { page_size: Bytes(size), max: Bytes(max) }],
            ..Limits::default()
        };
        check(&huge(2 << 20, 4 << 20), "");
        check(&huge(3, 6), "no power of two");
        check(&huge(2 << 20, 3 << 20), "not a multiple");
        let io = |path: &str| IoLimit {
            mount_point: path.to_owned(),
            read_bytes_per_sec: None,
            write_bytes_per_sec: Some(1),
            read_ops_per_sec: None,
            write_ops_per_sec: None,
            weight: None,
        };
        check(&Limits { io: vec![io("/"), io("/data")], ..Limits::default() }, "");
        check(&Limits { io: vec![io("/"), io("/")], ..Limits::default() }, "limited twice");
        check(&Limits { io: vec![io("data")], ..Limits::default() }, "no absolute path");
        check(&Limits { io: vec![io("/a/../b")], ..Limits::default() }, "no absolute path");
    }
}
