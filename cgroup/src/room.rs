//! Room beneath a limit before it is set: where there is none, the kernel would kill at once, or let nothing new begin.

use crate::apply::{ApplyError, apply};
use crate::plan::ControlWrite;
use crate::statistics::Statistics;
use crate::tree::{Cgroup, CgroupError};
use berth_model::Limits;

/// Whether a cgroup fits into a smaller `memory.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Room {
    /// It does, by now.
    Fits,
    /// It does not: so much is in use, bytes, after the kernel has reclaimed what it could.
    Lacks {
        /// `memory.current`.
        in_use_bytes: u64,
    },
}

/// Why no room could be made.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The cgroup could not be read.
    #[error(transparent)]
    Read(#[from] CgroupError),
    /// `memory.high` could not be written.
    #[error(transparent)]
    Write(#[from] ApplyError),
}

/// Makes room for a `memory.max` of `max_bytes`: `memory.high` is lowered to it, under which the kernel reclaims within
/// the write and kills nothing (Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files"). Where that is not
/// enough, `memory.high` is put back; where it is, it stays until the limits proper are written.
///
/// # Errors
/// When the cgroup is gone, or the kernel refuses.
pub fn make_room(cgroup: &Cgroup, max_bytes: u64) -> Result<Room, RoomError> {
    let in_use_bytes = |cgroup: &Cgroup| Ok::<_, CgroupError>(cgroup.memory_current_bytes()?.unwrap_or(0));
    if in_use_bytes(cgroup)? <= max_bytes {
        return Ok(Room::Fits);
    }
    let before = cgroup.memory_high()?;
    apply(cgroup, &[ControlWrite::new("memory.high", max_bytes.to_string())])?;
    let in_use_bytes = in_use_bytes(cgroup)?;
    if in_use_bytes <= max_bytes {
        return Ok(Room::Fits);
    }
    apply(cgroup, &[ControlWrite::new("memory.high", before)])?;
    Ok(Room::Lacks { in_use_bytes })
}

/// More is in use than a limit would leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{in_use} {what} are in use, {limit} are left")]
pub struct Shortage {
    /// In words, with the unit.
    pub what: &'static str,
    /// Of it, without what the kernel can simply drop.
    pub in_use: u64,
    /// The limit.
    pub limit: u64,
}

/// What would be short if a cgroup that counts this were held to these limits, of memory and of process ids; none where
/// 95 hundredths of each hold what is in use: the rest is for what comes before they are written.
///
/// What the kernel can simply drop counts for nothing: page cache that has a file to go to, and caches of file systems
/// (Documentation/admin-guide/cgroup-v2.rst: `file`, `shmem` and `slab_reclaimable` of `memory.stat`).
pub fn shortage(counted: &Statistics, limits: &Limits) -> Option<Shortage> {
    let stat = counted.memory.unwrap_or_default();
    let cache = stat.file_bytes.unwrap_or(0).saturating_sub(stat.shmem_bytes.unwrap_or(0));
    let dropped = cache.saturating_add(stat.slab_reclaimable_bytes.unwrap_or(0));
    let memory = counted.memory_current_bytes.unwrap_or(0).saturating_sub(dropped);
    let pids = counted.pids_current.unwrap_or(0);
    let wanted = [
        ("bytes of memory", memory, limits.memory.max.map(|max| max.0)),
        ("processes and threads", pids, limits.pids_max),
    ];
    let mut held =
        wanted.into_iter().filter_map(|(what, in_use, limit)| Some(Shortage { what, in_use, limit: limit? }));
    held.find(|held| held.in_use > held.limit - held.limit / 20)
}
