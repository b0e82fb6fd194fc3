//! Orders that wait for other orders of their node.

use super::{OrderRecord, Progress, Tx};
use crate::flow::{Ending, Reason};
use berth_model::{NodeName, OrderId, PodOrder, PodVerb, Target};

impl Tx<'_> {
    fn waiters(&self, node: &NodeName, on: &OrderId) -> Vec<(OrderId, &OrderRecord)> {
        let waits =
            |record: &OrderRecord| matches!(&record.progress, Progress::Waiting { after } if after == on);
        let orders = self.nodes.get(node).into_iter().flat_map(|node| &node.orders);
        let records = orders.filter_map(|id| Some((id.clone(), self.orders.get(id)?)));
        records.filter(|(_, record)| waits(record)).collect()
    }

    /// What waited for a pool goes out. A pod's order whose CPUs could not be freed never does.
    pub(super) fn release_pool_waiters(&mut self, node: &NodeName, ended: &OrderId, ending: &Ending) {
        let waiters = self.waiters(node, ended).into_iter();
        let waiters: Vec<_> =
            waiters.map(|(id, record)| (id, matches!(record.order.target, Target::Node(_)))).collect();
        for (id, sets_pool) in waiters {
            let why = match ending {
                Ending::Done => None,
                Ending::Failed(reason) | Ending::RolledBack(reason) | Ending::Refused(reason) => {
                    Some(reason.text.as_str())
                }
            };
            match why {
                Some(why) if !sets_pool => {
                    self.end(&id, &Ending::Failed(Reason::of_step("SetSharedCpus", why)));
                }
                Some(_) | None => self.send(&id),
            }
        }
    }

    /// What waited for a pod's order goes out, whatever came of that.
    pub(super) fn send_waiters(&mut self, node: &NodeName, on: &OrderId) {
        let waiters: Vec<OrderId> = self.waiters(node, on).into_iter().map(|(id, _)| id).collect();
        for id in waiters {
            self.send(&id);
        }
    }

    /// Lets an order go out, with the generation that the node has by now.
    fn send(&mut self, id: &OrderId) {
        let generation_of = |order: &PodOrder| {
            let pod = self.pods.get(&order.pod)?;
            let stamped = match &order.verb {
                PodVerb::Stop { .. } | PodVerb::Start | PodVerb::Restart { .. } | PodVerb::Evict { .. } => {
                    true
                }
                PodVerb::Run { .. } | PodVerb::Upgrade { .. } | PodVerb::Resize { .. } | PodVerb::Release => {
                    false
                }
            };
            (stamped && pod.incarnation == order.incarnation).then_some(pod.generation)
        };
        let generation = match self.orders.get(id).map(|record| &record.order.target) {
            Some(Target::Pod(order)) => generation_of(order),
            Some(Target::Node(_)) | None => None,
        };
        if let Some(record) = self.touch_order(id).orders.get_mut(id) {
            record.progress = Progress::Sent;
            if let (Target::Pod(order), Some(generation)) = (&mut record.order.target, generation) {
                order.generation = generation;
            }
            let node = record.node.clone();
            self.wake(&node);
        }
    }
}
