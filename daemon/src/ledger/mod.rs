//! The node's durable record: charters, open orders and recent outcomes, grants, pools, term, boot id.
//!
//! [`Ledger`] is a handle. Reading is from memory, which shows what is durable and nothing else. Every write is one
//! transaction, decided and done on one thread (`desk`), from the records as they stand then: an admission
//! ([`Ledger::admit`]), a step's before and after, an order's end, an attachment.
//!
//! It is the only place that mints warrants; elsewhere one can neither be made nor copied:
//!
//! ```compile_fail
//! let pod = "shop/web".parse().unwrap();
//! let order = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
//! let warrant = berthd::ledger::OrderWarrant { order, pod };
//! ```
//!
//! ```compile_fail
//! fn twice(warrant: berthd::ledger::OrderWarrant) -> [berthd::ledger::OrderWarrant; 2] {
//!     [warrant.clone(), warrant]
//! }
//! ```
//!
//! ```compile_fail
//! fn without_proof(pod: berth_model::PodId) -> berthd::ledger::CharterWarrant {
//!     berthd::ledger::CharterWarrant { pod, dead: Default::default() }
//! }
//! ```
//!
//! It must not call anything that waits for the world: no effect happens on its thread.

mod addresses;
mod admission;
mod book;
mod desk;
mod entry;
mod handle;
mod mint;
mod outcomes;
mod progress;
mod row;
mod rows;
mod store;
mod warrant;

#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod tests;

pub use addresses::{AttachError, Grant};
pub use admission::Answer;
pub use book::Book;
pub use desk::LedgerError;
pub use entry::{Attachment, AttachmentKey, Ended, KEPT_TENURES, OrderEntry, Tenure};
pub use handle::{Boot, Ledger, Moment};
pub use mint::{Ending, NotCovered};
pub use outcomes::{KEPT_OUTCOMES, KEPT_OUTCOMES_MS, MAX_PENDING_ORDERS};
pub use progress::{Look, Standing};
pub use row::{Damage, Row, Table};
pub use rows::BadRow;
pub use store::OpenError;
pub use warrant::{CharterWarrant, LifeWarrant, OrderWarrant, ShutdownWarrant, Warrant};
