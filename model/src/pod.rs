//! What a node is told to run: nothing in it is left to choose.

use crate::config::{validate_config, validate_config_size};
use crate::disk::{ContainerDisks, validate_disks};
use crate::host_path::validate_host_paths;
use crate::sysctl::{first_of_network, validate_sysctls};
use crate::{
    AddressGrant, AppClass, Bytes, ConfigFolder, ContainerName, ContainerRole, CpuSet, DataDisk, Digest,
    DiskMount, HostPath, ImageName, InvalidDisks, InvalidSpec, Lifecycle, Limits, MemSet, PoolName, Probe,
    Security, Sysctls, Ulimit,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvVar {
    /// Not empty, without `=` and NUL.
    pub name: String,
    /// Without NUL.
    pub value: String,
}

/// Who a container's first process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum User {
    /// By number, whatever the image's user database says.
    Id {
        /// User id.
        uid: u32,
        /// Group id; the image's group of that user when absent.
        gid: Option<u32>,
    },
    /// By a name from the image's `/etc/passwd`.
    Name(String),
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique in the pod.
    pub name: ContainerName,
    /// When it starts and ends among the others.
    pub role: ContainerRole,
    /// Where the image comes from.
    pub image: ImageName,
    /// The exact image; resolved from `image` at the first pull when absent, and kept in the charter from then on.
    pub digest: Option<Digest>,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment; a later entry of the same name wins.
    pub env: Vec<EnvVar>,
    /// Replaces the image's working directory; absolute.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<User>,
    /// What its processes may do.
    pub security: Security,
    /// How it is asked to end.
    pub lifecycle: Lifecycle,
    /// Where it sees the pod's data disks.
    pub mounts: Vec<DiskMount>,
    /// Its configuration, which it sees as long as it lives: another one is another container.
    pub config: Vec<ConfigFolder>,
    /// What it has of its host.
    pub host_paths: Vec<HostPath>,
    /// Its system disk is held to so much by a project quota; as large as the node's disk when absent.
    pub system_disk_size: Option<Bytes>,
    /// What the container alone is held to.
    pub limits: Limits,
    /// A part of the pod's exclusive CPUs; all of them when absent.
    pub cpus: Option<CpuSet>,
    /// Resource limits of the container's processes.
    pub ulimits: Vec<Ulimit>,
    /// How to tell that it can do its work; without one, it is ready once it has run for a while.
    pub readiness: Option<Probe>,
}

/// The CPUs and memory nodes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuBinding {
    /// These, and nobody else's.
    Exclusive {
        /// At least one.
        cpus: CpuSet,
        /// At least one.
        mems: MemSet,
    },
    /// Those of a pool on the node, whatever they are at the time.
    Shared {
        /// The pool, set by a `SetSharedCpus` order.
        pool: PoolName,
    },
}

/// When a container that has died is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RestartPolicy {
    /// However it ended.
    #[default]
    Always,
    /// Only if its exit code was not 0.
    OnFailure,
    /// Not by itself.
    Never,
}

/// What a restarted container finds on its system disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DiskPolicy {
    /// What it left there.
    #[default]
    Reuse,
    /// The image, fresh.
    Rebuild,
}

/// What a pod needs after a host reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RecoveryPolicy {
    /// Nothing beyond the host: it comes back at once.
    #[default]
    Offline,
    /// The control plane's word.
    Confirmed,
}

/// Whether a charter's pod is meant to run. A stop survives a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RunState {
    /// It is.
    #[default]
    Running,
    /// It was stopped by order.
    Stopped,
}

/// Whose network a pod is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum PodNetwork {
    /// Its own, with addresses of its own.
    #[default]
    Own,
    /// The host's, with its interfaces, addresses, ports and name.
    Host,
}

/// What `/etc/resolv.conf` says in the pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct DnsConfig {
    /// Name servers, at most three (resolv.conf(5), MAXNS).
    pub servers: Vec<IpAddr>,
    /// Search list.
    pub searches: Vec<String>,
    /// Options such as `ndots:2`.
    pub options: Vec<String>,
}

/// The exact spec of a pod, as it stands in an order and in a charter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// A DNS label; in the host's network, the host's own name counts instead.
    pub hostname: String,
    /// What kind of application it is.
    pub class: AppClass,
    /// Recovered first after a reboot when higher.
    pub priority: u32,
    /// At least one that does the pod's work.
    pub containers: Vec<ContainerSpec>,
    /// Its data disks: kept over everything but Release, or an Evict that releases.
    pub disks: Vec<DataDisk>,
    /// Where it runs.
    pub cpu: CpuBinding,
    /// What all its containers together are held to.
    pub limits: Limits,
    /// Whose network it is in.
    pub network: PodNetwork,
    /// Its addresses, at most one of each family. In a network of its own it needs one, which the node sees to.
    pub addresses: Vec<AddressGrant>,
    /// Its name service.
    pub dns: DnsConfig,
    /// Kernel parameters of its own namespaces.
    pub sysctls: Sysctls,
    /// When dead containers are started again.
    pub restart: RestartPolicy,
    /// What they find then.
    pub disk: DiskPolicy,
    /// What a reboot needs.
    pub recovery: RecoveryPolicy,
    /// How long a container has between SIGTERM and SIGKILL where an order does not say, milliseconds.
    pub stop_grace_ms: u64,
}

/// Most containers of one pod: a bound for the daemon's memory, far above any real pod.
pub const MAX_CONTAINERS: usize = 64;

impl PodSpec {
    /// Checks what no single field can know.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if ContainerName::new(self.hostname.as_str()).is_err() {
            return Err(InvalidSpec::Hostname(self.hostname.clone()));
        }
        self.validate_containers()?;
        self.validate_binding()?;
        self.validate_disks()?;
        validate_config_size(self.containers.iter().map(|container| container.config.as_slice()))
            .map_err(|source| InvalidSpec::Config { of: "the pod".to_owned(), source })?;
        self.limits.validate().map_err(|source| InvalidSpec::Limits { of: "the pod".to_owned(), source })?;
        self.dns.validate()?;
        validate_sysctls(&self.sysctls)?;
        self.validate_network()?;
        self.validate_addresses()
    }

    /// What is the host's cannot be made another for one pod.
    fn validate_network(&self) -> Result<(), InvalidSpec> {
        let shared = |what: String| Err(InvalidSpec::HostNetwork(what));
        match (self.network, self.addresses.is_empty(), first_of_network(&self.sysctls)) {
            (PodNetwork::Own, _, _) | (PodNetwork::Host, true, None) => Ok(()),
            (PodNetwork::Host, false, _) => shared("addresses".to_owned()),
            (PodNetwork::Host, true, Some(name)) => shared(format!("kernel parameter {name}")),
        }
    }

    fn validate_containers(&self) -> Result<(), InvalidSpec> {
        if self.containers.is_empty() {
            return Err(InvalidSpec::NoContainer);
        }
        if self.containers.len() > MAX_CONTAINERS {
            return Err(InvalidSpec::TooManyContainers(self.containers.len()));
        }
        let mut names = BTreeSet::new();
        for container in &self.containers {
            if !names.insert(&container.name) {
                return Err(InvalidSpec::DuplicateContainer(container.name.clone()));
            }
            container.validate()?;
        }
        match self.with_role(ContainerRole::Main).next() {
            Some(_) => Ok(()),
            None => Err(InvalidSpec::NoMainContainer),
        }
    }

    fn validate_binding(&self) -> Result<(), InvalidSpec> {
        match &self.cpu {
            CpuBinding::Exclusive { cpus, mems } => {
                if cpus.is_empty() {
                    return Err(InvalidSpec::EmptyBinding("CPU"));
                }
                if mems.is_empty() {
                    return Err(InvalidSpec::EmptyBinding("memory node"));
                }
                self.containers.iter().try_for_each(|container| container.validate_inside(cpus))
            }
            CpuBinding::Shared { .. } => {
                match self.containers.iter().find(|container| container.cpus.is_some()) {
                    Some(container) => Err(InvalidSpec::CpusWithoutExclusive(container.name.clone())),
                    None => Ok(()),
                }
            }
        }
    }

    fn validate_disks(&self) -> Result<(), InvalidDisks> {
        let containers = self.containers.iter().map(|container| ContainerDisks {
            container: &container.name,
            mounts: &container.mounts,
            system_disk_size: container.system_disk_size,
        });
        validate_disks(&self.disks, containers)
    }

    fn validate_addresses(&self) -> Result<(), InvalidSpec> {
        if let Some((one, other)) = two_of_a_family(&self.addresses) {
            return Err(InvalidSpec::TwoOfAFamily(one.address.to_string(), other.address.to_string()));
        }
        self.addresses.iter().try_for_each(|grant| match (grant.gateway, grant.address) {
            (Some(gateway), address) if !address.contains(gateway) || address.address() == gateway => {
                Err(InvalidSpec::Gateway { gateway, address: address.to_string() })
            }
            (Some(_) | None, _) => Ok(()),
        })
    }

    /// The container of that name.
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerSpec> {
        self.containers.iter().find(|container| container.name == *name)
    }
}

impl ContainerSpec {
    /// Checks what no single field can know, and what a pod's other containers and CPUs have no part in.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let container = || self.name.clone();
        for EnvVar { name, value } in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(InvalidSpec::Env { container: container(), name: name.clone() });
            }
        }
        for (what, texts) in [("command", &self.command), ("argument", &self.args)] {
            if texts.iter().any(|text| text.contains('\0')) {
                return Err(InvalidSpec::Nul { container: container(), what });
            }
        }
        if let Some(path) = self.working_dir.as_ref().filter(|path| !is_clean_absolute_path(path)) {
            return Err(InvalidSpec::WorkingDir { container: container(), path: path.clone() });
        }
        if self.role == ContainerRole::Init && self.readiness.is_some() {
            return Err(InvalidSpec::ReadinessOfInit(container()));
        }
        let unready = |why| InvalidSpec::Readiness { container: container(), why };
        self.readiness.as_ref().map_or(Ok(()), |probe| probe.validate().map_err(unready))?;
        self.validate_digest()?;
        validate_config(&self.config, &self.mounts)
            .map_err(|source| InvalidSpec::Config { of: format!("container {}", self.name), source })?;
        validate_host_paths(&self.host_paths, &self.mounts, &self.config)
            .map_err(|source| InvalidSpec::HostPaths { container: container(), source })?;
        self.security
            .validate()
            .map_err(|source| InvalidSpec::Security { container: container(), source })?;
        self.lifecycle
            .validate()
            .map_err(|source| InvalidSpec::Lifecycle { container: container(), source })?;
        self.limits
            .validate()
            .map_err(|source| InvalidSpec::Limits { of: format!("container {}", self.name), source })?;
        Ulimit::validate_all(&self.ulimits)
            .map_err(|source| InvalidSpec::Ulimits { container: container(), source })
    }

    fn validate_digest(&self) -> Result<(), InvalidSpec> {
        match (self.image.digest(), &self.digest) {
            (Some(named), Some(given)) if named != given => Err(InvalidSpec::DigestMismatch {
                container: self.name.clone(),
                image: self.image.to_string(),
                digest: given.clone(),
            }),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    fn validate_inside(&self, granted: &CpuSet) -> Result<(), InvalidSpec> {
        match self.cpus.as_ref().filter(|asked| asked.is_empty() || !asked.is_subset(granted)) {
            Some(asked) => Err(InvalidSpec::OutsidePod {
                container: self.name.clone(),
                asked: asked.clone(),
                granted: granted.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl DnsConfig {
    /// The most name servers that a resolver reads (resolv.conf(5), MAXNS).
    pub const MAX_SERVERS: usize = 3;

    /// Checks that `resolv.conf` can say it.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if self.servers.len() > Self::MAX_SERVERS {
            return Err(InvalidSpec::Dns(format!("{} servers, a resolver reads three", self.servers.len())));
        }
        // A line break would smuggle in another directive.
        let word = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match self.searches.iter().chain(&self.options).find(|text| !word(text)) {
            Some(text) => Err(InvalidSpec::Dns(format!("{text:?} is no printable word"))),
            None => Ok(()),
        }
    }
}

fn two_of_a_family(grants: &[AddressGrant]) -> Option<(&AddressGrant, &AddressGrant)> {
    let same = |one: &AddressGrant, other: &&AddressGrant| {
        one.address.address().is_ipv4() == other.address.address().is_ipv4()
    };
    let mut pairs = grants.iter().enumerate().map(|(index, one)| (one, &grants[index + 1..]));
    pairs.find_map(|(one, rest)| Some((one, rest.iter().find(|other| same(one, other))?)))
}

/// Whether a path is absolute and has no empty, `.` or `..` component, NUL or line break.
pub(crate) fn is_clean_absolute_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let clean = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control());
    rest.is_empty() || rest.split('/').all(clean)
}
