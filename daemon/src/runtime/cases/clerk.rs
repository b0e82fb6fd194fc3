//! Warrants for the cases, minted as always: by ledgers, from orders that stand in them.

use crate::ledger::{Ending, Ledger, LifeWarrant, OrderWarrant, Warrant};
use crate::pod::ordered;
use crate::runtime::{DeathProof, Ordered};
use crate::testing::{NOW, evict_order, host_view, open, order_id, pod, pool_order, run_spec};
use berth_model::{EvictDisposition, PodSpec};
use berth_plan::PodRecord;
use berth_proto::Addressed;
use std::path::Path;

/// The number of the order by which the pod leaves.
const LEAVE: u64 = 3;

/// Two ledgers of one pod: in one it is to run, in the other it is to leave with all its disks.
#[derive(Debug)]
pub struct Clerk {
    stays: Ledger,
    leaves: Ledger,
}

impl Clerk {
    /// Opens both ledgers in an empty folder, and orders the pod.
    ///
    /// # Panics
    /// When a ledger cannot be opened, or refuses an order: that is no claim of a case.
    pub async fn new(folder: &Path, spec: PodSpec) -> Self {
        let ledger = async |name: &str| {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).expect("make a ledger's folder");
            let ledger = open(&folder);
            admit(&ledger, pool_order(1, 1, "0")).await;
            admit(&ledger, run_spec(2, spec.clone())).await;
            ledger
        };
        let (stays, leaves) = (ledger("stays").await, ledger("leaves").await);
        admit(&leaves, evict_order(LEAVE, EvictDisposition::Release)).await;
        Self { stays, leaves }
    }

    /// The ledger in which the pod is to run: it holds the grant of its address.
    pub fn ledger(&self) -> &Ledger {
        &self.stays
    }

    pub(super) fn record(&self) -> PodRecord {
        self.stays.pod(&pod()).expect("the pod was ordered")
    }

    pub(super) fn ordered(&self) -> Ordered {
        ordered(&self.stays, &self.record()).expect("its pool was ordered")
    }

    fn by_order(&self, ending: Ending) -> OrderWarrant {
        self.leaves.order_warrant(&pod(), &order_id(LEAVE), ending).expect("a leaving pod is covered")
    }

    pub(super) fn life(&self) -> LifeWarrant {
        LifeWarrant::Order(self.by_order(Ending::Life))
    }

    pub(super) fn remains(&self) -> Warrant {
        Warrant::Order(self.by_order(Ending::Remains))
    }

    pub(super) fn disks(&self) -> OrderWarrant {
        self.by_order(Ending::Disks)
    }

    pub(super) fn by_charter(&self, proof: DeathProof) -> Warrant {
        Warrant::Charter(self.stays.charter_warrant(proof).expect("the charter stands"))
    }
}

async fn admit(ledger: &Ledger, order: Addressed) {
    let answer = ledger.admit(order, host_view(), NOW).await.expect("the ledger can be written");
    assert_eq!(answer, crate::ledger::Answer::Accepted);
}
