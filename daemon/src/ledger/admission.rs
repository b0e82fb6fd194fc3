//! Taking an order: decided, written and only then answered.

use super::book::{Book, Write};
use super::desk::{Desk, LedgerError};
use super::entry::{Ended, OrderEntry};
use super::handle::{Ledger, Moment};
use super::outcomes::{MAX_PENDING_ORDERS, forgotten};
use crate::crash_point::Deed;
use berth_model::{Failure, OrderId, Outcome, Refusal};
use berth_plan::{Accepted, Admission, Change, HostView, Known, LedgerView, admit};
use berth_proto::Addressed;

/// What an order is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It stands durably in the ledger.
    Accepted,
    /// It stood there already, and has not ended.
    StillOpen,
    /// It stood there already, and this is how it ended.
    Ended(Outcome),
    /// It changed nothing.
    Refused(Refusal),
}

impl Ledger {
    /// Answers an order. Accepted means durable: the order, what it changes and its term are one transaction.
    ///
    /// # Errors
    /// When the ledger cannot be written; then the order is neither accepted nor refused.
    pub async fn admit(
        &self,
        addressed: Addressed,
        host: HostView,
        now: Moment,
    ) -> Result<Answer, LedgerError> {
        // An order that came to the wrong node says nothing about ours, its term included.
        if self.node() != Some(&addressed.node) {
            return Ok(Answer::Refused(Refusal::WrongNode(addressed.node)));
        }
        self.run(move |desk| desk.admit(addressed, &host, now)).await?
    }
}

impl Desk {
    fn admit(&mut self, addressed: Addressed, host: &HostView, now: Moment) -> Result<Answer, LedgerError> {
        let order = &addressed.order;
        let admission = self.read(|book| decide(book, host, &addressed, now));
        let accepted = match admission {
            Admission::Already(None) => return Ok(Answer::StillOpen),
            Admission::Already(Some(outcome)) => return Ok(Answer::Ended(outcome)),
            Admission::Refuse(refusal) => return Ok(Answer::Refused(refusal)),
            Admission::Accept(accepted) => accepted,
        };
        let mut writes = self.read(|book| superseded(book, &accepted, &order.id, now));
        writes.extend(self.read(|book| forgotten(book, now.epoch_ms)));
        writes.extend(accepted.ended_offer.clone().map(Write::ForgetOffer));
        writes.extend(change(accepted));
        // Admission refused a term below ours, so this one is ours or higher.
        writes.push(Write::Term(order.term));
        let deadline_at_ms = now.monotonic_ms.saturating_add(order.deadline_ms);
        writes.push(Write::Order(Box::new(OrderEntry {
            addressed,
            accepted_at_ms: now.epoch_ms,
            deadline_at_ms,
            ended: None,
        })));
        self.commit(Deed::NoteAcceptance, writes)?;
        Ok(Answer::Accepted)
    }
}

fn decide(book: &Book, host: &HostView, addressed: &Addressed, now: Moment) -> Admission {
    let order = &addressed.order;
    let known = book.orders.get(&order.id).map(|entry| Known {
        order: entry.order(),
        outcome: entry.ended.as_ref().map(|ended| &ended.outcome),
    });
    let pending = book.orders.values().filter(|entry| match &entry.ended {
        None => true,
        Some(ended) => !ended.seen_upstream,
    });
    if known.is_none() && pending.count() >= MAX_PENDING_ORDERS {
        return Admission::Refuse(Refusal::Busy {
            what: "the ledger of orders that upstream has not confirmed".to_owned(),
            limit: MAX_PENDING_ORDERS as u64,
        });
    }
    let view = LedgerView {
        term: book.term,
        pods: &book.pods,
        pools: &book.pools,
        offers: &book.offers,
        fetches: &book.fetches(),
        known,
    };
    admit(&view, host, order, now.monotonic_ms)
}

/// The end of the order that is replaced.
fn superseded(book: &Book, accepted: &Accepted, by: &OrderId, now: Moment) -> Vec<Write> {
    let replaced = accepted.superseded.as_ref().and_then(|id| book.orders.get(id));
    let ended = replaced.map(|entry| {
        Write::Order(Box::new(OrderEntry {
            ended: Some(Ended {
                outcome: Outcome::Failed(Failure::Superseded { by: by.clone() }),
                at_ms: now.epoch_ms,
                seen_upstream: false,
            }),
            ..entry.clone()
        }))
    });
    ended.into_iter().collect()
}

fn change(accepted: Accepted) -> Option<Write> {
    match accepted.change {
        Change::Pod(record) => Some(Write::Pod(record)),
        Change::Pool(pool) => Some(Write::Pool(pool)),
        Change::Offer(offer) => Some(Write::Offer(offer)),
        Change::Withdraw(pod) => Some(Write::ForgetOffer(pod)),
        Change::Fetch { unknown } => unknown.map(Write::Pod),
        Change::Pull { .. } | Change::Inspect => None,
    }
}
