//! Topology, and the exact assignment of CPUs and memory nodes.
