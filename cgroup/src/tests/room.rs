//! Whether there is room beneath a limit.

use crate::{MemoryStat, Statistics, shortage};
use berth_model::{Bytes, Limits, MemoryLimits};

/// A cgroup of this memory, this much of it in `[file, shmem, slab_reclaimable]`, and this many processes; held to the
/// memory and the number of processes.
fn check(memory: u64, stat: [u64; 3], pids: u64, limits: (Option<u64>, Option<u64>), expected: &str) {
    let (max, pids_max) = limits;
    let [file, shmem, slab] = stat.map(Some);
    let stat = MemoryStat {
        file_bytes: file,
        shmem_bytes: shmem,
        slab_reclaimable_bytes: slab,
        ..MemoryStat::default()
    };
    let counted = Statistics {
        memory: Some(stat),
        memory_current_bytes: Some(memory),
        pids_current: Some(pids),
        ..Statistics::default()
    };
    let limits = Limits {
        memory: MemoryLimits { max: max.map(Bytes), ..MemoryLimits::default() },
        pids_max,
        ..Limits::default()
    };
    let short = shortage(&counted, &limits).map(|short| short.to_string());
    assert_eq!(short.unwrap_or_default(), expected, "{counted:?} {limits:?}");
}

#[test]
fn what_is_in_use_and_cannot_be_dropped_has_to_fit() {
    const NONE: [u64; 3] = [0; 3];
    check(u64::MAX, NONE, u64::MAX, (None, None), "");
    check(950, NONE, 95, (Some(1_000), Some(100)), "");
    check(951, NONE, 0, (Some(1_000), None), "951 bytes of memory are in use, 1000 are left");
    check(0, NONE, 96, (None, Some(100)), "96 processes and threads are in use, 100 are left");
    // Page cache and caches of file systems go by themselves, what lies in memory alone does not.
    check(951, [1, 0, 0], 0, (Some(1_000), None), "");
    check(951, [0, 0, 1], 0, (Some(1_000), None), "");
    check(951, [1, 1, 0], 0, (Some(1_000), None), "951 bytes of memory are in use, 1000 are left");
    check(1_951, [700, 0, 300], 0, (Some(1_000), None), "951 bytes of memory are in use, 1000 are left");
    // The files are not read at one moment.
    check(10, [700, 800, 300], 0, (Some(1_000), None), "");
    check(0, NONE, 0, (Some(0), Some(0)), "");
    check(1, NONE, 0, (Some(0), None), "1 bytes of memory are in use, 0 are left");
}

#[test]
fn what_the_kernel_does_not_count_is_not_short() {
    let limits = Limits { pids_max: Some(1), ..Limits::default() };
    assert_eq!(shortage(&Statistics::default(), &limits), None);
}
