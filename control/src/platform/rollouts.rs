//! The RPCs about rollouts.

use super::{PlatformService, change::patch_wish, invalid, reason};
use crate::state::{ChangeRollout, DEFAULT_SETTLE_MS, StartRollout};
use berth_model::RolloutName;
use berth_proto::v1;
use std::fmt::Display;
use tonic::{Response, Status};

/// Largest selector.
const MAX_SELECTOR_BYTES: usize = 16 * 1024;

fn rollout_name(text: String) -> Result<RolloutName, Status> {
    RolloutName::new(text).map_err(|error| invalid("name", error))
}

impl PlatformService {
    pub(super) async fn begin_rollout(
        &self,
        request: v1::StartRolloutRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Rollout>, Status> {
        let name = rollout_name(request.name.clone())?;
        let selector = request.selector.unwrap_or_default();
        let size = prost::Message::encoded_len(&selector);
        if size > MAX_SELECTOR_BYTES {
            let why = format!("has {size} bytes, at most {MAX_SELECTOR_BYTES} are accepted");
            return Err(invalid("selector", why));
        }
        let patch = request.patch.unwrap_or_default();
        patch_wish(patch.clone())?;
        let wish = StartRollout {
            name: name.clone(),
            selector,
            patch,
            max_unavailable: request.max_unavailable,
            settle_ms: request.settle_ms.unwrap_or(DEFAULT_SETTLE_MS),
            reason: reason(&request.reason, caller)?,
        };
        self.change(move |tx| tx.start_rollout(wish)).await?;
        self.rollout(name.to_string()).await
    }

    pub(super) async fn rollout(&self, name: String) -> Result<Response<v1::Rollout>, Status> {
        let name = rollout_name(name)?;
        let wanted = name.clone();
        let found = self.look(move |tx| Some(tx.rollouts().get(&wanted)?.to_wire_whole(&wanted)));
        let missing = || Status::not_found(format!("there is no rollout {name}"));
        found.await?.map(Response::new).ok_or_else(missing)
    }

    pub(super) async fn alter_rollout(
        &self,
        request: v1::ChangeRolloutRequest,
    ) -> Result<Response<v1::Rollout>, Status> {
        use v1::change_rollout_request::Action;
        let change = match request.action() {
            Action::Pause => ChangeRollout::Pause,
            Action::Resume => ChangeRollout::Resume,
            Action::Undo => ChangeRollout::Undo,
            Action::Unspecified => return Err(invalid("action", "is missing or unknown to this version")),
        };
        let name = rollout_name(request.name.clone())?;
        self.change(move |tx| tx.change_rollout(&name, change)).await?;
        self.rollout(request.name).await
    }
}
