//! Automation: demo, test, layers, package, lab.
fn main() {}
