//! The runtime's calls, on the fake host.

use super::world::{Container, Handover, Licence, Sandbox, World, to_ns};
use super::{Call, CriState, FakeRuntime, RuntimeError, TaskFact, TaskStatus, Trouble, error};
use crate::ledger::{LifeWarrant, OrderWarrant, Warrant};
use crate::runtime::{DeathProof, Making, Ordered, Runtime};
use berth_model::{
    Attempt, ContainerName, ContainerPhase, ContainerRole, ContainerStatus, Digest, DiskLife, DiskName,
    ImageName, PodId, PodStatus, Probe, ProbeAnswer,
};
use berth_plan::{
    Controls, DiskState, ImageState, Liveness, Observed, ObservedContainer, ObservedSandbox, PodRecord,
    SliceState, TaskState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a call does once its trouble is known.
enum Course {
    /// Everything, and says so.
    Straight,
    /// Everything, and fails.
    ThenFail,
    /// Nothing, and says that it did.
    Nothing,
}

impl FakeRuntime {
    fn course(&self, call: Call) -> Result<Course, RuntimeError> {
        let trouble = self.world().troubles.get_mut(&call).and_then(|queue| queue.pop_front());
        match trouble {
            None => Ok(Course::Straight),
            Some(Trouble::FailAfter) => Ok(Course::ThenFail),
            Some(Trouble::DoNothing) => Ok(Course::Nothing),
            Some(Trouble::FailBefore) => Err(error::transient(format!("{call:?}"), "programmed failure")),
            Some(Trouble::Refuse) => Err(error::permanent(format!("{call:?}"), "programmed refusal")),
        }
    }

    /// One effect, with whatever trouble is due. `nothing` is the answer of a call that does nothing.
    fn act<T>(
        &self,
        call: Call,
        nothing: T,
        effect: impl FnOnce(&mut World) -> Result<T, RuntimeError>,
    ) -> Result<T, RuntimeError> {
        let course = self.course(call)?;
        if matches!(course, Course::Nothing) {
            return Ok(nothing);
        }
        let mut world = self.world();
        let done = effect(&mut world)?;
        world.check_disks();
        match course {
            Course::Straight | Course::Nothing => Ok(done),
            Course::ThenFail => Err(error::transient(format!("{call:?}"), "the answer was lost")),
        }
    }

    fn act_on(&self, call: Call, said: &str, effect: impl FnOnce(&mut World)) -> Result<(), RuntimeError> {
        self.act(call, (), |world| {
            world.effects.push(said.to_owned());
            effect(world);
            Ok(())
        })
    }

    fn label(&self, id: &str) -> String {
        self.world().find(id).map_or_else(|| id.to_owned(), Container::label)
    }

    /// The licence of a warrant for one id and everything inside it.
    fn licence(&self, warrant: &Warrant, ids: &[String]) -> Result<Licence, RuntimeError> {
        let Warrant::Charter(charter) = warrant else {
            return Ok(Licence::Order);
        };
        match ids.iter().find(|id| !charter.covers(id)) {
            None => Ok(Licence::Charter),
            Some(id) => Err(error::permanent(format!("touch {id}"), "it is not proven dead")),
        }
    }
}

impl Runtime for FakeRuntime {
    async fn observe(
        &self,
        record: &PodRecord,
        _ordered: Option<&Ordered>,
    ) -> Result<Observed, RuntimeError> {
        self.point("Observe").await?;
        self.course(Call::Observe)?;
        self.take_time().await;
        let mut world = self.world();
        let now_ms = world.now_ms();
        let of_pod = |pod: &PodId| *pod == record.pod;
        let sandboxes = world.sandboxes.iter().filter(|sandbox| of_pod(&sandbox.pod));
        let containers = world.containers.iter().filter(|container| of_pod(&container.pod));
        let observed = Observed {
            sandboxes: sandboxes.map(see_sandbox).collect(),
            containers: containers.map(|container| see_container(container, now_ms)).collect(),
            images: see_images(&world, record),
            slice: see_slice(&world, &record.pod),
            disks: see_data_disks(&world, record),
            scratch: see_scratch(&world, &record.pod),
            now_ms,
            ..Observed::default()
        };
        world.notice_ends();
        Ok(observed)
    }

    async fn status(&self, record: &PodRecord, _ordered: Option<&Ordered>, observed: &Observed) -> PodStatus {
        let (phase, message) = berth_plan::phase(record, observed);
        let specs = record.charter.iter().flat_map(|charter| &charter.spec.containers);
        PodStatus {
            pod: record.pod.clone(),
            incarnation: record.incarnation,
            generation: record.generation,
            phase,
            message,
            sandbox_id: observed.sandboxes.last().map(|sandbox| sandbox.id.clone()),
            addresses: record
                .charter
                .as_ref()
                .map_or_else(Vec::new, |charter| charter.spec.addresses.clone()),
            containers: specs.map(|spec| self.container_status(record, observed, &spec.name)).collect(),
            applied: None,
            open_order: record.open.as_ref().map(|open| open.id.clone()),
        }
    }

    async fn prove_dead(&self, pod: &PodId, ids: BTreeSet<String>) -> Result<DeathProof, RuntimeError> {
        self.course(Call::ProveDead)?;
        let mut world = self.world();
        for id in &ids {
            let container = world.find(id).map(Container::is_live);
            let sandbox = world.sandboxes.iter().find(|sandbox| sandbox.id == *id);
            let live =
                container.unwrap_or(false) || sandbox.is_some_and(|found| found.task != TaskFact::None);
            if live {
                world.notice_ends();
                return Err(error::transient(format!("prove {id} dead"), "it may live"));
            }
        }
        Ok(DeathProof::new(pod.clone(), ids))
    }

    async fn ensure_image(&self, image: &ImageName, digest: Option<&Digest>) -> Result<Digest, RuntimeError> {
        let nothing = digest.cloned().unwrap_or_else(|| super::digest('0'));
        self.at(Call::EnsureImage, || {
            self.act(Call::EnsureImage, nothing, |world| {
                world.effects.push(format!("image {image}"));
                pull(world, image, digest.or(image.digest()))
            })
        })
        .await
    }

    async fn ensure_slice(&self, ordered: &Ordered) -> Result<(), RuntimeError> {
        self.at(Call::EnsureSlice, || {
            self.act_on(Call::EnsureSlice, "slice", |world| {
                world.slices.insert(ordered.pod.clone(), Controls::InOrder);
            })
        })
        .await
    }

    async fn run_sandbox(&self, ordered: &Ordered, attempt: Attempt) -> Result<String, RuntimeError> {
        self.at(Call::RunSandbox, || {
            self.act(Call::RunSandbox, "sandbox-0".to_owned(), |world| {
                let same = |found: &&Sandbox| {
                    (&found.pod, found.incarnation, found.attempt, found.ready)
                        == (&ordered.pod, ordered.incarnation, attempt, true)
                };
                if let Some(found) = world.sandboxes.iter().find(same) {
                    return Ok(found.id.clone());
                }
                let id = world.next_id("sandbox");
                world.effects.push(format!("sandbox #{attempt}"));
                world.sandboxes.push(Sandbox {
                    id: id.clone(),
                    pod: ordered.pod.clone(),
                    incarnation: ordered.incarnation,
                    attempt,
                    ready: true,
                    task: TaskFact::Is(TaskStatus::Alive),
                });
                Ok(id)
            })
        })
        .await
    }

    async fn create_container(
        &self,
        ordered: &Ordered,
        sandbox_id: &str,
        container: &ContainerName,
        making: &Making,
    ) -> Result<String, RuntimeError> {
        let Making { attempt, generation, digest } = making;
        self.at(Call::CreateContainer, || {
            self.act(Call::CreateContainer, "container-0".to_owned(), |world| {
                let what = format!("create {container}#{attempt}");
                if !world.images.values().any(|here| here == digest) {
                    return Err(error::transient(what, "the image is not here"));
                }
                // One that has ended will do, as for containerd 2; what is made there never starts.
                if !world.sandboxes.iter().any(|sandbox| sandbox.id == sandbox_id) {
                    return Err(error::transient(what, "there is no such sandbox"));
                }
                let same = |found: &&Container| {
                    (&found.pod, &found.name, found.incarnation, found.attempt)
                        == (&ordered.pod, container, ordered.incarnation, *attempt)
                };
                if let Some(found) = world.containers.iter().find(same) {
                    return Ok(found.id.clone());
                }
                let id = world.next_id("container");
                world.effects.push(what);
                world.disks.insert(id.clone(), Vec::new());
                world.containers.push(Container {
                    id: id.clone(),
                    pod: ordered.pod.clone(),
                    name: container.clone(),
                    incarnation: ordered.incarnation,
                    attempt: *attempt,
                    generation: *generation,
                    ends: ends(ordered, container),
                    digest: digest.clone(),
                    sandbox_id: sandbox_id.to_owned(),
                    task: TaskFact::None,
                    cri: CriState::Created,
                    disk_key: Some(id.clone()),
                    amended: ordered.spec.container(container).is_none_or(|spec| spec.ulimits.is_empty()),
                    controls: Controls::Absent,
                });
                Ok(id)
            })
        })
        .await
    }

    async fn adopt_disk(
        &self,
        proof: Option<&DeathProof>,
        from_id: Option<&str>,
        to_id: &str,
        key: &str,
    ) -> Result<(), RuntimeError> {
        if let Some(from_id) = from_id
            && !proof.is_some_and(|proof| proof.covers(from_id))
        {
            return Err(error::permanent(format!("take {key} off {from_id}"), "it is not proven dead"));
        }
        let said = format!("adopt {key} by {}", self.label(to_id));
        self.point("before AdoptDisk").await?;
        let course = self.course(Call::AdoptDisk)?;
        if !matches!(course, Course::Nothing) {
            let fresh = self.world().begin_handover(&said, Handover { from_id, to_id, key })?;
            self.point("between the halves of AdoptDisk").await?;
            self.world().end_handover(&fresh, Handover { from_id, to_id, key });
        }
        self.point("after AdoptDisk").await?;
        match course {
            Course::Straight | Course::Nothing => Ok(()),
            Course::ThenFail => Err(error::transient(said, "the answer was lost")),
        }
    }

    async fn detach_disk(&self, proof: &DeathProof, from_id: &str, key: &str) -> Result<(), RuntimeError> {
        if !proof.covers(from_id) {
            return Err(error::permanent(format!("take {key} off {from_id}"), "it is not proven dead"));
        }
        self.at(Call::DetachDisk, || {
            self.act_on(Call::DetachDisk, &format!("detach {key}"), |world| {
                let names = world.find(from_id).is_some_and(|found| found.disk_key.as_deref() == Some(key));
                if names {
                    world.container(from_id).disk_key = None;
                }
            })
        })
        .await
    }

    async fn amend_spec(
        &self,
        _ordered: &Ordered,
        _container: &ContainerName,
        id: &str,
    ) -> Result<(), RuntimeError> {
        let said = format!("amend {}", self.label(id));
        self.at(Call::AmendSpec, || {
            self.act_on(Call::AmendSpec, &said, |world| {
                // Of what was started already, only the record changes.
                let container = world.container(id);
                container.amended |= container.cri == CriState::Created;
            })
        })
        .await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let said = format!("start {}", self.label(id));
        self.at(Call::StartContainer, || {
            self.act(Call::StartContainer, (), |world| {
                let Some(found) = world.find(id) else {
                    return Err(error::transient(said.clone(), "there is no such container"));
                };
                if found.cri != CriState::Created {
                    return Err(error::transient(said.clone(), format!("it is {:?}", found.cri)));
                }
                if !world.sandboxes.iter().any(|sandbox| sandbox.id == found.sandbox_id && sandbox.ready) {
                    return Err(error::transient(said.clone(), "its sandbox is not ready"));
                }
                world.effects.push(said.clone());
                let started_at_ns = to_ns(world.now_ms());
                let container = world.container(id);
                container.task = TaskFact::Is(TaskStatus::Alive);
                container.cri = CriState::Running { started_at_ns };
                container.controls = Controls::InOrder;
                let key = container.disk_key.clone();
                if let Some(disk) = key.and_then(|key| world.disks.get_mut(&key)) {
                    disk.push(id.to_owned());
                }
                if let Some(code) = world.container(id).ends {
                    world.end(id, code);
                }
                Ok(())
            })
        })
        .await
    }

    async fn probe(&self, id: &str, _address: IpAddr, _probe: &Probe) -> Result<ProbeAnswer, RuntimeError> {
        self.course(Call::Probe)?;
        let runs = self.world().find(id).is_some_and(Container::runs);
        Ok(if runs { ProbeAnswer::Ready } else { ProbeAnswer::NotReady("it does not run".to_owned()) })
    }

    async fn update_resources(
        &self,
        _ordered: &Ordered,
        _container: &ContainerName,
        id: &str,
    ) -> Result<(), RuntimeError> {
        let said = format!("update {}", self.label(id));
        self.at(Call::UpdateResources, || {
            self.act_on(Call::UpdateResources, &said, |world| {
                world.container(id).controls = Controls::InOrder;
            })
        })
        .await
    }

    async fn stop_container(
        &self,
        _warrant: &LifeWarrant,
        id: &str,
        _grace_ms: u64,
    ) -> Result<(), RuntimeError> {
        let said = format!("stop {}", self.label(id));
        self.at(Call::StopContainer, || {
            self.act_on(Call::StopContainer, &said, |world| {
                if world.find(id).is_some() {
                    world.kill(id, Licence::Order, 143);
                }
            })
        })
        .await
    }

    async fn remove_container(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        let licence = self.licence(warrant, &[id.to_owned()])?;
        let said = format!("remove {}", self.label(id));
        self.at(Call::RemoveContainer, || {
            self.act_on(Call::RemoveContainer, &said, |world| {
                if world.find(id).is_some() {
                    world.remove(id, licence);
                }
            })
        })
        .await
    }

    async fn stop_sandbox(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        let inside = self.world().inside(id);
        let licence = self.licence(warrant, &[&inside[..], &[id.to_owned()]].concat())?;
        self.at(Call::StopSandbox, || {
            self.act_on(Call::StopSandbox, "stop sandbox", |world| {
                for container in &inside {
                    world.kill(container, licence, 137);
                }
                for sandbox in world.sandboxes.iter_mut().filter(|sandbox| sandbox.id == id) {
                    sandbox.ready = false;
                    sandbox.task = TaskFact::None;
                }
            })
        })
        .await
    }

    async fn remove_sandbox(&self, warrant: &Warrant, id: &str) -> Result<(), RuntimeError> {
        let inside = self.world().inside(id);
        let licence = self.licence(warrant, &[&inside[..], &[id.to_owned()]].concat())?;
        self.at(Call::RemoveSandbox, || {
            self.act_on(Call::RemoveSandbox, "remove sandbox", |world| {
                for container in &inside {
                    world.remove(container, licence);
                }
                world.sandboxes.retain(|sandbox| sandbox.id != id);
            })
        })
        .await
    }

    async fn remove_slice(&self, warrant: &Warrant, pod: &PodId) -> Result<(), RuntimeError> {
        let licence = match warrant {
            Warrant::Order(_) => Licence::Order,
            Warrant::Charter(_) => Licence::Charter,
        };
        self.at(Call::RemoveSlice, || {
            self.act(Call::RemoveSlice, (), |world| {
                let live =
                    matches!(see_slice(world, pod), SliceState::Present { liveness: Liveness::Live, .. });
                if live && licence == Licence::Charter {
                    return Err(error::permanent("remove the slice without an order", "it is populated"));
                }
                world.effects.push("remove slice".to_owned());
                world.stop_slice(pod, licence);
                Ok(())
            })
        })
        .await
    }

    async fn ensure_disks(&self, ordered: &Ordered) -> Result<(), RuntimeError> {
        let named: Vec<_> = ordered
            .spec
            .disks
            .iter()
            .map(|disk| ((ordered.pod.clone(), disk.name.clone()), disk.life))
            .collect();
        self.at(Call::EnsureDisks, || {
            self.act_on(Call::EnsureDisks, "disks", |world| world.data.extend(named))
        })
        .await
    }

    async fn release_disks(
        &self,
        warrant: &OrderWarrant,
        keys: &[String],
        data: &BTreeSet<DiskName>,
    ) -> Result<(), RuntimeError> {
        self.at(Call::ReleaseDisks, || {
            self.act(Call::ReleaseDisks, (), |world| {
                for key in keys {
                    if world.containers.iter().any(|container| container.disk_key.as_ref() == Some(key)) {
                        return Err(error::transient(format!("remove disk {key}"), "a container names it"));
                    }
                    world.effects.push(format!("release {key}"));
                    world.disks.remove(key);
                }
                for name in data {
                    world.effects.push(format!("release data disk {name}"));
                    world.data.remove(&(warrant.pod().clone(), name.clone()));
                }
                Ok(())
            })
        })
        .await
    }

    async fn release_scratch(
        &self,
        warrant: &OrderWarrant,
        disks: &BTreeSet<DiskName>,
    ) -> Result<(), RuntimeError> {
        self.at(Call::ReleaseScratch, || {
            self.act(Call::ReleaseScratch, (), |world| {
                for name in disks {
                    world.effects.push(format!("release scratch {name}"));
                    let key = (warrant.pod().clone(), name.clone());
                    if world.data.remove(&key).is_some_and(|life| life != DiskLife::Scratch) {
                        world.violations.push(format!("data disk {name} was released as scratch"));
                    }
                }
                Ok(())
            })
        })
        .await
    }
}

impl FakeRuntime {
    fn container_status(
        &self,
        record: &PodRecord,
        observed: &Observed,
        name: &ContainerName,
    ) -> ContainerStatus {
        let ours =
            |found: &&ObservedContainer| found.name == *name && found.incarnation == record.incarnation;
        let newest = observed.containers.iter().filter(ours).max_by_key(|found| found.attempt);
        let known = newest.and_then(|found| self.world().find(&found.id).map(|known| known.digest.clone()));
        ContainerStatus {
            name: name.clone(),
            id: newest.map(|found| found.id.clone()),
            attempt: newest.map_or(Attempt(0), |found| found.attempt),
            image_digest: known,
            phase: newest.map_or(ContainerPhase::Absent, |found| phase(&found.state)),
            applied: None,
            readiness: None,
        }
    }
}

fn phase(state: &TaskState) -> ContainerPhase {
    match state {
        TaskState::Created => ContainerPhase::Created,
        TaskState::Running => ContainerPhase::Running { started_at_ns: 0, pid: 1 },
        TaskState::Exited { code, .. } => {
            ContainerPhase::Exited { code: *code, finished_at_ns: 0, reason: "Fake".to_owned() }
        }
        TaskState::StartFailed { .. } => {
            ContainerPhase::Exited { code: 128, finished_at_ns: 0, reason: "StartError".to_owned() }
        }
        TaskState::Interrupted { .. } => {
            ContainerPhase::Exited { code: 255, finished_at_ns: 0, reason: "Interrupted".to_owned() }
        }
        TaskState::Unknown => ContainerPhase::Unknown,
    }
}

/// With what a program ends at once: one that only prepares for the others, and one that is broken, as its environment
/// tells.
fn ends(ordered: &Ordered, container: &ContainerName) -> Option<i32> {
    let spec = ordered.spec.container(container)?;
    match (spec.env.iter().any(|var| var.name == super::BROKEN), spec.role) {
        (true, _) => Some(1),
        (false, ContainerRole::Init) => Some(0),
        (false, ContainerRole::Main | ContainerRole::Sidecar) => None,
    }
}

fn pull(world: &mut World, image: &ImageName, digest: Option<&Digest>) -> Result<Digest, RuntimeError> {
    let what = format!("pull image {image}");
    let name = match digest {
        Some(digest) => image.pinned(digest.clone()).to_string(),
        None => image.to_string(),
    };
    if let Some(here) = world.images.get(&name) {
        return Ok(here.clone());
    }
    let tag = image.tag().map(|tag| format!("{}:{tag}", image.repository()));
    let found = [Some(name.clone()), tag].into_iter().flatten().find_map(|name| world.registry.get(&name));
    match (found.cloned(), digest) {
        (None, _) => Err(error::permanent(what, "no registry has it")),
        (Some(found), Some(ordered)) if found != *ordered => Err(RuntimeError::WrongDigest {
            image: image.to_string(),
            found: found.to_string(),
            ordered: ordered.to_string(),
        }),
        (Some(found), _) => {
            world.images.insert(image.pinned(found.clone()).to_string(), found.clone());
            world.images.insert(name, found.clone());
            Ok(found)
        }
    }
}

fn see_sandbox(sandbox: &Sandbox) -> ObservedSandbox {
    ObservedSandbox {
        id: sandbox.id.clone(),
        incarnation: sandbox.incarnation,
        attempt: sandbox.attempt,
        ready: sandbox.ready,
        liveness: match sandbox.task {
            TaskFact::None => Liveness::Dead,
            TaskFact::Is(_) => Liveness::Live,
            TaskFact::Unanswered => Liveness::Unknown,
        },
    }
}

fn see_container(container: &Container, now_ms: u64) -> ObservedContainer {
    ObservedContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        incarnation: container.incarnation,
        generation: container.generation,
        attempt: container.attempt,
        sandbox_id: container.sandbox_id.clone(),
        state: container.state(now_ms),
        running_ms: container.running_ms(now_ms),
        liveness: container.liveness(),
        disk_key: container.disk_key.clone(),
        amended: container.amended,
        controls: container.controls.clone(),
    }
}

fn see_images(world: &World, record: &PodRecord) -> BTreeMap<ContainerName, ImageState> {
    let specs = record.charter.iter().flat_map(|charter| &charter.spec.containers);
    let see = |spec: &berth_model::ContainerSpec| {
        let known = record.containers.get(&spec.name).and_then(|known| known.digest.as_ref());
        let name = match known.or(spec.digest.as_ref()) {
            Some(digest) => spec.image.pinned(digest.clone()).to_string(),
            None => spec.image.to_string(),
        };
        let state = match world.images.get(&name) {
            Some(digest) => ImageState::Present { digest: digest.clone() },
            None => ImageState::Absent,
        };
        (spec.name.clone(), state)
    };
    specs.map(see).collect()
}

fn see_scratch(world: &World, pod: &PodId) -> BTreeSet<DiskName> {
    let here = world.data.iter().filter(|((of, _), life)| of == pod && **life == DiskLife::Scratch);
    here.map(|((_, name), _)| name.clone()).collect()
}

fn see_data_disks(world: &World, record: &PodRecord) -> BTreeMap<DiskName, DiskState> {
    let ordered = record.charter.iter().flat_map(|charter| &charter.spec.disks);
    let absent = ordered.map(|disk| (disk.name.clone(), DiskState::Absent));
    let here = world.data.keys().filter(|(pod, _)| *pod == record.pod);
    absent.chain(here.map(|(_, name)| (name.clone(), DiskState::Present))).collect()
}

fn see_slice(world: &World, pod: &PodId) -> SliceState {
    let Some(controls) = world.slices.get(pod) else {
        return SliceState::Absent;
    };
    let live = world.containers.iter().any(|container| container.pod == *pod && container.is_live())
        || world.sandboxes.iter().any(|sandbox| sandbox.pod == *pod && sandbox.task != TaskFact::None);
    let liveness = if live { Liveness::Live } else { Liveness::Dead };
    SliceState::Present { controls: controls.clone(), liveness }
}
