//! What the ledger holds beside pods and pools.

use berth_model::{Incarnation, Order, OrderId, Outcome, PodId};
use berth_proto::Addressed;
use std::net::IpAddr;

/// An order that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEntry {
    /// As it came.
    pub addressed: Addressed,
    /// Milliseconds after the epoch, for people.
    pub accepted_at_ms: u64,
    /// On the node's monotonic clock, milliseconds.
    pub deadline_at_ms: u64,
    /// How it ended; none while it is open.
    pub ended: Option<Ended>,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Milliseconds after the epoch, for people and for forgetting.
    pub at_ms: u64,
    /// Whether upstream has it durably.
    pub seen_upstream: bool,
}

impl OrderEntry {
    /// The order.
    pub fn order(&self) -> &Order {
        &self.addressed.order
    }

    /// Its id.
    pub fn id(&self) -> &OrderId {
        &self.addressed.order.id
    }

    /// Its outcome, if upstream does not have it yet.
    pub fn unconfirmed(&self) -> Option<&Outcome> {
        self.ended.as_ref().filter(|ended| !ended.seen_upstream).map(|ended| &ended.outcome)
    }
}

/// One interface of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentKey {
    /// The runtime's id.
    pub sandbox_id: String,
    /// The interface inside.
    pub interface: String,
}

/// The use of a pod's address by one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which interface.
    pub key: AttachmentKey,
    /// Path of the network namespace when it was attached.
    pub netns: String,
    /// Whose address.
    pub pod: PodId,
    /// Of which placement.
    pub incarnation: Incarnation,
    /// Milliseconds after the epoch.
    pub attached_at_ms: u64,
    /// The name of the network configuration by which it was attached; empty where an old agent wrote it down.
    pub network: String,
    /// What the interface was given.
    pub addresses: Vec<IpAddr>,
}

/// An attachment that has ended. The ledger keeps the last [`KEPT_TENURES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// What it was.
    pub attachment: Attachment,
    /// Milliseconds after the epoch: when it was heard of or found out, which is never before it was so.
    pub detached_at_ms: u64,
}

/// Most ended attachments that are remembered: eight lives of each of 500 pods, and half a megabyte.
pub const KEPT_TENURES: usize = 4_096;
