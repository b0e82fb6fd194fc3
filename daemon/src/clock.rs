//! The two clocks of the agent: one for deadlines, which nobody can set, and one for people.

use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the host booted, time asleep included (`CLOCK_BOOTTIME`). Deadlines are counted by it.
pub fn monotonic_ms() -> u64 {
    // The kernel has this clock since 2.6.39, so a failure could only be a defect of ours.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists");
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

/// Milliseconds after the epoch, for people; it may jump.
pub fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
