//! The node agent: carries out orders, keeps what it was told to keep, reports facts.
fn main() {}
