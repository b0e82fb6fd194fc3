//! Other nodes: a listener that serves them what the control plane lets them have, and fetching from them what it orders.
//!
//! [`Served`] is the one thing that the node listens on TCP for. [`Courier`] carries out an order to copy a data disk.
//! Both sides show their node's certificate, and accept nobody but a node of the same trust domain. What is served is
//! only read; what is fetched is put in place only once it is whole.

mod fetch;
mod listen;
mod piece;
mod serve;

#[cfg(test)]
mod tests;

pub use fetch::Courier;
pub use listen::listen;
pub use serve::Served;
