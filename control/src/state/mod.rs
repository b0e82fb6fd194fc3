//! Everything the control plane knows, in memory, and how it changes.
//!
//! [`State`] is loaded from the store once. Every change is made by a [`Tx`], which remembers what it touched;
//! [`Tx::finish`] turns that into rows to write, events for watchers and nodes to wake. A method of `Tx` that can
//! refuse does so before it changes anything. Nothing here does I/O: [`crate::core`] owns the lock and the store.

mod denied;
mod fence_ops;
mod load;
mod migration_facts;
mod migration_ops;
mod migration_record;
mod migration_steps;
mod node_ops;
mod order_ops;
mod order_record;
mod order_waits;
mod pod_ops;
mod pod_record;
mod pool_ops;
mod pool_orders;
mod revise;
mod revoke_ops;
mod rollout_ops;
mod rollout_record;
mod submit;
mod tenure_ops;
mod tx;
mod view;

use crate::facts::Facts;
use berth_model::{CpuSet, Generation, Incarnation, MemSet, NodeName, OrderId, PodId, PoolName, RolloutName};
use berth_placement::AddressPool;
use std::collections::{BTreeMap, BTreeSet};
use ulid::Ulid;

pub(crate) use denied::Denied;
pub(crate) use load::load;
pub(crate) use migration_ops::Migrate;
pub(crate) use migration_record::Migration;
pub(crate) use node_ops::{Greeting, NodeDenied, NodeState};
pub(crate) use order_record::{OrderRecord, Progress};
pub(crate) use pod_ops::Evict;
pub(crate) use pod_record::Pod;
pub(crate) use pool_ops::PoolDetail;
pub(crate) use revise::{DEFAULT_SETTLE_MS, Restart, Revise, Wish};
pub(crate) use revoke_ops::NodeCertificate;
pub(crate) use rollout_ops::{ChangeRollout, StartRollout};
pub(crate) use rollout_record::Rollout;
pub(crate) use tenure_ops::Tenures;
pub(crate) use tx::{Event, Tx};
pub(crate) use view::Views;

/// The pool that every node has, and that lends its CPUs to exclusive pods.
pub(crate) const DEFAULT_POOL: &str = "default";

/// What configuration says about orders and placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How often a node says that it lives.
    pub heartbeat_ms: u64,
    /// How long it counts as ready without.
    pub lease_ms: u64,
    /// Of a Run.
    pub run_deadline_ms: u64,
    /// Of any other order; a grace is added.
    pub order_deadline_ms: u64,
    /// Of copying one data disk.
    pub copy_deadline_ms: u64,
    /// Most pods that are placed on one node.
    pub max_pods_per_node: u32,
}

/// What concerns the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    pub(crate) term: u64,
    /// No identity that was released had a higher incarnation. Nodes remember incarnations and seqs for ever, so a
    /// name that is used again must begin above; one number for all spares a row for each name ever used.
    pub(crate) incarnation_floor: u64,
    /// The same for seq.
    pub(crate) seq_floor: u64,
}

/// A shared CPU pool of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePool {
    pub(crate) cpus: CpuSet,
    pub(crate) mems: MemSet,
    pub(crate) generation: Generation,
    /// What an operator chose.
    pub(crate) chosen: Option<CpuSet>,
    /// Whether the node has carried out the order for this generation.
    pub(crate) settled: bool,
}

/// A node that has joined.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// What it reported last; none before its first connection.
    pub(crate) facts: Option<Facts>,
    pub(crate) pools: BTreeMap<PoolName, NodePool>,
    /// Pods that it may have.
    pub(crate) pods: BTreeSet<PodId>,
    /// Its orders, ended ones included.
    pub(crate) orders: BTreeSet<OrderId>,
    pub(crate) lease_until_mono_ms: u64,
    pub(crate) last_heartbeat_wall_ms: u64,
    /// Whether the end of its lease was told.
    pub(crate) silence_told: bool,
    /// Whether an operator has confirmed that it is dead, and it has not been heard of since.
    pub(crate) dead: bool,
    /// Pods that it had when it was confirmed dead, up to which incarnation: it shall have them no more.
    pub(crate) fenced: BTreeMap<PodId, Incarnation>,
    /// Certificates of it that begin earlier are revoked, milliseconds after the epoch.
    pub(crate) certificates_from_ms: u64,
    /// The latest beginning of a certificate that it has shown since this start.
    pub(crate) latest_certificate_ms: u64,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) meta: Meta,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) pods: BTreeMap<PodId, Pod>,
    pub(crate) orders: BTreeMap<OrderId, OrderRecord>,
    pub(crate) pools: BTreeMap<PoolName, AddressPool>,
    pub(crate) rollouts: BTreeMap<RolloutName, Rollout>,
    pub(crate) migrations: BTreeMap<PodId, Migration>,
    pub(crate) tenures: Tenures,
    /// How many orders have ended since this start, by verb and outcome.
    pub(crate) ended_orders: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) views: Views,
    /// Where the last placement's search ended.
    pub(crate) cursor: usize,
    pub(crate) last_id: Ulid,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            meta: Meta::default(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            orders: BTreeMap::new(),
            pools: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            migrations: BTreeMap::new(),
            tenures: Tenures::default(),
            ended_orders: BTreeMap::new(),
            views: Views::default(),
            cursor: 0,
            last_id: Ulid::nil(),
        }
    }

    /// The term of this start.
    pub(crate) fn term(&self) -> u64 {
        self.meta.term
    }

    /// What configuration says.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The pods, by identity.
    pub(crate) fn pods(&self) -> &BTreeMap<PodId, Pod> {
        &self.pods
    }

    /// The nodes, by name.
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// The orders, oldest first.
    pub(crate) fn orders(&self) -> &BTreeMap<OrderId, OrderRecord> {
        &self.orders
    }

    /// How many orders have ended since this start, by verb and outcome.
    pub(crate) fn ended_orders(&self) -> &BTreeMap<(&'static str, &'static str), u64> {
        &self.ended_orders
    }

    /// The rollouts that are remembered, by name.
    pub(crate) fn rollouts(&self) -> &BTreeMap<RolloutName, Rollout> {
        &self.rollouts
    }

    /// The pools that an identity holds an address of, at most one of each family.
    pub(crate) fn pools_of(&self, pod: &PodId) -> impl Iterator<Item = (&PoolName, &AddressPool)> {
        self.pools.iter().filter(|(_, pool)| pool.held_by(pod).is_some())
    }

    /// The orders of a pod on its node and on those that keep disks of it, oldest first.
    pub(crate) fn orders_of_pod(&self, id: &PodId) -> Vec<(&OrderId, &OrderRecord)> {
        let Some(pod) = self.pods.get(id) else {
            return Vec::new();
        };
        let names: BTreeSet<&NodeName> = pod.node.iter().chain(pod.kept.keys()).collect();
        let nodes = names.into_iter().filter_map(|name| self.nodes.get(name));
        let ids: BTreeSet<&OrderId> = nodes.flat_map(|node| &node.orders).collect();
        ids.into_iter()
            .filter_map(|id| Some((id, self.orders.get(id)?)))
            .filter(|(_, record)| record.pod() == Some(id))
            .collect()
    }

    /// Orders of a node that have no outcome, oldest first, and may be sent.
    pub(crate) fn orders_to_send(&self, node: &NodeName) -> Vec<(OrderId, &OrderRecord)> {
        let Some(node) = self.nodes.get(node) else {
            return Vec::new();
        };
        let record = |id: &OrderId| Some((id.clone(), self.orders.get(id)?));
        node.orders
            .iter()
            .filter_map(record)
            .filter(|(_, record)| matches!(record.progress, Progress::Sent | Progress::Accepted))
            .collect()
    }
}

#[cfg(test)]
mod drill;
#[cfg(test)]
mod luggage_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod tests;
