//! The node's durable record: charters, open orders and recent outcomes, grants, disks, pools, term, boot id.
//!
//! It is the only place that mints warrants.

mod warrant;

pub use warrant::{CharterWarrant, OrderWarrant, Warrant};
