//! The handle: opening, reading, and handing work to the thread.

use super::book::{Book, Write};
use super::desk::{Desk, Job, LedgerError};
use super::entry::OrderEntry;
use super::store::{CommitError, OpenError, Store};
use crate::crash_point::Deed;
use crate::{clock, node};
use berth_model::{NodeName, PodId};
use berth_plan::{OpenOrder, PodRecord, booted};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use tokio::sync::{mpsc, oneshot, watch};

/// Most jobs that wait for the thread; callers wait for a place. One commit takes less than a millisecond on a disk
/// that is well, and every pod's task has at most one job here.
const QUEUE: usize = 1_024;

/// A handle of the node's ledger. Cloning is cheap; the file is let go when the last one is dropped.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    book: Arc<RwLock<Book>>,
    version: watch::Receiver<u64>,
    failed: watch::Receiver<Option<String>>,
    node: Option<NodeName>,
}

/// What the ledger is opened for.
#[derive(Debug, Clone)]
pub struct Boot {
    /// This node, if it has a name yet.
    pub node: Option<NodeName>,
    /// The kernel's id of this boot: deadlines of another one are counted anew.
    pub boot_id: String,
}

/// One instant, on both clocks, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the node's monotonic clock.
    pub monotonic_ms: u64,
    /// After the epoch.
    pub epoch_ms: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic_ms: node::monotonic_ms(), epoch_ms: clock::epoch_ms() }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens or makes the ledger at `path`, reads and checks it whole, and starts its thread.
    ///
    /// # Errors
    /// When it is damaged, another node's, held by another process, or cannot be written. See [`OpenError`].
    pub fn open(path: &Path, boot: &Boot, now: Moment) -> Result<Self, OpenError> {
        let (mut store, mut book) = Store::open(path)?;
        check_node(&store, path, boot)?;
        begin(&mut store, &mut book, path, boot, now)?;
        Self::start(store, book, boot.node.clone())
    }

    pub(super) fn start(store: Store, book: Book, node: Option<NodeName>) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (version, versions) = watch::channel(0);
        let (failed, failures) = watch::channel(None);
        let book = Arc::new(RwLock::new(book));
        let desk = Desk { store, book: book.clone(), version, failed };
        let thread = thread::Builder::new().name("ledger".to_owned());
        thread.spawn(move || desk.work(queue)).map_err(OpenError::Thread)?;
        Ok(Self { jobs, book, version: versions, failed: failures, node })
    }

    /// The node that orders must be for.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// Reads what is durable. `read` must be short: writers wait for it.
    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A pod's record.
    pub fn pod(&self, pod: &PodId) -> Option<PodRecord> {
        self.read(|book| book.pods.get(pod).cloned())
    }

    /// Counts commits: tells a watcher that there is something new to read.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Returns when the ledger cannot be written any more, with the reason: the process has to end.
    pub async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its thread has ended".to_owned(),
        }
    }

    /// Returns when the thread has done everything that was asked of it before.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn come_round(&self) -> Result<(), LedgerError> {
        self.run(|_| ()).await
    }

    /// Does `job` on the thread, after everything that was asked before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        // A caller that has gone away does not undo the job.
        let job: Job = Box::new(move |desk| drop(reply.send(job(desk))));
        let stopped = || LedgerError::Stopped("its thread has ended".to_owned());
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

fn check_node(store: &Store, path: &Path, boot: &Boot) -> Result<(), OpenError> {
    let opening = |source| OpenError::Open { path: path.to_owned(), source };
    let Some(ours) = &boot.node else { return Ok(()) };
    match store.meta("node").map_err(opening)? {
        Some(theirs) if theirs != ours.as_str() => {
            Err(OpenError::OtherNode { path: path.to_owned(), theirs, ours: ours.to_string() })
        }
        Some(_) => Ok(()),
        None => store.set_meta("node", ours.as_str()).map_err(opening),
    }
}

/// What a boot of the host changes. Deadlines of another boot are counted anew, from now: how long the host was away
/// cannot be known.
fn begin(store: &mut Store, book: &mut Book, path: &Path, boot: &Boot, now: Moment) -> Result<(), OpenError> {
    let opening = |source| OpenError::Open { path: path.to_owned(), source };
    if store.meta("boot_id").map_err(opening)?.as_deref() == Some(&boot.boot_id) {
        return Ok(());
    }
    let anew = |entry: &OrderEntry| now.monotonic_ms.saturating_add(entry.order().deadline_ms);
    let orders = book.open_orders();
    let mut writes: Vec<_> = orders
        .map(|entry| Write::Order(Box::new(OrderEntry { deadline_at_ms: anew(entry), ..entry.clone() })))
        .collect();
    for record in book.pods.values() {
        let open = record.open.as_ref().and_then(|open| book.orders.get(&open.id));
        let record = match open {
            Some(entry) => postponed(booted(record), anew(entry)),
            None => booted(record),
        };
        writes.push(Write::Pod(Box::new(record)));
    }
    store.commit(Deed::NoteBoot, &writes).map_err(|error| match error {
        CommitError::Undone(source) | CommitError::Unknown(source) => opening(source),
        #[cfg(test)]
        CommitError::Crash => OpenError::Thread(std::io::ErrorKind::Interrupted.into()),
    })?;
    book.apply(writes);
    // Last: if the process ends before, it is all done again.
    Deed::NoteBootId.between_now(|| store.set_meta("boot_id", &boot.boot_id)).map_err(opening)
}

fn postponed(record: PodRecord, deadline_at_ms: u64) -> PodRecord {
    let open = record.open.map(|open| OpenOrder { deadline_at_ms, ..open });
    PodRecord { open, ..record }
}
