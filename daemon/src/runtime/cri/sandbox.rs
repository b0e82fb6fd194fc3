//! The sandbox's configuration, from the order.

use super::security::{profile, seccomp_file};
use crate::runtime::Ordered;
use crate::runtime::identity::{Role, Tag, log_folder, pod_uid, slice_name};
use berth_model::{Attempt, DnsConfig, Profile};
use k8s_cri::v1::{
    DnsConfig as CriDns, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata,
};
use std::path::Path;

/// What a sandbox's configuration is made of.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct SandboxPlan<'a> {
    pub(in crate::runtime) ordered: &'a Ordered,
    pub(in crate::runtime) attempt: Attempt,
    /// Where all pods' log folders are.
    pub(in crate::runtime) log_root: &'a Path,
}

/// The configuration; the same for a sandbox and for every container made in it.
pub(in crate::runtime) fn sandbox_config(plan: SandboxPlan<'_>) -> PodSandboxConfig {
    let SandboxPlan { ordered, attempt, log_root } = plan;
    let Ordered { pod, incarnation, spec, .. } = ordered;
    let tag = Tag { pod: pod.clone(), incarnation: *incarnation, attempt, role: Role::Sandbox };
    let log_directory = log_root.join(log_folder(pod, *incarnation));
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod_uid(pod, *incarnation),
            namespace: pod.namespace().to_owned(),
            attempt: attempt.0,
        }),
        hostname: spec.hostname.clone(),
        log_directory: log_directory.to_string_lossy().into_owned(),
        dns_config: Some(dns_config(&spec.dns)),
        labels: tag.to_labels(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: slice_name(pod),
            security_context: Some(security_context()),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// Without any word of the order, containerd gives the pod the host's `resolv.conf`.
fn dns_config(dns: &DnsConfig) -> CriDns {
    CriDns {
        servers: dns.servers.iter().map(ToString::to_string).collect(),
        searches: dns.searches.clone(),
        options: dns.options.clone(),
    }
}

fn security_context() -> LinuxSandboxSecurityContext {
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
        seccomp: Some(profile(&Profile::RuntimeDefault, seccomp_file)),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// Network and IPC are the pod's, process ids each container's own.
pub(super) fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    }
}
