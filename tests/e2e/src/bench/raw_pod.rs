//! A pod by the runtime's bare calls, timed beside the runtime itself.

use super::IDLE;
use crate::raw_cri::{RawPod, time_here};
use anyhow::{Context, Result};

/// Makes a pod on this host by bare calls, and removes it; answers the time from the first call to the start of its
/// container, by the runtime's word, nanoseconds. Only for a virtual host.
///
/// # Errors
/// When the runtime refuses something.
pub fn time_raw_pod(name: &str, image: &str) -> Result<i64> {
    let pod = RawPod {
        name: name.to_owned(),
        image: image.to_owned(),
        command: IDLE.map(str::to_owned).to_vec(),
        args: Vec::new(),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    tokio.block_on(Box::pin(time_here(&pod)))
}
