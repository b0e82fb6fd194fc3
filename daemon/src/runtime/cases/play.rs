//! Plays a case, and says where it goes another way.

use super::table::EITHER;
use super::{Act, By, Case, Clerk, Ground};
use crate::ledger::Warrant;
use crate::runtime::{Making, Runtime, RuntimeError};
use crate::testing::pod;
use berth_model::{Attempt, ContainerName, Digest, Generation};
use berth_plan::{Liveness, Observed, ObservedContainer, ObservedSandbox, SliceState, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How every case begins.
const BEGINNING: [Act; 4] =
    [Act::Slice, Act::Sandbox(1), Act::Create { sandbox: 1, attempt: 1 }, Act::Start(1)];
/// How long a stopped container has, milliseconds.
const GRACE_MS: u64 = 5_000;
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);

/// Where a case went another way than the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was done.
    pub act: String,
    /// What the table has.
    pub expected: String,
    /// What came of it.
    pub found: String,
}

/// Plays cases, one after the other.
#[derive(Debug)]
pub struct Player<'a, G> {
    ground: &'a G,
    clerk: &'a Clerk,
    digest: Digest,
    /// By attempt.
    sandboxes: BTreeMap<u32, String>,
    containers: BTreeMap<u32, String>,
}

impl<'a, G: Ground> Player<'a, G> {
    /// Gets the image, and clears away what an earlier player, who may have been cut off, has left.
    ///
    /// # Panics
    /// When the ground itself does not do what it must: no claim of a case. All of this may.
    pub async fn new(ground: &'a G, clerk: &'a Clerk) -> Self {
        let image = &clerk.ordered().spec.containers[0].image;
        let digest = ground.runtime().ensure_image(image, None).await.expect("the image is to be had");
        let player = Self { ground, clerk, digest, sandboxes: BTreeMap::new(), containers: BTreeMap::new() };
        player.clear(|_| false).await;
        player
    }

    /// Plays a case from its beginning, and clears all of it away but a sandbox that is as good as new: making one
    /// takes longest.
    pub async fn play(&mut self, case: &Case) -> Vec<Difference> {
        let mut differences = Vec::new();
        for act in BEGINNING {
            differences.extend(self.step(act, "ok").await);
        }
        for (act, expected) in case.steps {
            differences.extend(self.step(*act, expected).await);
        }
        let kept = self.clear(|sandbox| sandbox.ready && sandbox.attempt == Attempt(1)).await;
        let expected = if kept { "slice; sandbox 1 ready live" } else { "nothing" };
        differences.extend(self.step(Act::Look, expected).await);
        self.containers.clear();
        differences
    }

    /// Takes away the sandbox too; nothing is left.
    pub async fn leave(mut self) -> Vec<Difference> {
        self.clear(|_| false).await;
        self.step(Act::Look, "nothing").await
    }

    async fn step(&mut self, act: Act, expected: &str) -> Vec<Difference> {
        let found = match act {
            Act::Look => self.look_for(expected).await,
            Act::HasUlimits(attempt) => {
                let has = self.ground.has_ulimits(&self.container(attempt)).await;
                if has { "yes" } else { "no" }.to_owned()
            }
            act => self.act_for(act, expected).await,
        };
        let faults = self.ground.faults().await;
        let found = std::iter::once((expected.to_owned(), found))
            .chain(faults.into_iter().map(|fault| (String::new(), fault)));
        found
            .filter(|(expected, found)| !is_as_claimed(expected, found))
            .map(|(expected, found)| Difference { act: format!("{act:?}"), expected, found })
            .collect()
    }

    /// What may help is tried again: the runtime takes notice of an end a moment later, and only then is it proven.
    async fn act_for(&mut self, act: Act, expected: &str) -> String {
        let until = Instant::now() + self.ground.patience();
        loop {
            match self.act(act).await {
                Ok(()) => return "ok".to_owned(),
                Err(RuntimeError::Transient { .. })
                    if !is_as_claimed(expected, "transient") && Instant::now() < until => {}
                Err(error) => return judged(&error, expected),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What has happened may be seen a moment later.
    async fn look_for(&self, expected: &str) -> String {
        let until = Instant::now() + self.ground.patience();
        loop {
            let found = match self.look().await {
                Ok(found) => found,
                Err(error) => error.to_string(),
            };
            if found == expected || Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn look(&self) -> Result<String, RuntimeError> {
        let (record, ordered) = (self.clerk.record(), self.clerk.ordered());
        let observed = self.ground.runtime().observe(&record, Some(&ordered)).await?;
        let mut parts = Vec::new();
        if matches!(observed.slice, SliceState::Present { .. }) {
            parts.push("slice".to_owned());
        }
        for sandbox in &observed.sandboxes {
            let ready = if sandbox.ready { "ready" } else { "ended" };
            parts.push(format!("sandbox {} {ready} {}", sandbox.attempt, life(sandbox.liveness)));
        }
        parts.extend(observed.containers.iter().map(|container| self.see(container)));
        for (attempt, id) in &self.containers {
            if let Some(starts) = self.ground.starts(id).await {
                parts.push(format!("disk {attempt} started {starts}"));
            }
        }
        Ok(if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") })
    }

    fn see(&self, container: &ObservedContainer) -> String {
        let state = match &container.state {
            TaskState::Created => "created".to_owned(),
            TaskState::Running => "running".to_owned(),
            TaskState::Exited { code, .. } => format!("exited {code}"),
            TaskState::StartFailed { .. } => "not started".to_owned(),
            TaskState::Interrupted { .. } => "interrupted".to_owned(),
            TaskState::Unknown => "unknown".to_owned(),
        };
        // A container's own disk has its id.
        let of = |key: &String| self.containers.iter().find(|(_, id)| *id == key).map(|(attempt, _)| attempt);
        let disk = match &container.disk_key {
            None => "no disk".to_owned(),
            Some(key) => of(key).map_or_else(|| format!("disk {key}"), |attempt| format!("disk {attempt}")),
        };
        let (name, attempt) = (&container.name, container.attempt);
        format!("{name} {attempt} {state} {} on {disk}", life(container.liveness))
    }

    async fn act(&mut self, act: Act) -> Result<(), RuntimeError> {
        let (ground, clerk) = (self.ground, self.clerk);
        let (runtime, ordered) = (ground.runtime(), clerk.ordered());
        match act {
            Act::Slice => runtime.ensure_slice(&ordered).await?,
            Act::Sandbox(attempt) => {
                let id = runtime.run_sandbox(&ordered, Attempt(attempt)).await?;
                self.sandboxes.insert(attempt, id);
            }
            Act::Create { sandbox, attempt } => {
                let making = Making {
                    attempt: Attempt(attempt),
                    generation: Generation(1),
                    digest: self.digest.clone(),
                };
                let sandbox = self.sandbox(sandbox);
                let id = runtime.create_container(&ordered, &sandbox, &app(), &making).await?;
                self.containers.insert(attempt, id);
            }
            Act::Adopt { from, to, disk } => self.adopt(from, to, disk).await?,
            Act::Detach { from, disk } => {
                let from = self.container(from);
                let proof = runtime.prove_dead(&pod(), [from.clone()].into()).await?;
                runtime.detach_disk(&proof, &from, &self.container(disk)).await?;
            }
            Act::Amend(attempt) => {
                runtime.amend_spec(&ordered, &app(), &self.container(attempt)).await?;
            }
            Act::Start(attempt) => runtime.start_container(&self.container(attempt)).await?,
            Act::Stop(attempt) => {
                runtime.stop_container(&clerk.life(), &self.container(attempt), GRACE_MS).await?;
            }
            Act::Remove(by, attempt) => {
                let id = self.container(attempt);
                runtime.remove_container(&self.warrant(by, [id.clone()].into()).await?, &id).await?;
            }
            Act::StopSandbox(..) | Act::RemoveSandbox(..) | Act::RemoveSlice(_) => self.end(act).await?,
            Act::Release(disk) => {
                runtime.release_disks(&clerk.disks(), &[self.container(disk)], &BTreeSet::new()).await?;
            }
            Act::Exit(attempt) => ground.exit(&self.container(attempt)).await,
            Act::LoseRecord(attempt) => ground.lose_record(&self.container(attempt)).await,
            Act::RestartRuntime => ground.restart_runtime().await,
            Act::PowerCut => ground.power_cut().await,
            // Answered by the ground, and by a look.
            Act::HasUlimits(_) | Act::Look => {}
        }
        Ok(())
    }

    async fn adopt(&self, from: Option<u32>, to: u32, disk: u32) -> Result<(), RuntimeError> {
        let runtime = self.ground.runtime();
        let from = from.map(|attempt| self.container(attempt));
        let proof = match &from {
            Some(id) => Some(runtime.prove_dead(&pod(), [id.clone()].into()).await?),
            None => None,
        };
        let (to, key) = (self.container(to), self.container(disk));
        runtime.adopt_disk(proof.as_ref(), from.as_deref(), &to, &key).await
    }

    /// Ends a sandbox or the slice, with all that is inside.
    async fn end(&self, act: Act) -> Result<(), RuntimeError> {
        let runtime = self.ground.runtime();
        match act {
            Act::StopSandbox(by, attempt) => {
                let id = self.sandbox(attempt);
                runtime.stop_sandbox(&self.warrant(by, self.inside(&id).await?).await?, &id).await
            }
            Act::RemoveSandbox(by, attempt) => {
                let id = self.sandbox(attempt);
                runtime.remove_sandbox(&self.warrant(by, self.inside(&id).await?).await?, &id).await
            }
            Act::RemoveSlice(by) => {
                // Of the charter's warrant only the pod counts here: the kernel is asked whether anything lives.
                runtime.remove_slice(&self.warrant(by, BTreeSet::new()).await?, &pod()).await
            }
            Act::Slice
            | Act::Sandbox(_)
            | Act::Create { .. }
            | Act::Adopt { .. }
            | Act::Detach { .. }
            | Act::Amend(_)
            | Act::Start(_)
            | Act::Stop(_)
            | Act::Remove(..)
            | Act::Release(_)
            | Act::Exit(_)
            | Act::LoseRecord(_)
            | Act::RestartRuntime
            | Act::PowerCut
            | Act::HasUlimits(_)
            | Act::Look => Ok(()),
        }
    }

    async fn observe(&self) -> Result<Observed, RuntimeError> {
        self.ground.runtime().observe(&self.clerk.record(), None).await
    }

    /// A sandbox and all that lies in it.
    async fn inside(&self, sandbox: &str) -> Result<BTreeSet<String>, RuntimeError> {
        let observed = self.observe().await?;
        let inside = observed.containers.iter().filter(|container| container.sandbox_id == sandbox);
        Ok(inside.map(|container| container.id.clone()).chain([sandbox.to_owned()]).collect())
    }

    async fn warrant(&self, by: By, ids: BTreeSet<String>) -> Result<Warrant, RuntimeError> {
        match by {
            By::Order => Ok(self.clerk.remains()),
            By::Charter => Ok(self.clerk.by_charter(self.ground.runtime().prove_dead(&pod(), ids).await?)),
        }
    }

    fn container(&self, attempt: u32) -> String {
        self.containers.get(&attempt).cloned().unwrap_or_else(|| unknown(attempt))
    }

    fn sandbox(&self, attempt: u32) -> String {
        self.sandboxes.get(&attempt).cloned().unwrap_or_else(|| unknown(attempt))
    }

    /// Ends all of the pod, by order, but for a sandbox that is to be kept; answers whether there is one.
    async fn clear(&self, keeps: impl Fn(&ObservedSandbox) -> bool) -> bool {
        let runtime = self.ground.runtime();
        let observed = self.observe().await.expect("look at the pod");
        for container in &observed.containers {
            let removed = runtime.remove_container(&self.clerk.remains(), &container.id).await;
            removed.expect("remove what a case has left");
        }
        for sandbox in observed.sandboxes.iter().filter(|sandbox| !keeps(sandbox)) {
            let removed = runtime.remove_sandbox(&self.clerk.remains(), &sandbox.id).await;
            removed.expect("remove a sandbox that a case has left");
        }
        let kept: Vec<_> = self.containers.values().cloned().collect();
        let released = runtime.release_disks(&self.clerk.disks(), &kept, &BTreeSet::new()).await;
        released.expect("release the disks that a case has left");
        let kept = observed.sandboxes.iter().any(keeps);
        if !kept {
            runtime.remove_slice(&self.clerk.remains(), &pod()).await.expect("remove the slice");
        }
        kept
    }
}

/// The kind of a failure; with the failure's own words where another was expected.
fn judged(error: &RuntimeError, expected: &str) -> String {
    let kind = match error {
        RuntimeError::Transient { .. } => "transient",
        RuntimeError::Permanent { .. } | RuntimeError::WrongDigest { .. } => "permanent",
    };
    if is_as_claimed(expected, kind) { kind.to_owned() } else { format!("{kind}: {error}") }
}

fn is_as_claimed(expected: &str, found: &str) -> bool {
    expected == found || (expected == EITHER && ["ok", "transient"].contains(&found))
}

fn life(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Live => "live",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    }
}

fn app() -> ContainerName {
    ContainerName::new("app").expect("a literal of this file")
}

/// An id as containerd has them, that it does not have.
fn unknown(attempt: u32) -> String {
    format!("{attempt:064x}")
}
