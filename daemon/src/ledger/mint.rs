//! Minting warrants: from what is durable, and from nothing else.

use super::handle::Ledger;
use super::warrant::{CharterWarrant, OrderWarrant, ShutdownWarrant};
use crate::node::Announced;
use crate::runtime::DeathProof;
use berth_model::{EvictDisposition, OrderId, PodId, PodVerb, RunState};
use berth_plan::OpenOrder;

/// What a warrant is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// A life: stopping what may run.
    Life,
    /// A container, a sandbox or a slice that is done with: stopping the rest of it and removing it.
    Remains,
    /// Disks that last no longer than the pod is on the node.
    Scratch,
    /// Disks that were kept.
    Disks,
}

/// Why there is no warrant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// The order is not open, or is not this pod's.
    #[error("order {order} is not open for pod {pod}")]
    NotOpen {
        /// Which order.
        order: OrderId,
        /// Which pod.
        pod: PodId,
    },
    /// The order is about something else.
    #[error("order {order} is a {verb}, which does not cover {ending:?}")]
    OtherVerb {
        /// Which order.
        order: OrderId,
        /// What it wants.
        verb: &'static str,
        /// What was asked.
        ending: Ending,
    },
    /// There is no charter under which the pod runs.
    #[error("pod {0} has no charter by which it is to run")]
    NoCharter(PodId),
}

impl Ledger {
    /// A warrant of `order`, if it is open for `pod` and its verb covers such an ending.
    ///
    /// # Errors
    /// When it does not.
    pub fn order_warrant(
        &self,
        pod: &PodId,
        order: &OrderId,
        ending: Ending,
    ) -> Result<OrderWarrant, NotCovered> {
        let open = self.read(|book| book.pods.get(pod).and_then(|record| record.open.clone()));
        let open = open.filter(|open| open.id == *order);
        let Some(open) = open else {
            return Err(NotCovered::NotOpen { order: order.clone(), pod: pod.clone() });
        };
        if !covers(&open, ending) {
            let verb = open.verb.name();
            return Err(NotCovered::OtherVerb { order: open.id, verb, ending });
        }
        Ok(OrderWarrant { order: open.id, pod: pod.clone() })
    }

    /// A warrant to stop what runs of `pod`, since the host shuts down.
    ///
    /// # Errors
    /// When the pod has no charter, and so nothing would bring it back.
    pub fn shutdown_warrant(
        &self,
        pod: &PodId,
        _announced: &Announced,
    ) -> Result<ShutdownWarrant, NotCovered> {
        let chartered = self.read(|book| book.pods.get(pod).is_some_and(|record| record.charter.is_some()));
        chartered
            .then(|| ShutdownWarrant { pod: pod.clone() })
            .ok_or_else(|| NotCovered::NoCharter(pod.clone()))
    }

    /// A warrant over what was just proven dead, if the pod has a charter by which it is to run.
    ///
    /// # Errors
    /// When it has none, or is leaving: then an order covers what happens.
    pub fn charter_warrant(&self, proof: DeathProof) -> Result<CharterWarrant, NotCovered> {
        let runs = self.read(|book| {
            let charter = book.pods.get(proof.pod()).and_then(|record| record.charter.as_ref());
            charter.is_some_and(|charter| charter.leaving.is_none() && charter.run_state == RunState::Running)
        });
        match runs {
            true => Ok(CharterWarrant::new(proof)),
            false => Err(NotCovered::NoCharter(proof.pod().clone())),
        }
    }
}

fn covers(open: &OpenOrder, ending: Ending) -> bool {
    match (&open.verb, ending) {
        (PodVerb::Stop { .. }, Ending::Life) => true,
        (PodVerb::Stop { .. }, Ending::Remains | Ending::Scratch | Ending::Disks) => false,
        (PodVerb::Evict { .. }, Ending::Life | Ending::Remains | Ending::Scratch) => true,
        (PodVerb::Evict { disposition, .. }, Ending::Disks) => *disposition == EvictDisposition::Release,
        // A Run that failed is undone under its own order; what was kept before it stays.
        (PodVerb::Run { .. }, Ending::Life | Ending::Remains | Ending::Scratch) => open.failure.is_some(),
        (PodVerb::Run { .. }, Ending::Disks) => false,
        (PodVerb::Release, Ending::Disks) => true,
        (PodVerb::Release, Ending::Life | Ending::Remains | Ending::Scratch) => false,
        // What they replace; what is left of it is dead, and the charter's.
        (PodVerb::Restart { .. } | PodVerb::Upgrade { .. }, Ending::Life) => true,
        (
            PodVerb::Restart { .. } | PodVerb::Upgrade { .. },
            Ending::Remains | Ending::Scratch | Ending::Disks,
        ) => false,
        (
            PodVerb::Start | PodVerb::Resize { .. },
            Ending::Life | Ending::Remains | Ending::Scratch | Ending::Disks,
        ) => false,
    }
}
