//! Waiting on a predicate, with a deadline.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// Asks `look` until it answers something.
///
/// # Errors
/// When `look` fails, or answers nothing within `limit`.
pub fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        // The one place that waits by time, for a predicate that cannot wake us.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(INTERVAL);
    }
}
