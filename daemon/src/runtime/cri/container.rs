//! A container's configuration, from the order.

use super::sandbox::namespaces;
use super::security::{apparmor, capabilities, profile, seccomp_file};
use crate::runtime::identity::{Role, Tag, log_file};
use crate::runtime::stopping::to_annotations;
use crate::runtime::{Making, Ordered};
use berth_model::{Access, ContainerSpec, EnvVar, PodNetwork, PrivilegeGain, User};
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, Device, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, Mount,
};
use std::path::{Path, PathBuf};

/// What a container's configuration is made of.
#[derive(Debug)]
pub(in crate::runtime) struct ContainerPlan<'a> {
    pub(in crate::runtime) ordered: &'a Ordered,
    pub(in crate::runtime) spec: &'a ContainerSpec,
    pub(in crate::runtime) making: &'a Making,
    pub(in crate::runtime) resources: LinuxContainerResources,
    /// The pod's own `/etc/hosts`, on the host; in the host's network, containerd gives it a copy of the host's.
    pub(in crate::runtime) hosts_file: Option<PathBuf>,
    /// Data disks, configuration, and what of the host it sees.
    pub(in crate::runtime) mounts: Vec<Mount>,
    /// Devices of the host that it may open.
    pub(in crate::runtime) devices: Vec<Device>,
}

/// What an ordinary container must not see of `/proc` and `/sys`: the list of Docker and Kubernetes.
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// What it must not write: the same lists' other half.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration.
pub(in crate::runtime) fn container_config(plan: ContainerPlan<'_>) -> ContainerConfig {
    let ContainerPlan { ordered, spec, making, resources, hosts_file, mounts, devices } = plan;
    let Making { attempt, generation, digest } = making;
    let attempt = *attempt;
    let tag = Tag {
        pod: ordered.pod.clone(),
        incarnation: ordered.incarnation,
        attempt,
        role: Role::Container { name: spec.name.clone(), generation: *generation, digest: digest.clone() },
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: spec.name.to_string(), attempt: attempt.0 }),
        image: Some(ImageSpec {
            // By digest, so that no tag that has moved on is picked up.
            image: spec.image.pinned(digest.clone()).to_string(),
            ..ImageSpec::default()
        }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        envs: environment(&spec.env),
        mounts: hosts_file.as_deref().map(hosts_mount).into_iter().chain(mounts).collect(),
        devices,
        labels: tag.to_labels(),
        annotations: to_annotations(&spec.lifecycle),
        log_path: log_file(&spec.name, attempt),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security_context(spec, ordered.spec.network)),
        }),
        ..ContainerConfig::default()
    }
}

fn hosts_mount(path: &Path) -> Mount {
    Mount {
        container_path: "/etc/hosts".to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}

/// Each name once, the last value: containerd would pass doubles on, and `getenv` takes the first.
fn environment(env: &[EnvVar]) -> Vec<KeyValue> {
    let mut pairs: Vec<KeyValue> = Vec::new();
    for EnvVar { name, value } in env {
        pairs.retain(|pair| pair.key != *name);
        pairs.push(KeyValue { key: name.clone(), value: value.clone() });
    }
    pairs
}

fn security_context(spec: &ContainerSpec, network: PodNetwork) -> LinuxContainerSecurityContext {
    let ContainerSpec { user, security, .. } = spec;
    let strings = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let number = |id: u32| Int64Value { value: i64::from(id) };
    let (run_as_user, run_as_group, run_as_username) = match user {
        None => (None, None, String::new()),
        Some(User::Id { uid, gid }) => (Some(number(*uid)), gid.map(number), String::new()),
        Some(User::Name(name)) => (None, None, name.clone()),
    };
    LinuxContainerSecurityContext {
        namespace_options: Some(namespaces(network)),
        run_as_user,
        run_as_group,
        run_as_username,
        masked_paths: strings(&MASKED_PATHS),
        readonly_paths: strings(&READONLY_PATHS),
        supplemental_groups: security.groups.iter().copied().map(i64::from).collect(),
        capabilities: Some(capabilities(&security.capabilities)),
        seccomp: Some(profile(&security.seccomp, seccomp_file)),
        apparmor: apparmor(&security.apparmor),
        readonly_rootfs: security.root == Access::ReadOnly,
        no_new_privs: security.gain == PrivilegeGain::Forbidden,
        ..LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::container_spec;

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let var = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: value.to_owned() };
        let pairs = environment(&[var("A", "1"), var("B", "2"), var("A", "3")]);
        let pairs: Vec<_> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
        assert_eq!(pairs, [("B", "2"), ("A", "3")]);
    }

    #[test]
    fn a_user_is_told_by_number_or_by_name() {
        let of = |user| {
            let spec = ContainerSpec { user: Some(user), ..container_spec("web") };
            security_context(&spec, PodNetwork::Own)
        };
        let by_number = of(User::Id { uid: 5, gid: Some(6) });
        assert_eq!(by_number.run_as_user.map(|id| id.value), Some(5));
        assert_eq!(by_number.run_as_group.map(|id| id.value), Some(6));
        let by_name = of(User::Name("redis".to_owned()));
        assert_eq!((by_name.run_as_user, by_name.run_as_username.as_str()), (None, "redis"));
    }
}
