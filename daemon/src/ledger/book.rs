//! The ledger in memory: exactly what is durable, for reading.

use super::entry::{Attachment, AttachmentKey, OrderEntry, Tenure};
use super::rows::BadRow;
use berth_model::{CpuBinding, CpuSet, DiskName, DiskOffer, MemSet, OrderId, PodId, PoolName, Target, Term};
use berth_plan::{PodRecord, SharedPool};
use std::collections::BTreeMap;

/// Everything that the ledger holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// The highest term seen.
    pub term: Term,
    /// Every pod ever seen here.
    pub pods: BTreeMap<PodId, PodRecord>,
    /// Open orders, and those whose outcome is still kept.
    pub orders: BTreeMap<OrderId, OrderEntry>,
    /// The shared CPU pools.
    pub pools: BTreeMap<PoolName, SharedPool>,
    /// Data disks of pods that have left, which another node may copy.
    pub offers: BTreeMap<PodId, DiskOffer>,
    /// Who uses which address.
    pub attachments: BTreeMap<AttachmentKey, Attachment>,
    /// Who used which address, oldest first, by a number that only rises.
    pub tenures: BTreeMap<u64, Tenure>,
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Term(Term),
    Pod(Box<PodRecord>),
    Order(Box<OrderEntry>),
    ForgetOrder(OrderId),
    Pool(SharedPool),
    Offer(DiskOffer),
    ForgetOffer(PodId),
    Attachment(Attachment),
    ForgetAttachment(AttachmentKey),
    Tenure(u64, Tenure),
    ForgetTenure(u64),
}

impl Book {
    /// Open orders, oldest first.
    pub fn open_orders(&self) -> impl Iterator<Item = &OrderEntry> {
        self.orders.values().filter(|entry| entry.ended.is_none())
    }

    /// Open orders for the node itself, oldest first.
    pub fn open_node_orders(&self) -> impl Iterator<Item = &OrderEntry> {
        self.open_orders().filter(|entry| matches!(entry.order().target, Target::Node(_)))
    }

    /// Data disks that are being copied here, and by which order.
    pub fn fetches(&self) -> BTreeMap<(PodId, DiskName), OrderId> {
        let fetch = |entry: &OrderEntry| Some((entry.order().fetched_disk()?, entry.id().clone()));
        self.open_orders().filter_map(fetch).collect()
    }

    /// Outcomes that upstream does not have yet, oldest order first.
    pub fn unconfirmed(&self) -> impl Iterator<Item = &OrderEntry> {
        self.orders.values().filter(|entry| entry.unconfirmed().is_some())
    }

    /// The CPUs and memory nodes of a pod at the moment; none without a charter.
    pub fn cpus_of(&self, record: &PodRecord) -> Option<(CpuSet, MemSet)> {
        match &record.charter.as_ref()?.spec.cpu {
            CpuBinding::Exclusive { cpus, mems } => Some((cpus.clone(), mems.clone())),
            CpuBinding::Shared { pool } => {
                self.pools.get(pool).map(|pool| (pool.cpus.clone(), pool.mems.clone()))
            }
        }
    }

    /// The pods that run on a shared pool.
    pub fn members<'a>(&'a self, name: &'a PoolName) -> impl Iterator<Item = &'a PodRecord> {
        self.pods.values().filter(move |record| {
            let cpu = record.charter.as_ref().map(|charter| &charter.spec.cpu);
            matches!(cpu, Some(CpuBinding::Shared { pool }) if pool == name)
        })
    }

    /// What a row alone cannot show: an open pod order's pod knows it, and a charter's pool is there.
    pub(super) fn check(&self) -> Result<(), (String, BadRow)> {
        for record in self.pods.values().filter(|record| record.charter.is_some()) {
            if self.cpus_of(record).is_none() {
                let dangling = BadRow::Dangling("a shared CPU pool".to_owned());
                return Err((format!("pod {}", record.pod), dangling));
            }
        }
        for entry in self.open_orders() {
            let Target::Pod(order) = &entry.order().target else { continue };
            let open = self.pods.get(&order.pod).and_then(|record| record.open.as_ref());
            if open.is_none_or(|open| open.id != *entry.id()) {
                let dangling = BadRow::Dangling(format!("pod {}'s open order", order.pod));
                return Err((format!("order {}", entry.id()), dangling));
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Term(term) => self.term = term,
                Write::Pod(record) => drop(self.pods.insert(record.pod.clone(), *record)),
                Write::Order(entry) => drop(self.orders.insert(entry.id().clone(), *entry)),
                Write::ForgetOrder(id) => drop(self.orders.remove(&id)),
                Write::Pool(pool) => drop(self.pools.insert(pool.name.clone(), pool)),
                Write::Offer(offer) => drop(self.offers.insert(offer.pod.clone(), offer)),
                Write::ForgetOffer(pod) => drop(self.offers.remove(&pod)),
                Write::Attachment(attachment) => {
                    drop(self.attachments.insert(attachment.key.clone(), attachment));
                }
                Write::ForgetAttachment(key) => drop(self.attachments.remove(&key)),
                Write::Tenure(number, tenure) => drop(self.tenures.insert(number, tenure)),
                Write::ForgetTenure(number) => drop(self.tenures.remove(&number)),
            }
        }
    }
}
