//! Pod identities and exact specs.

use crate::config::config_from;
use crate::disk::{disks_from, mounts_from};
use crate::error::{At, InvalidMessage, Result, each, required};
use crate::host_path::host_paths_from;
use crate::lifecycle::lifecycle_from;
use crate::limits::{limits_from, ulimits_from};
use crate::probe::probe_from;
use crate::security::security_from;
use crate::v1;
use berth_model::{
    AddressGrant, AppClass, Bytes, ContainerRole, ContainerSpec, CpuBinding, DiskPolicy, DnsConfig, EnvVar,
    PodId, PodNetwork, PodSpec, RecoveryPolicy, RestartPolicy, RunState, User,
};

impl TryFrom<v1::PodRef> for PodId {
    type Error = InvalidMessage;
    fn try_from(wire: v1::PodRef) -> Result<Self> {
        Self::new(wire.namespace, wire.name).map_err(|error| InvalidMessage::new("", error))
    }
}

impl From<&PodId> for v1::PodRef {
    fn from(pod: &PodId) -> Self {
        Self { namespace: pod.namespace().to_owned(), name: pod.name().to_owned() }
    }
}

/// A pod identity that must be there.
pub fn pod_from(wire: Option<v1::PodRef>) -> Result<PodId> {
    required(wire, "pod")?.try_into().at("pod")
}

/// Defines both directions of an enumeration whose number 0 stands for a default.
macro_rules! enumeration {
    ($model:ident, $from:ident, default $default:ident, { $($variant:ident),* $(,)? }) => {
        #[doc = concat!("A `", stringify!($model), "` from its number on the wire.")]
        pub fn $from(number: i32) -> Result<$model> {
            match v1::$model::try_from(number) {
                Ok(v1::$model::Unspecified) => Ok($model::$default),
                $(Ok(v1::$model::$variant) => Ok($model::$variant),)*
                Err(_) => Err(InvalidMessage::new("", format!("{number} is unknown to this version"))),
            }
        }

        impl From<$model> for v1::$model {
            fn from(value: $model) -> Self {
                match value { $($model::$variant => Self::$variant),* }
            }
        }
    };
}

pub(crate) use enumeration;

enumeration!(AppClass, class_from, default Standard, { LatencyCritical, Standard, Batch, BestEffort });
enumeration!(RestartPolicy, restart_from, default Always, { Always, OnFailure, Never });
enumeration!(ContainerRole, role_from, default Main, { Main, Init, Sidecar });
enumeration!(DiskPolicy, disk_from, default Reuse, { Reuse, Rebuild });
enumeration!(RecoveryPolicy, recovery_from, default Offline, { Offline, Confirmed });
enumeration!(RunState, run_state_from, default Running, { Running, Stopped });

impl TryFrom<v1::PodSpec> for PodSpec {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PodSpec) -> Result<Self> {
        let spec = Self {
            hostname: wire.hostname,
            class: class_from(wire.class).at("class")?,
            priority: wire.priority,
            containers: each(wire.containers, "containers", container_from)?,
            disks: disks_from(wire.disks)?,
            cpu: binding_from(wire.cpu).at("cpu")?,
            limits: limits_from(wire.limits.unwrap_or_default()).at("limits")?,
            network: network_from(wire.host_network),
            addresses: each(wire.addresses, "addresses", AddressGrant::try_from)?,
            dns: dns_from(wire.dns.unwrap_or_default()).at("dns")?,
            sysctls: wire.sysctls.into_iter().collect(),
            restart: restart_from(wire.restart).at("restart")?,
            disk: disk_from(wire.disk).at("disk")?,
            recovery: recovery_from(wire.recovery).at("recovery")?,
            stop_grace_ms: wire.stop_grace_ms,
        };
        spec.validate().map_err(|error| InvalidMessage::new("", error))?;
        Ok(spec)
    }
}

/// Whose network a pod is in.
pub(crate) fn network_from(of_the_host: bool) -> PodNetwork {
    match of_the_host {
        true => PodNetwork::Host,
        false => PodNetwork::Own,
    }
}

fn container_from(wire: v1::ContainerSpec) -> Result<ContainerSpec> {
    Ok(ContainerSpec {
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
        cpus: wire.cpus.map(|cpus| cpus.parse()).transpose().at("cpus")?,
        ulimits: ulimits_from(wire.ulimits)?,
        readiness: wire.readiness.map(probe_from).transpose().at("readiness")?,
    })
}

fn binding_from(wire: Option<v1::CpuBinding>) -> Result<CpuBinding> {
    use v1::cpu_binding::Binding;
    match wire.and_then(|wire| wire.binding) {
        Some(Binding::Exclusive(wire)) => Ok(CpuBinding::Exclusive {
            cpus: wire.cpus.parse().at("exclusive.cpus")?,
            mems: wire.mems.parse().at("exclusive.mems")?,
        }),
        Some(Binding::Shared(wire)) => Ok(CpuBinding::Shared { pool: wire.pool.parse().at("shared.pool")? }),
        None => Err(InvalidMessage::new("", "is missing")),
    }
}

pub(crate) fn env_from(wire: v1::EnvVar) -> EnvVar {
    EnvVar { name: wire.name, value: wire.value }
}

pub(crate) fn user_from(wire: v1::User) -> Result<User> {
    match wire.who {
        Some(v1::user::Who::Id(id)) => Ok(User::Id { uid: id.uid, gid: id.gid }),
        Some(v1::user::Who::Name(name)) if !name.is_empty() => Ok(User::Name(name)),
        Some(v1::user::Who::Name(_)) | None => Err(InvalidMessage::new("", "names nobody")),
    }
}

pub(crate) fn dns_from(wire: v1::Dns) -> Result<DnsConfig> {
    Ok(DnsConfig {
        servers: each(wire.servers, "servers", |server| {
            server.parse().map_err(|_| InvalidMessage::new("", format!("{server:?} is no IP address")))
        })?,
        searches: wire.searches,
        options: wire.options,
    })
}

impl TryFrom<v1::AddressGrant> for AddressGrant {
    type Error = InvalidMessage;
    fn try_from(wire: v1::AddressGrant) -> Result<Self> {
        let gateway = wire.gateway.map(|gateway| gateway.parse::<std::net::IpAddr>()).transpose();
        Ok(Self {
            pool: wire.pool.parse().at("pool")?,
            address: wire.address.parse().at("address")?,
            gateway: gateway.at("gateway")?,
        })
    }
}

impl From<&AddressGrant> for v1::AddressGrant {
    fn from(grant: &AddressGrant) -> Self {
        Self {
            pool: grant.pool.to_string(),
            address: grant.address.to_string(),
            gateway: grant.gateway.map(|gateway| gateway.to_string()),
        }
    }
}

impl From<&PodSpec> for v1::PodSpec {
    fn from(spec: &PodSpec) -> Self {
        Self {
            hostname: spec.hostname.clone(),
            class: v1::AppClass::from(spec.class).into(),
            priority: spec.priority,
            containers: spec.containers.iter().map(Into::into).collect(),
            disks: spec.disks.iter().map(Into::into).collect(),
            cpu: Some((&spec.cpu).into()),
            limits: Some((&spec.limits).into()),
            host_network: spec.network == PodNetwork::Host,
            addresses: spec.addresses.iter().map(Into::into).collect(),
            dns: Some((&spec.dns).into()),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            restart: v1::RestartPolicy::from(spec.restart).into(),
            disk: v1::DiskPolicy::from(spec.disk).into(),
            recovery: v1::RecoveryPolicy::from(spec.recovery).into(),
            stop_grace_ms: spec.stop_grace_ms,
        }
    }
}

impl From<&ContainerSpec> for v1::ContainerSpec {
    fn from(container: &ContainerSpec) -> Self {
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
            cpus: container.cpus.as_ref().map(ToString::to_string),
            ulimits: container.ulimits.iter().map(Into::into).collect(),
            readiness: container.readiness.as_ref().map(Into::into),
        }
    }
}

impl From<&CpuBinding> for v1::CpuBinding {
    fn from(binding: &CpuBinding) -> Self {
        use v1::cpu_binding::Binding;
        let binding = match binding {
            CpuBinding::Exclusive { cpus, mems } => {
                Binding::Exclusive(v1::ExclusiveCpus { cpus: cpus.to_string(), mems: mems.to_string() })
            }
            CpuBinding::Shared { pool } => Binding::Shared(v1::SharedCpus { pool: pool.to_string() }),
        };
        Self { binding: Some(binding) }
    }
}

impl From<&EnvVar> for v1::EnvVar {
    fn from(var: &EnvVar) -> Self {
        Self { name: var.name.clone(), value: var.value.clone() }
    }
}

impl From<&User> for v1::User {
    fn from(user: &User) -> Self {
        let who = match user {
            User::Id { uid, gid } => v1::user::Who::Id(v1::UserId { uid: *uid, gid: *gid }),
            User::Name(name) => v1::user::Who::Name(name.clone()),
        };
        Self { who: Some(who) }
    }
}

impl From<&DnsConfig> for v1::Dns {
    fn from(dns: &DnsConfig) -> Self {
        Self {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }
    }
}
