//! Proof, held as a value, that an effect is covered. The fields are private to the ledger: nobody else can make one.

use crate::runtime::DeathProof;
use berth_model::{OrderId, PodId};
use std::collections::BTreeSet;

/// An open order of this pod, durably accepted: covers stopping what is live.
#[derive(Debug)]
pub struct OrderWarrant {
    pub(in crate::ledger) order: OrderId,
    pub(in crate::ledger) pod: PodId,
}

/// A charter, and fresh proof that these containers are dead: covers them and nothing else.
#[derive(Debug)]
pub struct CharterWarrant {
    pub(in crate::ledger) pod: PodId,
    pub(in crate::ledger) dead: BTreeSet<String>,
}

/// The host shuts down, and this pod has a charter that brings it back: covers stopping what runs of it.
#[derive(Debug)]
pub struct ShutdownWarrant {
    pub(in crate::ledger) pod: PodId,
}

/// What permits ending a life.
#[derive(Debug)]
pub enum LifeWarrant {
    /// An open order.
    Order(OrderWarrant),
    /// The host's shutdown.
    Shutdown(ShutdownWarrant),
}

impl LifeWarrant {
    /// Whose.
    pub fn pod(&self) -> &PodId {
        match self {
            Self::Order(warrant) => &warrant.pod,
            Self::Shutdown(warrant) => &warrant.pod,
        }
    }
}

/// What permits an effect on something that may hold a life or a disk.
#[derive(Debug)]
pub enum Warrant {
    /// An open order.
    Order(OrderWarrant),
    /// A charter, over the dead.
    Charter(CharterWarrant),
}

impl CharterWarrant {
    pub(in crate::ledger) fn new(proof: DeathProof) -> Self {
        let (pod, dead) = proof.into_parts();
        Self { pod, dead }
    }

    /// Whether `id` is among the proven dead.
    pub fn covers(&self, id: &str) -> bool {
        self.dead.contains(id)
    }

    /// Whose.
    pub fn pod(&self) -> &PodId {
        &self.pod
    }
}

impl OrderWarrant {
    /// The order that covers the effect.
    pub fn order(&self) -> &OrderId {
        &self.order
    }

    /// Whose.
    pub fn pod(&self) -> &PodId {
        &self.pod
    }
}
