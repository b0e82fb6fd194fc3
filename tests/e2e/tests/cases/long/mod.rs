//! Cases that only `cargo xtask test --long` runs: what they look at breaks rarely, or takes long to look at.

mod databases;
mod file_systems;
mod hostile;
mod runtime;
