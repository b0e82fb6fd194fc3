//! What of a pod's request can be changed while the pod keeps its sandbox, as the node's own admission has it: the
//! node refuses the same on its own, but a platform should hear of it before any order is sent.

use berth_model::{Access, Bytes, ContainerName, ContainerRequest, DataDisk, Limits, PodRequest};
use std::collections::BTreeSet;

/// How a pod is changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum InPlace {
    /// Containers that differ are replaced.
    Upgrade,
    /// Nothing is replaced.
    Resize,
}

impl InPlace {
    /// The verb's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "Upgrade",
            Self::Resize => "Resize",
        }
    }
}

/// What has to be replaced for a difference to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Live,
    Container,
    Sandbox,
}

/// Why a change cannot be made in place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotInPlace {
    /// It lives on the sandbox, or decides where the pod runs.
    #[error("{0}: cannot be changed in place: evict the pod and submit it anew")]
    Sandbox(String),
    /// Only a new container knows it.
    #[error("{0}: cannot be changed while the container runs: upgrade the pod")]
    Container(String),
}

/// Whether `new` differs from `old` only in what can be changed so.
///
/// # Errors
/// The first field that cannot.
pub(crate) fn check(old: &PodRequest, new: &PodRequest, how: InPlace) -> Result<(), NotInPlace> {
    let differing = fields(old, new).into_iter().chain(containers(old, new));
    for (field, reach) in differing {
        match (reach, how) {
            (Reach::Live, _) | (Reach::Container, InPlace::Upgrade) => {}
            (Reach::Container, InPlace::Resize) => return Err(NotInPlace::Container(field)),
            (Reach::Sandbox, _) => return Err(NotInPlace::Sandbox(field)),
        }
    }
    Ok(())
}

/// Whether CPUs, memory or devices have to be found anew for what differs.
pub(crate) fn needs_placement(old: &PodRequest, new: &PodRequest) -> bool {
    old.cpu != new.cpu
        || berth_placement::memory_demand(old) != berth_placement::memory_demand(new)
        || devices(&old.limits) != devices(&new.limits)
        || own(old) != own(new)
        || !page_sizes(new).is_subset(&page_sizes(old))
        || !host_paths(new).is_subset(&host_paths(old))
}

fn page_sizes(request: &PodRequest) -> BTreeSet<Bytes> {
    request.disks.iter().filter_map(DataDisk::page_size).collect()
}

/// A node may not share all of what another pod has.
fn host_paths(request: &PodRequest) -> BTreeSet<(&str, Access)> {
    let all = request.containers.iter().flat_map(|container| &container.host_paths);
    all.map(|path| (path.source.as_str(), path.access)).collect()
}

fn own(request: &PodRequest) -> Vec<(Option<u32>, Devices<'_>)> {
    let containers = request.containers.iter();
    containers.map(|container| (container.exclusive_cpus, devices(&container.limits))).collect()
}

/// Mount points and page sizes, which a node may not have.
type Devices<'a> = (Vec<&'a str>, Vec<Bytes>);

fn devices(limits: &Limits) -> Devices<'_> {
    let mounts = limits.io.iter().map(|io| io.mount_point.as_str()).collect();
    (mounts, limits.hugetlb.iter().map(|huge| huge.page_size).collect())
}

fn hostname(request: &PodRequest) -> &str {
    request.hostname.as_deref().unwrap_or(request.pod.name())
}

fn names(containers: &[ContainerRequest]) -> Vec<&ContainerName> {
    containers.iter().map(|container| &container.name).collect()
}

/// The pod's own differences. The request is taken apart field by field, so that a new field must be thought of here.
fn fields(old: &PodRequest, new: &PodRequest) -> Vec<(String, Reach)> {
    let PodRequest {
        pod,
        labels,
        hostname: _,
        class,
        priority,
        containers,
        disks,
        cpu,
        memory_request,
        limits,
        network,
        address_pools,
        node,
        node_labels,
        dns,
        sysctls,
        restart,
        disk,
        recovery,
        stop_grace_ms,
    } = new;
    let fields = [
        ("pod", *pod != old.pod, Reach::Sandbox),
        ("hostname", hostname(new) != hostname(old), Reach::Sandbox),
        ("host_network", *network != old.network, Reach::Sandbox),
        ("address_pools", *address_pools != old.address_pools, Reach::Sandbox),
        ("dns", *dns != old.dns, Reach::Sandbox),
        ("sysctls", *sysctls != old.sysctls, Reach::Sandbox),
        ("node", *node != old.node, Reach::Sandbox),
        ("node_labels", *node_labels != old.node_labels, Reach::Sandbox),
        ("containers", names(containers) != names(&old.containers), Reach::Sandbox),
        ("disks", DataDisk::any_made_anew(&old.disks, disks), Reach::Sandbox),
        ("disks", *disks != old.disks, Reach::Live),
        ("labels", *labels != old.labels, Reach::Live),
        ("class", *class != old.class, Reach::Live),
        ("priority", *priority != old.priority, Reach::Live),
        ("cpu", *cpu != old.cpu, Reach::Live),
        ("memory_request", *memory_request != old.memory_request, Reach::Live),
        ("limits", *limits != old.limits, Reach::Live),
        ("restart", *restart != old.restart, Reach::Live),
        ("disk", *disk != old.disk, Reach::Live),
        ("recovery", *recovery != old.recovery, Reach::Live),
        ("stop_grace_ms", *stop_grace_ms != old.stop_grace_ms, Reach::Live),
    ];
    differing(fields, str::to_owned)
}

fn differing<const N: usize>(
    fields: [(&str, bool, Reach); N],
    name: impl Fn(&str) -> String,
) -> Vec<(String, Reach)> {
    let differing = fields.into_iter().filter(|(_, differs, _)| *differs);
    differing.map(|(field, _, reach)| (name(field), reach)).collect()
}

/// A running process takes on another ulimit, but what it would have without one only a new container knows.
fn ulimits_reach(old: &ContainerRequest, new: &ContainerRequest) -> Reach {
    let still = |rlimit| new.ulimits.iter().any(|ulimit| ulimit.rlimit == rlimit);
    match old.ulimits.iter().all(|ulimit| still(ulimit.rlimit)) {
        true => Reach::Live,
        false => Reach::Container,
    }
}

fn containers(old: &PodRequest, new: &PodRequest) -> Vec<(String, Reach)> {
    old.containers.iter().zip(&new.containers).flat_map(|(old, new)| container(old, new)).collect()
}

fn container(old: &ContainerRequest, new: &ContainerRequest) -> Vec<(String, Reach)> {
    let ContainerRequest {
        name,
        role,
        image,
        digest,
        command,
        args,
        env,
        working_dir,
        user,
        security,
        lifecycle,
        limits,
        exclusive_cpus,
        ulimits,
        readiness,
        mounts,
        config,
        host_paths,
        system_disk_size,
    } = new;
    let fields = [
        ("role", *role != old.role, Reach::Sandbox),
        ("image", *image != old.image, Reach::Container),
        ("digest", *digest != old.digest, Reach::Container),
        ("command", *command != old.command, Reach::Container),
        ("args", *args != old.args, Reach::Container),
        ("env", *env != old.env, Reach::Container),
        ("working_dir", *working_dir != old.working_dir, Reach::Container),
        ("user", *user != old.user, Reach::Container),
        ("mounts", *mounts != old.mounts, Reach::Container),
        ("config", *config != old.config, Reach::Container),
        ("host_paths", *host_paths != old.host_paths, Reach::Container),
        ("system_disk_size", *system_disk_size != old.system_disk_size, Reach::Container),
        ("security", *security != old.security, Reach::Container),
        ("lifecycle", *lifecycle != old.lifecycle, Reach::Container),
        ("limits", *limits != old.limits, Reach::Live),
        ("exclusive_cpus", *exclusive_cpus != old.exclusive_cpus, Reach::Live),
        ("ulimits", *ulimits != old.ulimits, ulimits_reach(old, new)),
        ("readiness", *readiness != old.readiness, Reach::Live),
    ];
    differing(fields, |field| format!("containers[{name}].{field}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1;

    fn request() -> v1::PodRequest {
        v1::PodRequest {
            pod: Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() }),
            containers: vec![v1::ContainerRequest {
                name: "web".to_owned(),
                image: "registry.example/web:1".to_owned(),
                ulimits: vec![v1::Ulimit { rlimit: "nofile".to_owned(), soft: 8, hard: 8 }],
                ..v1::ContainerRequest::default()
            }],
            ..v1::PodRequest::default()
        }
    }

    fn check(change: impl Fn(&mut v1::PodRequest), upgrade: &str, resize: &str) {
        let mut changed = request();
        change(&mut changed);
        let (old, new) = (request().try_into().unwrap(), changed.try_into().unwrap());
        for (how, expected) in [(InPlace::Upgrade, upgrade), (InPlace::Resize, resize)] {
            let said = super::check(&old, &new, how).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                said.starts_with(expected) && said.is_empty() == expected.is_empty(),
                "{how:?}: {said:?}"
            );
        }
    }

    #[test]
    fn what_can_be_changed_how() {
        let both = |change: fn(&mut v1::PodRequest), field: &str| check(change, field, field);
        both(|_| {}, "");
        both(|pod| pod.hostname = Some("web".to_owned()), "");
        both(|pod| pod.hostname = Some("other".to_owned()), "hostname: cannot be changed in place");
        both(|pod| pod.host_network = true, "host_network: cannot be changed in place");
        both(|pod| pod.address_pools = vec!["lan".to_owned()], "address_pools:");
        both(|pod| pod.dns = Some(v1::Dns { searches: vec!["a".to_owned()], ..v1::Dns::default() }), "dns:");
        both(|pod| pod.node = Some("n1".to_owned()), "node:");
        both(|pod| drop(pod.node_labels.insert("a".to_owned(), "b".to_owned())), "node_labels:");
        both(|pod| pod.containers[0].name = "other".to_owned(), "containers:");
        both(|pod| drop(pod.labels.insert("a".to_owned(), "b".to_owned())), "");
        both(|pod| pod.memory_request_bytes = Some(1), "");
        both(|pod| pod.limits = Some(v1::Limits { pids_max: Some(7), ..v1::Limits::default() }), "");
        both(|pod| pod.containers[0].ulimits[0].soft = 7, "");
        let live = |change: fn(&mut v1::PodRequest), field: &str| check(change, "", field);
        live(
            |pod| pod.containers[0].image = "registry.example/web:2".to_owned(),
            "containers[web].image: cannot be",
        );
        live(|pod| pod.containers[0].args = vec!["x".to_owned()], "containers[web].args:");
        live(|pod| pod.containers[0].config = vec![v1::ConfigFolder::default()], "containers[web].config:");
        let fuse = v1::HostPath { source: "/dev/fuse".to_owned(), path: "/dev/fuse".to_owned(), access: 0 };
        let shares = move |pod: &mut v1::PodRequest| pod.containers[0].host_paths = vec![fuse.clone()];
        check(shares, "", "containers[web].host_paths:");
        live(|pod| pod.containers[0].ulimits.clear(), "containers[web].ulimits:");
    }
}
