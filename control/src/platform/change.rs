//! The RPCs that change a pod in place.

use super::pods::{MAX_POD_BYTES, pod_id, whole_pod};
use super::{PlatformService, invalid, reason};
use crate::flow::InPlace;
use crate::state::{DEFAULT_SETTLE_MS, Restart, Revise, Wish};
use berth_model::{DiskPolicy, PodId, PodRequest};
use berth_proto::v1;
use std::fmt::Display;
use tonic::{Response, Status};

pub(super) fn patch_wish(patch: v1::PodPatch) -> Result<Wish, Status> {
    let size = prost::Message::encoded_len(&patch);
    if size > MAX_POD_BYTES {
        return Err(invalid("patch", format!("has {size} bytes, at most {MAX_POD_BYTES} are accepted")));
    }
    Ok(Wish::Patch(Box::new(patch)))
}

/// A whole request; it names the pod itself, too.
fn whole_wish(id: &PodId, request: v1::PodRequest) -> Result<Wish, Status> {
    let size = prost::Message::encoded_len(&request);
    if size > MAX_POD_BYTES {
        return Err(invalid("request", format!("has {size} bytes, at most {MAX_POD_BYTES} are accepted")));
    }
    let request = PodRequest::try_from(request).map_err(|error| Status::invalid_argument(error.chain()))?;
    if request.pod != *id {
        return Err(invalid("request.pod", format!("is {}, the pod to be changed is {id}", request.pod)));
    }
    Ok(Wish::Whole(Box::new(request)))
}

fn disk(number: i32) -> Result<Option<DiskPolicy>, Status> {
    match v1::DiskPolicy::try_from(number) {
        Ok(v1::DiskPolicy::Unspecified) => Ok(None),
        Ok(v1::DiskPolicy::Reuse) => Ok(Some(DiskPolicy::Reuse)),
        Ok(v1::DiskPolicy::Rebuild) => Ok(Some(DiskPolicy::Rebuild)),
        Err(_) => Err(invalid("disk", format!("{number} is unknown to this version"))),
    }
}

impl PlatformService {
    pub(super) async fn restart(
        &self,
        request: v1::RestartPodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        let id = pod_id(request.pod)?;
        let wish = Restart {
            disk: disk(request.disk)?,
            grace_ms: request.grace_ms,
            reason: reason(&request.reason, caller)?,
        };
        let restarted = self.change(move |tx| {
            tx.restart(&id, &wish)?;
            Ok(whole_pod(tx, &id).unwrap_or_default())
        });
        restarted.await.map(Response::new)
    }

    pub(super) async fn upgrade(
        &self,
        request: v1::UpgradePodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        use v1::upgrade_pod_request::Change;
        let id = pod_id(request.pod)?;
        let wish = match request.change.ok_or_else(|| invalid("change", "is missing"))? {
            Change::Request(whole) => whole_wish(&id, whole)?,
            Change::Patch(patch) => patch_wish(patch)?,
        };
        let settle_ms = request.settle_ms.unwrap_or(DEFAULT_SETTLE_MS);
        let within_ms = request.within_ms;
        let reason = reason(&request.reason, caller)?;
        self.revise(id, Revise { how: InPlace::Upgrade, wish, settle_ms, within_ms, reason }).await
    }

    pub(super) async fn resize(
        &self,
        request: v1::ResizePodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        use v1::resize_pod_request::Change;
        let id = pod_id(request.pod)?;
        let wish = match request.change.ok_or_else(|| invalid("change", "is missing"))? {
            Change::Request(whole) => whole_wish(&id, whole)?,
            Change::Patch(patch) => patch_wish(patch)?,
        };
        let (settle_ms, within_ms) = (DEFAULT_SETTLE_MS, request.within_ms);
        let reason = reason(&request.reason, caller)?;
        self.revise(id, Revise { how: InPlace::Resize, wish, settle_ms, within_ms, reason }).await
    }

    async fn revise(&self, id: PodId, revise: Revise) -> Result<Response<v1::Pod>, Status> {
        let revised = self.change(move |tx| {
            tx.revise(&id, &revise)?;
            Ok(whole_pod(tx, &id).unwrap_or_default())
        });
        revised.await.map(Response::new)
    }
}
