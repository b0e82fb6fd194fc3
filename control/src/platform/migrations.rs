//! The RPCs about migrations.

use super::pods::pod_id;
use super::{PlatformService, invalid, optional_node, reason};
use crate::flow::migrate::LeftBehind;
use crate::random;
use crate::state::Migrate;
use berth_model::PodId;
use berth_proto::v1;
use std::fmt::Display;
use tonic::{Response, Status};

impl PlatformService {
    pub(super) async fn migrate(
        &self,
        request: v1::MigratePodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Migration>, Status> {
        let left_behind = match v1::LeaveBehind::try_from(request.leave_behind) {
            Ok(v1::LeaveBehind::Unspecified) => None,
            Ok(v1::LeaveBehind::Keep) => Some(LeftBehind::Kept),
            Ok(v1::LeaveBehind::Discard) => Some(LeftBehind::Discarded),
            Err(_) => {
                return Err(invalid("leave_behind", format!("{} is unknown", request.leave_behind)));
            }
        };
        let id = pod_id(request.pod)?;
        let seed = random::bytes::<8>().map_err(|error| Status::unavailable(error.to_string()))?;
        let wish = Migrate {
            to: optional_node(request.to)?,
            left_behind,
            reason: reason(&request.reason, caller)?,
            seed: u64::from_le_bytes(seed),
        };
        let pod = id.clone();
        self.change(move |tx| tx.migrate(&pod, wish)).await?;
        self.migration(id).await
    }

    pub(super) async fn abort(
        &self,
        request: v1::AbortMigrationRequest,
    ) -> Result<Response<v1::Migration>, Status> {
        let id = pod_id(request.pod)?;
        let pod = id.clone();
        self.change(move |tx| tx.abort_migration(&pod)).await?;
        self.migration(id).await
    }

    pub(super) async fn migration(&self, id: PodId) -> Result<Response<v1::Migration>, Status> {
        let pod = id.clone();
        let found = self.look(move |tx| Some(tx.migrations().get(&pod)?.to_wire(&pod)));
        let missing = || Status::not_found(format!("pod {id} has no migration"));
        found.await?.map(Response::new).ok_or_else(missing)
    }
}
