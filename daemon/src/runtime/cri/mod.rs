//! CRI: what is asked of containerd as the kubelet would ask it.
//!
//! [`sandbox`], [`container`] and [`security`] write the configurations, without I/O; [`calls`] makes the calls.

mod calls;
mod container;
mod sandbox;
mod security;

pub(super) use calls::{CriState, START_ERROR};
pub(super) use container::{ContainerPlan, container_config};
pub(super) use sandbox::{SandboxPlan, sandbox_config};
