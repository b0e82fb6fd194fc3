//! CRI: what is asked of containerd as the kubelet would ask it.
//!
//! [`sandbox`] and [`container`] write the configurations, without I/O; [`calls`] makes the calls.

mod calls;
mod container;
mod sandbox;

pub(super) use calls::CriState;
pub(super) use container::{ContainerPlan, container_config};
pub(super) use sandbox::{SandboxPlan, sandbox_config};
