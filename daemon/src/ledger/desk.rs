//! The one thread that writes. Whatever decides from the ledger and writes to it runs here, one job after the other,
//! so that nothing is ever decided from a record that another write has passed.

use super::book::{Book, Write};
use super::store::{CommitError, Store};
use crate::crash_point::Deed;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, watch};

/// Why the ledger did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Nothing was changed. Trying again may help: the disk is full.
    #[error("nothing was written to the ledger: {0}")]
    Undone(String),
    /// It cannot be known what is durable; the process has to end and begin again from what is.
    #[error("the ledger has stopped: {0}")]
    Stopped(String),
}

/// A piece of work for the thread.
pub(super) type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// What the thread holds.
pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) book: Arc<RwLock<Book>>,
    pub(super) version: watch::Sender<u64>,
    pub(super) failed: watch::Sender<Option<String>>,
}

impl Desk {
    /// Works until the last handle is gone.
    pub(super) fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            job(&mut self);
        }
    }

    /// Reads what is durable.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes all of it durably and shows it to readers, or neither.
    pub(super) fn commit(&mut self, deed: Deed, writes: Vec<Write>) -> Result<(), LedgerError> {
        if writes.is_empty() {
            return Ok(());
        }
        if let Some(reason) = self.failed.borrow().clone() {
            return Err(LedgerError::Stopped(reason));
        }
        self.store.commit(deed, &writes).map_err(|error| self.explain(&error))?;
        self.book.write().unwrap_or_else(PoisonError::into_inner).apply(writes);
        self.version.send_modify(|version| *version += 1);
        Ok(())
    }

    fn explain(&self, error: &CommitError) -> LedgerError {
        let text = crate::report::chain(error);
        let unknown = match error {
            CommitError::Undone(_) => false,
            CommitError::Unknown(_) => true,
            #[cfg(test)]
            CommitError::Crash => true,
        };
        if !unknown {
            return LedgerError::Undone(text);
        }
        tracing::error!(
            "the ledger cannot be written; the agent ends, to begin again from what is durable: {text}"
        );
        self.failed.send_replace(Some(text.clone()));
        LedgerError::Stopped(text)
    }
}
