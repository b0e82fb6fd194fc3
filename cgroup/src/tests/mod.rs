//! The crate through what it makes public, against a kernel in memory and against directories.

mod fake_kernel;
mod orders;
mod plans;
mod properties;
mod room;
mod round_trip;
mod tree;
