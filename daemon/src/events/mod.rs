//! What happens on the node, told once, to upstream, to the journal and to people. Nothing acts on it.
//!
//! [`compare`] finds it between two looks at a pod, [`strain`] in what the kernel counts, [`strangers`] in what the runtime
//! lists; [`Journal`] keeps it until upstream has it, within bounds.

mod compare;
mod incident;
mod journal;
mod strain;
mod strangers;

pub(crate) use compare::compare;
pub use incident::{Event, Incident};
pub use journal::{Batch, Journal};
pub use strain::watch_strain;
pub use strangers::watch_strangers;
