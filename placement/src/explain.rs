//! Why a pod was not placed, node by node.

use berth_model::NodeName;
use std::collections::BTreeMap;
use std::fmt;

/// A question that a node must pass, in the order in which they are asked: cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Predicate {
    /// Does the node take pods at all?
    NodeReady,
    /// Is it the node that the request names?
    NodeName,
    /// Does it carry the labels that the request asks for?
    NodeAffinity,
    /// Has it room for one more pod?
    PodCount,
    /// Is the memory there that the request reserves?
    MemoryFit,
    /// Has the shared pool that much CPU left?
    SharedCpuFit,
    /// Is a device beneath every mount point that the request limits?
    MountPoints,
    /// Does the node share its network, if the request is to be in it?
    HostNetwork,
    /// Does the node share every path of its own that the request names?
    HostPaths,
    /// Has the kernel huge pages of every size that the request limits, or is to have?
    HugePages,
    /// Are that many CPUs free for exclusive use?
    ExclusiveCpuFit,
    /// Can the topology give these CPUs and memory nodes together?
    NumaFit,
}

impl Predicate {
    /// The name, stable for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeReady => "NodeReady",
            Self::NodeName => "NodeName",
            Self::NodeAffinity => "NodeAffinity",
            Self::PodCount => "PodCount",
            Self::MemoryFit => "MemoryFit",
            Self::SharedCpuFit => "SharedCpuFit",
            Self::MountPoints => "MountPoints",
            Self::HostNetwork => "HostNetwork",
            Self::HostPaths => "HostPaths",
            Self::HugePages => "HugePages",
            Self::ExclusiveCpuFit => "ExclusiveCpuFit",
            Self::NumaFit => "NumaFit",
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one node was ruled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRefusal {
    /// Which.
    pub node: NodeName,
    /// The first predicate that failed.
    pub predicate: Predicate,
    /// What was asked for and what is there.
    pub why: String,
}

/// Every node that was looked at and ruled out, in the order of the search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// One entry a node.
    pub refusals: Vec<NodeRefusal>,
}

impl Explanation {
    /// Most nodes that the text names one by one; a fleet of thousands would fill the screen with the same line.
    pub const NODES_SHOWN: usize = 20;

    fn counts(&self) -> BTreeMap<Predicate, usize> {
        let mut counts = BTreeMap::new();
        for refusal in &self.refusals {
            *counts.entry(refusal.predicate).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refusals.is_empty() {
            return f.write_str("there are no nodes");
        }
        write!(f, "0 of {} nodes fit (", self.refusals.len())?;
        let mut separator = "";
        for (predicate, count) in self.counts() {
            write!(f, "{separator}{count} {predicate}")?;
            separator = ", ";
        }
        f.write_str(")")?;
        for refusal in self.refusals.iter().take(Self::NODES_SHOWN) {
            write!(f, "; {}: {}: {}", refusal.node, refusal.predicate, refusal.why)?;
        }
        match self.refusals.len().checked_sub(Self::NODES_SHOWN) {
            Some(more) if more > 0 => write!(f, "; and {more} more"),
            Some(_) | None => Ok(()),
        }
    }
}
