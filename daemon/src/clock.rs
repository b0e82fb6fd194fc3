//! The wall clock, for people; deadlines are counted by [`crate::node::monotonic_ms`].

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds after the epoch; 0 before it. It may jump.
pub fn epoch_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
