//! Where fuzzing begins: real messages, records and texts. `bin/seeds.rs` writes them into the corpus; a test compares, so
//! that bytes that were written once stay understood.

mod answers;
mod fleet;
mod messages;
mod rows;
mod texts;

pub(crate) use fleet::{fleet, hello, requests};

/// One input that a target begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Of which target.
    pub target: &'static str,
    /// The file's name.
    pub name: String,
    /// Its content.
    pub data: Vec<u8>,
}

impl Seed {
    pub(crate) fn new(target: &'static str, name: &str, data: impl Into<Vec<u8>>) -> Self {
        Self { target, name: format!("seed-{name}"), data: data.into() }
    }
}

/// All that are made here; certificates are files alone, since each has a key of its own.
pub fn all() -> Vec<Seed> {
    [texts::all(), messages::orders(), messages::node_messages(), rows::all(), answers::all()].concat()
}
