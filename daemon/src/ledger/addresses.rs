//! Grants and attachments. The grant is the charter's; an attachment only notes who uses it, and frees nothing.

use super::book::{Book, Write};
use super::desk::LedgerError;
use super::entry::{Attachment, AttachmentKey, KEPT_TENURES, Tenure};
use super::handle::Ledger;
use crate::crash_point::Deed;
use berth_model::{AddressGrant, Incarnation, PodId};
use std::collections::BTreeSet;

/// The addresses of a pod at one placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub pod: PodId,
    /// Of which placement.
    pub incarnation: Incarnation,
    /// At least one, at most one of each family.
    pub addresses: Vec<AddressGrant>,
}

/// Why an interface was not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Nothing is granted to that pod here.
    #[error("no address is granted to pod {0} on this node")]
    NoGrant(PodId),
    /// Something is granted, to another incarnation.
    #[error("the address of pod {pod} is granted to incarnation {granted}, not to {asked}")]
    OtherIncarnation {
        /// Whose.
        pod: PodId,
        /// Who has it.
        granted: Incarnation,
        /// Who asks.
        asked: Incarnation,
    },
    /// The interface is attached for another pod.
    #[error("interface {interface} of sandbox {sandbox_id} is attached for pod {holder}")]
    Taken {
        /// The runtime's id.
        sandbox_id: String,
        /// Which interface.
        interface: String,
        /// For whom.
        holder: PodId,
    },
    /// It could not be written down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Book {
    /// What is granted to a pod here. It stays granted until the pod has left.
    pub fn grant(&self, pod: &PodId) -> Option<Grant> {
        let record = self.pods.get(pod)?;
        let addresses = record.charter.as_ref()?.spec.addresses.clone();
        (!addresses.is_empty()).then(|| Grant {
            pod: pod.clone(),
            incarnation: record.incarnation,
            addresses,
        })
    }
}

impl Ledger {
    /// Notes an attachment durably, if its pod and incarnation have a grant. Again is no error.
    ///
    /// # Errors
    /// When there is no such grant, or the interface is another pod's.
    pub async fn attach(&self, attachment: Attachment) -> Result<Grant, AttachError> {
        self.run(move |desk| {
            let grant = desk.read(|book| admissible(book, &attachment))?;
            let known = desk.read(|book| book.attachments.contains_key(&attachment.key));
            if !known {
                let addresses = grant.addresses.iter().map(|grant| grant.address.address()).collect();
                let noted = vec![Write::Attachment(Attachment { addresses, ..attachment })];
                desk.commit(Deed::NoteAttachment, noted)?;
            }
            Ok(grant)
        })
        .await?
    }

    /// Ends attachments, and remembers for a while that they were. Unknown ones are no error.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn detach(&self, keys: BTreeSet<AttachmentKey>, at_ms: u64) -> Result<(), LedgerError> {
        self.run(move |desk| {
            let endings = desk.read(|book| endings(book, &keys, at_ms));
            desk.commit(Deed::NoteDetachment, endings)
        })
        .await?
    }
}

/// A row of history for each attachment, in place of the oldest ones where there are too many.
fn endings(book: &Book, keys: &BTreeSet<AttachmentKey>, at_ms: u64) -> Vec<Write> {
    let ended: Vec<&Attachment> = keys.iter().filter_map(|key| book.attachments.get(key)).collect();
    let first = book.tenures.last_key_value().map_or(0, |(number, _)| number + 1);
    let remembered = (first..).zip(&ended).map(|(number, attachment)| {
        // A clock that was set back must not make a tenure end before it began.
        let detached_at_ms = at_ms.max(attachment.attached_at_ms);
        Write::Tenure(number, Tenure { attachment: (*attachment).clone(), detached_at_ms })
    });
    let too_many = (book.tenures.len() + ended.len()).saturating_sub(KEPT_TENURES);
    let forgotten = book.tenures.keys().take(too_many).map(|number| Write::ForgetTenure(*number));
    let detached = ended.iter().map(|attachment| Write::ForgetAttachment(attachment.key.clone()));
    detached.chain(remembered).chain(forgotten).collect()
}

fn admissible(book: &Book, attachment: &Attachment) -> Result<Grant, AttachError> {
    let grant = book.grant(&attachment.pod).ok_or_else(|| AttachError::NoGrant(attachment.pod.clone()))?;
    if grant.incarnation != attachment.incarnation {
        return Err(AttachError::OtherIncarnation {
            pod: grant.pod,
            granted: grant.incarnation,
            asked: attachment.incarnation,
        });
    }
    match book.attachments.get(&attachment.key) {
        Some(known) if known.pod != attachment.pod => Err(AttachError::Taken {
            sandbox_id: attachment.key.sandbox_id.clone(),
            interface: attachment.key.interface.clone(),
            holder: known.pod.clone(),
        }),
        Some(_) | None => Ok(grant),
    }
}
