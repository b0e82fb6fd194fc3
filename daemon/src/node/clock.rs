//! The node's monotonic clock, and which boot it belongs to.

use nix::time::{ClockId, clock_gettime};
use std::io;
use std::path::Path;

/// Milliseconds on the clock that deadlines are measured by: since boot, never set, also counting suspension.
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    // The clock exists since Linux 2.6.39, and reading it cannot fail otherwise.
    let now = now.expect("CLOCK_BOOTTIME is readable");
    let seconds = now.tv_sec().unsigned_abs();
    let millis = now.tv_nsec().unsigned_abs() / 1_000_000;
    seconds * 1_000 + millis
}

/// The kernel's id of this boot. `proc` is the proc file system.
///
/// # Errors
/// When it cannot be read.
pub fn boot_id(proc: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = monotonic_ms();
        assert!(first > 0);
        assert!(monotonic_ms() >= first);
    }

    #[test]
    fn a_boot_has_an_id() {
        assert_eq!(boot_id(Path::new("/proc")).unwrap().len(), 36);
    }
}
