//! Whether the host has what an order names.

use super::{HostView, QuotaView};
use crate::SharedPool;
use berth_model::{
    CpuBinding, CpuSet, DataDisk, DiskSource, Limits, MemSet, PodNetwork, PodSpec, Profile, ProfileName,
    Refusal, SECCOMP_FOLDER,
};

/// What of a charter the host cannot honour as it is now, for people; none if it can. CPUs, memory nodes and disks may
/// have gone since the charter was accepted, most of all over a reboot.
///
/// `pool` is the one that a pod with shared CPUs has. It is honoured as long as any of it is there: which of its CPUs a
/// pod runs on was never promised.
pub fn obstacle(host: &HostView, spec: &PodSpec, pool: Option<&SharedPool>) -> Option<String> {
    let binding = match (&spec.cpu, pool) {
        (CpuBinding::Exclusive { cpus, mems }, _) => check_cpus(host, cpus, mems),
        (CpuBinding::Shared { .. }, Some(pool)) => check_pool(host, pool),
        (CpuBinding::Shared { .. }, None) => Ok(()),
    };
    let there = binding
        .and_then(|()| check_limits(host, spec))
        .and_then(|()| check_profiles(host, spec))
        .and_then(|()| check_shared(host, spec));
    there.err().map(|refusal| refusal.to_string())
}

/// Something of a pool must be there.
fn check_pool(host: &HostView, pool: &SharedPool) -> Result<(), Refusal> {
    if pool.cpus.intersection(&host.online_cpus).is_empty() {
        return Err(Refusal::NoSuchCpu { cpus: pool.cpus.clone(), online: host.online_cpus.clone() });
    }
    if pool.mems.intersection(&host.mems).is_empty() {
        return Err(Refusal::NoSuchMemoryNode { mems: pool.mems.clone(), present: host.mems.clone() });
    }
    Ok(())
}

/// What is to be held to a size must be on a file system that can.
pub(super) fn check_sizes(host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    let sized = |disk: &&DataDisk| matches!(disk.source, DiskSource::Directory { size: Some(_) });
    let data = spec.disks.iter().find(sized).map(|disk| format!("data disk {}", disk.name));
    let system = spec.containers.iter().find(|container| container.system_disk_size.is_some());
    let system = system.map(|container| format!("the system disk of container {}", container.name));
    for (what, quota) in [(data, &host.data_disk_quota), (system, &host.system_disk_quota)] {
        if let (Some(what), QuotaView::Unsupported { why }) = (what, quota) {
            return Err(Refusal::QuotaUnsupported { what, why: why.clone() });
        }
    }
    Ok(())
}

/// CPUs must be online and memory nodes must have memory.
pub(super) fn check_cpus(host: &HostView, cpus: &CpuSet, mems: &MemSet) -> Result<(), Refusal> {
    let missing = cpus.difference(&host.online_cpus);
    if !missing.is_empty() {
        return Err(Refusal::NoSuchCpu { cpus: missing, online: host.online_cpus.clone() });
    }
    let missing = mems.difference(&host.mems);
    if !missing.is_empty() {
        return Err(Refusal::NoSuchMemoryNode { mems: missing, present: host.mems.clone() });
    }
    Ok(())
}

/// CPUs that are kept for the system's own services are nobody else's.
pub(super) fn check_reserved(host: &HostView, cpus: &CpuSet) -> Result<(), Refusal> {
    let reserved = cpus.intersection(&host.reserved_cpus);
    match reserved.is_empty() {
        true => Ok(()),
        false => Err(Refusal::ReservedCpus { cpus: reserved, reserved: host.reserved_cpus.clone() }),
    }
}

/// Everything that the pod's and its containers' limits name must be there, and huge pages of every size that it is to have.
pub(super) fn check_limits(host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    let containers = spec.containers.iter().map(|container| &container.limits);
    std::iter::once(&spec.limits).chain(containers).try_for_each(|limits| check_one(host, limits))?;
    let missing =
        spec.disks.iter().filter_map(DataDisk::page_size).find(|size| !host.page_sizes.contains(size));
    missing.map_or(Ok(()), |size| Err(Refusal::NoSuchPageSize(size)))
}

/// A profile that an order names must be there.
pub(super) fn check_profiles(host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    spec.containers.iter().try_for_each(|container| {
        let missing = |what, name: &ProfileName, why: String| {
            Err(Refusal::NoSuchProfile { container: container.name.clone(), what, name: name.clone(), why })
        };
        match &container.security.seccomp {
            Profile::Localhost(name) if !host.profiles.seccomp.contains(name) => {
                return missing("seccomp", name, format!("no such file in {SECCOMP_FOLDER}"));
            }
            Profile::Localhost(_) | Profile::RuntimeDefault | Profile::Unconfined => {}
        }
        match (&container.security.apparmor, &host.profiles.apparmor) {
            (Profile::Localhost(name), None) => missing(
                "AppArmor",
                name,
                "no AppArmor in its kernel, or no apparmor_parser (package apparmor)".to_owned(),
            ),
            (Profile::Localhost(name), Some(loaded)) if !loaded.contains(name) => {
                missing("AppArmor", name, "not loaded in its kernel".to_owned())
            }
            (Profile::Localhost(_) | Profile::RuntimeDefault | Profile::Unconfined, _) => Ok(()),
        }
    })
}

/// What of the host an order names must be shared, and be there.
pub(super) fn check_shared(host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    match (spec.network, host.host_network) {
        (PodNetwork::Own, _) | (PodNetwork::Host, true) => check_host_paths(host, spec),
        (PodNetwork::Host, false) => {
            let why = "a pod in the host's network, which host_network in berthd.toml does not share";
            Err(Refusal::Unsupported(why.to_owned()))
        }
    }
}

fn check_host_paths(host: &HostView, spec: &PodSpec) -> Result<(), Refusal> {
    spec.containers.iter().try_for_each(|container| {
        container.host_paths.iter().try_for_each(|path| match path.withheld(&host.host_paths) {
            None => Ok(()),
            Some(why) => Err(Refusal::NoSuchHostPath {
                container: container.name.clone(),
                path: path.source.clone(),
                why,
            }),
        })
    })
}

fn check_one(host: &HostView, limits: &Limits) -> Result<(), Refusal> {
    for io in &limits.io {
        if !host.mount_points.contains(&io.mount_point) {
            let why = "it is no mount point of a disk on this host".to_owned();
            return Err(Refusal::NoSuchDevice { mount_point: io.mount_point.clone(), why });
        }
        if io.weight.is_some() && !host.io_weight {
            return Err(Refusal::Unsupported(format!(
                "io.weight on {}: the kernel was built without it (CONFIG_BLK_CGROUP_IOCOST); leave weights out, or \
                 run the pod elsewhere",
                io.mount_point
            )));
        }
    }
    if let Some(huge) = limits.hugetlb.iter().find(|huge| !host.page_sizes.contains(&huge.page_size)) {
        return Err(Refusal::NoSuchPageSize(huge.page_size));
    }
    if limits.swap_max.is_some() && !host.swap {
        return Err(Refusal::Unsupported(
            "memory.swap.max: the kernel accounts no swap; boot without swapaccount=0, or leave swap out"
                .to_owned(),
        ));
    }
    Ok(())
}
