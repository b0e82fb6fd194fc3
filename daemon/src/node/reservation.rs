//! What is kept for the system's own services. All pods together are held to the rest of memory and of process ids by the
//! kernel. CPUs need nothing of the kind: a pod is on those that it was ordered, and no order is accepted that newly
//! names a reserved one.

use super::{Host, HostError};
use crate::report::chain;
use crate::runtime::ContainerdRuntime;
use berth_model::{Bytes, CpuSet, Limits, MemoryLimits};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// Between two looks: what else sets a property of that slice is somebody by hand.
const LOOK: Duration = Duration::from_secs(60);

/// What the host's administrator keeps for the system's own services; 0 and empty is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reservation {
    /// CPUs that no pod is given.
    pub cpus: CpuSet,
    /// Memory that pods do not use.
    pub memory: Bytes,
    /// Processes and threads that pods do not make.
    pub pids: u64,
}

impl Host {
    /// What is left for all pods together, of what something is reserved of: of memory, and of process ids.
    ///
    /// # Errors
    /// When the host cannot be looked at, or nothing is left.
    pub fn left_for_pods(&self) -> Result<Vec<Limits>, HostError> {
        let Reservation { memory, pids, .. } = &self.reservation;
        let has = || Ok(self.topology()?.nodes().iter().map(|node| node.memory.0).sum());
        let max = left("reserved_memory", memory.0, has, |bytes| Bytes(bytes).to_string())?;
        let pids_max = left("reserved_pids", *pids, || self.most_pids(), |pids| pids.to_string())?;
        let memory = max.map(|max| Limits {
            memory: MemoryLimits { max: Some(Bytes(max)), ..MemoryLimits::default() },
            ..Limits::default()
        });
        let pids = pids_max.map(|pids| Limits { pids_max: Some(pids), ..Limits::default() });
        Ok(memory.into_iter().chain(pids).collect())
    }

    /// Most processes and threads of the kernel: of its numbers, and of what its memory allows (proc_sys_kernel(5)).
    fn most_pids(&self) -> Result<u64, HostError> {
        let read = |name: &str| {
            let path = self.kernel.proc.join("sys/kernel").join(name);
            let text = self.read(path.clone())?;
            text.trim().parse::<u64>().map_err(|error| HostError::Read {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            })
        };
        Ok(read("pid_max")?.min(read("threads-max")?))
    }
}

/// What is left once something is reserved; none where nothing is.
fn left(
    key: &'static str,
    reserved: u64,
    has: impl FnOnce() -> Result<u64, HostError>,
    word: impl Fn(u64) -> String,
) -> Result<Option<u64>, HostError> {
    if reserved == 0 {
        return Ok(None);
    }
    let has = has()?;
    match has.checked_sub(reserved) {
        None | Some(0) => Err(HostError::Reserved { key, reserved: word(reserved), has: word(has) }),
        left => Ok(left),
    }
}

/// Has the kernel keep what is reserved.
#[derive(Debug)]
pub struct ReservationKeeper {
    pub(crate) host: Host,
    pub(crate) runtime: ContainerdRuntime,
}

impl ReservationKeeper {
    /// Looks now and then, for ever. What cannot be had is said once, and tried again.
    pub async fn run(self) -> Infallible {
        let mut said = false;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = self.look().await;
            if let Err(why) = &looked
                && !said
            {
                warn!("what is reserved is not kept by the kernel: {why}");
            }
            said = looked.is_err();
        }
    }

    /// Each apart: that there is no room for the one does not keep the other from being held.
    async fn look(&self) -> Result<(), String> {
        let mut whys = Vec::new();
        for left in self.host.left_for_pods().map_err(|error| chain(&error))? {
            whys.extend(self.hold(left).await.err());
        }
        if whys.is_empty() { Ok(()) } else { Err(whys.join("; ")) }
    }

    async fn hold(&self, left: Limits) -> Result<(), String> {
        // Where it cannot be looked at, the controllers may not be enabled yet, which is done now.
        if matches!(self.runtime.drift_of_all(left.clone()).await, Ok(drifted) if drifted.is_empty()) {
            return Ok(());
        }
        self.runtime.hold_all(left.clone()).await.map_err(|error| chain(&error))?;
        info!("all pods together are held to {}", words(&left));
        Ok(())
    }
}

/// As the control files have it.
pub(super) fn words(limits: &Limits) -> String {
    let memory = limits.memory.max.map(|max| format!("memory.max={}", max.0));
    let pids = limits.pids_max.map(|pids| format!("pids.max={pids}"));
    memory.into_iter().chain(pids).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_the_pods() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/pid_max", "4194304\n");
        write("proc/sys/kernel/threads-max", "30000\n");
        let mut host = Host::default();
        host.kernel.proc = root.path().join("proc");
        let has: u64 = host.topology().unwrap().nodes().iter().map(|node| node.memory.0).sum();
        let mut check = |memory: u64, pids: u64, expected: Result<(Option<u64>, Option<u64>), &str>| {
            host.reservation = Reservation { memory: Bytes(memory), pids, ..Reservation::default() };
            let found = host.left_for_pods().map_err(|error| error.to_string());
            let found = found.map(|all| {
                let memory = all.iter().find_map(|limits| limits.memory.max).map(|max| max.0);
                (memory, all.iter().find_map(|limits| limits.pids_max))
            });
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected)),
                Err(why) => assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{found:?}"),
            }
        };
        check(0, 0, Ok((None, None)));
        check(1 << 20, 0, Ok((Some(has - (1 << 20)), None)));
        check(0, 1_000, Ok((None, Some(29_000))));
        check(has, 0, Err("reserved_memory of berthd.toml is"));
        check(0, 30_000, Err("reserved_pids of berthd.toml is 30000, and this host has 30000"));
        check(0, 40_000, Err("and this host has 30000"));
    }
}
