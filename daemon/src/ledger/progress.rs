//! What the ledger says around each step of a pod. What it says is `berth_plan`'s; here it is made durable, and only
//! upon the record that it was derived from.

use super::book::Write;
use super::desk::{Desk, LedgerError};
use super::handle::{Ledger, Moment};
use super::outcomes::end;
use crate::crash_point::Deed;
use berth_model::{Failure, OrderId};
use berth_plan::{Concluded, Effect, Observed, PodRecord, Step};
use std::sync::Arc;

/// What one turn of a pod's task goes by: the record, what was seen, and the step that follows from both.
#[derive(Debug)]
pub struct Look {
    /// The pod's record when the turn began.
    pub record: PodRecord,
    /// What was seen.
    pub observed: Observed,
    /// What follows.
    pub step: Step,
}

/// Whether the record is still the one that the turn began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is, with what was to be noted.
    Current,
    /// An order came in between: look again.
    Passed,
}

impl Ledger {
    /// Notes durably what must be known before the step's effect.
    ///
    /// # Errors
    /// When the ledger cannot be written; then the effect must not happen.
    pub async fn before(&self, look: &Arc<Look>) -> Result<Standing, LedgerError> {
        let Some(next) = berth_plan::before(&look.record, &look.observed, &look.step) else {
            let same = self.read(|book| book.pods.get(&look.record.pod) == Some(&look.record));
            return Ok(if same { Standing::Current } else { Standing::Passed });
        };
        let look = look.clone();
        self.run(move |desk| match desk.is_current(&look.record) {
            true => {
                desk.commit(Deed::NoteIntent, vec![Write::Pod(Box::new(next))]).map(|()| Standing::Current)
            }
            false => Ok(Standing::Passed),
        })
        .await?
    }

    /// Notes durably what the step's effect brought, upon the record as it stands now: an effect that has happened
    /// has happened, whatever was ordered meanwhile. Only the end of a grant, which is all ledger and no effect,
    /// must not pass an order by.
    ///
    /// # Errors
    /// When the ledger cannot be written; the effect has happened, and the next look finds it.
    pub async fn after(&self, look: &Arc<Look>, effect: Effect) -> Result<Standing, LedgerError> {
        let look = look.clone();
        self.run(move |desk| {
            let ends_grant = matches!(look.step, Step::EndGrant { .. });
            if ends_grant && !desk.is_current(&look.record) {
                return Ok(Standing::Passed);
            }
            let Some(record) = desk.read(|book| book.pods.get(&look.record.pod).cloned()) else {
                return Ok(Standing::Passed);
            };
            let next = berth_plan::after(&record, &look.observed, &look.step, &effect);
            let noted = next.map(|next| Write::Pod(Box::new(next)));
            desk.commit(Deed::NoteEffect, noted.into_iter().collect())?;
            Ok(Standing::Current)
        })
        .await?
    }

    /// Ends the open order as the step says; answers whether that changed anything.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn conclude(&self, look: &Arc<Look>, now: Moment) -> Result<bool, LedgerError> {
        let Some(concluded) = berth_plan::conclude(&look.record, &look.observed, &look.step) else {
            return Ok(false);
        };
        let look = look.clone();
        self.run(move |desk| {
            if !desk.is_current(&look.record) {
                return Ok(true);
            }
            desk.write_end(concluded, now).map(|()| true)
        })
        .await?
    }

    /// The open order that the turn began with cannot be carried out; answers whether that changed anything:
    /// what stops or leaves goes on.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn give_up(&self, look: &Arc<Look>, why: Failure, now: Moment) -> Result<bool, LedgerError> {
        let look = look.clone();
        self.run(move |desk| {
            let record = desk.read(|book| book.pods.get(&look.record.pod).cloned());
            let record = record.filter(|record| open_id(record) == open_id(&look.record));
            let concluded = record.and_then(|record| berth_plan::give_up(&record, &look.observed, why));
            concluded.map_or(Ok(false), |concluded| desk.write_end(concluded, now).map(|()| true))
        })
        .await?
    }
}

fn open_id(record: &PodRecord) -> Option<&OrderId> {
    record.open.as_ref().map(|open| &open.id)
}

impl Desk {
    fn is_current(&self, record: &PodRecord) -> bool {
        self.read(|book| book.pods.get(&record.pod) == Some(record))
    }

    fn write_end(&mut self, concluded: Concluded, now: Moment) -> Result<(), LedgerError> {
        let Concluded { record, ended } = concluded;
        let mut writes = vec![Write::Pod(Box::new(record))];
        if let Some((id, outcome)) = ended {
            let entry = self.read(|book| book.orders.get(&id).cloned());
            writes.extend(entry.map(|entry| end(entry, outcome, now)));
        }
        self.commit(Deed::NoteConclusion, writes)
    }
}
