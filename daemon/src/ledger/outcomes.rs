//! Ends of orders: kept until upstream has them, then for a while, then forgotten. A pod's seq is never forgotten.

use super::book::{Book, Write};
use super::desk::{Desk, LedgerError};
use super::entry::{Ended, OrderEntry};
use super::handle::{Ledger, Moment};
use crate::crash_point::Deed;
use berth_model::{OrderId, Outcome};

/// Most outcomes that are kept after upstream has confirmed them; a redelivered order is answered from them.
pub const KEPT_OUTCOMES: usize = 512;
/// How long a confirmed outcome is kept at most, milliseconds.
pub const KEPT_OUTCOMES_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most orders that are open or whose outcome upstream has not confirmed. A node has at most one open order a pod,
/// so this much is only reached when upstream orders and never confirms.
pub const MAX_PENDING_ORDERS: usize = 4_096;

impl Ledger {
    /// Ends an order that no pod's record holds: one for the node itself. One that has ended stays as it is.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn finish(&self, id: OrderId, outcome: Outcome, now: Moment) -> Result<(), LedgerError> {
        self.run(move |desk| {
            let open = desk.read(|book| book.orders.get(&id).filter(|entry| entry.ended.is_none()).cloned());
            let ended = open.map(|entry| end(entry, outcome, now));
            desk.commit(Deed::NoteOutcome, ended.into_iter().collect())
        })
        .await?
    }

    /// Notes that upstream has these outcomes durably. Unknown ones and open ones are passed over.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn outcomes_seen(&self, ids: Vec<OrderId>, now: Moment) -> Result<(), LedgerError> {
        self.run(move |desk| desk.outcomes_seen(&ids, now)).await?
    }
}

/// The end of an open order.
pub(super) fn end(entry: OrderEntry, outcome: Outcome, now: Moment) -> Write {
    let ended = Ended { outcome, at_ms: now.epoch_ms, seen_upstream: false };
    Write::Order(Box::new(OrderEntry { ended: Some(ended), ..entry }))
}

impl Desk {
    fn outcomes_seen(&mut self, ids: &[OrderId], now: Moment) -> Result<(), LedgerError> {
        let seen = |book: &Book| {
            let entries = ids.iter().filter_map(|id| book.orders.get(id));
            let unconfirmed = entries.filter_map(|entry| {
                let ended = entry.ended.clone().filter(|ended| !ended.seen_upstream)?;
                let ended = Some(Ended { seen_upstream: true, ..ended });
                Some(Write::Order(Box::new(OrderEntry { ended, ..entry.clone() })))
            });
            unconfirmed.collect::<Vec<_>>()
        };
        let mut writes = self.read(seen);
        writes.extend(self.read(|book| forgotten(book, now.epoch_ms)));
        self.commit(Deed::NoteConfirmation, writes)
    }
}

/// Confirmed outcomes that are too old, or too many.
pub(super) fn forgotten(book: &Book, now_ms: u64) -> Vec<Write> {
    let confirmed = book.orders.values().filter_map(|entry| {
        let ended = entry.ended.as_ref().filter(|ended| ended.seen_upstream)?;
        Some((ended.at_ms, entry.id()))
    });
    let mut confirmed: Vec<_> = confirmed.collect();
    confirmed.sort_unstable();
    let too_many = confirmed.len().saturating_sub(KEPT_OUTCOMES);
    let old = |at_ms: u64| now_ms.saturating_sub(at_ms) > KEPT_OUTCOMES_MS;
    let gone = confirmed.iter().enumerate().filter(|(index, (at_ms, _))| *index < too_many || old(*at_ms));
    gone.map(|(_, (_, id))| Write::ForgetOrder((*id).clone())).collect()
}
