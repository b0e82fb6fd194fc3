//! What differs between two specs of one pod, and how deep each difference reaches.

use berth_model::{ContainerName, ContainerSpec, DataDisk, PodSpec};

/// What has to be replaced for a difference to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing: a running container takes it on, or only the charter goes by it.
    Live,
    /// The container.
    Container(ContainerName),
    /// The sandbox: nothing less carries it.
    Sandbox,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// The field, for people.
    pub(super) field: String,
    /// How deep it reaches.
    pub(super) reach: Reach,
}

/// Every difference, the pod's own first. Both specs are taken apart field by field, so that a new field must be
/// thought of here.
pub(super) fn differences(old: &PodSpec, new: &PodSpec) -> Vec<Difference> {
    let PodSpec {
        hostname,
        class,
        priority,
        containers,
        disks,
        cpu,
        limits,
        network,
        addresses,
        dns,
        sysctls,
        restart,
        disk,
        recovery,
        stop_grace_ms,
    } = new;
    let fields = [
        ("hostname", *hostname != old.hostname, Reach::Sandbox),
        ("network", *network != old.network, Reach::Sandbox),
        ("address", *addresses != old.addresses, Reach::Sandbox),
        ("dns", *dns != old.dns, Reach::Sandbox),
        ("sysctls", *sysctls != old.sysctls, Reach::Sandbox),
        ("the set of containers", names(containers) != names(&old.containers), Reach::Sandbox),
        ("the source of a data disk", DataDisk::any_made_anew(&old.disks, disks), Reach::Sandbox),
        ("data disks", *disks != old.disks, Reach::Live),
        ("class", *class != old.class, Reach::Live),
        ("priority", *priority != old.priority, Reach::Live),
        ("cpu", *cpu != old.cpu, Reach::Live),
        ("limits", *limits != old.limits, Reach::Live),
        ("restart", *restart != old.restart, Reach::Live),
        ("disk", *disk != old.disk, Reach::Live),
        ("recovery", *recovery != old.recovery, Reach::Live),
        ("stop grace", *stop_grace_ms != old.stop_grace_ms, Reach::Live),
    ];
    let pods = fields.into_iter().filter(|(_, differs, _)| *differs);
    let pods = pods.map(|(field, _, reach)| Difference { field: field.to_owned(), reach });
    let containers = old.containers.iter().zip(containers).flat_map(|(old, new)| differs(old, new));
    pods.chain(containers).collect()
}

fn names(containers: &[ContainerSpec]) -> Vec<&ContainerName> {
    containers.iter().map(|container| &container.name).collect()
}

/// A running process takes on another ulimit, but what it would have without one only a new container knows.
fn ulimits_reach(old: &ContainerSpec, new: &ContainerSpec) -> Reach {
    let still = |rlimit| new.ulimits.iter().any(|ulimit| ulimit.rlimit == rlimit);
    match old.ulimits.iter().all(|ulimit| still(ulimit.rlimit)) {
        true => Reach::Live,
        false => Reach::Container(new.name.clone()),
    }
}

/// Every difference between two containers of one name.
pub(super) fn differs(old: &ContainerSpec, new: &ContainerSpec) -> Vec<Difference> {
    let ContainerSpec {
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
        mounts,
        config,
        host_paths,
        system_disk_size,
        limits,
        cpus,
        ulimits,
        readiness,
    } = new;
    let whole = || Reach::Container(name.clone());
    let fields = [
        ("role", *role != old.role, Reach::Sandbox),
        ("image", *image != old.image, whole()),
        ("digest", *digest != old.digest, whole()),
        ("command", *command != old.command, whole()),
        ("args", *args != old.args, whole()),
        ("env", *env != old.env, whole()),
        ("working directory", *working_dir != old.working_dir, whole()),
        ("user", *user != old.user, whole()),
        ("security", *security != old.security, whole()),
        ("lifecycle", *lifecycle != old.lifecycle, whole()),
        ("mounts", *mounts != old.mounts, whole()),
        ("config", *config != old.config, whole()),
        ("host paths", *host_paths != old.host_paths, whole()),
        ("system disk size", *system_disk_size != old.system_disk_size, whole()),
        ("limits", *limits != old.limits, Reach::Live),
        ("cpus", *cpus != old.cpus, Reach::Live),
        ("ulimits", *ulimits != old.ulimits, ulimits_reach(old, new)),
        ("readiness", *readiness != old.readiness, Reach::Live),
    ];
    let differing = fields.into_iter().filter(|(_, differs, _)| *differs);
    let of = |field: &str| format!("{field} of container {name}");
    differing.map(|(field, _, reach)| Difference { field: of(field), reach }).collect()
}
