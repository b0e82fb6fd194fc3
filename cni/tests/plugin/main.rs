//! The plugin from outside: the real binary, executed as a main plugin would, against a stand-in for `berthd`.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod ask;
mod attach;
mod call;
mod collect;
mod fake;
mod input;
mod reference;
