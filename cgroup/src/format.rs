//! Values as the kernel prints them, whatever was written.
//!
//! Sources: `mm/page_counter.c` and `mm/memcontrol.c` (memory), `mm/hugetlb_cgroup.c` (names of huge page files),
//! `kernel/cgroup/pids.c`, `block/blk-throttle.c` (io.max), `block/blk-iocost.c` and `block/bfq-cgroup.c` (weights).

use crate::DeviceId;
use berth_model::{Bytes, CpuMax, IoLimit, IoWeight};

/// The word for "no limit".
pub(crate) const MAX: &str = "max";

/// An amount of memory: rounded down to whole pages, and `max` from the counter's own maximum on.
pub(crate) fn memory(amount: Bytes, page_size: Bytes) -> String {
    let pages = amount.0 / page_size.0;
    // PAGE_COUNTER_MAX of a 64-bit kernel.
    let most_pages = i64::MAX.unsigned_abs() / page_size.0;
    match pages >= most_pages {
        true => MAX.to_owned(),
        false => (pages * page_size.0).to_string(),
    }
}

/// `cpu.max`.
pub(crate) fn cpu_max(max: CpuMax) -> String {
    format!("{} {}", max.quota_us, max.period_us)
}

/// `pids.max`: a limit above what the kernel can number (PID_MAX_LIMIT) is refused by it, and is no limit.
pub(crate) fn pids(max: u64) -> String {
    const PID_MAX_LIMIT: u64 = 4 * 1024 * 1024;
    match max > PID_MAX_LIMIT {
        true => MAX.to_owned(),
        false => max.to_string(),
    }
}

/// The name of a page size in the files of the hugetlb controller: `64KB`, `2MB`, `1GB`.
pub(crate) fn huge_page_size(size: Bytes) -> String {
    match size.0 {
        size if size >= 1 << 30 => format!("{}GB", size >> 30),
        size if size >= 1 << 20 => format!("{}MB", size >> 20),
        size => format!("{}KB", size >> 10),
    }
}

/// Undoes [`huge_page_size`].
pub(crate) fn parse_huge_page_size(name: &str) -> Option<Bytes> {
    let (digits, shift) = [("KB", 10), ("MB", 20), ("GB", 30)]
        .into_iter()
        .find_map(|(unit, shift)| Some((name.strip_suffix(unit)?, shift)))?;
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).map(Bytes)
}

/// A line of `io.max`, without its device.
pub(crate) fn io_max(limit: &IoLimit) -> String {
    format!(
        "rbps={} wbps={} riops={} wiops={}",
        bytes_per_sec(limit.read_bytes_per_sec),
        bytes_per_sec(limit.write_bytes_per_sec),
        ops_per_sec(limit.read_ops_per_sec),
        ops_per_sec(limit.write_ops_per_sec),
    )
}

fn bytes_per_sec(rate: Option<u64>) -> String {
    match rate {
        None | Some(u64::MAX) => MAX.to_owned(),
        Some(rate) => rate.to_string(),
    }
}

/// The kernel keeps operations in 32 bits, all of them set meaning no limit.
fn ops_per_sec(rate: Option<u64>) -> String {
    match rate.and_then(|rate| u32::try_from(rate).ok()) {
        None | Some(u32::MAX) => MAX.to_owned(),
        Some(rate) => rate.to_string(),
    }
}

/// The weight that BFQ, whose range ends at 1000, gets in place of an `io.weight`: the defaults of both are 100, and
/// each side of it is mapped linearly. systemd uses the same map (`BFQ_WEIGHT`).
pub(crate) fn bfq_weight(weight: IoWeight) -> u64 {
    let weight = u64::from(weight.get());
    match weight <= 100 {
        true => weight,
        false => 100 + (weight - 100) * (1_000 - 100) / (10_000 - 100),
    }
}

/// A line of a file that has one for each device.
pub(crate) fn keyed(key: Option<DeviceId>, value: &str) -> String {
    match key {
        Some(device) => format!("{device} {value}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (amount, page_size, expected) in [
            (0, 4_096, "0"),
            (4_095, 4_096, "0"),
            (4_097, 4_096, "4096"),
            (1_000_000_000, 4_096, "999997440"),
            (1 << 30, 65_536, "1073741824"),
            (65_537, 65_536, "65536"),
            (i64::MAX.unsigned_abs() - 4_096, 4_096, "9223372036854767616"),
            (i64::MAX.unsigned_abs(), 4_096, "max"),
            (u64::MAX, 4_096, "max"),
        ] {
            assert_eq!(memory(Bytes(amount), Bytes(page_size)), expected, "{amount} in {page_size}");
        }
    }

    #[test]
    fn page_sizes() {
        for (size, name) in
            [(64 << 10, "64KB"), (2 << 20, "2MB"), (32 << 20, "32MB"), (1 << 30, "1GB"), (16 << 30, "16GB")]
        {
            assert_eq!(huge_page_size(Bytes(size)), name);
            assert_eq!(parse_huge_page_size(name), Some(Bytes(size)));
        }
        for name in ["", "MB", "2", "2TB", "-2MB", "99999999999999999GB"] {
            assert_eq!(parse_huge_page_size(name), None, "{name:?}");
        }
    }

    #[test]
    fn numbers_of_processes() {
        assert_eq!(pids(100), "100");
        assert_eq!(pids(4_194_304), "4194304");
        assert_eq!(pids(4_194_305), "max");
    }

    #[test]
    fn weights_for_bfq() {
        for (weight, expected) in [(1, 1), (100, 100), (200, 109), (10_000, 1_000)] {
            assert_eq!(bfq_weight(IoWeight::new(weight).unwrap()), expected, "{weight}");
        }
    }
}
