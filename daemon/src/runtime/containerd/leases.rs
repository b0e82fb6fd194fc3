//! Leases: what they hold is not collected as garbage.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, in_namespace};
use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};
use std::collections::HashMap;

/// A lease that was never given back ends by itself, so that a crash leaves nothing for ever.
const EXPIRY: &str = "containerd.io/gc.expire";

/// A lease that ends by itself some day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct TemporaryLease {
    /// Its name.
    pub(in crate::runtime) id: String,
    /// When it was taken, seconds after the epoch.
    pub(in crate::runtime) taken_at_s: u64,
}

impl Client {
    /// Takes a lease that ends by itself at `expiry`, an RFC 3339 time.
    pub(in crate::runtime) async fn take_lease(&self, id: &str, expiry: String) -> Result<(), RuntimeError> {
        let labels = HashMap::from([(EXPIRY.to_owned(), expiry)]);
        let request = in_namespace(CreateRequest { id: id.to_owned(), labels });
        Attempted::record(Deed::TakeLease, format!("take lease {id}"))
            .run(self.leases().create(request))
            .await
            .map(drop)
    }

    /// Gives a lease back; one that has ended is given back.
    pub(in crate::runtime) async fn end_lease(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete_lease(DeleteRequest { id: id.to_owned(), sync: false }).await
    }

    /// The same, and has what it held collected before it answers.
    pub(in crate::runtime) async fn end_lease_and_collect(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete_lease(DeleteRequest { id: id.to_owned(), sync: true }).await
    }

    async fn delete_lease(&self, request: DeleteRequest) -> Result<(), RuntimeError> {
        Attempted::record(Deed::EndLease, format!("end lease {}", request.id))
            .find(self.leases().delete(in_namespace(request)))
            .await
            .map(drop)
    }

    /// Every lease that ends by itself, whoever took it.
    pub(in crate::runtime) async fn temporary_leases(&self) -> Result<Vec<TemporaryLease>, RuntimeError> {
        let request = in_namespace(ListRequest { filters: Vec::new() });
        let answer = Attempted::look("list containerd's leases").run(self.leases().list(request)).await?;
        let temporary = answer.leases.into_iter().filter(|lease| lease.labels.contains_key(EXPIRY));
        let read = temporary.filter_map(|lease| {
            let taken_at_s = u64::try_from(lease.created_at?.seconds).ok()?;
            Some(TemporaryLease { id: lease.id, taken_at_s })
        });
        Ok(read.collect())
    }
}
