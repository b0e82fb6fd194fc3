//! Snapshots: the containers' disks.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, in_namespace};
use containerd_client::services::v1::snapshots::{
    Info, MountsRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
};
use prost_types::FieldMask;
use std::collections::HashMap;

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct Snapshot {
    /// Its labels.
    pub(in crate::runtime) labels: HashMap<String, String>,
}

impl From<Info> for Snapshot {
    fn from(info: Info) -> Self {
        Self { labels: info.labels }
    }
}

/// One mount that a snapshot is used by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct SnapshotMount {
    /// As mount(8) knows it.
    pub(in crate::runtime) kind: String,
    /// The folder of a bind mount.
    pub(in crate::runtime) source: String,
    /// Such as `upperdir=…`.
    pub(in crate::runtime) options: Vec<String>,
}

impl Client {
    /// How a snapshot is mounted. Nothing is mounted by asking.
    pub(in crate::runtime) async fn snapshot_mounts(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<Vec<SnapshotMount>, RuntimeError> {
        let request =
            in_namespace(MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
        let answer = Attempted::look(format!("find the folders of snapshot {key} of {snapshotter}"))
            .find(self.snapshots().mounts(request))
            .await?;
        let mounts = answer.map(|answer| answer.mounts).unwrap_or_default().into_iter();
        Ok(mounts
            .map(|mount| SnapshotMount { kind: mount.r#type, source: mount.source, options: mount.options })
            .collect())
    }

    /// One snapshot, if there is one.
    pub(in crate::runtime) async fn find_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<Option<Snapshot>, RuntimeError> {
        let request =
            in_namespace(StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
        let answer = Attempted::look(format!("look at snapshot {key} of {snapshotter}"))
            .find(self.snapshots().stat(request))
            .await?;
        Ok(answer.and_then(|answer| answer.info).map(Snapshot::from))
    }

    /// Adds labels to a snapshot, keeping the others.
    pub(in crate::runtime) async fn label_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), RuntimeError> {
        let paths = labels.keys().map(|label| format!("labels.{label}")).collect();
        let info = Info { name: key.to_owned(), labels, ..Info::default() };
        let request = in_namespace(UpdateSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            info: Some(info),
            update_mask: Some(FieldMask { paths }),
        });
        Attempted::record(Deed::LabelDisk, format!("label snapshot {key} of {snapshotter}"))
            .run(self.snapshots().update(request))
            .await
            .map(drop)
    }

    /// Removes a snapshot; one that is gone is removed.
    pub(in crate::runtime) async fn remove_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<(), RuntimeError> {
        let request =
            in_namespace(RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
        Attempted::record(Deed::RemoveSnapshot, format!("remove snapshot {key} of {snapshotter}"))
            .find(self.snapshots().remove(request))
            .await
            .map(drop)
    }
}
