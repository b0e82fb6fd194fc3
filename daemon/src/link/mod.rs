//! The link to upstream: one stream that this node dials, mutual TLS; and joining, which gives it the identity for that,
//! which it keeps by renewing it.
//!
//! [`Link::run`] dials, for ever. What goes up never queues without bound: of each pod only the latest state, of each
//! order only its outcome, which the ledger holds until upstream has it. What comes down is admitted by the ledger,
//! one order after the other, and handed to [`Orders`].
//!
//! No pod's task waits for anything here: without upstream everything on the node goes on.

mod dial;
mod durable;
mod identity;
mod join;
mod renew;
mod request;
mod run;
mod session;
mod token;

#[cfg(test)]
mod tests;

pub(crate) use dial::dial;
pub use dial::{DialError, split as split_address};
pub use durable::{FileError, write_durably};
pub use identity::{IdentityError, NodeIdentity, PkiFiles};
pub use join::{Existing, JoinError, JoinRequest, Joined, join};
pub use run::{Link, LinkConfig, LinkState, LinkStatus};
pub use session::Orders;
pub use token::{NotAToken, Token};
