//! A runtime that exists in memory only, for tests of whoever drives one. It is as unkind as the real thing.
//!
//! Stopping a sandbox kills what is inside; removing one removes it, disks included; removing an unknown id succeeds
//! doing nothing; records vanish from CRI and stay in containerd; calls fail before or after their effect, or succeed
//! without one, as [`FakeRuntime::trouble`] programs them. Life and death go through the same pure functions as in
//! the real one. What must never happen is written down as it happens: see [`FakeRuntime::violations`].
//!
//! That the real thing is so is no belief: both are held to [`super::cases`].

mod crashes;
mod effects;
mod world;

use super::containerd::TaskStatus;
use super::cri::CriState;
use super::liveness::{CgroupFact, TaskFact};
use super::{RuntimeError, error};
use crate::node::monotonic_ms;
use berth_model::{
    AddressGrant, AppClass, ContainerName, ContainerRole, ContainerSpec, CpuBinding, CpuSet, Digest,
    DnsConfig, ImageName, Lifecycle, Limits, MemSet, PodId, PodNetwork, PodSpec, PoolName, RecoveryPolicy,
    RestartPolicy, Security, Sysctls,
};
use berth_plan::Controls;
use crashes::{Crashes, Death, Down};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use world::{Container, World};

/// One of the runtime's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named like the method of the trait that it is")]
pub enum Call {
    Observe,
    ProveDead,
    EnsureImage,
    EnsureDisks,
    EnsureSlice,
    RunSandbox,
    CreateContainer,
    AdoptDisk,
    DetachDisk,
    AmendSpec,
    StartContainer,
    UpdateResources,
    Probe,
    StopContainer,
    RemoveContainer,
    StopSandbox,
    RemoveSandbox,
    RemoveSlice,
    ReleaseDisks,
    ReleaseScratch,
}

/// A container with a variable of this name in its environment ends at once.
pub const BROKEN: &str = "BROKEN";

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It fails and has done nothing; trying again may help.
    FailBefore,
    /// It has done everything, and fails all the same, as when the answer is lost.
    FailAfter,
    /// It succeeds, and has done nothing.
    DoNothing,
    /// It fails and has done nothing; trying again will not help.
    Refuse,
}

/// The fake. Clones share one world.
#[derive(Debug, Clone, Default)]
pub struct FakeRuntime {
    world: Arc<Mutex<World>>,
    crashes: Arc<Crashes>,
    look_ms: Arc<AtomicU64>,
}

impl FakeRuntime {
    /// An empty host.
    pub fn new() -> Self {
        Self::default()
    }

    /// The daemon's process dies at the point of this number, counted from the next one on: nothing that it calls
    /// from then on happens, or returns.
    pub fn crash_at(&self, point: u64) {
        self.crashes.arm(Some(Death::Daemon(point)));
    }

    /// The runtime dies at the point of this name, when it is passed for that time, from 1: the call that is there fails, done
    /// or not, and so do some after it.
    pub fn outage_at(&self, point: &str, time: usize) {
        self.crashes.arm(Some(Death::Runtime(point.to_owned(), time)));
    }

    /// The next process lives. Answers the names of the points that the former one has passed.
    pub fn revive(&self) -> Vec<String> {
        self.crashes.arm(None)
    }

    /// From now on it takes its time to say how a pod is, as the real one does.
    pub fn set_look_time(&self, time: Duration) {
        self.look_ms.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn take_time(&self) {
        match self.look_ms.load(Ordering::Relaxed) {
            0 => {}
            ms => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    /// Returns when the process has died.
    pub async fn crashed(&self) {
        self.crashes.crashed().await;
    }

    /// A point at which the daemon or the runtime may die.
    async fn point(&self, name: impl Into<String>) -> Result<(), RuntimeError> {
        let passed = self.crashes.pass(name.into()).await;
        passed.map_err(|Down| error::transient("ask the runtime", "it has died"))
    }

    /// An effect, with the points before and after it.
    async fn at<T>(
        &self,
        call: Call,
        effect: impl FnOnce() -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        self.point(format!("before {call:?}")).await?;
        let done = effect();
        self.point(format!("after {call:?}")).await?;
        done
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds the world")
    }

    /// The next call of this kind goes wrong; several queue up.
    pub fn trouble(&self, call: Call, trouble: Trouble) {
        self.world().troubles.entry(call).or_default().push_back(trouble);
    }

    /// A registry has this image.
    pub fn publish(&self, image: &ImageName, digest: &Digest) {
        self.world().registry.insert(image.to_string(), digest.clone());
    }

    /// No registry answers any more; what is here stays.
    pub fn cut_off(&self) {
        self.world().registry.clear();
    }

    /// A clock of the test's own, milliseconds; the host's if never set.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.world().now_ms = Some(now_ms);
    }

    /// The container ends by itself.
    pub fn exit(&self, id: &str, code: i32) {
        self.world().end(id, code);
    }

    /// From now on the task of what has ended is there for one more look, or try to prove the end: until then it cannot
    /// be known whether it lives.
    pub fn linger(&self) {
        self.world().ends_linger = true;
    }

    /// It cannot be known any more whether the container lives.
    pub fn make_unknown(&self, id: &str) {
        self.world().container(id).task = TaskFact::Unanswered;
    }

    /// It can be known again: the container lives, or it does not.
    pub fn make_known(&self, id: &str, task: Alive) {
        let mut world = self.world();
        let now_ms = world.now_ms();
        let container = world.container(id);
        match task {
            Alive::Yes => container.task = TaskFact::Is(TaskStatus::Alive),
            Alive::No => container.end(255, now_ms),
        }
    }

    /// CRI forgets the container, containerd does not.
    pub fn lose_record(&self, id: &str) {
        self.world().container(id).cri = CriState::Missing;
    }

    /// Something overwrites a control of a container, or of the slice of `pod` if `id` is empty.
    pub fn drift(&self, pod: &PodId, id: &str, file: &str) {
        let drifted = Controls::Drifted(vec![file.to_owned()]);
        let mut world = self.world();
        match id {
            "" => drop(world.slices.insert(pod.clone(), drifted)),
            id => world.container(id).controls = drifted,
        }
    }

    /// The runtime itself restarts: nothing that runs, and no record, depends on its process.
    pub fn restart(&self) {}

    /// Everything that runs is gone, records and disks stay.
    pub fn reboot(&self) {
        let mut world = self.world();
        let now_ms = world.now_ms();
        world.slices.clear();
        for sandbox in &mut world.sandboxes {
            sandbox.ready = false;
            sandbox.task = TaskFact::None;
        }
        let started = |container: &&mut Container| container.is_live();
        world.containers.iter_mut().filter(started).for_each(|container| container.interrupt(now_ms));
    }

    /// The effects so far, in order, such as `start app#1`.
    pub fn effects(&self) -> Vec<String> {
        self.world().effects.clone()
    }

    /// Ids of the containers of this name that run, oldest first.
    pub fn running(&self, pod: &PodId, name: &ContainerName) -> Vec<String> {
        let world = self.world();
        let runs =
            |container: &&Container| container.pod == *pod && container.name == *name && container.runs();
        world.containers.iter().filter(runs).map(|container| container.id.clone()).collect()
    }

    /// What the programs of all attempts wrote to a disk: each start appends the container's id.
    pub fn written(&self, key: &str) -> Option<Vec<String>> {
        self.world().disks.get(key).cloned()
    }

    /// Whether a container's spec was amended before it was started.
    pub fn is_amended(&self, id: &str) -> bool {
        self.world().container(id).amended
    }

    /// How many sandboxes, containers and slices the runtime has, dead ones included.
    pub fn counts(&self) -> [usize; 3] {
        let world = self.world();
        [world.sandboxes.len(), world.containers.len(), world.slices.len()]
    }

    /// Keys of all disks that are there.
    pub fn disks(&self) -> Vec<String> {
        self.world().disks.keys().cloned().collect()
    }

    /// The data disks of a pod that are there.
    pub fn data_disks(&self, pod: &PodId) -> Vec<String> {
        let world = self.world();
        world.data.keys().filter(|(of, _)| of == pod).map(|(_, name)| name.to_string()).collect()
    }

    /// What must never happen, and did: something live ended without an order, two containers on one disk.
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }
}

/// Whether a container turns out to be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// A spec of one container `app`, with an address, for tests that need no particular one.
pub fn spec(hostname: &str) -> PodSpec {
    let parse = "a literal of this file";
    PodSpec {
        hostname: hostname.to_owned(),
        class: AppClass::Standard,
        priority: 0,
        containers: vec![container_spec("app")],
        disks: Vec::new(),
        cpu: CpuBinding::Shared { pool: PoolName::new("default").expect(parse) },
        limits: Limits::default(),
        network: PodNetwork::Own,
        addresses: vec![AddressGrant {
            pool: PoolName::new("lan").expect(parse),
            address: "10.0.0.7/24".parse().expect(parse),
            gateway: None,
        }],
        dns: DnsConfig::default(),
        sysctls: Sysctls::new(),
        restart: RestartPolicy::Always,
        disk: berth_model::DiskPolicy::Reuse,
        recovery: RecoveryPolicy::Offline,
        stop_grace_ms: 1_000,
    }
}

/// A container that asks for nothing in particular.
pub fn container_spec(name: &str) -> ContainerSpec {
    let parse = "a literal of a test";
    ContainerSpec {
        name: ContainerName::new(name).expect(parse),
        role: ContainerRole::Main,
        image: "registry.test:5000/app:1".parse().expect(parse),
        digest: None,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        security: Security::default(),
        lifecycle: Lifecycle::default(),
        mounts: Vec::new(),
        config: Vec::new(),
        host_paths: Vec::new(),
        system_disk_size: None,
        limits: Limits::default(),
        cpus: None,
        ulimits: Vec::new(),
        readiness: None,
    }
}

/// A digest made of one repeated hexadecimal digit.
pub fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("the digit is hexadecimal")
}

/// The pod as it is ordered, on CPU 0 and memory node 0.
pub fn ordered(pod: &PodId, spec: PodSpec) -> super::Ordered {
    super::Ordered {
        pod: pod.clone(),
        incarnation: berth_model::Incarnation(1),
        spec,
        cpus: CpuSet::try_from_iter([0]).expect("CPU 0 is a CPU"),
        mems: MemSet::try_from_iter([0]).expect("node 0 is a node"),
        other: None,
        former: berth_plan::PodLimits::default(),
    }
}

#[cfg(test)]
mod tests;
