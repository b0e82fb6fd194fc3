//! Which CPUs of a group, once it is known that they come from that group.
//!
//! Whole cores first, so that no two pods meet on one core's execution units; then as few last caches as can be; then
//! the tightest of them, so that large holes stay large. kubelet's static CPU policy (`takeByTopology`) goes down the
//! same ladder; unlike it, all candidates are compared rather than the first one taken.

use std::collections::{BTreeMap, BTreeSet};

/// The free threads of one core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FreeCore {
    /// The last cache that it shares.
    pub(crate) l3: u32,
    /// Its threads that are free, ascending, at least one.
    pub(crate) free: Vec<u32>,
    /// How many threads of it are online.
    pub(crate) threads: usize,
}

/// CPUs, and how good a choice they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// As many as were asked for.
    pub(crate) cpus: Vec<u32>,
    /// Cores of which only a part was chosen: somebody else runs, or will run, on the rest.
    pub(crate) shared_cores: usize,
    /// Last caches touched.
    pub(crate) l3_groups: usize,
}

impl FreeCore {
    /// Whether nobody else is on it.
    pub(crate) fn is_whole(&self) -> bool {
        self.free.len() == self.threads
    }
}

/// How many CPUs these cores have to give.
pub(crate) fn count_free(cores: &[&FreeCore]) -> usize {
    cores.iter().map(|core| core.free.len()).sum()
}

/// Chooses `count` CPUs. `None` if there are not so many.
pub(crate) fn choose(cores: &[&FreeCore], count: usize) -> Option<Choice> {
    let mut groups: BTreeMap<u32, Vec<&FreeCore>> = BTreeMap::new();
    for &core in cores {
        groups.entry(core.l3).or_default().push(core);
    }
    let within_one = groups
        .values()
        .filter_map(|group| Some((count_free(group).checked_sub(count)?, pick(group, count)?)));
    let spread = pick(&largest_groups_first(&groups), count).map(|choice| (usize::MAX, choice));
    within_one
        .chain(spread)
        .min_by_key(|(left_over, choice)| (choice.shared_cores, choice.l3_groups, *left_over))
        .map(|(_, choice)| choice)
}

/// Cores of the group with the most whole free cores first: so the fewest groups are touched.
fn largest_groups_first<'a>(groups: &BTreeMap<u32, Vec<&'a FreeCore>>) -> Vec<&'a FreeCore> {
    let whole = |group: &[&FreeCore]| -> usize {
        let whole = group.iter().filter(|core| core.is_whole());
        whole.map(|core| core.free.len()).sum()
    };
    let mut sorted: Vec<&Vec<&FreeCore>> = groups.values().collect();
    sorted.sort_by_key(|group| std::cmp::Reverse((whole(group), count_free(group))));
    sorted.into_iter().flatten().copied().collect()
}

/// Picks from cores in the order given: whole ones as long as they fit, then parts.
fn pick(cores: &[&FreeCore], count: usize) -> Option<Choice> {
    let mut picked = Picked::default();
    let (whole, mut parts): (Vec<_>, Vec<_>) = cores.iter().copied().partition(|core| core.is_whole());
    for core in whole {
        match core.free.len() <= count - picked.cpus.len() {
            true => picked.take(core, core.free.len()),
            // Too large to go in whole: it is broken only if nothing else is left.
            false => parts.push(core),
        }
    }
    while picked.cpus.len() < count {
        let wanted = count - picked.cpus.len();
        let best = (0..parts.len()).min_by_key(|&index| picked.cost_of_part(parts[index], wanted))?;
        let core = parts.remove(best);
        picked.take(core, wanted.min(core.free.len()));
    }
    Some(picked.into_choice())
}

#[derive(Debug, Default)]
struct Picked {
    cpus: Vec<u32>,
    shared_cores: usize,
    l3: BTreeSet<u32>,
}

impl Picked {
    fn take(&mut self, core: &FreeCore, count: usize) {
        self.cpus.extend(&core.free[..count]);
        self.shared_cores += usize::from(count < core.threads);
        self.l3.insert(core.l3);
    }

    /// What it costs to take a part of a core, less being better: another core to share, then breaking a whole one,
    /// then another last cache, then free threads left over on it.
    fn cost_of_part(&self, core: &FreeCore, wanted: usize) -> (usize, bool, bool, usize) {
        let short = wanted.saturating_sub(core.free.len());
        let left_over = core.free.len().saturating_sub(wanted);
        (short, core.is_whole(), !self.l3.contains(&core.l3), left_over)
    }

    fn into_choice(self) -> Choice {
        Choice { cpus: self.cpus, shared_cores: self.shared_cores, l3_groups: self.l3.len() }
    }
}
