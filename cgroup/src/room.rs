//! Making room before `memory.max` is lowered below what is in use, where the kernel would kill at once.

use crate::apply::{ApplyError, apply};
use crate::plan::ControlWrite;
use crate::tree::{Cgroup, CgroupError};

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
