//! A node in memory, as far as admission goes: what the ledger would hold, and a host of two memory nodes.

use berth_model::{
    Access, Bytes, CpuSet, DiskName, DiskOffer, Failure, Order, OrderId, Outcome, PodId, PoolName, Term,
};
use berth_plan::{
    Accepted, Admission, Change, HostView, Known, LedgerView, PodRecord, ProfileView, QuotaView, SharedPool,
    admit,
};
use std::collections::BTreeMap;

/// What a node has accepted.
#[derive(Debug, Default)]
pub(crate) struct Node {
    term: Term,
    /// Every pod that it knows.
    pub(crate) pods: BTreeMap<PodId, PodRecord>,
    pools: BTreeMap<PoolName, SharedPool>,
    offers: BTreeMap<PodId, DiskOffer>,
    orders: BTreeMap<OrderId, (Order, Option<Outcome>)>,
}

impl Node {
    /// Answers an order, and takes on what it accepts.
    pub(crate) fn take(&mut self, order: &Order) -> Admission {
        let admission = self.ask(order);
        if let Admission::Accept(accepted) = &admission {
            assert!(order.term >= self.term, "an older term was accepted");
            self.apply(order, accepted.clone());
        }
        admission
    }

    fn ask(&self, order: &Order) -> Admission {
        let known = self.orders.get(&order.id);
        let view = LedgerView {
            term: self.term,
            pods: &self.pods,
            pools: &self.pools,
            offers: &self.offers,
            fetches: &self.fetches(),
            known: known.map(|(order, outcome)| Known { order, outcome: outcome.as_ref() }),
        };
        admit(&view, &host(), order, 1_000)
    }

    fn fetches(&self) -> BTreeMap<(PodId, DiskName), OrderId> {
        let open = self.orders.values().filter(|(_, outcome)| outcome.is_none()).map(|(order, _)| order);
        open.filter_map(|order| Some((order.fetched_disk()?, order.id.clone()))).collect()
    }

    fn apply(&mut self, order: &Order, accepted: Accepted) {
        if let Some((_, outcome)) = accepted.superseded.and_then(|id| self.orders.get_mut(&id)) {
            *outcome = Some(Outcome::Failed(Failure::Superseded { by: order.id.clone() }));
        }
        if let Some(pod) = accepted.ended_offer {
            self.offers.remove(&pod);
        }
        match accepted.change {
            Change::Pod(record) | Change::Fetch { unknown: Some(record) } => {
                self.pods.insert(record.pod.clone(), *record);
            }
            Change::Pool(pool) => drop(self.pools.insert(pool.name.clone(), pool)),
            Change::Offer(offer) => drop(self.offers.insert(offer.pod.clone(), offer)),
            Change::Withdraw(pod) => drop(self.offers.remove(&pod)),
            Change::Pull { .. } | Change::Inspect | Change::Fetch { unknown: None } => {}
        }
        self.term = order.term;
        self.orders.insert(order.id.clone(), (order.clone(), None));
    }
}

/// Eight CPUs, two memory nodes, all that limits can name.
pub(crate) fn host() -> HostView {
    HostView {
        online_cpus: cpus("0-7"),
        reserved_cpus: cpus("7"),
        possible_cpus: cpus("0-9"),
        mems: "0-1".parse().expect("is a list"),
        mount_points: ["/".to_owned(), "/data".to_owned()].into(),
        page_sizes: [Bytes(2 << 20), Bytes(1 << 30)].into(),
        io_weight: true,
        swap: true,
        data_disk_quota: QuotaView::Enforced,
        system_disk_quota: QuotaView::Enforced,
        profiles: ProfileView::default(),
        host_network: true,
        host_paths: [("/dev/fuse".to_owned(), Access::ReadWrite)].into(),
    }
}

fn cpus(list: &str) -> CpuSet {
    list.parse().expect("is a list")
}
