//! Cores that share no cache.

use crate::topology::Core;

/// Stands for "no cache that several cores share", until the socket's number is put in.
pub(crate) const NO_SHARED_CACHE: u32 = u32::MAX;

/// Cores that share no cache with another count as one group in each socket, named by its lowest CPU.
pub(crate) fn name_groups_without_cache(cores: &mut [Core]) {
    let without: Vec<(u32, u32)> =
        cores.iter().filter(|core| core.l3 == NO_SHARED_CACHE).map(|core| (core.socket, core.id)).collect();
    for core in cores.iter_mut().filter(|core| core.l3 == NO_SHARED_CACHE) {
        let lowest = without.iter().find(|(socket, _)| *socket == core.socket);
        core.l3 = lowest.map_or(core.id, |(_, id)| *id);
    }
}
