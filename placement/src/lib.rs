//! Which node, CPUs, memory nodes and address a pod gets, and why, as pure functions.
