//! The rows, as protobuf messages. Tags are never reused; a row of a version that is not known is refused.

use berth_proto::v1;

/// The version that is written.
pub(crate) const VERSION: u32 = 1;

/// A message that says which version it is.
pub(crate) trait Row: prost::Message + Default {
    fn version(&self) -> u32;
}

macro_rules! versioned {
    ($($row:ident),*) => {
        $(impl Row for $row {
            fn version(&self) -> u32 {
                self.version
            }
        })*
    };
}
versioned!(
    MetaRow,
    NodeRow,
    PodRow,
    OrderRow,
    PoolRow,
    AssignmentRow,
    TokenRow,
    RolloutRow,
    RolloutPodRow,
    MigrationRow,
    TenureRow
);

/// What concerns the whole fleet.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MetaRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Of this start of the control plane.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// No identity that was released had a higher incarnation: a new one begins above it.
    #[prost(uint64, tag = "3")]
    pub incarnation_floor: u64,
    /// The same for seq.
    #[prost(uint64, tag = "4")]
    pub seq_floor: u64,
}

/// A node that has joined.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodeRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it reported last.
    #[prost(message, optional, tag = "3")]
    pub facts: Option<v1::NodeFacts>,
    /// Its shared CPU pools.
    #[prost(message, repeated, tag = "4")]
    pub pools: Vec<NodePoolRow>,
    /// Whether an operator has confirmed that it is dead.
    #[prost(bool, tag = "5")]
    pub dead: bool,
    /// Pods that it shall have no more.
    #[prost(message, repeated, tag = "6")]
    pub fenced: Vec<FencedRow>,
    /// Its certificates that begin earlier are revoked, milliseconds after the epoch.
    #[prost(uint64, tag = "7")]
    pub certificates_from_ms: u64,
}

/// A pod that a node shall have no more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct FencedRow {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<v1::PodRef>,
    /// Up to this one.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
}

/// A shared CPU pool of a node.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodePoolRow {
    /// As it was ordered last.
    #[prost(message, optional, tag = "1")]
    pub ordered: Option<v1::SharedPool>,
    /// The CPUs that an operator chose; absent where it is all that nobody else has.
    #[prost(string, optional, tag = "2")]
    pub chosen_cpus: Option<String>,
    /// Whether the node has carried the order out.
    #[prost(bool, tag = "3")]
    pub settled: bool,
}

/// A pod.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PodRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As platforms see it, without its orders.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<v1::Pod>,
    /// Whether its node may have it.
    #[prost(bool, tag = "3")]
    pub on_node: bool,
    /// Where disks of it are kept.
    #[prost(message, repeated, tag = "4")]
    pub kept: Vec<KeptRow>,
    /// A change in place that is under way.
    #[prost(message, optional, tag = "5")]
    pub revision: Option<RevisionRow>,
    /// Of the last order that was about where the pod is now; 0 in rows of old: its last order was.
    #[prost(uint64, tag = "6")]
    pub current: u64,
}

/// A change in place that is under way.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RevisionRow {
    /// Whether nothing is replaced: a Resize, not an Upgrade.
    #[prost(bool, tag = "1")]
    pub live: bool,
    /// Of its order.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Of the spec that it makes.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// What the request is then.
    #[prost(message, optional, tag = "4")]
    pub request: Option<v1::PodRequest>,
    /// What the spec is then.
    #[prost(message, optional, tag = "5")]
    pub spec: Option<v1::PodSpec>,
}

/// Disks that a node keeps of an evicted incarnation.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct KeptRow {
    /// Which node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The newest incarnation that left them.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum OrderState {
    /// Held back until another order has ended.
    Waiting = 0,
    /// Sent, or to be sent as soon as the node is connected.
    Sent = 1,
    /// It stands in the node's ledger.
    Accepted = 2,
    /// It has an outcome.
    Ended = 3,
}

/// An order.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrderRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As it is sent, but for the term, which is that of the sending.
    #[prost(message, optional, tag = "2")]
    pub order: Option<v1::Order>,
    /// How far it is.
    #[prost(enumeration = "OrderState", tag = "3")]
    pub state: i32,
    /// How it ended.
    #[prost(message, optional, tag = "4")]
    pub outcome: Option<v1::Outcome>,
    /// Milliseconds after the epoch.
    #[prost(uint64, tag = "5")]
    pub created_at_ms: u64,
    /// Milliseconds after the epoch.
    #[prost(uint64, optional, tag = "6")]
    pub ended_at_ms: Option<u64>,
    /// The order that it waits for.
    #[prost(string, optional, tag = "7")]
    pub after: Option<String>,
}

/// An address pool.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PoolRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As it was put.
    #[prost(message, optional, tag = "2")]
    pub pool: Option<v1::AddressPool>,
    /// Where the search for a free address goes on.
    #[prost(string, tag = "3")]
    pub next: String,
}

/// An address that an identity holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AssignmentRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which pool.
    #[prost(string, tag = "2")]
    pub pool: String,
    /// Which address, without a prefix length.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Who holds it.
    #[prost(message, optional, tag = "4")]
    pub pod: Option<v1::PodRef>,
}

/// A token, used or not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which.
    #[prost(string, tag = "2")]
    pub id: String,
    /// sha256 of its secret.
    #[prost(bytes = "vec", tag = "3")]
    pub secret_hash: Vec<u8>,
    /// The only node that may use it.
    #[prost(string, optional, tag = "4")]
    pub node: Option<String>,
    /// Milliseconds after the epoch.
    #[prost(uint64, tag = "5")]
    pub created_at_ms: u64,
    /// Milliseconds after the epoch.
    #[prost(uint64, tag = "6")]
    pub expires_at_ms: u64,
    /// The node that used it.
    #[prost(string, optional, tag = "7")]
    pub used_by: Option<String>,
}

/// A rollout, without its pods.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RolloutRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As platforms see it.
    #[prost(message, optional, tag = "2")]
    pub rollout: Option<v1::Rollout>,
    /// So many pods had been rolled back when it was resumed last; they stop it no longer.
    #[prost(uint32, tag = "3")]
    pub forgiven: u32,
}

/// A pod of a rollout.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RolloutPodRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which rollout.
    #[prost(string, tag = "2")]
    pub rollout: String,
    /// As platforms see it.
    #[prost(message, optional, tag = "3")]
    pub pod: Option<v1::RolloutPod>,
    /// Of the order that is under way.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
    /// Whether that order undoes.
    #[prost(bool, tag = "5")]
    pub undoes: bool,
    /// What it was before, once it was ordered to be something else.
    #[prost(message, optional, tag = "6")]
    pub before: Option<v1::PodRequest>,
}

/// A migration.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MigrationRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As platforms see it.
    #[prost(message, optional, tag = "2")]
    pub migration: Option<v1::Migration>,
    /// What was asked for.
    #[prost(message, optional, tag = "3")]
    pub request: Option<v1::PodRequest>,
    /// What it was on the source.
    #[prost(message, optional, tag = "4")]
    pub from_spec: Option<v1::PodSpec>,
    /// What it is to be on the target.
    #[prost(message, optional, tag = "5")]
    pub to_spec: Option<v1::PodSpec>,
    /// The orders of its phase.
    #[prost(message, repeated, tag = "6")]
    pub orders: Vec<MigrationOrderRow>,
    /// Why the target could not run the pod.
    #[prost(string, tag = "7")]
    pub why: String,
    /// What may become of what cannot be had, a `LeaveBehind`.
    #[prost(enumeration = "v1::LeaveBehind", tag = "8")]
    pub wanted: i32,
}

/// An order that a migration waits for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MigrationOrderRow {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether it has an outcome.
    #[prost(bool, tag = "2")]
    pub ended: bool,
    /// Why it did not get there.
    #[prost(string, optional, tag = "3")]
    pub failed: Option<String>,
}

/// Who held an address from when until when.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TenureRow {
    /// 1
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// As platforms see it.
    #[prost(message, optional, tag = "2")]
    pub tenure: Option<v1::AddressTenure>,
}
