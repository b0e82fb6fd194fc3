//! What comes from outside, and what must hold of it whatever it says.
//!
//! Each target is a function of bytes that begins where such bytes enter Berth, and panics when something is not as it
//! must be. The programs in `bin/` hand them to libFuzzer (`cargo xtask fuzz`); the tests here hand them the corpus.
//! Nothing here touches the host, and no target keeps anything from one input to the next.

mod certificates;
mod cni;
mod frames;
mod kernel_texts;
mod ledger;
mod manifests;
mod node;
mod node_messages;
mod orders;
mod runtime_answers;
pub mod seeds;

pub use certificates::certificates;
pub use cni::cni;
pub use kernel_texts::kernel_texts;
pub use ledger::ledger;
pub use manifests::manifests;
pub use node_messages::node_messages;
pub use orders::orders;
pub use runtime_answers::runtime_answers;

/// A target.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("certificates", certificates),
    ("cni", cni),
    ("kernel_texts", kernel_texts),
    ("ledger", ledger),
    ("manifests", manifests),
    ("node_messages", node_messages),
    ("orders", orders),
    ("runtime_answers", runtime_answers),
];
