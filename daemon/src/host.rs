//! What the core asks about the host: looks, behind a trait so that tests need no host.

use crate::config::Config;
use crate::disk::{DiskError, FoundDisk, Usage};
use crate::node;
use crate::report::chain;
use crate::runtime::{CONTAINERD_ROOT, ContainerdRuntime, SeenImage};
use berth_plan::HostView;
use berth_proto::v1;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// How long the runtime may take to say its version: facts are asked for between heartbeats.
const VERSION_TIMEOUT: Duration = Duration::from_secs(1);

/// Something about the host could not be learnt; in one line, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("look at the host: {0}")]
pub struct Unseen(pub String);

/// Disks as they are on the host.
#[derive(Debug, Clone, Default)]
pub struct SeenDisks {
    /// Data disks, whether or not anything orders them.
    pub data: Vec<FoundDisk>,
    /// What system disks hold, by their snapshots' keys; those that are held to no size are not counted.
    pub system: BTreeMap<String, Usage>,
}

/// The host, as admission, upstream and people see it.
pub trait Host: Send + Sync + 'static {
    /// What admission needs, as it is now.
    ///
    /// # Errors
    /// When it cannot be learnt: then no order can be answered.
    fn view(&self) -> Result<HostView, Unseen>;

    /// What upstream is told, as it is now.
    fn facts(&self) -> impl Future<Output = Result<v1::NodeFacts, Unseen>> + Send;

    /// The data disks that are on the host, and what these system disks hold, by their snapshots' keys.
    ///
    /// # Errors
    /// When they cannot be looked at.
    fn disks(&self, keys: Vec<String>) -> impl Future<Output = Result<SeenDisks, Unseen>> + Send;

    /// The images that the runtime has.
    ///
    /// # Errors
    /// When it does not answer.
    fn images(&self) -> impl Future<Output = Result<Vec<SeenImage>, Unseen>> + Send;

    /// Whether the host is fit to run pods, check by check.
    fn diagnose(&self) -> impl Future<Output = Vec<v1::Finding>> + Send;
}

/// The host that the daemon runs on.
#[derive(Debug)]
pub struct LocalHost {
    host: node::Host,
    declared: node::Declared,
    places: node::Places,
    runtime: ContainerdRuntime,
    /// What the runtime last said of itself.
    version: Mutex<String>,
}

impl LocalHost {
    /// This host, with what its administrator declares.
    pub fn new(config: &Config, runtime: ContainerdRuntime) -> Self {
        let sockets = vec![config.socket.clone(), config.cni_socket.clone()];
        Self {
            host: node::Host {
                state: config.state_dir.clone(),
                reservation: config.reservation.clone(),
                shares_network: config.host_network,
                shares: node::Shares::watch(config.host_paths.clone(), config.never_shared()),
                ..node::Host::default()
            },
            declared: node::Declared {
                labels: config.labels.clone(),
                peer_port: config.peer_listen.map(|address| address.port()),
            },
            places: node::Places {
                disks: vec![config.state_dir.clone(), CONTAINERD_ROOT.into(), config.log_dir.clone()],
                sockets,
            },
            runtime,
            version: Mutex::default(),
        }
    }

    /// What has the kernel keep what is reserved for the system's own services.
    pub fn reservation(&self) -> node::ReservationKeeper {
        node::ReservationKeeper { host: self.host.clone(), runtime: self.runtime.clone() }
    }

    async fn runtime_version(&self) -> String {
        let said = tokio::time::timeout(VERSION_TIMEOUT, self.runtime.version()).await;
        let mut last = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(version)) = said {
            *last = version;
        }
        last.clone()
    }
}

impl Host for LocalHost {
    fn view(&self) -> Result<HostView, Unseen> {
        self.host.view().map_err(|error| Unseen(chain(&error)))
    }

    async fn facts(&self) -> Result<v1::NodeFacts, Unseen> {
        let version = self.runtime_version().await;
        self.host.facts(&self.declared, version).map_err(|error| Unseen(chain(&error)))
    }

    async fn disks(&self, keys: Vec<String>) -> Result<SeenDisks, Unseen> {
        let (disks, on) = (self.runtime.disks().clone(), self.host.containerd.clone());
        let look = move || -> Result<SeenDisks, DiskError> {
            let mut system = BTreeMap::new();
            for key in keys {
                if let Some(usage) = disks.system_disk_usage(&key, &on)? {
                    system.insert(key, usage);
                }
            }
            Ok(SeenDisks { data: disks.all()?, system })
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|error| Unseen(error.to_string()))?;
        looked.map_err(|error| Unseen(chain(&error)))
    }

    async fn images(&self) -> Result<Vec<SeenImage>, Unseen> {
        self.runtime.images().await.map_err(|error| Unseen(chain(&error)))
    }

    async fn diagnose(&self) -> Vec<v1::Finding> {
        let findings = node::diagnose(&self.host, &self.runtime, &self.places).await;
        findings.into_iter().map(Into::into).collect()
    }
}
