//! The node's numbers for a monitoring system: what the daemon is about, and what pods use, from the kernel's own counts.
//!
//! [`NodeMetrics`] looks; [`tell`] says it, without I/O.

mod tell;

use crate::ledger::Ledger;
use crate::link::{LinkState, NodeIdentity, PkiFiles};
use crate::reports::Reports;
use berth_cgroup::{CgroupError, CgroupPath, CgroupRoot, InvalidPath, Pressure, Resource, Statistics};
use berth_metrics::{Sheet, Source};
use berth_model::{Applied, ContainerName, ControlValue, PodId, PodStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use tell::tell;

/// What the numbers are made of.
pub struct NodeMetrics {
    /// The durable record.
    pub ledger: Ledger,
    /// The last looks.
    pub reports: Arc<Reports>,
    /// The link to upstream.
    pub link: LinkState,
    /// The kernel's cgroups.
    pub cgroups: CgroupRoot,
    /// Its key and certificates.
    pub pki: PkiFiles,
    /// When it began, milliseconds after the epoch.
    pub started_at_ms: u64,
}

/// Everything that is told, at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
struct Moment {
    version: &'static str,
    started_at_ms: u64,
    connected: bool,
    certificate_expires_at_ms: Option<u64>,
    open_orders: usize,
    pods: Vec<PodStatus>,
    used: Vec<Used>,
    /// Cgroups that could not be read.
    unread: usize,
}

/// What one cgroup uses.
#[derive(Debug, Clone, PartialEq)]
struct Used {
    pod: PodId,
    /// None for the pod as a whole.
    container: Option<ContainerName>,
    memory_limit_bytes: Option<u64>,
    statistics: Statistics,
    pressure: BTreeMap<Resource, Pressure>,
}

/// Why a cgroup has no numbers: most often it is gone since the last look.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl Source for NodeMetrics {
    async fn sheet(&self) -> Result<Sheet, String> {
        let pods = self.reports.statuses();
        let (cgroups, seen, pki) = (self.cgroups.clone(), pods.clone(), self.pki.clone());
        // Some ten files of each cgroup; nothing of theirs waits for a disk, and five hundred pods have thousands.
        let look = move || (all_used(&cgroups, &seen), NodeIdentity::load(&pki).ok());
        let looked = tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())?;
        let (Looked { used, unread }, identity) = looked;
        Ok(tell(&Moment {
            version: env!("CARGO_PKG_VERSION"),
            started_at_ms: self.started_at_ms,
            connected: self.link.get().connected,
            certificate_expires_at_ms: identity.map(|identity| identity.expires_at_ms),
            open_orders: self.ledger.read(|book| book.open_orders().count()),
            pods,
            used,
            unread,
        }))
    }
}

/// What could be read, and how many cgroups could not.
#[derive(Debug, Default)]
struct Looked {
    used: Vec<Used>,
    unread: usize,
}

fn all_used(cgroups: &CgroupRoot, pods: &[PodStatus]) -> Looked {
    let mut looked = Looked::default();
    for pod in pods {
        let whole = pod.applied.iter().map(|applied| (None, applied));
        let containers = pod.containers.iter();
        let parts = containers.filter_map(|one| Some((Some(one.name.clone()), one.applied.as_ref()?)));
        for (container, applied) in whole.chain(parts) {
            match used(cgroups, applied) {
                Ok((statistics, pressure)) => looked.used.push(Used {
                    pod: pod.pod.clone(),
                    container,
                    memory_limit_bytes: memory_limit(applied),
                    statistics,
                    pressure,
                }),
                Err(error) => {
                    tracing::debug!(pod = %pod.pod, %error, "a cgroup has no numbers");
                    looked.unread += 1;
                }
            }
        }
    }
    looked
}

/// None without one: the kernel says `max`.
fn memory_limit(applied: &Applied) -> Option<u64> {
    let limit = applied.controls.iter().find(|control| control.file == "memory.max")?;
    match &limit.read {
        ControlValue::Text(text) => text.parse().ok(),
        ControlValue::Unreadable(_) => None,
    }
}

fn used(
    cgroups: &CgroupRoot,
    applied: &Applied,
) -> Result<(Statistics, BTreeMap<Resource, Pressure>), Unread> {
    let cgroup = cgroups.open(&applied.cgroup.parse::<CgroupPath>()?)?;
    let mut pressure = BTreeMap::new();
    for resource in Resource::ALL {
        pressure.extend(cgroup.pressure(resource)?.map(|seen| (resource, seen)));
    }
    Ok((cgroup.statistics()?, pressure))
}
