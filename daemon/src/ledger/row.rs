//! The rows of the file, and the way from them to the [`Book`] and back, without the file.

use super::book::Book;
use super::entry::{Attachment, AttachmentKey, OrderEntry, Tenure};
use super::rows::{self, BadRow};
use berth_model::{DiskOffer, PodId, Term};
use berth_plan::{PodRecord, SharedPool};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Where a row lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Accepted orders, by id.
    Orders,
    /// Pods, by identity.
    Pods,
    /// Shared CPU pools, by name.
    Pools,
    /// Disks that another node may copy, by identity.
    Offers,
    /// Who uses which address, by sandbox and interface.
    Attachments,
    /// Who used which address, by number.
    Tenures,
}

impl Table {
    /// All of them, each after those that its rows refer to.
    pub const ALL: [Self; 6] =
        [Self::Orders, Self::Pods, Self::Pools, Self::Offers, Self::Attachments, Self::Tenures];

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Pods => "pods",
            Self::Pools => "pools",
            Self::Offers => "offers",
            Self::Attachments => "attachments",
            Self::Tenures => "tenures",
        }
    }

    /// What one of its rows records, for people.
    fn record(self) -> &'static str {
        match self {
            Self::Orders => "order",
            Self::Pods => "pod",
            Self::Pools => "pool",
            Self::Offers => "offer",
            Self::Attachments => "attachment",
            Self::Tenures => "tenure",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it lies.
    pub table: Table,
    /// By what it is found; it follows from what the row records.
    pub key: String,
    /// The record.
    pub bytes: Vec<u8>,
}

/// A row that is no record, or does not go with the others.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Damage {
    /// Which row.
    pub what: String,
    /// What is wrong with it.
    #[source]
    pub why: BadRow,
}

impl Row {
    pub(super) fn of_order(entry: &OrderEntry) -> Self {
        let bytes = rows::encode_order(entry);
        Self { table: Table::Orders, key: entry.id().to_string(), bytes }
    }

    pub(super) fn of_pod(record: &PodRecord) -> Self {
        Self { table: Table::Pods, key: record.pod.to_string(), bytes: rows::encode_pod(record) }
    }

    pub(super) fn of_pool(pool: &SharedPool) -> Self {
        Self { table: Table::Pools, key: pool.name.to_string(), bytes: rows::encode_pool(pool) }
    }

    pub(super) fn of_offer(offer: &DiskOffer) -> Self {
        Self { table: Table::Offers, key: offer_key(&offer.pod), bytes: rows::encode_offer(offer) }
    }

    pub(super) fn of_attachment(attachment: &Attachment) -> Self {
        let (key, bytes) = (attachment_key(&attachment.key), rows::encode_attachment(attachment));
        Self { table: Table::Attachments, key, bytes }
    }

    pub(super) fn of_tenure(number: u64, tenure: &Tenure) -> Self {
        Self { table: Table::Tenures, key: number.to_string(), bytes: rows::encode_tenure(tenure) }
    }
}

pub(super) fn offer_key(pod: &PodId) -> String {
    pod.to_string()
}

pub(super) fn attachment_key(key: &AttachmentKey) -> String {
    format!("{}/{}", key.sandbox_id, key.interface)
}

impl Book {
    /// What rows record, in whatever order they come.
    ///
    /// # Errors
    /// The first row that is no record, is not the one of its key, or names what is not there.
    pub fn from_rows(term: Term, rows: &[Row]) -> Result<Self, Damage> {
        let mut book = Self { term, ..Self::default() };
        for table in Table::ALL {
            for row in rows.iter().filter(|row| row.table == table) {
                let what = || format!("{} {}", table.record(), row.key);
                book.take(row).map_err(|why| Damage { what: what(), why })?;
            }
        }
        book.check().map_err(|(what, why)| Damage { what, why })?;
        Ok(book)
    }

    /// Everything but the term, as rows.
    pub fn to_rows(&self) -> Vec<Row> {
        let orders = self.orders.values().map(Row::of_order);
        let pods = self.pods.values().map(Row::of_pod);
        let pools = self.pools.values().map(Row::of_pool);
        let offers = self.offers.values().map(Row::of_offer);
        let attachments = self.attachments.values().map(Row::of_attachment);
        let tenures = self.tenures.iter().map(|(number, tenure)| Row::of_tenure(*number, tenure));
        orders.chain(pods).chain(pools).chain(offers).chain(attachments).chain(tenures).collect()
    }

    fn take(&mut self, row: &Row) -> Result<(), BadRow> {
        match row.table {
            Table::Orders => {
                let entry = rows::decode_order(&row.bytes)?;
                put(&mut self.orders, entry.id().clone(), row, &entry.id().to_string(), entry)
            }
            Table::Pods => {
                let record = rows::decode_pod(&row.bytes, &self.orders)?;
                put(&mut self.pods, record.pod.clone(), row, &record.pod.to_string(), record)
            }
            Table::Pools => {
                let pool = rows::decode_pool(&row.bytes)?;
                put(&mut self.pools, pool.name.clone(), row, pool.name.clone().as_str(), pool)
            }
            Table::Offers => {
                let offer = rows::decode_offer(&row.bytes)?;
                put(&mut self.offers, offer.pod.clone(), row, &offer_key(&offer.pod), offer)
            }
            Table::Attachments => {
                let attachment = rows::decode_attachment(&row.bytes)?;
                let key = attachment_key(&attachment.key);
                put(&mut self.attachments, attachment.key.clone(), row, &key, attachment)
            }
            Table::Tenures => {
                let (number, tenure) = rows::decode_tenure(&row.key, &row.bytes)?;
                put(&mut self.tenures, number, row, &number.to_string(), tenure)
            }
        }
    }
}

/// Puts a record where its row says that it is. A row under another key would take the place of the true one.
fn put<K: Ord, T>(
    records: &mut BTreeMap<K, T>,
    at: K,
    row: &Row,
    key: &str,
    record: T,
) -> Result<(), BadRow> {
    if row.key != key {
        return Err(BadRow::OtherKey(key.to_owned()));
    }
    match records.entry(at) {
        Entry::Vacant(vacant) => {
            vacant.insert(record);
            Ok(())
        }
        Entry::Occupied(_) => Err(BadRow::Twice(key.to_owned())),
    }
}
