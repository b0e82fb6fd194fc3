//! What follows from what, as pure functions: a pod's state after an outcome, what a node's shared CPUs should be, what
//! of a pod can be changed in place.
//!
//! Nothing here reads a clock, sends or stores anything.

mod cpus;
mod ending;
mod in_place;
pub(crate) mod luggage;
pub(crate) mod migrate;
pub(crate) mod patch;
mod pod;
pub(crate) mod rollout;
pub(crate) mod tenure;

pub(crate) use cpus::{ChosenPool, NodeCpus};
pub(crate) use ending::{Ending, Reason};
pub(crate) use in_place::{InPlace, check as check_in_place, needs_placement};
pub(crate) use pod::{Consequence, PodState, Presence, Standing, after_outcome};
