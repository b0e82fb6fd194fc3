//! What happens on the node, told once, to upstream, to the journal and to people. Nothing acts on it.
//!
//! [`Past`] finds it between two looks at a pod, [`strain`] in what the kernel counts, [`strangers`] in what the runtime
//! lists; [`Journal`] keeps it until upstream has it, within bounds.

mod incident;
mod journal;
mod past;
mod strain;
mod strangers;

pub use incident::{Event, Incident};
pub use journal::{Batch, Journal};
pub(crate) use past::{Clock, Past};
pub use strain::StrainWatch;
pub use strangers::watch_strangers;
