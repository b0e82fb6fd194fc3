//! Attachments that nobody detached: the plugin's DEL succeeds without us, so what it told nobody is found here.

use crate::clock::epoch_ms;
use crate::ledger::{Attachment, AttachmentKey, Book, Ledger, LedgerError};
use berth_model::PodId;
use berth_plan::Observed;
use std::collections::BTreeSet;
use tracing::{info, warn};

/// An attachment is noted while its sandbox is still being made, when no list has it yet. Only one older than any
/// making takes (the runtime gives up after four minutes) is judged by the lists.
const SETTLED_AFTER_MS: u64 = 10 * 60 * 1_000;

/// Forgets attachments of the pod's sandboxes that exist no more. Called when the pod's task is at rest, so that no
/// sandbox of it is being made.
pub async fn reconcile(ledger: &Ledger, pod: &PodId, observed: &Observed) {
    let seen = |attachment: &Attachment| {
        observed.sandboxes.iter().any(|sandbox| sandbox.id == attachment.key.sandbox_id)
    };
    noted(forget(ledger, |_, attachment| attachment.pod == *pod && !seen(attachment)).await);
}

/// Forgets attachments of pods that are not on this node any more.
pub async fn sweep(ledger: &Ledger) {
    let gone = |book: &Book, attachment: &Attachment| {
        let grant = book.grant(&attachment.pod);
        grant.is_none_or(|grant| grant.incarnation != attachment.incarnation)
    };
    noted(forget(ledger, gone).await);
}

/// Forgets a network's attachments that are not among the valid ones: CNI's GC. Another network's are not meant, and
/// neither is one so young that its ADD may have come after the list was made.
pub(super) async fn collect(
    ledger: &Ledger,
    network: &str,
    valid: &BTreeSet<AttachmentKey>,
) -> Result<(), LedgerError> {
    let gone =
        |_: &Book, attachment: &Attachment| attachment.network == network && !valid.contains(&attachment.key);
    forget(ledger, gone).await
}

async fn forget(ledger: &Ledger, gone: impl Fn(&Book, &Attachment) -> bool) -> Result<(), LedgerError> {
    let now_ms = epoch_ms();
    let settled =
        |attachment: &&Attachment| now_ms.saturating_sub(attachment.attached_at_ms) > SETTLED_AFTER_MS;
    let keys: BTreeSet<_> = ledger.read(|book| {
        let old = book.attachments.values().filter(settled);
        old.filter(|attachment| gone(book, attachment)).map(|attachment| attachment.key.clone()).collect()
    });
    if keys.is_empty() {
        return Ok(());
    }
    info!(attachments = keys.len(), "forgetting {} attachments of sandboxes that exist no more", keys.len());
    ledger.detach(keys, now_ms).await
}

fn noted(forgotten: Result<(), LedgerError>) {
    if let Err(error) = forgotten {
        warn!("cannot forget attachments: {error}");
    }
}
