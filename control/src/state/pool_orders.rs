//! The shared CPU pools of nodes: what they should be, and the orders that make them so.

use super::view::default_pool;
use super::{NodePool, State, Tx};
use crate::flow::Ending;
use berth_model::{CpuSet, Generation, MemSet, NodeName, NodeOrder, NodeVerb, OrderId, PoolName, Target};
use berth_proto::v1;

impl NodePool {
    pub(crate) fn to_wire(&self, name: &PoolName) -> v1::SharedPool {
        v1::SharedPool {
            pool: name.to_string(),
            cpus: self.cpus.to_string(),
            mems: self.mems.to_string(),
            generation: self.generation.0,
        }
    }
}

/// A change of a shared pool.
pub(crate) struct PoolChange {
    pub(crate) pool: PoolName,
    pub(crate) cpus: CpuSet,
    pub(crate) mems: MemSet,
    pub(crate) chosen: Option<CpuSet>,
}

impl State {
    /// The newest order of a node's shared pools that has no outcome yet.
    pub(super) fn last_open_pool_order(&self, node: &NodeName) -> Option<OrderId> {
        let sets_pool = |id: &&OrderId| {
            self.orders.get(*id).is_some_and(|record| {
                record.is_open()
                    && matches!(
                        &record.order.target,
                        Target::Node(NodeOrder { verb: NodeVerb::SetSharedCpus { .. } })
                    )
            })
        };
        self.nodes.get(node)?.orders.iter().rev().find(sets_pool).cloned()
    }
}

impl Tx<'_> {
    pub(super) fn pool_outcome(
        &mut self,
        node: &NodeName,
        pool: &PoolName,
        generation: Generation,
        ending: &Ending,
    ) {
        let Some(record) = self.node_mut(node).and_then(|node| node.pools.get_mut(pool)) else {
            return;
        };
        if record.generation != generation {
            return;
        }
        record.settled = *ending == Ending::Done;
    }

    /// Orders the default pool to be what it should be now, unless it is or is about to be.
    pub(crate) fn settle_default_pool(&mut self, node: &NodeName, reason: &str) {
        let pool = default_pool();
        let Some(record) = self.nodes.get(node) else {
            return;
        };
        let (Some(cpus), Some(facts)) = (record.cpus(node, self), record.facts.as_ref()) else {
            return;
        };
        let (wanted, mems) = (cpus.lender_wanted(&pool), facts.mems());
        let known = record.pools.get(&pool);
        let right = known.is_some_and(|known| known.cpus == wanted && known.mems == mems);
        let under_way = known.is_some_and(|known| known.settled) || self.last_open_pool_order(node).is_some();
        // A pool is never empty: where nothing is left for it, it stays as it is.
        if (right && under_way) || wanted.is_empty() || mems.is_empty() {
            return;
        }
        let chosen = known.and_then(|known| known.chosen.clone());
        let change = PoolChange { pool, cpus: wanted, mems, chosen };
        self.order_pool(node, change, reason);
    }

    /// Orders a shared pool to be something else.
    pub(crate) fn order_pool(&mut self, node: &NodeName, change: PoolChange, reason: &str) {
        let PoolChange { pool, cpus, mems, chosen } = change;
        let Some(record) = self.node_mut(node) else {
            return;
        };
        let generation = record.pools.get(&pool).map_or(Generation(1), |known| known.generation.next());
        let known = NodePool { cpus: cpus.clone(), mems: mems.clone(), generation, chosen, settled: false };
        record.pools.insert(pool.clone(), known);
        let verb = NodeVerb::SetSharedCpus { pool, cpus, mems, generation };
        self.order_node(node, verb, reason);
    }
}
