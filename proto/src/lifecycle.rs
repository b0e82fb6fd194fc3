//! How a container is asked to end.

use crate::error::{At, Result};
use crate::v1;
use berth_model::Lifecycle;

pub(crate) fn lifecycle_from(wire: v1::Lifecycle) -> Result<Lifecycle> {
    Ok(Lifecycle {
        pre_stop: wire.pre_stop,
        stop_signal: wire.stop_signal.map(|name| name.parse()).transpose().at("stop_signal")?,
    })
}

impl From<&Lifecycle> for v1::Lifecycle {
    fn from(lifecycle: &Lifecycle) -> Self {
        Self {
            pre_stop: lifecycle.pre_stop.clone(),
            stop_signal: lifecycle.stop_signal.map(|signal| signal.to_string()),
        }
    }
}
