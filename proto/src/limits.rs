//! Limits and ulimits.

use crate::error::{At, Result, each};
use crate::v1;
use berth_model::{
    Bytes, CpuMax, CpuWeight, HugetlbLimit, IoLimit, IoWeight, Limits, MemoryLimits, SwapLimit, Ulimit,
};

/// Limits from the wire, checked as a whole.
pub fn limits_from(wire: v1::Limits) -> Result<Limits> {
    let limits = limits_of_several_from(wire)?;
    limits.validate().map_err(|error| crate::InvalidMessage::new("", error))?;
    Ok(limits)
}

/// Limits from the wire, each checked by itself: those of several orders may contradict one another.
pub fn limits_of_several_from(wire: v1::Limits) -> Result<Limits> {
    Ok(Limits {
        cpu_weight: wire.cpu_weight.map(CpuWeight::new).transpose().at("cpu_weight")?,
        cpu_max: wire.cpu_max.map(cpu_max_from),
        memory: MemoryLimits {
            min: wire.memory_min_bytes.map(Bytes),
            low: wire.memory_low_bytes.map(Bytes),
            high: wire.memory_high_bytes.map(Bytes),
            max: wire.memory_max_bytes.map(Bytes),
        },
        swap_max: wire.swap_max_bytes.map(|bytes| SwapLimit(Bytes(bytes))),
        pids_max: wire.pids_max,
        io: each(wire.io, "io", io_from)?,
        hugetlb: wire.hugetlb.into_iter().map(hugetlb_from).collect(),
    })
}

fn cpu_max_from(wire: v1::CpuMax) -> CpuMax {
    let period_us = if wire.period_us == 0 { CpuMax::DEFAULT_PERIOD_US } else { wire.period_us };
    CpuMax { quota_us: wire.quota_us, period_us }
}

fn io_from(wire: v1::IoLimit) -> Result<IoLimit> {
    Ok(IoLimit {
        mount_point: wire.mount_point,
        read_bytes_per_sec: wire.read_bytes_per_sec,
        write_bytes_per_sec: wire.write_bytes_per_sec,
        read_ops_per_sec: wire.read_ops_per_sec,
        write_ops_per_sec: wire.write_ops_per_sec,
        weight: wire.weight.map(IoWeight::new).transpose().at("weight")?,
    })
}

fn hugetlb_from(wire: v1::HugetlbLimit) -> HugetlbLimit {
    HugetlbLimit { page_size: Bytes(wire.page_size_bytes), max: Bytes(wire.max_bytes) }
}

/// A container's ulimits from the wire, checked as a whole.
pub fn ulimits_from(wire: Vec<v1::Ulimit>) -> Result<Vec<Ulimit>> {
    let ulimits = each(wire, "ulimits", |ulimit| {
        Ok(Ulimit { rlimit: ulimit.rlimit.parse().at("rlimit")?, soft: ulimit.soft, hard: ulimit.hard })
    })?;
    Ulimit::validate_all(&ulimits).at("ulimits")?;
    Ok(ulimits)
}

impl From<&Limits> for v1::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            cpu_weight: limits.cpu_weight.map(|weight| weight.get().into()),
            cpu_max: limits.cpu_max.map(|CpuMax { quota_us, period_us }| v1::CpuMax { quota_us, period_us }),
            memory_min_bytes: limits.memory.min.map(|bytes| bytes.0),
            memory_low_bytes: limits.memory.low.map(|bytes| bytes.0),
            memory_high_bytes: limits.memory.high.map(|bytes| bytes.0),
            memory_max_bytes: limits.memory.max.map(|bytes| bytes.0),
            swap_max_bytes: limits.swap_max.map(|swap| swap.0.0),
            pids_max: limits.pids_max,
            io: limits.io.iter().map(Into::into).collect(),
            hugetlb: limits
                .hugetlb
                .iter()
                .map(|huge| v1::HugetlbLimit { page_size_bytes: huge.page_size.0, max_bytes: huge.max.0 })
                .collect(),
        }
    }
}

impl From<&IoLimit> for v1::IoLimit {
    fn from(io: &IoLimit) -> Self {
        Self {
            mount_point: io.mount_point.clone(),
            read_bytes_per_sec: io.read_bytes_per_sec,
            write_bytes_per_sec: io.write_bytes_per_sec,
            read_ops_per_sec: io.read_ops_per_sec,
            write_ops_per_sec: io.write_ops_per_sec,
            weight: io.weight.map(|weight| weight.get().into()),
        }
    }
}

impl From<&Ulimit> for v1::Ulimit {
    fn from(ulimit: &Ulimit) -> Self {
        Self { rlimit: ulimit.rlimit.name().to_owned(), soft: ulimit.soft, hard: ulimit.hard }
    }
}
