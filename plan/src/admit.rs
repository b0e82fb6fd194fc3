//! Order admission: one synchronous function.

use crate::{PodRecord, SharedPool};
use berth_model::{Bytes, CpuSet, Digest, ImageName, MemSet, Order, Outcome, PodId, PoolName, Refusal, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What the ledger says, as far as admission needs it.
#[derive(Debug)]
pub struct LedgerView<'a> {
    /// The highest term seen.
    pub term: Term,
    /// Every pod ever seen here.
    pub pods: &'a BTreeMap<PodId, PodRecord>,
    /// The shared CPU pools.
    pub pools: &'a BTreeMap<PoolName, SharedPool>,
    /// What is known of the order's own id.
    pub known: Option<Known<'a>>,
}

/// An order that the ledger has already.
#[derive(Debug)]
pub struct Known<'a> {
    /// As it was accepted.
    pub order: &'a Order,
    /// How it ended; none while it is open.
    pub outcome: Option<&'a Outcome>,
}

/// What the host has, as far as admission needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// CPUs that are online.
    pub online_cpus: CpuSet,
    /// Memory nodes that have memory.
    pub mems: MemSet,
    /// Mount points with a block device beneath.
    pub mount_points: BTreeSet<String>,
    /// Sizes of huge pages that the kernel has.
    pub page_sizes: BTreeSet<Bytes>,
    /// Whether `io.weight` can be written.
    pub io_weight: bool,
    /// Whether `memory.swap.max` can be written.
    pub swap: bool,
}

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is written to the ledger as said, and then acknowledged.
    Accept(Change),
    /// The same order again: its outcome, if it has ended.
    Already(Option<Outcome>),
    /// It changes nothing.
    Refuse(Refusal),
}

/// What accepting an order writes to the ledger, beside the order itself and its term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pod's record becomes this.
    Pod(Box<PodRecord>),
    /// The pool becomes this; its members' controls follow.
    Pool(SharedPool),
    /// Nothing is written: an image is pulled.
    Pull {
        /// Where from.
        image: ImageName,
        /// What it must be.
        digest: Option<Digest>,
    },
    /// Nothing is written: everything is looked at again.
    Inspect,
}

/// Answers an order. `now_ms` is the node's monotonic clock.
pub fn admit(ledger: &LedgerView<'_>, host: &HostView, order: &Order, now_ms: u64) -> Admission {
    let _ = (ledger, host, order, now_ms);
    Admission::Refuse(Refusal::Unsupported("admission".to_owned()))
}
