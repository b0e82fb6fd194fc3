//! What is known of migrations and of the nodes between which they go.

use super::migration_record::Migration;
use super::node_ops::NodeState;
use super::view::default_pool;
use super::{Denied, OrderRecord, State};
use crate::clock::Moment;
use crate::flow::Presence;
use crate::flow::migrate::{LeftBehind, NodeFact, Phase, PoolFact};
use berth_model::{CpuBinding, NodeName, NodeOrder, NodeVerb, OrderId, PodId, PodSpec, Target};
use std::collections::BTreeMap;

impl State {
    /// The migrations that are remembered, by pod.
    pub(crate) fn migrations(&self) -> &BTreeMap<PodId, Migration> {
        &self.migrations
    }

    /// What migrations have spoken for on a node for pods that it does not have.
    pub(crate) fn reserved_on<'a>(
        &'a self,
        node: &'a NodeName,
    ) -> impl Iterator<Item = (&'a PodId, &'a Migration, &'a PodSpec)> {
        let here = move |id: &PodId| self.nodes.get(node).is_some_and(|node| node.pods.contains(id));
        // Most migrations have ended: that is the cheapest question.
        let open = self.migrations.iter().filter(|(_, migration)| migration.phase.holds_pod());
        open.filter(move |(id, _)| !here(id))
            .filter_map(move |(id, migration)| Some((id, migration, migration.reserved_on(node)?)))
    }

    pub(super) fn check_not_migrating(&self, id: &PodId) -> Result<(), Denied> {
        match self.migrations.get(id).filter(|migration| migration.phase.holds_pod()) {
            None => Ok(()),
            Some(migration) => Err(Denied::Precondition(format!(
                "pod {id} is being migrated from {} to {} ({}): wait for its end, or abort it while it is preparing",
                migration.from,
                migration.to,
                migration.phase.name()
            ))),
        }
    }

    /// Whether a Release gives up what a migration has left behind on a node, and not the pod: what the source kept, or
    /// what a target has copied in vain, where nothing was ever kept.
    pub(super) fn releases_copy(&self, pod: &PodId, node: &NodeName, order: &OrderId) -> bool {
        let left_behind = self.migrations.get(pod).is_some_and(|migration| {
            migration.phase == Phase::Releasing && migration.orders.contains_key(order)
        });
        left_behind || self.pods.get(pod).is_some_and(|pod| !pod.kept.contains_key(node))
    }

    /// The newest order to copy a disk of the pod to a node that has not ended.
    pub(super) fn last_open_fetch(&self, pod: &PodId, node: &NodeName) -> Option<OrderId> {
        let fetches = |record: &OrderRecord| match &record.order.target {
            Target::Node(NodeOrder { verb: NodeVerb::FetchDisk(fetch) }) => {
                fetch.pod == *pod && record.is_open()
            }
            Target::Node(_) | Target::Pod(_) => false,
        };
        let orders = self.nodes.get(node).into_iter().flat_map(|node| &node.orders);
        orders.rev().find(|id| self.orders.get(*id).is_some_and(fetches)).cloned()
    }

    pub(super) fn node_fact(&self, name: &NodeName, now: Moment) -> NodeFact {
        match self.nodes.get(name).map(|node| node.state(now)) {
            Some(NodeState::Ready) => NodeFact::Ready,
            Some(NodeState::Dead) => NodeFact::Dead,
            Some(NodeState::Silent | NodeState::Joined) | None => NodeFact::Silent,
        }
    }

    /// What is known of the source. One that was confirmed dead while the target could not take the pod yet stays so for
    /// this migration, also when it comes back; none as long as it still has the pod then.
    pub(super) fn source_fact(&self, id: &PodId, migration: &Migration, now: Moment) -> Option<NodeFact> {
        let gone = self.pods.get(id).is_some_and(|pod| pod.standing.presence == Presence::Gone);
        let buried = migration.phase == Phase::Preparing && gone;
        match (buried, self.nodes.get(&migration.from)) {
            (true, Some(node)) if !node.dead && node.fenced.contains_key(id) => None,
            (true, _) => Some(NodeFact::Dead),
            (false, _) => Some(self.node_fact(&migration.from, now)),
        }
    }

    /// Whether a migration that is done has left nothing on a node that anybody wanted kept.
    pub(super) fn left_nothing(&self, id: &PodId, node: &NodeName) -> bool {
        self.migrations.get(id).is_some_and(|migration| {
            migration.from == *node
                && migration.phase == Phase::Done
                && migration.left_behind != LeftBehind::Kept
        })
    }

    pub(super) fn pool_fact(&self, migration: &Migration) -> PoolFact {
        let CpuBinding::Exclusive { .. } = &migration.to_spec.cpu else {
            return PoolFact::Settled;
        };
        let pool = self.nodes.get(&migration.to).and_then(|node| node.pools.get(&default_pool()));
        match (pool, self.last_open_pool_order(&migration.to)) {
            (_, Some(_)) => PoolFact::Pending,
            (Some(pool), None) if !pool.settled => PoolFact::Refused,
            (Some(_) | None, None) => PoolFact::Settled,
        }
    }
}
