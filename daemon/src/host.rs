//! What the core asks about the host: two looks, behind a trait so that tests need no host.

use berth_plan::HostView;
use berth_proto::v1;

/// The host, as admission and upstream see it.
pub trait Host: Send + Sync + 'static {
    /// What admission needs, as it is now.
    fn view(&self) -> HostView;

    /// What upstream is told, as it is now.
    fn facts(&self) -> impl Future<Output = v1::NodeFacts> + Send;
}
