//! Everything that the runtime has, whoever made it.

use super::containerd::Record;
use super::identity::Tag;
use super::{ContainerdRuntime, RuntimeError};
use berth_model::{Incarnation, PodId};

/// A container of the runtime; sandboxes are containers, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The runtime's id.
    pub id: String,
    /// The image that it was made from, for people; empty where it does not say.
    pub image: String,
    /// Whose it is, by its own labels.
    pub of: Option<(PodId, Incarnation)>,
}

impl ContainerdRuntime {
    /// Lists what there is in the namespace that CRI uses.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn list_all(&self) -> Result<Vec<Listed>, RuntimeError> {
        self.client().of_every_record(listed).await
    }
}

fn listed(record: &Record) -> Listed {
    let tag = Tag::from_labels(record.labels());
    Listed {
        id: record.id().to_owned(),
        image: record.image().to_owned(),
        of: tag.map(|tag| (tag.pod, tag.incarnation)),
    }
}
