//! What the core asks about the host: looks, behind a trait so that tests need no host.

use berth_plan::HostView;
use berth_proto::v1;
use std::future::Future;

/// The host, as admission, upstream and people see it.
pub trait Host: Send + Sync + 'static {
    /// What admission needs, as it is now.
    fn view(&self) -> HostView;

    /// What upstream is told, as it is now.
    fn facts(&self) -> impl Future<Output = v1::NodeFacts> + Send;

    /// Whether the host is fit to run pods, check by check.
    fn diagnose(&self) -> impl Future<Output = Vec<v1::Finding>> + Send;
}
