//! The real runtime: containerd over one socket, systemd over D-Bus, the kernel's files.
//!
//! Every effect that may touch a life or a disk checks its warrant against what containerd has at that moment: the
//! record is the warrant's pod's, and a charter's warrant names it, and everything inside it, among the dead.

use super::client::{Client, LOOK_TIMEOUT};
use super::cni_cache;
use super::config_files::{ConfigStore, Others, folder_name};
use super::containerd::{Record, TaskStatus};
use super::controls::{self, Target};
use super::cri::{ContainerPlan, SandboxPlan, container_config, sandbox_config};
use super::disk::{self, Handover};
use super::error::{permanent, transient};
use super::files::{self, PodFiles};
use super::full_disks::full_disks;
use super::host_path::{self, Shared};
use super::identity::{
    Role, Tag, pod_filter, pod_hash, scope_name, scope_path, slice_name, slice_path, slice_path_of,
};
use super::kernel::{KernelRoots, cgroup_fact};
use super::liveness::CgroupFact;
use super::lost_leases;
use super::lost_shims::LostShims;
use super::observe::{Observer, expect_owner};
use super::probe;
use super::stopping::from_annotations;
use super::systemd::Systemd;
use super::{
    Account, DeathProof, LogKeeper, LogLimits, Making, Ordered, Runtime, RuntimeError, SeenImage, data_disk,
    image, pause, prlimit, rlimits, status, system_disk,
};
use crate::crash_point::Deed;
use crate::disk::Disks;
use crate::ledger::{LifeWarrant, OrderWarrant, Warrant};
use berth_model::{
    Attempt, ContainerName, ContainerSpec, Digest, DiskName, ImageName, Limits, PodId, PodNetwork, PodStatus,
    Probe, ProbeAction, ProbeAnswer,
};
use berth_plan::{Observed, PodRecord};
use k8s_cri::v1::Mount;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::timeout;

/// Where containerd keeps everything, snapshots included: its own default, and every distribution's.
pub const CONTAINERD_ROOT: &str = "/var/lib/containerd";
/// containerd's own default, where CRI does not say which it uses.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// Where things are on the host; other places in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePaths {
    /// containerd's socket.
    pub containerd_socket: PathBuf,
    /// The agent's own folder, for pods' files (`pods/<hash>/`).
    pub state: PathBuf,
    /// Where pods' log folders are.
    pub logs: PathBuf,
    /// Where libcni keeps what plugins answered.
    pub cni_results: PathBuf,
    /// The kernel's file systems.
    pub kernel: KernelRoots,
}

impl Default for RuntimePaths {
    fn default() -> Self {
        Self {
            containerd_socket: "/run/containerd/containerd.sock".into(),
            state: "/var/lib/berth".into(),
            logs: "/var/log/berth/pods".into(),
            cni_results: cni_cache::FOLDER.into(),
            kernel: KernelRoots::default(),
        }
    }
}

/// Effects on, and looks at, a real host. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ContainerdRuntime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    systemd: Systemd,
    paths: RuntimePaths,
    snapshotter: OnceCell<String>,
    disks: Arc<Disks>,
    config: Arc<ConfigStore>,
}

impl ContainerdRuntime {
    /// Will talk to containerd and systemd; nothing is connected yet, and either may be away for now.
    /// Must be called inside an async runtime.
    pub fn new(paths: RuntimePaths) -> Self {
        let client = Client::new(&paths.containerd_socket);
        let systemd = Systemd::default();
        let disks = Arc::new(Disks::new(&paths.state));
        let config = Arc::new(ConfigStore::new(&paths.state));
        let snapshotter = OnceCell::new();
        Self { inner: Arc::new(Inner { client, systemd, paths, snapshotter, disks, config }) }
    }

    /// What must be so before the first pod: the root slice with its controllers, and the pause image.
    ///
    /// # Errors
    /// What could not be made so; trying again is harmless.
    pub async fn prepare(&self, pause_archive: &Path) -> Result<(), RuntimeError> {
        // What a crash, or a power cut, left in the trash.
        self.sweep_disks();
        controls::ensure_root(&self.inner.systemd, self.roots()).await?;
        lost_leases::end(self.client(), &self.roots().proc).await?;
        pause::import(self.client(), pause_archive).await
    }

    /// Removes what the agent made for pods that are not here any more: a host that went down may have kept it from being
    /// removed with them. A pod that has a cgroup may live, whether or not the ledger knows it. Only before the first order
    /// is taken.
    pub fn forget_all_but(&self, pods: &BTreeSet<PodId>) {
        let here: BTreeSet<_> = pods.iter().map(pod_hash).collect();
        let is_gone = |hash: &str| {
            let slice = slice_path_of(hash);
            !here.contains(hash) && matches!(cgroup_fact(self.roots(), &slice), CgroupFact::Gone)
        };
        files::forget(&self.inner.paths.state, is_gone);
        self.inner.config.sweep();
    }

    /// What keeps the containers' logs within limits.
    pub fn log_keeper(&self, limits: LogLimits) -> LogKeeper {
        LogKeeper::new(self.client().clone(), self.inner.paths.logs.clone(), limits)
    }

    /// What ends the shims that containerd has lost.
    pub fn lost_shims(&self) -> LostShims {
        let RuntimePaths { containerd_socket, kernel, .. } = &self.inner.paths;
        LostShims { proc: kernel.proc.clone(), containerd: containerd_socket.clone() }
    }

    /// The runtime's name and version, such as `containerd 1.7.24`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, RuntimeError> {
        let answer = self.client().version().await?;
        let version = answer.runtime_version.trim_start_matches('v');
        Ok(format!("{} {version}", answer.runtime_name))
    }

    /// What containerd says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn account(&self) -> Result<Account, RuntimeError> {
        self.client().account().await
    }

    /// Whether CRI finds this image without asking anyone off the host.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn has_image(&self, name: &str) -> Result<bool, RuntimeError> {
        Ok(self.client().cri_image(name).await?.is_some())
    }

    /// Which files of the slice of all pods say something else than these limits; none if it is held to them.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn drift_of_all(&self, limits: Limits) -> Result<Vec<String>, RuntimeError> {
        controls::drift_of_all(self.roots(), limits).await
    }

    /// Holds the slice of all pods to these limits. Nothing is changed where they use more than the kernel could drop.
    ///
    /// # Errors
    /// When they do, or the kernel or systemd refuses.
    pub async fn hold_all(&self, limits: Limits) -> Result<(), RuntimeError> {
        controls::hold_all(&self.inner.systemd, self.roots(), limits).await
    }

    /// Every image that CRI knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn images(&self) -> Result<Vec<SeenImage>, RuntimeError> {
        Ok(self.client().cri_images_all().await?.into_iter().map(image::seen).collect())
    }

    /// Every pod that containerd has something of, whether or not the ledger knows it.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn pods(&self) -> Result<BTreeSet<PodId>, RuntimeError> {
        self.observer().pods().await
    }

    /// Hints that something may have changed, for ever; see [`super::Hint`].
    pub fn subscribe(&self) -> mpsc::Receiver<super::Hint> {
        super::events::subscribe(self.inner.client.clone())
    }

    /// Where the kernel and the pods' files are.
    pub fn paths(&self) -> &RuntimePaths {
        &self.inner.paths
    }

    pub(super) fn client(&self) -> &Client {
        &self.inner.client
    }

    fn roots(&self) -> &KernelRoots {
        &self.inner.paths.kernel
    }

    fn files(&self, pod: &PodId) -> PodFiles {
        PodFiles::new(&self.inner.paths.state, pod)
    }

    pub(super) async fn snapshotter(&self) -> Result<&str, RuntimeError> {
        let ask = || async {
            let told = self.client().snapshotter().await?;
            Ok(told.unwrap_or_else(|| DEFAULT_SNAPSHOTTER.to_owned()))
        };
        self.inner.snapshotter.get_or_try_init(ask).await.map(String::as_str)
    }

    fn observer(&self) -> Observer<'_> {
        Observer { client: self.client(), roots: self.roots(), disks: &self.inner.disks }
    }

    /// The record of a container of this pod.
    async fn record_of(&self, pod: &PodId, id: &str) -> Result<(Record, Tag), RuntimeError> {
        let found = self.client().find_record(id).await?;
        let found = found
            .ok_or_else(|| transient(format!("look for container {id} of {pod}"), "containerd has none"))?;
        let tag = expect_owner(&found, pod)?;
        Ok((found, tag))
    }

    /// Checks a warrant against one container or sandbox, and everything in it. Answers whether it is there at all.
    async fn check(&self, warrant: &Warrant, id: &str) -> Result<Presence, RuntimeError> {
        let pod = warrant_pod(warrant);
        let Some(found) = self.client().find_record(id).await? else {
            return Ok(Presence::Absent);
        };
        expect_owner(&found, pod)?;
        let inside = self.observer().inside(pod, id).await?;
        match warrant {
            Warrant::Order(_) => Ok(Presence::Here),
            Warrant::Charter(charter) => match inside.iter().find(|id| !charter.covers(id)) {
                None => Ok(Presence::Here),
                Some(live) => Err(permanent(
                    format!("touch {id} of {pod} without an order"),
                    format!("container {live} is not proven dead"),
                )),
            },
        }
    }

    /// CRI answers that all is well when it has lost a container. What is left is ended beneath it.
    async fn finish_removal(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        let Some(left) = self.client().find_record(id).await? else {
            return Ok(());
        };
        tracing::warn!(id, "CRI has lost container {id}; it is removed from containerd itself");
        match warrant {
            Warrant::Order(_) => self.client().end_task(id).await?,
            Warrant::Charter(_) if self.client().find_task(id).await?.is_some() => {
                return Err(transient(
                    format!("remove container {id}"),
                    "it has a task, and no order covers that",
                ));
            }
            Warrant::Charter(_) => {}
        }
        self.client().delete_record(id).await?;
        match left.disk_key() {
            Some(key) => self.client().remove_snapshot(left.snapshotter(), key).await,
            None => Ok(()),
        }
    }

    /// The same of a sandbox: what CRI does not know, it does not stop.
    async fn finish_stop(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        match warrant {
            Warrant::Order(_) if self.client().sandbox_ready(id).await?.is_none() => {
                tracing::warn!(id, "CRI has lost sandbox {id}; its task is ended in containerd itself");
                self.client().end_task(id).await
            }
            Warrant::Order(_) | Warrant::Charter(_) => Ok(()),
        }
    }

    /// What is already there of this attempt, so that doing it again is harmless.
    async fn find_attempt(
        &self,
        ordered: &Ordered,
        matches: impl Fn(&Tag) -> bool,
    ) -> Result<Option<String>, RuntimeError> {
        let records = self.client().list_records(pod_filter(&ordered.pod)).await?;
        let ours = |found: &&Record| {
            Tag::from_labels(found.labels())
                .is_some_and(|tag| tag.incarnation == ordered.incarnation && matches(&tag))
        };
        Ok(records.iter().find(ours).map(|found| found.id().to_owned()))
    }

    /// Makes a container's configuration; answers what to mount.
    async fn make_config(
        &self,
        ordered: &Ordered,
        spec: &ContainerSpec,
        attempt: Attempt,
    ) -> Result<Vec<Mount>, RuntimeError> {
        let what = format!("write the configuration of container {} of {}", spec.name, ordered.pod);
        let others = others(&self.client().list_records(pod_filter(&ordered.pod)).await?);
        let own = folder_name(&spec.name, ordered.incarnation, attempt);
        let (store, pod, config) = (self.inner.config.clone(), ordered.pod.clone(), spec.config.clone());
        let make = move || store.make(&pod, &own, &config, &others).map_err(|error| transient(what, error));
        self.blocking(move |_| make()).await
    }

    /// Else the runtime could never take the sandbox's network away.
    async fn forget_broken_results(&self, sandbox_id: &str) -> Result<(), RuntimeError> {
        let (folder, id) = (self.inner.paths.cni_results.clone(), sandbox_id.to_owned());
        let forgotten = self.blocking(move |_| {
            let what = || format!("look through {} for sandbox {id}", folder.display());
            let forget = || cni_cache::forget_broken(&folder, &id);
            Deed::ForgetNetwork.between_now(forget).map_err(|error| transient(what(), error))
        });
        forgotten.await
    }

    /// What cannot be looked at is not known to be full.
    async fn full_disks(&self, record: &PodRecord) -> Vec<String> {
        let record = record.clone();
        let look = self.on_disks(move |disks| {
            let what = || format!("look for full disks of pod {}", record.pod);
            full_disks(disks, &record, Path::new(CONTAINERD_ROOT)).map_err(|error| transient(what(), error))
        });
        look.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "usage is not known");
            Vec::new()
        })
    }

    /// The data disks of this node.
    pub fn disks(&self) -> &Arc<Disks> {
        &self.inner.disks
    }

    /// Removes what was given up, beside everything else.
    fn sweep_disks(&self) {
        let disks = self.inner.disks.clone();
        drop(tokio::spawn(data_disk::sweep(disks, Path::new(CONTAINERD_ROOT))));
    }

    async fn on_disks<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disks) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let disks = self.inner.disks.clone();
        let done = tokio::task::spawn_blocking(move || work(&disks)).await;
        done.map_err(|error| transient("work on data disks", error))?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KernelRoots) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        self.roots().blocking(work).await
    }
}

enum Presence {
    Here,
    Absent,
}

fn warrant_pod(warrant: &Warrant) -> &PodId {
    match warrant {
        Warrant::Order(order) => order.pod(),
        Warrant::Charter(charter) => charter.pod(),
    }
}

/// Whose configuration is left alone. A record that cannot be read may be anybody's.
fn others(records: &[Record]) -> Others {
    let name = |record: &Record| match Tag::from_labels(record.labels())? {
        Tag { role: Role::Container { name, .. }, incarnation, attempt, .. } => {
            Some(folder_name(&name, incarnation, attempt))
        }
        Tag { role: Role::Sandbox, .. } => Some(String::new()),
    };
    records.iter().map(name).collect::<Option<_>>().map_or(Others::All, Others::These)
}

fn container_spec<'a>(
    ordered: &'a Ordered,
    container: &ContainerName,
) -> Result<&'a ContainerSpec, RuntimeError> {
    let found = ordered.spec.container(container);
    found.ok_or_else(|| {
        permanent(format!("make container {container} of {}", ordered.pod), "the order has none")
    })
}

impl Runtime for ContainerdRuntime {
    async fn observe(&self, record: &PodRecord, ordered: Option<&Ordered>) -> Result<Observed, RuntimeError> {
        self.observer().look(record, ordered).await
    }

    async fn status(&self, record: &PodRecord, ordered: Option<&Ordered>, observed: &Observed) -> PodStatus {
        let seen = status::Seen { record, ordered, observed };
        let mut status = status::report(self.client(), self.roots(), seen).await;
        self.full_disks(record).await.iter().for_each(|full| status.add_word(full));
        status
    }

    async fn prove_dead(&self, pod: &PodId, ids: BTreeSet<String>) -> Result<DeathProof, RuntimeError> {
        self.observer().prove_dead(pod, ids).await
    }

    async fn ensure_image(&self, image: &ImageName, digest: Option<&Digest>) -> Result<Digest, RuntimeError> {
        image::ensure(self.client(), image, digest).await
    }

    async fn ensure_slice(&self, ordered: &Ordered) -> Result<(), RuntimeError> {
        controls::ensure_root(&self.inner.systemd, self.roots()).await?;
        let target = Target::pod(ordered);
        let planned = target.clone();
        let plan =
            self.blocking(move |roots| planned.make_room(roots).and_then(|()| planned.plan(roots))).await?;
        self.inner.systemd.ensure_slice(&slice_name(&ordered.pod), &plan.properties).await?;
        self.blocking(move |roots| {
            controls::enable_inside(roots, &target)?;
            Deed::WriteControls.between_now(|| target.settle(roots, &plan))
        })
        .await
    }

    async fn run_sandbox(&self, ordered: &Ordered, attempt: Attempt) -> Result<String, RuntimeError> {
        let network = ordered.spec.network;
        if network == PodNetwork::Own && ordered.spec.addresses.is_empty() {
            // CRI knows a network of the pod, which CNI makes and IPAM must address, and the host's own.
            let what = format!("make the sandbox of {}", ordered.pod);
            return Err(permanent(what, "it has no address, and CRI makes no sandbox without one"));
        }
        let known = self.find_attempt(ordered, |tag| tag.role == Role::Sandbox && tag.attempt == attempt);
        if let Some(id) = known.await?
            && self.client().sandbox_ready(&id).await? == Some(true)
        {
            return Ok(id);
        }
        if network == PodNetwork::Own {
            self.files(&ordered.pod).write_hosts(&ordered.spec).await?;
        }
        let log_root = &self.inner.paths.logs;
        self.client().run_pod_sandbox(sandbox_config(SandboxPlan { ordered, attempt, log_root })).await
    }

    async fn create_container(
        &self,
        ordered: &Ordered,
        sandbox_id: &str,
        container: &ContainerName,
        making: &Making,
    ) -> Result<String, RuntimeError> {
        let spec = container_spec(ordered, container)?;
        let same = |tag: &Tag| {
            tag.attempt == making.attempt
                && matches!(&tag.role, Role::Container { name, .. } if name == container)
        };
        if let Some(id) = self.find_attempt(ordered, same).await? {
            return Ok(id);
        }
        let (_, sandbox) = self.record_of(&ordered.pod, sandbox_id).await?;
        // The scope's name is not known yet; no control depends on it.
        let target = Target::container(ordered, spec, "new");
        let resources = self.blocking(move |roots| target.cri_resources(roots)).await?;
        let hosts_file = match ordered.spec.network {
            PodNetwork::Own => {
                let files = self.files(&ordered.pod);
                files.ensure_hosts(&ordered.spec).await?;
                Some(files.hosts())
            }
            PodNetwork::Host => None,
        };
        let mut mounts = data_disk::mounts(&self.inner.disks, &ordered.pod, &ordered.spec, spec);
        mounts.extend(self.make_config(ordered, spec, making.attempt).await?);
        let of_the_host = spec.host_paths.clone();
        let looked = timeout(LOOK_TIMEOUT, self.blocking(move |_| host_path::shared(&of_the_host))).await;
        let Shared { mounts: shared, devices } =
            looked.map_err(|error| transient("look at what the host shares", error))??;
        mounts.extend(shared);
        // Outer paths first.
        mounts.sort_by(|left, right| left.container_path.cmp(&right.container_path));
        let plan = ContainerPlan { ordered, spec, making, resources, hosts_file, mounts, devices };
        let config = container_config(plan);
        let log_root = &self.inner.paths.logs;
        let around = sandbox_config(SandboxPlan { ordered, attempt: sandbox.attempt, log_root });
        self.client().create_cri_container(sandbox_id, config, around).await
    }

    async fn adopt_disk(
        &self,
        proof: Option<&DeathProof>,
        from_id: Option<&str>,
        to_id: &str,
        key: &str,
    ) -> Result<(), RuntimeError> {
        let from = match (from_id, proof) {
            (None, _) => None,
            (Some(id), Some(proof)) => Some((id, proof)),
            (Some(id), None) => {
                return Err(permanent(
                    format!("take disk {key} off container {id}"),
                    "it is not proven dead",
                ));
            }
        };
        disk::adopt(self.client(), self.roots(), Handover { from, to_id, key }).await
    }

    async fn detach_disk(&self, proof: &DeathProof, from_id: &str, key: &str) -> Result<(), RuntimeError> {
        disk::detach(self.client(), self.roots(), proof, from_id, key).await
    }

    async fn amend_spec(
        &self,
        ordered: &Ordered,
        container: &ContainerName,
        id: &str,
    ) -> Result<(), RuntimeError> {
        let what = || format!("write the ulimits of container {id}");
        let ContainerSpec { ulimits, system_disk_size, .. } = container_spec(ordered, container)?;
        let (found, _) = self.record_of(&ordered.pod, id).await?;
        system_disk::hold(self.client(), &self.inner.disks, &found, *system_disk_size).await?;
        let mut spec = found.spec()?;
        if rlimits::are_in(&spec, ulimits) {
            return Ok(());
        }
        rlimits::put_in(&mut spec, ulimits).map_err(|why| permanent(what(), why))?;
        let written = self.client().set_spec(&found, &spec).await?;
        match rlimits::are_in(&written.spec()?, ulimits) {
            true => Ok(()),
            false => Err(transient(what(), "containerd accepted the change, and does not have it")),
        }
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.client().start_cri_container(id).await
    }

    async fn update_resources(
        &self,
        ordered: &Ordered,
        container: &ContainerName,
        id: &str,
    ) -> Result<(), RuntimeError> {
        let target = Target::container(ordered, container_spec(ordered, container)?, id);
        controls::change(&self.inner.systemd, self.roots(), &scope_name(id), target).await?;
        let ulimits = prlimit::ulimits_to_set(ordered, container).map(<[_]>::to_vec).unwrap_or_default();
        let scope = scope_path(&ordered.pod, id);
        self.blocking(move |roots| Deed::SetUlimits.between_now(|| prlimit::set(roots, &scope, &ulimits)))
            .await
    }

    async fn probe(&self, id: &str, address: IpAddr, probe: &Probe) -> Result<ProbeAnswer, RuntimeError> {
        let within = Duration::from_millis(probe.timeout_ms);
        if let ProbeAction::Exec(command) = &probe.action {
            return self.client().exec_probe(id, command, within).await;
        }
        let task = self.client().find_task(id).await?;
        // The number of a process that has ended may be another's by now.
        let Some(task) = task.filter(|task| task.status == TaskStatus::Alive) else {
            return Ok(ProbeAnswer::NotReady("it does not run".to_owned()));
        };
        let netns = self.roots().proc.join(task.pid.to_string()).join("ns/net");
        Ok(probe::ask(&netns, address, &probe.action, within).await)
    }

    async fn stop_container(
        &self,
        warrant: &LifeWarrant,
        id: &str,
        grace_ms: u64,
    ) -> Result<(), RuntimeError> {
        let Some(found) = self.client().find_record(id).await? else {
            return Ok(());
        };
        expect_owner(&found, warrant.pod())?;
        if let Some(known) = self.client().cri_status(id).await? {
            let lifecycle = from_annotations(&known.annotations);
            return self.client().end_in_order(id, &lifecycle, Duration::from_millis(grace_ms)).await;
        }
        tracing::warn!(id, "CRI has lost container {id}; its task is ended in containerd itself");
        self.client().end_task(id).await
    }

    async fn remove_container(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        match self.check(warrant, id).await? {
            Presence::Absent => Ok(()),
            Presence::Here => {
                self.client().remove_cri_container(id).await?;
                self.finish_removal(warrant, id).await
            }
        }
    }

    async fn stop_sandbox(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        match self.check(warrant, id).await? {
            Presence::Absent => Ok(()),
            Presence::Here => {
                self.forget_broken_results(id).await?;
                self.client().stop_pod_sandbox(id).await?;
                self.finish_stop(warrant, id).await
            }
        }
    }

    async fn remove_sandbox(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        match self.check(warrant, id).await? {
            Presence::Absent => Ok(()),
            Presence::Here => {
                self.forget_broken_results(id).await?;
                self.client().remove_pod_sandbox(id).await?;
                self.finish_removal(warrant, id).await
            }
        }
    }

    async fn remove_slice(&self, warrant: &Warrant, pod: &PodId) -> Result<(), RuntimeError> {
        let what = || format!("remove the slice of {pod}");
        if warrant_pod(warrant) != pod {
            return Err(permanent(what(), format!("the warrant is for {}", warrant_pod(warrant))));
        }
        if let Warrant::Charter(_) = warrant {
            match cgroup_fact(self.roots(), &slice_path(pod)) {
                CgroupFact::Gone | CgroupFact::Empty => {}
                fact @ (CgroupFact::Populated | CgroupFact::Unreadable(_)) => {
                    return Err(permanent(what(), format!("without an order: its cgroup is {fact:?}")));
                }
            }
        }
        // Files first: once the slice is gone, nobody comes back to them. Nothing of the pod is there any more.
        let (config, of_pod) = (self.inner.config.clone(), pod.clone());
        let remove = move || config.remove(&of_pod).map_err(|error| transient("remove configuration", error));
        self.blocking(move |_| remove()).await?;
        self.files(pod).remove().await?;
        self.inner.systemd.stop(&slice_name(pod)).await
    }

    async fn ensure_disks(&self, ordered: &Ordered) -> Result<(), RuntimeError> {
        let (pod, spec) = (ordered.pod.clone(), ordered.spec.clone());
        self.on_disks(move |disks| data_disk::ensure(disks, &pod, &spec)).await
    }

    async fn release_disks(
        &self,
        warrant: &OrderWarrant,
        keys: &[String],
        data: &BTreeSet<DiskName>,
    ) -> Result<(), RuntimeError> {
        let records = self.client().list_records(pod_filter(warrant.pod())).await?;
        disk::release(self.client(), self.snapshotter().await?, &records, keys).await?;
        let (pod, data) = (warrant.pod().clone(), data.clone());
        self.on_disks(move |disks| data_disk::give_up(disks, &pod, &data)).await?;
        self.sweep_disks();
        Ok(())
    }

    async fn release_scratch(
        &self,
        warrant: &OrderWarrant,
        disks: &BTreeSet<DiskName>,
    ) -> Result<(), RuntimeError> {
        let (pod, names) = (warrant.pod().clone(), disks.clone());
        self.on_disks(move |disks| data_disk::give_up_scratch(disks, &pod, &names)).await?;
        self.sweep_disks();
        Ok(())
    }
}
