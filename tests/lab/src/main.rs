//! The lab: QEMU guests, a registry and a control plane in a network namespace of their own.
fn main() {}
