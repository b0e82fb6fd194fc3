//! What a platform asks for.

use crate::config::config_from;
use crate::disk::{disks_from, mounts_from};
use crate::error::{At, InvalidMessage, Result, each};
use crate::host_path::host_paths_from;
use crate::lifecycle::lifecycle_from;
use crate::limits::{limits_from, ulimits_from};
use crate::pod::{
    class_from, disk_from, dns_from, env_from, network_from, pod_from, recovery_from, restart_from,
    role_from, user_from,
};
use crate::probe::probe_from;
use crate::security::security_from;
use crate::v1;
use berth_model::{
    Bytes, ContainerRequest, CpuRequest, MAX_CONTAINERS, MilliCpu, PodNetwork, PodRequest, PoolName,
};
use std::collections::BTreeSet;

/// IPv4 and IPv6.
const ADDRESS_FAMILIES: usize = 2;

/// The pool that a pod shares when it does not say.
pub const DEFAULT_POOL: &str = "default";

impl TryFrom<v1::PodRequest> for PodRequest {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PodRequest) -> Result<Self> {
        let containers = each(wire.containers, "containers", container_from)?;
        check_names(&containers)?;
        let request = Self {
            pod: pod_from(wire.pod)?,
            labels: wire.labels.into_iter().collect(),
            hostname: wire.hostname,
            class: class_from(wire.class).at("class")?,
            priority: wire.priority,
            containers,
            disks: disks_from(wire.disks)?,
            cpu: cpu_from(wire.cpu).at("cpu")?,
            memory_request: wire.memory_request_bytes.map(Bytes),
            limits: limits_from(wire.limits.unwrap_or_default()).at("limits")?,
            network: network_from(wire.host_network),
            address_pools: address_pools_from(&wire.address_pools)?,
            node: wire.node.map(|node| node.parse()).transpose().at("node")?,
            node_labels: wire.node_labels.into_iter().collect(),
            dns: dns_from(wire.dns.unwrap_or_default()).at("dns")?,
            sysctls: wire.sysctls.into_iter().collect(),
            restart: restart_from(wire.restart).at("restart")?,
            disk: disk_from(wire.disk).at("disk")?,
            recovery: recovery_from(wire.recovery).at("recovery")?,
            stop_grace_ms: wire.stop_grace_ms.unwrap_or(Self::DEFAULT_STOP_GRACE_MS),
        };
        request.validate_disks().at("disks")?;
        request.validate_network().at("host_network")?;
        Ok(request)
    }
}

fn address_pools_from(wire: &[String]) -> Result<Vec<PoolName>> {
    if wire.len() > ADDRESS_FAMILIES {
        let why = format!("{} pools, and a pod has at most one address of each family", wire.len());
        return Err(InvalidMessage::new("address_pools", why));
    }
    wire.iter().map(|pool| pool.parse().at("address_pools")).collect()
}

fn check_names(containers: &[ContainerRequest]) -> Result<()> {
    if containers.is_empty() {
        return Err(InvalidMessage::new("containers", "a pod has at least one"));
    }
    if containers.len() > MAX_CONTAINERS {
        return Err(InvalidMessage::new("containers", format!("a pod has at most {MAX_CONTAINERS}")));
    }
    let mut names = BTreeSet::new();
    match containers.iter().find(|container| !names.insert(&container.name)) {
        Some(twice) => Err(InvalidMessage::new("containers", format!("name {} is given twice", twice.name))),
        None => Ok(()),
    }
}

fn container_from(wire: v1::ContainerRequest) -> Result<ContainerRequest> {
    Ok(ContainerRequest {
        name: wire.name.parse().at("name")?,
        role: role_from(wire.role).at("role")?,
        image: wire.image.parse().at("image")?,
        digest: wire.digest.map(|digest| digest.parse()).transpose().at("digest")?,
        command: wire.command,
        args: wire.args,
        env: wire.env.into_iter().map(env_from).collect(),
        working_dir: wire.working_dir,
        user: wire.user.map(user_from).transpose().at("user")?,
        security: security_from(wire.security.unwrap_or_default()).at("security")?,
        lifecycle: lifecycle_from(wire.lifecycle.unwrap_or_default()).at("lifecycle")?,
        mounts: mounts_from(wire.mounts)?,
        config: config_from(wire.config)?,
        host_paths: host_paths_from(wire.host_paths)?,
        system_disk_size: wire.system_disk_bytes.map(Bytes),
        limits: limits_from(wire.limits.unwrap_or_default()).at("limits")?,
        exclusive_cpus: wire.exclusive_cpus,
        ulimits: ulimits_from(wire.ulimits)?,
        readiness: wire.readiness.map(probe_from).transpose().at("readiness")?,
    })
}

fn cpu_from(wire: Option<v1::CpuRequest>) -> Result<CpuRequest> {
    use v1::cpu_request::Request;
    match wire.and_then(|wire| wire.request) {
        Some(Request::Exclusive(wire)) if wire.count == 0 => {
            Err(InvalidMessage::new("exclusive.count", "is 0: at least one CPU"))
        }
        Some(Request::Exclusive(wire)) => Ok(CpuRequest::Exclusive { count: wire.count }),
        Some(Request::Exact(wire)) => Ok(CpuRequest::Exact {
            cpus: wire.cpus.parse().at("exact.cpus")?,
            mems: wire.mems.map(|mems| mems.parse()).transpose().at("exact.mems")?,
        }),
        Some(Request::Shared(wire)) => Ok(CpuRequest::Shared {
            pool: wire.pool.parse().at("shared.pool")?,
            request: MilliCpu(wire.milli_cpu),
        }),
        None => Ok(CpuRequest::Shared {
            pool: PoolName::new(DEFAULT_POOL).at("shared.pool")?,
            request: MilliCpu(0),
        }),
    }
}

impl From<&PodRequest> for v1::PodRequest {
    fn from(request: &PodRequest) -> Self {
        Self {
            pod: Some((&request.pod).into()),
            labels: request.labels.clone().into_iter().collect(),
            hostname: request.hostname.clone(),
            class: v1::AppClass::from(request.class).into(),
            priority: request.priority,
            containers: request.containers.iter().map(Into::into).collect(),
            disks: request.disks.iter().map(Into::into).collect(),
            cpu: Some((&request.cpu).into()),
            memory_request_bytes: request.memory_request.map(|bytes| bytes.0),
            limits: Some((&request.limits).into()),
            host_network: request.network == PodNetwork::Host,
            address_pools: request.address_pools.iter().map(ToString::to_string).collect(),
            node: request.node.as_ref().map(ToString::to_string),
            node_labels: request.node_labels.clone().into_iter().collect(),
            dns: Some((&request.dns).into()),
            sysctls: request.sysctls.clone().into_iter().collect(),
            restart: v1::RestartPolicy::from(request.restart).into(),
            disk: v1::DiskPolicy::from(request.disk).into(),
            recovery: v1::RecoveryPolicy::from(request.recovery).into(),
            stop_grace_ms: Some(request.stop_grace_ms),
        }
    }
}

impl From<&ContainerRequest> for v1::ContainerRequest {
    fn from(container: &ContainerRequest) -> Self {
        Self {
            name: container.name.to_string(),
            role: v1::ContainerRole::from(container.role).into(),
            image: container.image.to_string(),
            digest: container.digest.as_ref().map(ToString::to_string),
            command: container.command.clone(),
            args: container.args.clone(),
            env: container.env.iter().map(Into::into).collect(),
            working_dir: container.working_dir.clone(),
            user: container.user.as_ref().map(Into::into),
            security: Some((&container.security).into()),
            lifecycle: Some((&container.lifecycle).into()),
            mounts: container.mounts.iter().map(Into::into).collect(),
            config: container.config.iter().map(Into::into).collect(),
            host_paths: container.host_paths.iter().map(Into::into).collect(),
            system_disk_bytes: container.system_disk_size.map(|size| size.0),
            limits: Some((&container.limits).into()),
            exclusive_cpus: container.exclusive_cpus,
            ulimits: container.ulimits.iter().map(Into::into).collect(),
            readiness: container.readiness.as_ref().map(Into::into),
        }
    }
}

impl From<&CpuRequest> for v1::CpuRequest {
    fn from(request: &CpuRequest) -> Self {
        use v1::cpu_request::Request;
        let request = match request {
            CpuRequest::Exclusive { count } => Request::Exclusive(v1::ExclusiveCpuRequest { count: *count }),
            CpuRequest::Exact { cpus, mems } => Request::Exact(v1::ExactCpuRequest {
                cpus: cpus.to_string(),
                mems: mems.as_ref().map(ToString::to_string),
            }),
            CpuRequest::Shared { pool, request } => {
                Request::Shared(v1::SharedCpuRequest { pool: pool.to_string(), milli_cpu: request.0 })
            }
        };
        Self { request: Some(request) }
    }
}
