//! What must survive: one SQLite file, one writer thread.
//!
//! Entry points: [`Store::open`] reads everything, [`Writer::spawn`] then owns the file. [`Writer::submit`] queues a
//! [`Batch`]: rows to write, and what may happen once they are durable. The thread takes what has queued up as one
//! transaction, so many callers share one flush. Batches become durable in the order of their submission, and so do
//! their `after`s. When a commit fails nothing after it happens: memory is ahead of the disk then, and the process
//! must end and begin again.
//!
//! Rows are protobuf messages that carry the version of their schema; nothing outside `row` knows their bytes.

mod file;
mod row;
mod tokens;
mod writer;

pub use file::{Store, StoreError};
pub use row::TokenRow;
pub(crate) use row::{
    AssignmentRow, FencedRow, KeptRow, MetaRow, MigrationOrderRow, MigrationRow, NodePoolRow, NodeRow,
    OrderRow, OrderState, PodRow, PoolRow, RevisionRow, RolloutPodRow, RolloutRow, TenureRow,
};
pub(crate) use tokens::{Binding, TokenRefusal};
pub(crate) use writer::{Batch, StoreStopped, Writer};

/// One kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// One row, of what concerns the whole fleet.
    Meta,
    /// By name.
    Nodes,
    /// By identity.
    Pods,
    /// By id.
    Orders,
    /// Address pools, by name.
    Pools,
    /// Addresses that pods hold, by pool and identity.
    Assignments,
    /// Tokens, by id.
    Tokens,
    /// By name.
    Rollouts,
    /// The pods of rollouts, by rollout and identity.
    RolloutPods,
    /// By identity.
    Migrations,
    /// The history of addresses, in its order.
    Tenures,
}

impl Table {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Meta,
        Self::Nodes,
        Self::Pods,
        Self::Orders,
        Self::Pools,
        Self::Assignments,
        Self::Tokens,
        Self::Rollouts,
        Self::RolloutPods,
        Self::Migrations,
        Self::Tenures,
    ];

    /// The table's name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Orders => "orders",
            Self::Pools => "address_pools",
            Self::Assignments => "assignments",
            Self::Tokens => "tokens",
            Self::Rollouts => "rollouts",
            Self::RolloutPods => "rollout_pods",
            Self::Migrations => "migrations",
            Self::Tenures => "tenures",
        }
    }
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is this from now on.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: String,
        /// Its bytes.
        value: Vec<u8>,
    },
    /// It is no more.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: String,
    },
}

#[cfg(test)]
mod tests;
