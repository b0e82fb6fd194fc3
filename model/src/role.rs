//! When a container starts and ends among the others of its pod.

use crate::{ContainerName, ContainerSpec, PodSpec};

/// A container's part in the life of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum ContainerRole {
    /// It does the pod's work.
    #[default]
    Main,
    /// It runs to its end, with exit code 0, before what comes after it starts (Kubernetes: an init container). It runs
    /// once in each sandbox, and again when a stopped pod is started or it is itself upgraded.
    Init,
    /// It starts before the containers that do the pod's work and is stopped after them (Kubernetes: KEP-753).
    Sidecar,
}

impl PodSpec {
    /// The containers as they start: those that prepare or serve in the order of the spec, then those that do the work.
    pub fn start_order(&self) -> impl Iterator<Item = &ContainerSpec> {
        let before = self.containers.iter().filter(|container| container.role != ContainerRole::Main);
        before.chain(self.with_role(ContainerRole::Main))
    }

    /// The containers of that role, in the order of the spec.
    pub fn with_role(&self, role: ContainerRole) -> impl Iterator<Item = &ContainerSpec> {
        self.containers.iter().filter(move |container| container.role == role)
    }

    /// How late a container is stopped: 0 for those that do the work, and the higher the earlier it started for others.
    pub fn stop_rank(&self, name: &ContainerName) -> usize {
        let before = self.containers.iter().filter(|container| container.role != ContainerRole::Main);
        before.rev().position(|container| container.name == *name).map_or(0, |rank| rank + 1)
    }
}
