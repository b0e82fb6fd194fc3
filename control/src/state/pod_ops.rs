//! What platforms do with pods that are there: evict, release, stop, start.

use super::order_ops::evict_verb;
use super::{Denied, Pod, Tx};
use crate::flow::{PodState, Presence, Standing};
use berth_model::{EvictDisposition, NodeName, PodId, PodPhase, PodVerb, Target};

/// Longest time between SIGTERM and SIGKILL: a day is a typing error, not a grace.
pub(crate) const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1_000;

/// A wish to take a pod off its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evict {
    /// Between SIGTERM and SIGKILL; the pod's own when absent.
    pub grace_ms: Option<u64>,
    /// What becomes of its disks, and with them of its identity.
    pub disposition: EvictDisposition,
    /// Why, for people.
    pub reason: String,
}

pub(crate) fn check_grace(grace_ms: u64) -> Result<(), Denied> {
    if grace_ms <= MAX_GRACE_MS {
        return Ok(());
    }
    Err(Denied::Invalid(format!("grace_ms: {grace_ms} is above {MAX_GRACE_MS}, a day")))
}

impl Tx<'_> {
    pub(super) fn known_pod(&self, id: &PodId) -> Result<&Pod, Denied> {
        self.pods.get(id).ok_or_else(|| Denied::NotFound(format!("there is no pod {id}")))
    }

    /// The node that may have the pod.
    pub(super) fn node_of(&self, id: &PodId) -> Result<NodeName, Denied> {
        let pod = self.known_pod(id)?;
        match (&pod.node, pod.standing.presence) {
            (Some(node), Presence::OnNode) => Ok(node.clone()),
            (Some(_) | None, Presence::OnNode | Presence::Gone) => Err(Denied::Precondition(format!(
                "pod {id} is {} and on no node: submit it again to run it",
                pod.standing.state.name()
            ))),
        }
    }

    /// Gives an order to a pod that its node has, and moves it to `to`.
    pub(super) fn order_and_move(
        &mut self,
        pod: &PodId,
        verb: PodVerb,
        to: PodState,
        reason: &str,
    ) -> Result<(), Denied> {
        let node = self.node_of(pod)?;
        self.order_pod(pod, &node, verb, reason);
        let presence = Presence::OnNode;
        self.move_pod(pod, Standing { state: to, presence }, String::new());
        Ok(())
    }

    /// Takes a pod off its node.
    ///
    /// # Errors
    /// When there is no such pod, or it is leaving in another way.
    pub(crate) fn evict(&mut self, id: &PodId, wish: &Evict) -> Result<(), Denied> {
        check_grace(wish.grace_ms.unwrap_or_default())?;
        let pod = self.known_pod(id)?;
        self.check_not_migrating(id)?;
        let grace_ms = wish.grace_ms.unwrap_or(pod.request.stop_grace_ms);
        match (pod.standing.presence, pod.standing.state) {
            (Presence::OnNode, PodState::Evicting) => return self.evict_again(id, wish.disposition),
            (Presence::OnNode, _) => {
                let cancelled = self.cancel_untold(id, "evicted before any node was told of it");
                if !matches!(cancelled, Some(PodVerb::Run { .. })) {
                    let verb = evict_verb(grace_ms, wish.disposition);
                    return self.order_and_move(id, verb, PodState::Evicting, &wish.reason);
                }
            }
            (Presence::Gone, _) => self.check_not_being_released(id)?,
        }
        let (state, presence) = (PodState::Evicted, Presence::Gone);
        self.move_pod(id, Standing { state, presence }, String::new());
        if wish.disposition == EvictDisposition::Release {
            self.give_up(id, &wish.reason);
        }
        Ok(())
    }

    fn evict_again(&self, id: &PodId, wanted: EvictDisposition) -> Result<(), Denied> {
        let under_way =
            self.orders_of_pod(id).into_iter().rev().find_map(|(_, record)| match &record.order.target {
                Target::Pod(order) if record.is_open() => match &order.verb {
                    PodVerb::Evict { disposition, .. } => Some(*disposition),
                    PodVerb::Run { .. }
                    | PodVerb::Stop { .. }
                    | PodVerb::Start
                    | PodVerb::Restart { .. }
                    | PodVerb::Upgrade { .. }
                    | PodVerb::Resize { .. }
                    | PodVerb::Release => None,
                },
                Target::Pod(_) | Target::Node(_) => None,
            });
        match (under_way, wanted) {
            (Some(EvictDisposition::Keep), EvictDisposition::Release) => Err(Denied::Precondition(format!(
                "pod {id} is being evicted with its disks kept: release it once it is evicted"
            ))),
            (Some(EvictDisposition::Release), EvictDisposition::Keep) => Err(Denied::Precondition(format!(
                "pod {id} is being evicted for good: its disks can no longer be kept"
            ))),
            (Some(_) | None, EvictDisposition::Keep | EvictDisposition::Release) => Ok(()),
        }
    }

    pub(crate) fn check_not_being_released(&self, id: &PodId) -> Result<(), Denied> {
        let releasing = self.orders_of_pod(id).into_iter().any(|(order, record)| {
            record.is_open()
                && !self.releases_copy(id, &record.node, order)
                && matches!(&record.order.target, Target::Pod(order) if order.verb == PodVerb::Release)
        });
        if releasing {
            return Err(Denied::Precondition(format!("pod {id} is being released: wait until it is gone")));
        }
        Ok(())
    }

    /// Gives up an evicted pod's address, disks and identity.
    ///
    /// # Errors
    /// When there is no such pod, or a node may still have it.
    pub(crate) fn release(&mut self, id: &PodId, reason: &str) -> Result<(), Denied> {
        let pod = self.known_pod(id)?;
        self.check_not_migrating(id)?;
        if pod.standing.presence == Presence::OnNode {
            return Err(Denied::Precondition(format!(
                "pod {id} is {} on node {}: evict it first",
                pod.standing.state.name(),
                pod.node.as_ref().map(ToString::to_string).unwrap_or_default()
            )));
        }
        // Release orders that are under way are enough.
        if self.check_not_being_released(id).is_ok() {
            self.give_up(id, reason);
        }
        Ok(())
    }

    /// A pod whose Run no node has been told of cannot be told anything else.
    fn check_told(&self, id: &PodId) -> Result<(), Denied> {
        let untold = self.orders_of_pod(id).into_iter().any(|(_, record)| {
            matches!(record.progress, super::Progress::Waiting { .. })
                && matches!(&record.order.target, Target::Pod(order) if matches!(order.verb, PodVerb::Run { .. }))
        });
        if untold {
            return Err(Denied::Precondition(format!(
                "pod {id} waits for its node's shared CPUs to be set: try again, or evict it"
            )));
        }
        Ok(())
    }

    /// Stops a pod's containers and keeps everything.
    ///
    /// # Errors
    /// When there is no such pod, or it is on no node or leaving it.
    pub(crate) fn stop(&mut self, id: &PodId, grace_ms: Option<u64>, reason: &str) -> Result<(), Denied> {
        check_grace(grace_ms.unwrap_or_default())?;
        self.node_of(id)?;
        self.check_not_migrating(id)?;
        let pod = self.known_pod(id)?;
        let grace_ms = grace_ms.unwrap_or(pod.request.stop_grace_ms);
        match pod.standing.state {
            PodState::Stopping | PodState::Stopped => Ok(()),
            PodState::Placed | PodState::Running | PodState::Failed => {
                self.check_told(id)?;
                self.cancel_untold(id, "stopped before the node was told of it");
                self.order_and_move(id, PodVerb::Stop { grace_ms }, PodState::Stopping, reason)
            }
            PodState::Evicting | PodState::Evicted => {
                Err(Denied::Precondition(format!("pod {id} is leaving its node")))
            }
        }
    }

    /// Starts a pod after a stop, or one that waits for this word since its host rebooted.
    ///
    /// # Errors
    /// When there is no such pod, or it is on no node, leaving it or still being stopped.
    pub(crate) fn start(&mut self, id: &PodId, reason: &str) -> Result<(), Denied> {
        self.node_of(id)?;
        self.check_not_migrating(id)?;
        let pod = self.known_pod(id)?;
        let held = pod.status.as_ref().is_some_and(|status| status.phase == PodPhase::Held);
        match pod.standing.state {
            PodState::Running if held => self.order_and_move(id, PodVerb::Start, PodState::Placed, reason),
            PodState::Placed | PodState::Running => Ok(()),
            PodState::Stopped | PodState::Failed => {
                self.order_and_move(id, PodVerb::Start, PodState::Placed, reason)
            }
            PodState::Stopping => Err(Denied::Precondition(format!(
                "pod {id} is still being stopped: wait until it is stopped"
            ))),
            PodState::Evicting | PodState::Evicted => {
                Err(Denied::Precondition(format!("pod {id} is leaving its node")))
            }
        }
    }
}
