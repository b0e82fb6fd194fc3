//! Giving orders, and what their acknowledgements and outcomes change.

use super::{OrderRecord, Progress, Tx};
use crate::flow::{Consequence, Ending, PodState, Presence, Reason, Standing, after_outcome};
use berth_model::{
    EvictDisposition, NodeName, NodeOrder, NodeVerb, Order, OrderId, PodId, PodOrder, PodVerb, PoolName,
    Target, Term,
};

/// Ended orders that are remembered of each node, for people to look at.
const ENDED_ORDERS_KEPT: usize = 200;

/// Whether a node was told of an order before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Yes,
    No,
}

/// Why an order is given, and how long a node may take over it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within<'a> {
    /// For people.
    pub(super) reason: &'a str,
    /// From its receipt.
    pub(super) deadline_ms: u64,
}

impl Tx<'_> {
    fn issue(&mut self, node: &NodeName, order: Order, after: Option<OrderId>) -> OrderId {
        let id = order.id.clone();
        let progress = match after {
            Some(after) => Progress::Waiting { after },
            None => Progress::Sent,
        };
        let record = OrderRecord { node: node.clone(), order, progress, created_at_ms: self.now().wall_ms };
        self.touch_order(&id).orders.insert(id.clone(), record);
        if let Some(node) = self.unrecorded().nodes.get_mut(node) {
            node.orders.insert(id.clone());
        }
        self.wake(node);
        id
    }

    fn order(&mut self, target: Target, reason: &str, deadline_ms: u64) -> Order {
        Order {
            id: self.next_order_id(),
            term: Term(self.term()),
            reason: reason.to_owned(),
            deadline_ms,
            target,
        }
    }

    /// Gives a pod its next order. The pod must be known.
    pub(crate) fn order_pod(
        &mut self,
        pod: &PodId,
        node: &NodeName,
        verb: PodVerb,
        reason: &str,
    ) -> Option<OrderId> {
        let deadline_ms = self.patience_ms(&verb);
        self.order_pod_within(pod, node, verb, Within { reason, deadline_ms })
    }

    /// How long a node may take over it, unless the platform says otherwise.
    pub(super) fn patience_ms(&self, verb: &PodVerb) -> u64 {
        let settings = self.settings();
        match verb {
            PodVerb::Run { .. } => settings.run_deadline_ms,
            PodVerb::Upgrade { settle_ms, .. } => settings.run_deadline_ms.saturating_add(*settle_ms),
            PodVerb::Stop { grace_ms }
            | PodVerb::Restart { grace_ms, .. }
            | PodVerb::Evict { grace_ms, .. } => settings.order_deadline_ms.saturating_add(*grace_ms),
            PodVerb::Start | PodVerb::Resize { .. } | PodVerb::Release => settings.order_deadline_ms,
        }
    }

    /// As [`Tx::order_pod`], with another deadline than usual.
    pub(super) fn order_pod_within(
        &mut self,
        pod: &PodId,
        node: &NodeName,
        verb: PodVerb,
        within: Within<'_>,
    ) -> Option<OrderId> {
        let after = match &verb {
            // A pod must not have its CPUs before they have left the shared pool, nor be in a pool before that is set.
            PodVerb::Run { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
                self.last_open_pool_order(node)
            }
            // A node does what is told of the generation that it has, which a revision that it was sent may raise.
            PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Evict { .. } => {
                self.unanswered_revision(pod)
            }
            // What is still being copied there ends first.
            PodVerb::Release => self.last_open_fetch(pod, node),
        };
        let record = self.pod_mut(pod)?;
        record.seq = record.seq.next();
        // What a node gives up of a pod is not about where the pod is.
        if verb != PodVerb::Release {
            record.current = record.seq;
        }
        let generation = match &verb {
            PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => record.generation.next(),
            PodVerb::Run { .. }
            | PodVerb::Stop { .. }
            | PodVerb::Start
            | PodVerb::Restart { .. }
            | PodVerb::Evict { .. }
            | PodVerb::Release => record.generation,
        };
        let target = Target::Pod(PodOrder {
            pod: pod.clone(),
            incarnation: record.incarnation,
            generation,
            seq: record.seq,
            verb,
        });
        let order = self.order(target, within.reason, within.deadline_ms);
        Some(self.issue(node, order, after))
    }

    /// Gives a node an order for a pod that it should not have.
    pub(super) fn order_stale(&mut self, node: &NodeName, order: PodOrder, reason: &str) {
        let deadline_ms = self.settings().order_deadline_ms;
        let order = self.order(Target::Pod(order), reason, deadline_ms);
        self.issue(node, order, None);
    }

    /// Gives a node an order.
    pub(crate) fn order_node(&mut self, node: &NodeName, verb: NodeVerb, reason: &str) -> OrderId {
        let deadline_ms = match &verb {
            NodeVerb::PullImage { .. } => self.settings().run_deadline_ms,
            NodeVerb::FetchDisk(_) => self.settings().copy_deadline_ms,
            NodeVerb::SetSharedCpus { .. }
            | NodeVerb::Inspect
            | NodeVerb::OfferDisks(_)
            | NodeVerb::WithdrawDisks { .. } => self.settings().order_deadline_ms,
        };
        // Pools are rewritten one at a time: a pool that grows must not meet one that has not shrunk yet.
        let after = match &verb {
            NodeVerb::SetSharedCpus { .. } => self.last_open_pool_order(node),
            NodeVerb::FetchDisk(fetch) => self.last_open_fetch(&fetch.pod, node),
            NodeVerb::PullImage { .. }
            | NodeVerb::Inspect
            | NodeVerb::OfferDisks(_)
            | NodeVerb::WithdrawDisks { .. } => None,
        };
        let order = self.order(Target::Node(NodeOrder { verb }), reason, deadline_ms);
        self.issue(node, order, after)
    }

    /// The order stands in its node's ledger. Only the node it is for can say so.
    pub(crate) fn acknowledge(&mut self, node: &NodeName, id: &OrderId) {
        let sent = |record: &OrderRecord| record.node == *node && record.progress == Progress::Sent;
        if self.orders.get(id).is_some_and(sent)
            && let Some(record) = self.touch_order(id).orders.get_mut(id)
        {
            record.progress = Progress::Accepted;
            // Who waits for a pool waits for its end.
            if matches!(record.order.target, Target::Pod(_)) {
                self.take_on_generation(id);
                self.send_waiters(node, id);
            }
        }
    }

    /// The order is over. Only the node it is for can say so; a second time changes nothing.
    pub(crate) fn end_order(&mut self, node: &NodeName, id: &OrderId, ending: &Ending) {
        match self.orders.get(id) {
            Some(record) if record.node == *node && record.is_open() => self.end(id, ending),
            Some(_) | None => {}
        }
    }

    pub(super) fn end(&mut self, id: &OrderId, ending: &Ending) {
        let at_ms = self.now().wall_ms;
        let Some(record) = self.touch_order(id).orders.get_mut(id) else {
            return;
        };
        let (node, target) = (record.node.clone(), record.order.target.clone());
        let told = match record.progress {
            Progress::Waiting { .. } => Told::No,
            Progress::Sent | Progress::Accepted | Progress::Ended { .. } => Told::Yes,
        };
        let was_open = record.is_open();
        record.progress = Progress::Ended { ending: ending.clone(), at_ms };
        let ended = (record.verb(), record.state_name());
        if was_open {
            *self.unrecorded().ended_orders.entry(ended).or_default() += 1;
        }
        let releases_copy = match &target {
            Target::Pod(order) => order.verb == PodVerb::Release && self.releases_copy(&order.pod, &node, id),
            Target::Node(_) => false,
        };
        self.migration_outcome(id, ending);
        self.forget_oldest(&node);
        match target {
            Target::Pod(order) => {
                self.revision_outcome(&order, ending, told);
                self.rollout_outcome(&order, ending);
                self.fence_outcome(&node, &order, ending);
                match releases_copy {
                    true => self.copy_released(&node, &order, ending),
                    false => self.pod_outcome(&node, &order, ending),
                }
                self.send_waiters(&node, id);
            }
            Target::Node(NodeOrder { verb: NodeVerb::SetSharedCpus { pool, generation, .. } }) => {
                self.pool_outcome(&node, &pool, generation, ending);
                self.release_pool_waiters(&node, id, ending);
            }
            Target::Node(NodeOrder { verb: NodeVerb::FetchDisk(_) }) => self.send_waiters(&node, id),
            Target::Node(NodeOrder {
                verb:
                    NodeVerb::PullImage { .. }
                    | NodeVerb::Inspect
                    | NodeVerb::OfferDisks(_)
                    | NodeVerb::WithdrawDisks { .. },
            }) => {}
        }
    }

    /// Ends a pod's Run, Upgrade or Resize that no node has been told of yet, and returns it.
    pub(crate) fn cancel_untold(&mut self, pod: &PodId, why: &str) -> Option<PodVerb> {
        let untold = |(id, record): (&OrderId, &OrderRecord)| match (&record.progress, &record.order.target) {
            (Progress::Waiting { .. }, Target::Pod(order)) => match &order.verb {
                PodVerb::Run { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } => {
                    Some((id.clone(), order.verb.clone()))
                }
                PodVerb::Stop { .. }
                | PodVerb::Start
                | PodVerb::Restart { .. }
                | PodVerb::Evict { .. }
                | PodVerb::Release => None,
            },
            (_, _) => None,
        };
        let (id, verb) = self.orders_of_pod(pod).into_iter().find_map(untold)?;
        self.end(&id, &Ending::Failed(Reason::of_step(verb.name(), why)));
        Some(verb)
    }

    fn forget_oldest(&mut self, node: &NodeName) {
        let Some(orders) = self.nodes.get(node).map(|node| &node.orders) else {
            return;
        };
        let ended: Vec<OrderId> = orders
            .iter()
            .filter(|id| self.orders.get(*id).is_none_or(|record| !record.is_open()))
            .cloned()
            .collect();
        let excess = ended.len().saturating_sub(ENDED_ORDERS_KEPT);
        for id in ended.into_iter().take(excess) {
            self.touch_order(&id).orders.remove(&id);
            if let Some(node) = self.unrecorded().nodes.get_mut(node) {
                node.orders.remove(&id);
            }
        }
    }

    /// A node has given up what a migration had left there; the pod is elsewhere, and stays.
    fn copy_released(&mut self, node: &NodeName, order: &PodOrder, ending: &Ending) {
        let gone = match ending {
            Ending::Done => true,
            Ending::Refused(reason) => reason.is_no_such_pod(),
            Ending::Failed(_) | Ending::RolledBack(_) => false,
        };
        if let Some(pod) = self.pod_mut(&order.pod).filter(|_| gone) {
            pod.kept.remove(node);
        }
    }

    fn pod_outcome(&mut self, node: &NodeName, order: &PodOrder, ending: &Ending) {
        let Some(pod) = self.pods.get(&order.pod) else {
            return;
        };
        let newest = order.seq == pod.current && order.incarnation == pod.incarnation;
        if !newest && order.verb != PodVerb::Release {
            return;
        }
        let transition = after_outcome(pod.standing, &order.verb, ending);
        self.move_pod(&order.pod, transition.standing, transition.message);
        if transition.consequence == Consequence::GiveUp {
            return self.give_up(&order.pod, "the pod was evicted for good");
        }
        let Some(pod) = self.pod_mut(&order.pod) else {
            return;
        };
        match transition.consequence {
            Consequence::Nothing | Consequence::GiveUp => {}
            Consequence::DisksTaken => {
                pod.kept.remove(node);
            }
            Consequence::DisksKept => {
                pod.kept.insert(node.clone(), order.incarnation);
            }
            Consequence::DisksReleased => {
                pod.kept.remove(node);
                self.end_if_nothing_kept(&order.pod);
            }
        }
    }

    /// Puts a pod where it stands now, and gives its CPUs back when it has left its node.
    pub(crate) fn move_pod(&mut self, id: &PodId, standing: Standing, message: String) {
        let Some(pod) = self.pod_mut(id) else {
            return;
        };
        let left = pod.standing.presence == Presence::OnNode && standing.presence == Presence::Gone;
        let node = pod.node.clone();
        if left {
            pod.revision = None;
        }
        pod.standing = standing;
        pod.message = message;
        if standing.state == PodState::Evicted {
            pod.node = None;
            pod.spec = None;
        }
        if standing.presence == Presence::Gone {
            pod.status = None;
        }
        if let Some(node) = node.filter(|_| left) {
            if let Some(record) = self.node_mut(&node) {
                record.pods.remove(id);
            }
            self.settle_default_pool(&node, &format!("pod {id} has left"));
        }
    }

    /// Has every node that keeps disks of the pod release them; ends its identity when none does.
    pub(crate) fn give_up(&mut self, pod: &PodId, reason: &str) {
        let keepers: Vec<NodeName> =
            self.pods.get(pod).map(|pod| pod.kept.keys().cloned().collect()).unwrap_or_default();
        for node in &keepers {
            self.order_pod(pod, node, PodVerb::Release, reason);
            // The dead are not waited for; should one come back, it finds the order.
            if self.nodes.get(node).is_some_and(|node| node.dead)
                && let Some(pod) = self.pod_mut(pod)
            {
                pod.kept.remove(node);
            }
        }
        self.end_if_nothing_kept(pod);
    }

    fn end_if_nothing_kept(&mut self, id: &PodId) {
        let Some(pod) = self.pods.get(id).filter(|pod| pod.kept.is_empty()) else {
            return;
        };
        let (incarnation, seq) = (pod.incarnation.0, pod.seq.0);
        let meta = self.meta_mut();
        meta.incarnation_floor = meta.incarnation_floor.max(incarnation);
        meta.seq_floor = meta.seq_floor.max(seq);
        let pools: Vec<PoolName> = self.pools_of(id).map(|(name, _)| name.clone()).collect();
        for name in pools {
            self.note_released(&name, id);
            if let Some(pool) = self.touch_assignment(&name, id).pools.get_mut(&name) {
                pool.release(id);
            }
        }
        self.touch_pod(id).pods.remove(id);
    }
}

/// The verb that takes a pod off its node.
pub(crate) fn evict_verb(grace_ms: u64, disposition: EvictDisposition) -> PodVerb {
    PodVerb::Evict { grace_ms, disposition }
}
