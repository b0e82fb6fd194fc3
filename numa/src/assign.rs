//! So many CPUs, and the memory nodes to go with them, on the best memory nodes.
//!
//! # The algorithm
//!
//! 1. Sets of memory nodes are tried in the order of their size: all single nodes, then all pairs, and so on. A set
//!    fits if its free CPUs and its free memory suffice. The first size at which any set fits is the answer's, so a
//!    single node is never passed over. (kubelet's Topology Manager enumerates node masks in the same way.)
//! 2. Among the sets of that size that fit, in this order: the least largest distance between any two, then the
//!    least sum of distances (ACPI SLIT, as the kernel gives them); the fewest cores shared with others; the fewest
//!    last caches; the tightest fit, by CPUs left over and then by memory left over; the lowest node numbers.
//! 3. Within a node, and from node to node of a set, as `choose` says: whole cores before parts, one last cache
//!    before several, the tightest of equals.
//!
//! Sets of one size are enumerated as long as there are at most [`MAX_SETS`]; beyond, which takes more than 14 nodes,
//! only each node with its nearest neighbours is tried. No randomness: the same input gives the same output.

use crate::choose::{Choice, FreeCore, choose, count_free};
use crate::memory::{Span, memory_of_node, span, used_nodes};
use crate::topology::{Topology, mem_set};
use berth_model::{Bytes, CpuSet, MemSet};
use std::collections::BTreeMap;

/// So many sets of nodes of one size are compared at most. All sets of up to 14 nodes are within it, and that many
/// still take only milliseconds.
const MAX_SETS: usize = 3_432;

/// Whether a core may be shared with another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Sharing {
    /// Whole cores as far as there are any, and parts of cores where they are needed.
    #[default]
    Allowed,
    /// Whole cores or nothing, as with kubelet's `full-pcpus-only`.
    Never,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuDemand {
    /// Hardware threads, at least one.
    pub count: u32,
    /// Memory that has to be free on the nodes that are chosen; zero if it does not matter.
    pub memory: Bytes,
    /// Whether others may run on the same cores.
    pub sharing: Sharing,
}

/// What there is to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Free {
    /// CPUs that nobody else has. Those that are not online are not given.
    pub cpus: CpuSet,
    /// Memory that nobody else has, by node. A node that is not named has all of its memory free.
    pub memory: BTreeMap<u32, Bytes>,
}

/// CPUs, and where their memory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// For `cpuset.cpus`.
    pub cpus: CpuSet,
    /// For `cpuset.mems`; never empty.
    pub mems: MemSet,
    /// The largest distance between any two nodes involved (ACPI SLIT); 10 is local.
    pub distance: u32,
}

/// Why a demand cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    /// Nothing was asked for.
    #[error("0 CPUs were asked for")]
    Nothing,
    /// There are not so many.
    #[error("{wanted} CPUs are wanted, {free} are free ({cpus})")]
    Cpus {
        /// As many were asked for.
        wanted: u32,
        /// So many there are.
        free: usize,
        /// These.
        cpus: CpuSet,
    },
    /// There are, but not in whole cores.
    #[error("{wanted} CPUs in whole cores are wanted, whole free cores offer {free} and must add up exactly")]
    WholeCores {
        /// As many were asked for.
        wanted: u32,
        /// So many are in cores that nobody else is on.
        free: usize,
    },
    /// There is not so much memory on all nodes together.
    #[error("{wanted} bytes of memory are wanted, {free} are free on all memory nodes together", wanted = wanted.0, free = free.0)]
    Memory {
        /// As much was asked for.
        wanted: Bytes,
        /// So much there is.
        free: Bytes,
    },
}

/// Chooses exact CPUs and memory nodes. See the module for how.
///
/// # Errors
/// When the free CPUs or the free memory do not suffice.
pub fn assign(topology: &Topology, free: &Free, demand: &CpuDemand) -> Result<Assignment, NoFit> {
    if demand.count == 0 {
        return Err(NoFit::Nothing);
    }
    let stock = Stock::new(topology, free, demand.sharing);
    stock.check_totals(free, demand)?;
    let eligible = stock.eligible(demand);
    (1..=eligible.len())
        .find_map(|size| {
            node_sets(topology, &eligible, size)
                .into_iter()
                .filter_map(|nodes| stock.candidate(nodes, demand))
                .min_by(|one, other| one.key.cmp(&other.key))
        })
        .map(|best| assignment(topology, &best))
        .ok_or(NoFit::WholeCores { wanted: demand.count, free: stock.free_cpus() })
}

/// What each node has to give, by its place in the topology.
struct Stock<'a> {
    topology: &'a Topology,
    cores: Vec<Vec<FreeCore>>,
    memory: Vec<u64>,
}

struct Candidate {
    nodes: Vec<usize>,
    cpus: CpuSet,
    key: Key,
}

/// Less is better, field by field.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    span: Span,
    shared_cores: usize,
    l3_groups: usize,
    cpus_left_over: usize,
    memory_left_over: u64,
    nodes: Vec<usize>,
}

impl<'a> Stock<'a> {
    fn new(topology: &'a Topology, free: &Free, sharing: Sharing) -> Self {
        let mut cores = vec![Vec::new(); topology.nodes().len()];
        for (core, node) in topology.cores_with_nodes() {
            let free_core = FreeCore {
                l3: core.l3,
                free: core.cpus.iter().filter(|&cpu| free.cpus.contains(cpu)).collect(),
                threads: core.cpus.len(),
            };
            let usable = match sharing {
                Sharing::Allowed => !free_core.free.is_empty(),
                Sharing::Never => free_core.is_whole(),
            };
            if usable {
                cores[node].push(free_core);
            }
        }
        let nodes = topology.nodes().iter();
        let memory = nodes
            .map(|node| {
                let free = free.memory.get(&node.id).copied().unwrap_or(node.memory);
                free.min(node.memory).0
            })
            .collect();
        Self { topology, cores, memory }
    }

    fn free_cpus(&self) -> usize {
        self.cores.iter().flatten().map(|core| core.free.len()).sum()
    }

    fn check_totals(&self, free: &Free, demand: &CpuDemand) -> Result<(), NoFit> {
        let wanted = demand.count;
        let available = self.free_cpus();
        if available < wanted as usize {
            return Err(match demand.sharing {
                Sharing::Allowed => NoFit::Cpus {
                    wanted,
                    free: available,
                    cpus: free.cpus.intersection(self.topology.online()),
                },
                Sharing::Never => NoFit::WholeCores { wanted, free: available },
            });
        }
        let memory = self.memory_of(&(0..self.memory.len()).collect::<Vec<_>>());
        match memory < demand.memory.0 {
            true => Err(NoFit::Memory { wanted: demand.memory, free: Bytes(memory) }),
            false => Ok(()),
        }
    }

    fn memory_of(&self, nodes: &[usize]) -> u64 {
        nodes.iter().fold(0, |sum, &node| self.memory[node].saturating_add(sum))
    }

    /// Nodes that can contribute to the demand.
    fn eligible(&self, demand: &CpuDemand) -> Vec<usize> {
        let gives_cpus = |node: usize| !self.cores[node].is_empty();
        let gives_memory = |node: usize| demand.memory.0 > 0 && self.memory[node] > 0;
        (0..self.cores.len()).filter(|&node| gives_cpus(node) || gives_memory(node)).collect()
    }

    fn candidate(&self, nodes: Vec<usize>, demand: &CpuDemand) -> Option<Candidate> {
        let memory_left_over = self.memory_of(&nodes).checked_sub(demand.memory.0)?;
        let free: usize = nodes.iter().map(|&node| count_free(&self.refs(node))).sum();
        let cpus_left_over = free.checked_sub(demand.count as usize)?;
        let choice = self.fill(&nodes, demand.count as usize)?;
        if demand.sharing == Sharing::Never && choice.shared_cores > 0 {
            return None;
        }
        Some(Candidate {
            cpus: CpuSet::try_from_iter(choice.cpus).ok()?,
            key: Key {
                span: span(self.topology, &nodes),
                shared_cores: choice.shared_cores,
                l3_groups: choice.l3_groups,
                cpus_left_over,
                memory_left_over,
                nodes: nodes.clone(),
            },
            nodes,
        })
    }

    fn refs(&self, node: usize) -> Vec<&FreeCore> {
        self.cores[node].iter().collect()
    }

    /// Takes all of the largest node until what is still wanted fits one of the others: the best of them gives it.
    fn fill(&self, nodes: &[usize], count: usize) -> Option<Choice> {
        let mut filled = Choice { cpus: Vec::new(), shared_cores: 0, l3_groups: 0 };
        let mut rest: Vec<(Vec<&FreeCore>, usize)> = nodes
            .iter()
            .map(|&node| self.refs(node))
            .map(|cores| {
                let free = count_free(&cores);
                (cores, free)
            })
            .collect();
        while filled.cpus.len() < count {
            let wanted = count - filled.cpus.len();
            let best = rest
                .iter()
                .filter(|(_, free)| *free >= wanted)
                .filter_map(|(cores, free)| Some((choose(cores, wanted)?, *free)))
                .min_by_key(|(choice, free)| (choice.shared_cores, choice.l3_groups, *free));
            if let Some((choice, _)) = best {
                filled.add(choice);
                break;
            }
            // The first of the largest, so that equals are taken in their order.
            let largest = (0..rest.len()).min_by_key(|&index| std::cmp::Reverse(rest[index].1))?;
            let (cores, free) = rest.remove(largest);
            filled.add(choose(&cores, free)?);
        }
        Some(filled)
    }
}

impl Choice {
    fn add(&mut self, other: Self) {
        self.cpus.extend(other.cpus);
        self.shared_cores += other.shared_cores;
        self.l3_groups += other.l3_groups;
    }
}

fn assignment(topology: &Topology, best: &Candidate) -> Assignment {
    let with_memory: Vec<usize> =
        best.nodes.iter().copied().filter(|&node| topology.nodes()[node].memory.0 > 0).collect();
    // CPUs of a node without memory use what the set has, or else the nearest there is.
    let nearest = |node| memory_of_node(topology, node);
    let places: Vec<usize> = match with_memory.is_empty() {
        true => used_nodes(topology, &best.cpus).into_iter().filter_map(nearest).collect(),
        false => with_memory,
    };
    let involved: Vec<usize> = best.nodes.iter().chain(&places).copied().collect();
    Assignment {
        cpus: best.cpus.clone(),
        mems: mem_set(places.iter().map(|&node| topology.nodes()[node].id)),
        distance: span(topology, &involved).largest,
    }
}

/// Sets of `size` of the eligible nodes; see the module for which.
fn node_sets(topology: &Topology, eligible: &[usize], size: usize) -> Vec<Vec<usize>> {
    match combination_count(eligible.len(), size) <= MAX_SETS {
        true => combinations(eligible, size),
        false => eligible.iter().map(|&start| nearest(topology, eligible, start, size)).collect(),
    }
}

fn combination_count(of: usize, size: usize) -> usize {
    (0..size).fold(1_usize, |count, taken| count.saturating_mul(of - taken) / (taken + 1))
}

fn combinations(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let with_first = |(index, &first): (usize, &usize)| {
        let rest = combinations(&of[index + 1..], size - 1);
        rest.into_iter().map(move |mut set| {
            set.insert(0, first);
            set
        })
    };
    of.iter().enumerate().flat_map(with_first).collect()
}

fn nearest(topology: &Topology, eligible: &[usize], start: usize, size: usize) -> Vec<usize> {
    let mut sorted = eligible.to_vec();
    sorted.sort_by_key(|&node| (node != start, topology.distance(start, node), node));
    sorted.truncate(size);
    sorted.sort_unstable();
    sorted
}
