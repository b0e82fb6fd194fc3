//! Grants and attachments. The grant is the charter's; an attachment only notes who uses it, and frees nothing.

use super::book::{Book, Write};
use super::desk::LedgerError;
use super::entry::{Attachment, AttachmentKey};
use super::handle::Ledger;
use berth_model::{AddressGrant, Incarnation, PodId};
use std::collections::BTreeSet;

/// The address of a pod at one placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub pod: PodId,
    /// Of which placement.
    pub incarnation: Incarnation,
    /// The address.
    pub address: AddressGrant,
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
    /// The address that is granted to a pod here. It stays granted until the pod has left.
    pub fn grant(&self, pod: &PodId) -> Option<Grant> {
        let record = self.pods.get(pod)?;
        let address = record.charter.as_ref()?.spec.address.clone()?;
        Some(Grant { pod: pod.clone(), incarnation: record.incarnation, address })
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
                desk.commit(vec![Write::Attachment(attachment)])?;
            }
            Ok(grant)
        })
        .await?
    }

    /// Forgets attachments; unknown ones too.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn detach(&self, keys: BTreeSet<AttachmentKey>) -> Result<(), LedgerError> {
        self.run(move |desk| {
            let known = |book: &Book| {
                let known = keys.iter().filter(|key| book.attachments.contains_key(key));
                known.cloned().map(Write::ForgetAttachment).collect()
            };
            desk.commit(desk.read(known))
        })
        .await?
    }
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
