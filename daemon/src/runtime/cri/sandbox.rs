//! The sandbox's configuration, from the order.

use super::security::{profile, seccomp_file};
use crate::runtime::Ordered;
use crate::runtime::identity::{Role, Tag, log_folder, pod_uid, slice_name};
use berth_model::{Attempt, DnsConfig, PodNetwork, Profile};
use k8s_cri::v1::{
    DnsConfig as CriDns, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata,
};
use std::path::Path;

/// What containerd copies.
const RESOLV_CONF: &str = "/etc/resolv.conf";

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
        hostname: match spec.network {
            PodNetwork::Own => spec.hostname.clone(),
            // Its UTS namespace is the host's too, where runc sets no name; left out, /etc/hostname says the host's.
            PodNetwork::Host => String::new(),
        },
        log_directory: log_directory.to_string_lossy().into_owned(),
        dns_config: dns_config(&spec.dns, Path::new(RESOLV_CONF)),
        labels: tag.to_labels(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: slice_name(pod),
            security_context: Some(security_context(spec.network)),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// Without any word of the order a pod has a copy of the host's resolv.conf, which containerd gives it where nothing at all is
/// said; and an empty one where the host has none, for then containerd would make no sandbox.
fn dns_config(dns: &DnsConfig, of_the_host: &Path) -> Option<CriDns> {
    (*dns != DnsConfig::default() || !of_the_host.exists()).then(|| CriDns {
        servers: dns.servers.iter().map(ToString::to_string).collect(),
        searches: dns.searches.clone(),
        options: dns.options.clone(),
    })
}

fn security_context(network: PodNetwork) -> LinuxSandboxSecurityContext {
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(network)),
        seccomp: Some(profile(&Profile::RuntimeDefault, seccomp_file)),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// IPC is the pod's, process ids each container's own; the network is the pod's or the host's, and the name goes with it.
pub(super) fn namespaces(network: PodNetwork) -> NamespaceOption {
    NamespaceOption {
        network: match network {
            PodNetwork::Own => NamespaceMode::Pod.into(),
            PodNetwork::Host => NamespaceMode::Node.into(),
        },
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake;
    use berth_model::PodSpec;

    #[test]
    fn a_pod_in_the_hosts_network_has_the_hosts_name() {
        let check = |network, expected: (NamespaceMode, &str)| {
            let spec = PodSpec { network, ..fake::spec("web") };
            let ordered = fake::ordered(&"shop/web".parse().unwrap(), spec);
            let log_root = Path::new("/var/log/berth/pods");
            let config = sandbox_config(SandboxPlan { ordered: &ordered, attempt: Attempt(1), log_root });
            let namespaces = config.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
            assert_eq!((namespaces.network(), config.hostname.as_str()), expected);
        };
        check(PodNetwork::Own, (NamespaceMode::Pod, "web"));
        check(PodNetwork::Host, (NamespaceMode::Node, ""));
    }

    #[test]
    fn a_pod_without_dns_of_its_own_has_the_hosts() {
        let host = tempfile::NamedTempFile::new().unwrap();
        let own = DnsConfig { searches: vec!["example".to_owned()], ..DnsConfig::default() };
        let absent = Path::new("/does/not/exist");
        assert_eq!(dns_config(&DnsConfig::default(), host.path()), None);
        assert_eq!(dns_config(&DnsConfig::default(), absent), Some(CriDns::default()));
        for of_the_host in [host.path(), absent] {
            assert_eq!(dns_config(&own, of_the_host).unwrap().searches, ["example"]);
        }
    }
}
