//! Writing blobs into the content store, held by a lease until something refers to them.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, RECORD_TIMEOUT, in_namespace};
use crate::runtime::error::{Call, refused, transient};
use containerd_client::services::v1::{Info, UpdateRequest, WriteAction, WriteContentRequest};
use prost_types::FieldMask;
use std::collections::HashMap;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

/// How much of a blob goes into one message; gRPC's default limit is 4 MiB.
const CHUNK_BYTES: usize = 1 << 20;

/// A blob to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct Blob {
    /// `sha256:…`
    pub(in crate::runtime) digest: String,
    /// All of it.
    pub(in crate::runtime) bytes: Vec<u8>,
    /// What it refers to, in containerd's words (`containerd.io/gc.ref.content.…`).
    pub(in crate::runtime) labels: HashMap<String, String>,
}

impl Blob {
    /// The messages that write it.
    fn messages(&self, lease: &str) -> Result<Vec<WriteContentRequest>, std::num::TryFromIntError> {
        let total = i64::try_from(self.bytes.len())?;
        // A reference of its own for every lease: nothing half written by an earlier try is taken up.
        let reference = format!("{lease}-{}", self.digest);
        let mut messages = Vec::new();
        for (index, chunk) in self.bytes.chunks(CHUNK_BYTES).enumerate() {
            messages.push(WriteContentRequest {
                action: WriteAction::Write.into(),
                r#ref: reference.clone(),
                total,
                expected: self.digest.clone(),
                offset: i64::try_from(index * CHUNK_BYTES)?,
                data: chunk.to_vec(),
                labels: HashMap::new(),
            });
        }
        messages.push(WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: reference.clone(),
            total,
            expected: self.digest.clone(),
            offset: total,
            data: Vec::new(),
            labels: self.labels.clone(),
        });
        Ok(messages)
    }
}

impl Client {
    /// Writes a blob under a lease; one that is there already is written.
    pub(in crate::runtime) async fn write_blob(&self, lease: &str, blob: &Blob) -> Result<(), RuntimeError> {
        let what = format!("write blob {}", blob.digest);
        let messages = blob.messages(lease).map_err(|error| transient(&what, error))?;
        let mut request = in_namespace(tokio_stream::iter(messages));
        hold_by(&mut request, lease).map_err(|error| transient(&what, error))?;
        let write = async {
            let mut answers = self.content().write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        match Deed::WriteBlob.between(tokio::time::timeout(RECORD_TIMEOUT, write)).await {
            Ok(Ok(())) => Ok(()),
            // Whoever wrote it may not have said what it refers to.
            Ok(Err(status)) if status.code() == Code::AlreadyExists => self.label_blob(blob).await,
            Ok(Err(status)) => Err(refused(what, Call::Plain, &status)),
            Err(_) => Err(transient(what, format!("no answer in {} s", RECORD_TIMEOUT.as_secs()))),
        }
    }

    async fn label_blob(&self, blob: &Blob) -> Result<(), RuntimeError> {
        if blob.labels.is_empty() {
            return Ok(());
        }
        let paths = blob.labels.keys().map(|label| format!("labels.{label}")).collect();
        let info = Info { digest: blob.digest.clone(), labels: blob.labels.clone(), ..Info::default() };
        let request =
            in_namespace(UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) });
        Attempted::record(Deed::LabelBlob, format!("label blob {}", blob.digest))
            .run(self.content().update(request))
            .await
            .map(drop)
    }
}

fn hold_by<T>(
    request: &mut Request<T>,
    lease: &str,
) -> Result<(), tonic::metadata::errors::InvalidMetadataValue> {
    let value: MetadataValue<_> = lease.parse()?;
    request.metadata_mut().insert("containerd-lease", value);
    Ok(())
}
