//! What follows from what, as pure functions: a pod's state after an outcome, and what a node's shared CPUs should be.
//!
//! Nothing here reads a clock, sends or stores anything.

mod cpus;
mod ending;
mod pod;

pub(crate) use cpus::{ChosenPool, NodeCpus};
pub(crate) use ending::{Ending, Reason};
pub(crate) use pod::{Consequence, PodState, Presence, Standing, after_outcome};
