//! Container records.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, in_namespace};
use crate::runtime::error::permanent;
use containerd_client::services::v1::{
    Container, DeleteContainerRequest, GetContainerRequest, ListContainersRequest, UpdateContainerRequest,
};
use prost_types::{Any, FieldMask, Timestamp};
use serde_json::Value;
use tonic::Response;

/// A container as containerd itself has it: sandboxes' own (pause) too.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Record(Container);

impl Record {
    pub(in crate::runtime) fn new(container: Container) -> Self {
        Self(container)
    }

    pub(in crate::runtime) fn id(&self) -> &str {
        &self.0.id
    }

    pub(in crate::runtime) fn labels(&self) -> &std::collections::HashMap<String, String> {
        &self.0.labels
    }

    /// The image that it names; empty where it names none.
    pub(in crate::runtime) fn image(&self) -> &str {
        &self.0.image
    }

    pub(in crate::runtime) fn snapshotter(&self) -> &str {
        &self.0.snapshotter
    }

    /// The snapshot that it names, if any.
    pub(in crate::runtime) fn disk_key(&self) -> Option<&str> {
        Some(self.0.snapshot_key.as_str()).filter(|key| !key.is_empty())
    }

    /// When it was made, nanoseconds after the epoch; 0 if nobody says.
    pub(in crate::runtime) fn created_at_ns(&self) -> i64 {
        let ns = |at: &Timestamp| at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into());
        self.0.created_at.as_ref().map_or(0, ns)
    }

    /// The OCI runtime specification that its task is made from.
    pub(in crate::runtime) fn spec(&self) -> Result<Value, RuntimeError> {
        let what = || format!("read the spec of container {}", self.0.id);
        let spec = self.0.spec.as_ref().ok_or_else(|| permanent(what(), "it has none"))?;
        serde_json::from_slice(&spec.value).map_err(|error| permanent(what(), error))
    }
}

impl Client {
    /// Records that match a filter.
    pub(in crate::runtime) async fn list_records(&self, filter: String) -> Result<Vec<Record>, RuntimeError> {
        let request = in_namespace(ListContainersRequest { filters: vec![filter] });
        let answer =
            Attempted::look("list containerd's containers").run(self.containers().list(request)).await?;
        Ok(answer.containers.into_iter().map(Record).collect())
    }

    /// What is wanted of every record, whoever made it. They come one by one: all of them with their specifications are more
    /// than one answer holds.
    pub(in crate::runtime) async fn of_every_record<T>(
        &self,
        wanted: impl Fn(&Record) -> T,
    ) -> Result<Vec<T>, RuntimeError> {
        let request = in_namespace(ListContainersRequest::default());
        let all = async {
            let mut stream = self.containers().list_stream(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(message) = stream.message().await? {
                found.extend(message.container.map(|container| wanted(&Record(container))));
            }
            Ok(Response::new(found))
        };
        Attempted::look("list all of containerd's containers").run(all).await
    }

    /// One record, if there is one.
    pub(in crate::runtime) async fn find_record(&self, id: &str) -> Result<Option<Record>, RuntimeError> {
        let request = in_namespace(GetContainerRequest { id: id.to_owned() });
        let answer =
            Attempted::look(format!("read container {id}")).find(self.containers().get(request)).await?;
        Ok(answer.and_then(|answer| answer.container).map(Record))
    }

    /// Makes a container name another snapshot, or none; `deed` is what comes of it.
    pub(in crate::runtime) async fn set_disk_key(
        &self,
        deed: Deed,
        id: &str,
        key: &str,
    ) -> Result<Record, RuntimeError> {
        let change = Container { id: id.to_owned(), snapshot_key: key.to_owned(), ..Container::default() };
        self.update_record(deed, change, "snapshotkey").await
    }

    /// Replaces a container's OCI specification.
    pub(in crate::runtime) async fn set_spec(
        &self,
        record: &Record,
        spec: &Value,
    ) -> Result<Record, RuntimeError> {
        let type_url = record.0.spec.as_ref().map(|spec| spec.type_url.clone()).unwrap_or_default();
        let spec = Any { type_url, value: spec.to_string().into_bytes() };
        let change = Container { id: record.0.id.clone(), spec: Some(spec), ..Container::default() };
        self.update_record(Deed::AmendSpec, change, "spec").await
    }

    async fn update_record(
        &self,
        deed: Deed,
        change: Container,
        field: &str,
    ) -> Result<Record, RuntimeError> {
        let what = format!("write {field} of container {}", change.id);
        let request = in_namespace(UpdateContainerRequest {
            container: Some(change),
            update_mask: Some(FieldMask { paths: vec![field.to_owned()] }),
        });
        let answer = Attempted::record(deed, &what).run(self.containers().update(request)).await?;
        answer.container.map(Record).ok_or_else(|| permanent(what, "containerd answered without a container"))
    }

    /// Deletes a record; one that is gone is deleted.
    pub(in crate::runtime) async fn delete_record(&self, id: &str) -> Result<(), RuntimeError> {
        let request = in_namespace(DeleteContainerRequest { id: id.to_owned() });
        Attempted::record(Deed::DeleteRecord, format!("delete containerd's container {id}"))
            .find(self.containers().delete(request))
            .await
            .map(drop)
    }
}
