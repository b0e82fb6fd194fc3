//! The control plane: decides, and orders.
fn main() {}
