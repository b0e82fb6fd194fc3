//! berth-ipam, the CNI IPAM plugin that asks berthd.
fn main() {}
