//! `kind: Pod`.

use super::KindField;
use super::container::ContainersField;
use super::disk::DisksField;
use super::limits::LimitsField;
use super::scalar::{Address, CpuList, Cpus, DurationMs, Label, MemList, Node, Pool, Size, Whole32, chain};
use berth_model::{
    AppClass, ContainerRequest, CpuRequest, DiskPolicy, DnsConfig, MilliCpu, PodId, PodNetwork, PodRequest,
    PoolName, RecoveryPolicy, RestartPolicy, validate_requested_disks,
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPod {
    #[allow(dead_code, reason = "read beforehand; here it only must be known")]
    kind: KindField,
    metadata: RawMetadata,
    spec: SpecField,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetadata {
    namespace: Label,
    name: Label,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSpec {
    hostname: Option<Label>,
    class: Option<Class>,
    priority: Option<Whole32>,
    #[serde(default)]
    cpu: CpuField,
    memory: Option<RawMemory>,
    #[serde(default)]
    limits: LimitsField,
    #[serde(default)]
    host_network: bool,
    address_pool: Option<Pool>,
    address_pools: Option<Vec<Pool>>,
    node: Option<Node>,
    #[serde(default)]
    node_labels: BTreeMap<String, String>,
    #[serde(default)]
    dns: DnsField,
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
    restart: Option<Restart>,
    disk: Option<Disk>,
    recovery: Option<Recovery>,
    stop_grace: Option<DurationMs>,
    #[serde(default)]
    disks: DisksField,
    containers: ContainersField,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Class {
    LatencyCritical,
    Standard,
    Batch,
    BestEffort,
}

#[derive(Debug, Deserialize)]
enum Restart {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Deserialize)]
enum Disk {
    Reuse,
    Rebuild,
}

#[derive(Debug, Deserialize)]
enum Recovery {
    Offline,
    Confirmed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMemory {
    request: Option<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCpu {
    exclusive: Option<Whole32>,
    exact: Option<CpuList>,
    mems: Option<MemList>,
    shared: Option<Pool>,
    request: Option<Cpus>,
}

/// How the pod wants its CPUs.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawCpu")]
struct CpuField(CpuRequest);

fn default_pool() -> PoolName {
    PoolName::new(berth_proto::DEFAULT_POOL).expect("the default pool's name is a DNS label")
}

impl Default for CpuField {
    fn default() -> Self {
        Self(CpuRequest::Shared { pool: default_pool(), request: MilliCpu(0) })
    }
}

impl TryFrom<RawCpu> for CpuField {
    type Error = String;

    fn try_from(raw: RawCpu) -> Result<Self, String> {
        let RawCpu { exclusive, exact, mems, shared, request } = raw;
        if mems.is_some() && exact.is_none() {
            return Err("mems goes with exact only".to_owned());
        }
        if request.is_some() && (exclusive.is_some() || exact.is_some()) {
            return Err("request goes with shared only: exclusive CPUs are reserved whole".to_owned());
        }
        let request = request.map_or(MilliCpu(0), |request| request.0);
        match (exclusive, exact, shared) {
            (Some(Whole32(0)), None, None) => Err("exclusive is 0: ask for at least one CPU".to_owned()),
            (Some(Whole32(count)), None, None) => Ok(Self(CpuRequest::Exclusive { count })),
            (None, Some(CpuList(cpus)), None) => {
                Ok(Self(CpuRequest::Exact { cpus, mems: mems.map(|mems| mems.0) }))
            }
            (None, None, shared) => {
                let pool = shared.map_or_else(default_pool, |pool| pool.0);
                Ok(Self(CpuRequest::Shared { pool, request }))
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err("exclusive, exact and shared exclude one another: keep one".to_owned())
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDns {
    #[serde(default)]
    servers: Vec<Address>,
    #[serde(default)]
    searches: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

/// Name service, checked as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "RawDns")]
struct DnsField(DnsConfig);

impl TryFrom<RawDns> for DnsField {
    type Error = String;

    fn try_from(raw: RawDns) -> Result<Self, String> {
        let servers = raw.servers.into_iter().map(|address| address.0).collect();
        let dns = DnsConfig { servers, searches: raw.searches, options: raw.options };
        dns.validate().map_err(|error| chain(&error))?;
        Ok(Self(dns))
    }
}

/// A spec whose parts agree.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawSpec")]
struct SpecField(RawSpec);

impl TryFrom<RawSpec> for SpecField {
    type Error = String;

    fn try_from(raw: RawSpec) -> Result<Self, String> {
        if raw.node_labels.keys().any(String::is_empty) {
            return Err("nodeLabels holds an empty name".to_owned());
        }
        check_address_pools(&raw)?;
        check_host_network(&raw)?;
        check_own_cpus(&raw.cpu.0, &raw.containers.0)?;
        let node = raw.node.as_ref().map(|node| &node.0);
        validate_requested_disks(&raw.disks.0, &raw.containers.0, node).map_err(|error| chain(&error))?;
        Ok(Self(raw))
    }
}

fn check_address_pools(raw: &RawSpec) -> Result<(), String> {
    match (&raw.address_pool, &raw.address_pools) {
        (Some(_), Some(_)) => Err("addressPool and addressPools exclude each other".to_owned()),
        (None, Some(pools)) if pools.is_empty() => {
            Err("addressPools is empty: name one, or set hostNetwork: true in its place".to_owned())
        }
        (None, Some(pools)) if pools.len() > 2 => {
            Err("addressPools: a pod has at most one address of each family, so at most two pools".to_owned())
        }
        (Some(_) | None, None) | (None, Some(_)) => Ok(()),
    }
}

fn check_host_network(raw: &RawSpec) -> Result<(), String> {
    let pools = raw.address_pool.is_some() || raw.address_pools.is_some();
    match (raw.host_network, pools, raw.hostname.is_some()) {
        (false, _, _) | (true, false, false) => Ok(()),
        (true, true, _) => Err("hostNetwork: a pod in its host's network has no address of its own: leave \
                                addressPool and addressPools out"
            .to_owned()),
        (true, false, true) => {
            Err("hostNetwork: a pod in its host's network has its host's name: leave hostname out".to_owned())
        }
    }
}

fn check_own_cpus(cpu: &CpuRequest, containers: &[ContainerRequest]) -> Result<(), String> {
    let own = containers.iter().filter_map(|container| container.exclusive_cpus);
    let asked: u64 = own.map(u64::from).sum();
    let granted = match cpu {
        CpuRequest::Exclusive { count } => u64::from(*count),
        CpuRequest::Exact { cpus, .. } => cpus.len() as u64,
        CpuRequest::Shared { .. } if asked == 0 => return Ok(()),
        CpuRequest::Shared { .. } => {
            return Err("a container has exclusiveCpus, but cpu asks for shared ones: \
                        set cpu.exclusive or cpu.exact"
                .to_owned());
        }
    };
    if asked > granted {
        return Err(format!("the containers' exclusiveCpus add up to {asked}, cpu asks for {granted}"));
    }
    Ok(())
}

/// A pod as a manifest describes it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawPod")]
pub(super) struct PodDocument(pub(super) PodRequest);

impl TryFrom<RawPod> for PodDocument {
    type Error = String;

    fn try_from(raw: RawPod) -> Result<Self, String> {
        let RawMetadata { namespace, name, labels } = raw.metadata;
        if labels.keys().any(String::is_empty) {
            return Err("metadata.labels holds an empty name".to_owned());
        }
        let pod = PodId::new(namespace.0, name.0).map_err(|error| error.to_string())?;
        let spec = raw.spec.0;
        Ok(Self(PodRequest {
            pod,
            labels,
            hostname: spec.hostname.map(|hostname| hostname.0),
            class: spec.class.map_or_else(AppClass::default, Into::into),
            priority: spec.priority.map_or(0, |priority| priority.0),
            containers: spec.containers.0,
            disks: spec.disks.0,
            cpu: spec.cpu.0,
            memory_request: spec.memory.and_then(|memory| memory.request).map(|size| size.0),
            limits: spec.limits.0,
            network: match spec.host_network {
                true => PodNetwork::Host,
                false => PodNetwork::Own,
            },
            address_pools: spec
                .address_pool
                .into_iter()
                .chain(spec.address_pools.into_iter().flatten())
                .map(|pool| pool.0)
                .collect(),
            node: spec.node.map(|node| node.0),
            node_labels: spec.node_labels,
            dns: spec.dns.0,
            sysctls: spec.sysctls,
            restart: spec.restart.map_or_else(RestartPolicy::default, Into::into),
            disk: spec.disk.map_or_else(DiskPolicy::default, Into::into),
            recovery: spec.recovery.map_or_else(RecoveryPolicy::default, Into::into),
            stop_grace_ms: spec.stop_grace.map_or(PodRequest::DEFAULT_STOP_GRACE_MS, |grace| grace.0),
        }))
    }
}

impl From<Class> for AppClass {
    fn from(class: Class) -> Self {
        match class {
            Class::LatencyCritical => Self::LatencyCritical,
            Class::Standard => Self::Standard,
            Class::Batch => Self::Batch,
            Class::BestEffort => Self::BestEffort,
        }
    }
}

impl From<Restart> for RestartPolicy {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Always => Self::Always,
            Restart::OnFailure => Self::OnFailure,
            Restart::Never => Self::Never,
        }
    }
}

impl From<Disk> for DiskPolicy {
    fn from(disk: Disk) -> Self {
        match disk {
            Disk::Reuse => Self::Reuse,
            Disk::Rebuild => Self::Rebuild,
        }
    }
}

impl From<Recovery> for RecoveryPolicy {
    fn from(recovery: Recovery) -> Self {
        match recovery {
            Recovery::Offline => Self::Offline,
            Recovery::Confirmed => Self::Confirmed,
        }
    }
}
