//! Ends leases that nobody can give back any more.
//!
//! Whoever makes a container at containerd holds a lease over what is made first, and gives it back. A host that goes down
//! in between leaves a lease that holds a snapshot of no container for a day (`WithLease` of containerd's client).

use super::RuntimeError;
use super::client::Client;
use super::containerd::TemporaryLease;
use super::error::{permanent, transient};
use std::path::Path;
use tracing::info;

/// Ends every temporary lease of before the host's boot: whoever took it has ended. Without a day's wait its snapshots are
/// collected.
pub(super) async fn end(client: &Client, proc: &Path) -> Result<(), RuntimeError> {
    let what = || "end leases of before the boot".to_owned();
    let file = proc.join("stat");
    let stat = std::fs::read_to_string(&file).map_err(|error| transient(what(), error))?;
    let booted_at_s = booted_at_s(&stat)
        .ok_or_else(|| permanent(what(), format!("{} does not say when the host booted", file.display())))?;
    for lease in interrupted(client.temporary_leases().await?, booted_at_s) {
        client.end_lease_and_collect(&lease.id).await?;
        info!("lease {} of before the boot is ended", lease.id);
    }
    Ok(())
}

/// By the clock as it is now (`btime`, proc_stat(5)), seconds after the epoch.
fn booted_at_s(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// A clock that was set back since leaves some to their day, one that was set forward makes no lease older than the boot
/// by more than that: what is being made then is made once more.
fn interrupted(leases: Vec<TemporaryLease>, booted_at_s: u64) -> impl Iterator<Item = TemporaryLease> {
    leases.into_iter().filter(move |lease| lease.taken_at_s < booted_at_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_when_it_booted() {
        assert_eq!(booted_at_s("cpu  1 2 3\nctxt 5\nbtime 1795407531\nprocesses 9\n"), Some(1_795_407_531));
        assert_eq!(booted_at_s("cpu  1 2 3\n"), None);
        assert_eq!(booted_at_s("btime soon\n"), None);
    }

    #[test]
    fn only_what_is_older_than_the_boot_is_ended() {
        let lease = |taken_at_s: u64| TemporaryLease { id: taken_at_s.to_string(), taken_at_s };
        let ended = interrupted([9, 10, 11].map(lease).to_vec(), 10);
        assert_eq!(ended.collect::<Vec<_>>(), [lease(9)]);
    }
}
