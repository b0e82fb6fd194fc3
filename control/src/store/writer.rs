//! The thread that owns the file.

use super::file::{Store, StoreError};
use super::{Binding, TokenRefusal, Write};
use crate::token::Token;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use tokio::sync::{oneshot, watch};

/// Most jobs that wait for the thread. Callers wait for a place: this is where overload is felt.
const QUEUE: usize = 1_024;
/// Most batches of one transaction: past this a flush costs little next to the writes.
const MAX_BATCHES: usize = 256;

/// Rows to write, and what may happen once they are durable.
pub(crate) struct Batch {
    /// In this order. None is a barrier: `after` runs when all before it is durable.
    pub writes: Vec<Write>,
    /// Runs on the writer's thread: it must not block, and may not ask for the state.
    pub after: Box<dyn FnOnce() + Send>,
}

struct TokenJob {
    token: Token,
    node: String,
    binding: Binding,
    now_ms: u64,
    reply: oneshot::Sender<Result<(), TokenRefusal>>,
}

enum Job {
    Batch(Batch),
    Token(Box<TokenJob>),
}

/// The store failed and takes nothing more; the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed or is closing")]
pub(crate) struct StoreStopped;

/// A handle of the thread. The thread ends when the last one is gone.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: SyncSender<Job>,
    failed: watch::Receiver<Option<String>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn spawn(store: Store) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let (fail, failed) = watch::channel(None);
        thread::Builder::new().name("store".to_owned()).spawn(move || {
            let mut store = store;
            if let Err(error) = work(&mut store, &queue) {
                let error = crate::error::chain(&error);
                tracing::error!(
                    "the store cannot be written; ending so as to begin again from what is durable: {error}"
                );
                fail.send_replace(Some(error));
            }
        })?;
        Ok(Self { jobs, failed })
    }

    /// Queues a batch.
    ///
    /// # Errors
    /// When the store has failed.
    pub(crate) fn submit(&self, batch: Batch) -> Result<(), StoreStopped> {
        self.jobs.send(Job::Batch(batch)).map_err(|_| StoreStopped)
    }

    /// Uses a token up, durably. The outer error is the store's, the inner the token's.
    ///
    /// # Errors
    /// When the store has failed.
    pub(crate) async fn use_token(
        &self,
        token: Token,
        node: String,
        binding: Binding,
        now_ms: u64,
    ) -> Result<Result<(), TokenRefusal>, StoreStopped> {
        let (reply, answer) = oneshot::channel();
        let job = TokenJob { token, node, binding, now_ms, reply };
        self.jobs.send(Job::Token(Box::new(job))).map_err(|_| StoreStopped)?;
        answer.await.map_err(|_| StoreStopped)
    }

    /// Returns when the store has failed, with the reason.
    pub(crate) async fn failure(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the store's thread has ended".to_owned(),
        }
    }
}

fn work(store: &mut Store, queue: &Receiver<Job>) -> Result<(), StoreError> {
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Token(job) => use_token(store, *job)?,
                Job::Batch(batch) => next = commit(store, batch, queue)?,
            }
        }
    }
    Ok(())
}

/// Commits a batch with those that have queued up behind it, and returns a job of another kind that ended the run.
fn commit(store: &mut Store, first: Batch, queue: &Receiver<Job>) -> Result<Option<Job>, StoreError> {
    let mut writes = first.writes;
    let mut afters = vec![first.after];
    let mut other = None;
    while afters.len() < MAX_BATCHES {
        match queue.try_recv() {
            Ok(Job::Batch(batch)) => {
                writes.extend(batch.writes);
                afters.push(batch.after);
            }
            Ok(job @ Job::Token(_)) => {
                other = Some(job);
                break;
            }
            Err(_) => break,
        }
    }
    if !writes.is_empty() {
        store.write(&writes)?;
    }
    for after in afters {
        after();
    }
    Ok(other)
}

fn use_token(store: &mut Store, job: TokenJob) -> Result<(), StoreError> {
    let answer = store.use_token(&job.token, &job.node, job.binding, job.now_ms)?;
    // The caller may have hung up; the token is used up all the same.
    let _ = job.reply.send(answer);
    Ok(())
}
