//! The one place where the state changes: a lock, the store, and what follows once a change is durable.
//!
//! Entry point: [`Core::act`]. Its closure runs under the lock and must be quick; what it wrote goes to the store's
//! queue before the lock is let go, so durability has the order of the changes. Watchers, nodes and the caller hear
//! of a change only once it is durable, and the caller of a mere look once all that it may have seen is.

use crate::clock::Clock;
use crate::events::EventLog;
use crate::hub::Hub;
use crate::state::{State, Tx};
use crate::store::{Batch, StoreStopped, Writer};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// State, store, and those who listen.
pub(crate) struct Core {
    state: Mutex<State>,
    writer: Writer,
    hub: Arc<Hub>,
    events: EventLog,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// Puts the parts together.
    pub(crate) fn new(state: State, writer: Writer, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(state),
            writer,
            hub: Arc::new(Hub::default()),
            events: EventLog::default(),
            clock,
        }
    }

    /// Those who listen.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What nodes say that has happened.
    pub(crate) fn events(&self) -> &EventLog {
        &self.events
    }

    /// The store.
    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Changes the state, or looks at it, and answers when all of that is durable.
    ///
    /// # Errors
    /// When the store has failed.
    pub(crate) async fn act<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> R,
    ) -> Result<R, StoreStopped> {
        self.act_then(change, |_, _| ()).await
    }

    /// As [`Core::act`]; `then` runs at the moment of durability, in the order of the changes. It must not block.
    ///
    /// # Errors
    /// When the store has failed.
    pub(crate) async fn act_then<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> R,
        then: impl FnOnce(&Hub, &R) + Send + 'static,
    ) -> Result<R, StoreStopped> {
        let (reply, answer) = oneshot::channel();
        {
            // A panic under the lock ends the process in a release build; in a test the next caller sees what is there.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tx = Tx::begin(&mut state, self.clock.now());
            let result = change(&mut tx);
            let effects = tx.finish();
            let hub = Arc::clone(&self.hub);
            self.writer.submit(Batch {
                writes: effects.writes,
                after: Box::new(move || {
                    hub.publish(&effects.events);
                    hub.wake(&effects.wake);
                    then(&hub, &result);
                    // A caller that has hung up does not want to know.
                    let _ = reply.send(result);
                }),
            })?;
        }
        answer.await.map_err(|_| StoreStopped)
    }
}
