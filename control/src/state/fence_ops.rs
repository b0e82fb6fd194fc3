//! An operator's word that a node is dead, and what follows when it comes back all the same: what it still has of the
//! pods that it had is evicted by order, and until that is done nothing new is placed there.

use super::node_ops::NodeState;
use super::{Denied, Tx};
use crate::flow::{Ending, PodState, Presence, Reason, Standing};
use berth_model::{
    EvictDisposition, Generation, Incarnation, NodeName, OrderId, PodId, PodOrder, PodStatus, PodVerb, Seq,
    Target,
};

impl Tx<'_> {
    /// Takes an operator's word that a silent node is dead. Its pods are on no node from then on.
    ///
    /// # Errors
    /// When there is no such node, or it answers.
    pub(crate) fn confirm_dead(&mut self, name: &NodeName, reason: &str) -> Result<(), Denied> {
        let Some(node) = self.nodes.get(name) else {
            return Err(Denied::NotFound(format!("there is no node {name}")));
        };
        match node.state(self.now()) {
            NodeState::Dead => return Ok(()),
            NodeState::Silent => {}
            NodeState::Ready => {
                return Err(Denied::Precondition(format!(
                    "node {name} answers, so it is not dead: evict or migrate its pods"
                )));
            }
            NodeState::Joined => {
                return Err(Denied::Precondition(format!("node {name} has never connected: it has no pods")));
            }
        }
        let pods: Vec<PodId> = node.pods.iter().cloned().collect();
        let fenced: Vec<(PodId, Incarnation)> =
            pods.iter().filter_map(|id| Some((id.clone(), self.pods.get(id)?.incarnation))).collect();
        if let Some(node) = self.node_mut(name) {
            node.dead = true;
            node.fenced.extend(fenced);
        }
        self.end_orders_of_the_dead(name);
        for id in pods {
            self.bury(&id, name, reason);
        }
        Ok(())
    }

    /// What the node was ordered it shall not do any more, should it come back. But what it keeps it still gives up.
    fn end_orders_of_the_dead(&mut self, name: &NodeName) {
        let orders = self.nodes.get(name).into_iter().flat_map(|node| &node.orders);
        let of_pod = |id: &&OrderId| {
            self.orders.get(*id).is_some_and(|record| {
                let release = |order: &PodOrder| order.verb == PodVerb::Release;
                record.is_open() && matches!(&record.order.target, Target::Pod(order) if !release(order))
            })
        };
        let open: Vec<OrderId> = orders.filter(of_pod).cloned().collect();
        for id in open {
            self.end(&id, &Ending::Failed(Reason::of_step("Link", "the node was confirmed dead")));
        }
    }

    fn bury(&mut self, id: &PodId, name: &NodeName, reason: &str) {
        let Some(pod) = self.pod_mut(id) else { return };
        // Its disks may still be there; nobody shall come up without them unasked.
        let incarnation = pod.incarnation;
        pod.kept.insert(name.clone(), incarnation);
        let message = format!("node {name} was confirmed dead: {reason}");
        self.move_pod(id, Standing { state: PodState::Evicted, presence: Presence::Gone }, message);
    }

    /// A node that was confirmed dead has connected: what it has of then is evicted.
    pub(super) fn evict_fenced(&mut self, name: &NodeName, reported: &[PodStatus]) {
        let Some(node) = self.nodes.get(name).filter(|node| node.dead || !node.fenced.is_empty()) else {
            return;
        };
        let stale = |status: &&PodStatus| {
            node.fenced.get(&status.pod).is_some_and(|fenced| status.incarnation <= *fenced)
        };
        let stale: Vec<(PodId, Incarnation, Generation)> = reported
            .iter()
            .filter(stale)
            .map(|status| (status.pod.clone(), status.incarnation, status.generation))
            .collect();
        if let Some(node) = self.node_mut(name) {
            node.dead = false;
            node.fenced.retain(|id, _| stale.iter().any(|(pod, ..)| pod == id));
        }
        for (pod, incarnation, generation) in stale {
            self.evict_stale(name, &pod, incarnation, generation);
        }
    }

    fn evict_stale(
        &mut self,
        node: &NodeName,
        pod: &PodId,
        incarnation: Incarnation,
        generation: Generation,
    ) {
        let under_way = self.orders_to_send(node).into_iter().any(|(_, record)| {
            matches!(&record.order.target, Target::Pod(order)
                if order.pod == *pod && order.incarnation == incarnation && matches!(order.verb, PodVerb::Evict { .. }))
        });
        if under_way {
            return;
        }
        let kept = self.pods.get(pod).is_some_and(|pod| pod.kept.contains_key(node));
        let disposition = match kept && !self.left_nothing(pod, node) {
            true => EvictDisposition::Keep,
            false => EvictDisposition::Release,
        };
        // Its address may be somebody's already: it gets no time.
        let verb = PodVerb::Evict { grace_ms: 0, disposition };
        let seq = self.seq_beyond(pod);
        let order = PodOrder { pod: pod.clone(), incarnation, generation, seq, verb };
        self.order_stale(node, order, "the node had been confirmed dead");
    }

    /// A number for an order that is not about where the pod is now.
    fn seq_beyond(&mut self, pod: &PodId) -> Seq {
        if let Some(pod) = self.pod_mut(pod) {
            pod.seq = pod.seq.next();
            return pod.seq;
        }
        let meta = self.meta_mut();
        meta.seq_floor += 1;
        Seq(meta.seq_floor)
    }

    /// Of a pod that was fenced nothing runs on the node any more.
    pub(super) fn fence_outcome(&mut self, node: &NodeName, order: &PodOrder, ending: &Ending) {
        let gone = match ending {
            Ending::Done => matches!(order.verb, PodVerb::Evict { .. }),
            Ending::Refused(reason) => reason.is_no_such_pod(),
            Ending::Failed(_) | Ending::RolledBack(_) => false,
        };
        let fenced = |record: &super::Node| {
            !record.dead && record.fenced.get(&order.pod).is_some_and(|fenced| order.incarnation <= *fenced)
        };
        if gone
            && self.nodes.get(node).is_some_and(fenced)
            && let Some(record) = self.node_mut(node)
        {
            record.fenced.remove(&order.pod);
            let released =
                matches!(order.verb, PodVerb::Evict { disposition: EvictDisposition::Release, .. });
            if let Some(pod) = self.pod_mut(&order.pod).filter(|_| released) {
                pod.kept.remove(node);
            }
        }
    }
}
