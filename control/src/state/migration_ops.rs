//! Migrations: begun, aborted, and driven. Each step and what it orders become durable together, so a crash at any
//! moment finds both or neither.

use super::migration_record::Migration;
use super::node_ops::NodeState;
use super::submit::{ENOUGH_NODES, binding, spec};
use super::view::default_pool;
use super::{Denied, State, Tx};
use crate::flow::migrate::{self, Facts, LeftBehind, Next, NodeFact, OrderFact, Phase, PoolFact};
use crate::flow::{Ending, PodState, Presence, Standing};
use crate::place::Topologies;
use berth_model::{
    CpuBinding, DataDisk, Digest, Disk, DiskPolicy, EvictDisposition, Movability, NodeName, NodeVerb,
    OrderId, PodId, PodRequest, PodSpec, PodStatus, PodVerb,
};
use berth_placement::{NodeView, Search};
use std::collections::BTreeMap;

/// Most migrations that are remembered: the oldest that has ended makes room.
const MAX_MIGRATIONS: usize = 4_096;

/// A wish to move a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migrate {
    /// Where to; the best node when absent.
    pub to: Option<NodeName>,
    /// What may become of what cannot be taken along; none where nothing may be left.
    pub left_behind: Option<LeftBehind>,
    /// Why, for people.
    pub reason: String,
    /// Decides among equally good nodes.
    pub seed: u64,
}

/// What a pod has that cannot be taken to another node, for people. Copying movable data disks from node to node would
/// be a phase of its own between Stopping and Starting.
fn immovable(request: &PodRequest) -> Vec<String> {
    let disk = |disk: &DataDisk| match disk.movable {
        Movability::Fixed => format!("data disk {} is not movable", disk.name),
        Movability::Movable => {
            format!("data disk {} would have to be copied, which this version cannot", disk.name)
        }
    };
    let system = match request.disk {
        DiskPolicy::Reuse => Some("its containers reuse their system disks (disk: Reuse)".to_owned()),
        DiskPolicy::Rebuild => None,
    };
    request.disks.iter().map(disk).chain(system).collect()
}

/// The spec with the very images that run now: a tag may have moved since.
fn pinned(mut spec: PodSpec, status: Option<&PodStatus>) -> PodSpec {
    for container in spec.containers.iter_mut().filter(|container| container.digest.is_none()) {
        let reported = status.iter().flat_map(|status| &status.containers);
        let running: Option<&Digest> = reported
            .filter(|reported| reported.name == container.name)
            .find_map(|reported| reported.image_digest.as_ref());
        container.digest = running.cloned();
    }
    spec
}

impl State {
    /// The migrations that are remembered, by pod.
    pub(crate) fn migrations(&self) -> &BTreeMap<PodId, Migration> {
        &self.migrations
    }

    /// What migrations have spoken for on a node for pods that it does not have.
    pub(crate) fn reserved_on<'a>(
        &'a self,
        node: &'a NodeName,
    ) -> impl Iterator<Item = (&'a PodId, &'a Migration, &'a PodSpec)> {
        let here = move |id: &PodId| self.nodes.get(node).is_some_and(|node| node.pods.contains(id));
        // Most migrations have ended: that is the cheapest question.
        let open = self.migrations.iter().filter(|(_, migration)| migration.phase.holds_pod());
        open.filter(move |(id, _)| !here(id))
            .filter_map(move |(id, migration)| Some((id, migration, migration.reserved_on(node)?)))
    }

    pub(super) fn check_not_migrating(&self, id: &PodId) -> Result<(), Denied> {
        match self.migrations.get(id).filter(|migration| migration.phase.holds_pod()) {
            None => Ok(()),
            Some(migration) => Err(Denied::Precondition(format!(
                "pod {id} is being migrated from {} to {} ({}): wait for its end, or abort it while it is preparing",
                migration.from,
                migration.to,
                migration.phase.name()
            ))),
        }
    }

    /// Whether an order gives up what a migration has left behind, and not the pod.
    pub(super) fn releases_copy(&self, pod: &PodId, order: &OrderId) -> bool {
        self.migrations.get(pod).is_some_and(|migration| {
            migration.phase == Phase::Releasing && migration.orders.contains_key(order)
        })
    }

    fn node_fact(&self, name: &NodeName, now: crate::clock::Moment) -> NodeFact {
        match self.nodes.get(name).map(|node| node.state(now)) {
            Some(NodeState::Ready) => NodeFact::Ready,
            Some(NodeState::Dead) => NodeFact::Dead,
            Some(NodeState::Silent | NodeState::Joined) | None => NodeFact::Silent,
        }
    }

    /// What is known of the source. One that was confirmed dead while the target could not take the pod yet stays so for
    /// this migration, also when it comes back; none as long as it still has the pod then.
    fn source_fact(&self, id: &PodId, migration: &Migration, now: crate::clock::Moment) -> Option<NodeFact> {
        let gone = self.pods.get(id).is_some_and(|pod| pod.standing.presence == Presence::Gone);
        let buried = migration.phase == Phase::Preparing && gone;
        match (buried, self.nodes.get(&migration.from)) {
            (true, Some(node)) if !node.dead && node.fenced.contains_key(id) => None,
            (true, _) => Some(NodeFact::Dead),
            (false, _) => Some(self.node_fact(&migration.from, now)),
        }
    }

    /// Whether a migration that is done has left nothing on a node that anybody wanted kept.
    pub(super) fn left_nothing(&self, id: &PodId, node: &NodeName) -> bool {
        self.migrations.get(id).is_some_and(|migration| {
            migration.from == *node
                && migration.phase == Phase::Done
                && migration.left_behind != LeftBehind::Kept
        })
    }

    fn pool_fact(&self, migration: &Migration) -> PoolFact {
        let CpuBinding::Exclusive { .. } = &migration.to_spec.cpu else {
            return PoolFact::Settled;
        };
        let pool = self.nodes.get(&migration.to).and_then(|node| node.pools.get(&default_pool()));
        match (pool, self.last_open_pool_order(&migration.to)) {
            (_, Some(_)) => PoolFact::Pending,
            (Some(pool), None) if !pool.settled => PoolFact::Refused,
            (Some(_) | None, None) => PoolFact::Settled,
        }
    }
}

impl Tx<'_> {
    /// Begins to move a pod to another node.
    ///
    /// # Errors
    /// When there is no such pod, it does not run, is changed or moved already, has data that cannot be taken along, or
    /// no other node has room for it.
    pub(crate) fn migrate(&mut self, id: &PodId, wish: Migrate) -> Result<(), Denied> {
        let from = self.node_of(id)?;
        self.check_not_migrating(id)?;
        self.check_no_revision(id)?;
        let pod = self.known_pod(id)?;
        let (PodState::Running | PodState::Failed, Some(from_spec)) = (pod.standing.state, pod.spec.clone())
        else {
            let state = pod.standing.state.name();
            return Err(Denied::Precondition(format!("pod {id} is {state}: only a running pod is migrated")));
        };
        let (request, incarnation) = (pod.request.clone(), pod.incarnation);
        let status = pod.status.clone();
        let left_behind = judge_data(&request, wish.left_behind)?;
        let (to, mut to_spec) = self.place_elsewhere(&request, &from, &wish)?;
        to_spec.addresses.clone_from(&from_spec.addresses);
        let now = self.now().wall_ms;
        let migration = Migration {
            from_incarnation: incarnation,
            from_spec,
            to_spec: pinned(to_spec, status.as_ref()),
            request,
            phase: Phase::Preparing,
            orders: BTreeMap::new(),
            left_behind,
            reason: wish.reason,
            message: String::new(),
            started_at_ms: now,
            changed_at_ms: now,
            from,
            to,
        };
        self.make_room_for_migration()?;
        self.prepare(id, migration);
        Ok(())
    }

    fn place_elsewhere(
        &mut self,
        request: &PodRequest,
        from: &NodeName,
        wish: &Migrate,
    ) -> Result<(NodeName, PodSpec), Denied> {
        let to = wish.to.as_ref();
        if to == Some(from) {
            return Err(Denied::Precondition(format!("to: pod {} is on node {from} already", request.pod)));
        }
        if let Some(missing) = to.filter(|to| !self.nodes.contains_key(*to)) {
            return Err(Denied::Invalid(format!("to: there is no node {missing}")));
        }
        let now = self.now();
        let state = self.unrecorded();
        state.freshen_views(now);
        let others =
            state.views.list().iter().filter(|view| to.map_or(view.name != *from, |to| view.name == *to));
        let nodes: Vec<NodeView> = others.cloned().collect();
        let search = Search { nodes: &nodes, cursor: 0, enough: ENOUGH_NODES, seed: wish.seed };
        let placed = berth_placement::place(request, &search, &Topologies(state));
        let placed = placed.map_err(|unplaced| {
            Denied::Exhausted(format!("pod {} fits no other node: {unplaced}", request.pod))
        })?;
        let (cpu, parts) = binding(placed.cpu);
        Ok((placed.node, spec(request, cpu, &parts)))
    }

    fn make_room_for_migration(&mut self) -> Result<(), Denied> {
        if self.migrations.len() < MAX_MIGRATIONS {
            return Ok(());
        }
        let ended = self.migrations.iter().filter(|(_, migration)| !migration.phase.is_open());
        let oldest = ended.min_by_key(|(_, migration)| migration.changed_at_ms).map(|(id, _)| id.clone());
        let Some(oldest) = oldest else {
            return Err(Denied::Exhausted(format!(
                "{MAX_MIGRATIONS} migrations are under way, which is the most"
            )));
        };
        self.touch_migration(&oldest).migrations.remove(&oldest);
        Ok(())
    }

    fn prepare(&mut self, id: &PodId, migration: Migration) {
        let to = migration.to.clone();
        let images: Vec<_> = migration
            .to_spec
            .containers
            .iter()
            .map(|container| (container.image.clone(), container.digest.clone()))
            .collect();
        self.touch_migration(id).migrations.insert(id.clone(), migration);
        self.touch_pod(id);
        let why = format!("pod {id} is about to move there");
        self.touch_node(&to);
        self.settle_default_pool(&to, &why);
        for (image, digest) in images {
            let order = self.order_node(&to, NodeVerb::PullImage { image, digest }, &why);
            self.note_order(id, order);
        }
    }

    fn note_order(&mut self, id: &PodId, order: OrderId) {
        if let Some(migration) = self.touch_migration(id).migrations.get_mut(id) {
            migration.orders.insert(order, OrderFact::Open);
        }
    }

    /// Gives a migration up that has not stopped the pod yet.
    ///
    /// # Errors
    /// When there is none, or it is further.
    pub(crate) fn abort_migration(&mut self, id: &PodId) -> Result<(), Denied> {
        match self.migrations.get(id).map(|migration| &migration.phase) {
            None => Err(Denied::NotFound(format!("pod {id} has no migration"))),
            Some(Phase::Preparing) => {
                self.enter(id, Phase::Failed { why: "aborted by a platform".to_owned() });
                Ok(())
            }
            Some(phase) => Err(Denied::Precondition(format!(
                "the migration of pod {id} is {}: only one that is Preparing can be aborted",
                phase.name()
            ))),
        }
    }

    /// An order has ended: if a migration waits for it, it knows.
    pub(super) fn migration_outcome(&mut self, order: &OrderId, ending: &Ending) {
        let waits = |migration: &Migration| migration.phase.is_open() && migration.orders.contains_key(order);
        let found = self.migrations.iter().find(|(_, migration)| waits(migration)).map(|(id, _)| id.clone());
        let Some(id) = found else { return };
        let fact = match ending {
            Ending::Done => OrderFact::Done,
            // What should not be there is not there.
            Ending::Refused(reason) if reason.is_no_such_pod() => OrderFact::Done,
            Ending::Failed(reason) | Ending::RolledBack(reason) | Ending::Refused(reason) => {
                OrderFact::Failed(reason.text.clone())
            }
        };
        if let Some(migration) = self.touch_migration(&id).migrations.get_mut(&id) {
            migration.orders.insert(order.clone(), fact);
        }
    }

    /// Takes every migration that may have something to do as far as it goes now.
    pub(super) fn advance_migrations(&mut self) {
        let open: Vec<PodId> = self
            .migrations
            .iter()
            .filter(|(id, migration)| migration.phase.is_open() && self.concerns_migration(id, migration))
            .map(|(id, _)| id.clone())
            .collect();
        for id in open {
            while self.step_migration(&id) {}
        }
    }

    /// One step; false when there is nothing to do until something changes.
    fn step_migration(&mut self, id: &PodId) -> bool {
        let Some(migration) = self.migrations.get(id).filter(|migration| migration.phase.is_open()) else {
            return false;
        };
        let now = self.now();
        let Some(source) = self.source_fact(id, migration, now) else {
            self.say_migration(id, "the source is back from the dead and gives the pod up first");
            return false;
        };
        let facts = Facts {
            source,
            target: self.node_fact(&migration.to, now),
            pool: self.pool_fact(migration),
            orders: &migration.orders,
            left_behind: migration.left_behind,
        };
        match migrate::next(&migration.phase, &facts) {
            Next::Stop => self.stop_source(id),
            Next::Start => self.start_on_target(id),
            Next::Release => self.release_copy(id),
            Next::Return(why) => self.return_to_source(id, why),
            Next::Done => self.enter(id, Phase::Done),
            Next::Failed(why) => {
                tracing::warn!(pod = %id, why, "the migration of pod {id} has failed");
                self.enter(id, Phase::Failed { why });
            }
            Next::Wait(why) => {
                self.say_migration(id, &why);
                return false;
            }
        }
        true
    }

    /// The next phase, which has no order yet; what only the last one had spoken for is free.
    fn enter(&mut self, id: &PodId, phase: Phase) {
        let now = self.now().wall_ms;
        let Some(migration) = self.touch_migration(id).migrations.get_mut(id) else { return };
        let held = migration.phase.holds_pod();
        (migration.phase, migration.changed_at_ms) = (phase, now);
        migration.orders.clear();
        migration.message.clear();
        let (from, to, holds) = (migration.from.clone(), migration.to.clone(), migration.phase.holds_pod());
        let failed = match &migration.phase {
            Phase::Failed { why } => Some(format!("migration to {to}: {why}")),
            _ => None,
        };
        if let Some(pod) = self.pod_mut(id) {
            pod.message = failed.unwrap_or_default();
        }
        if held && !holds {
            for node in [from, to] {
                self.touch_node(&node);
                self.settle_default_pool(&node, &format!("pod {id} is not about to come any more"));
            }
        }
    }

    /// What it waits for is shown with the pod, too.
    fn say_migration(&mut self, id: &PodId, why: &str) {
        if self.migrations.get(id).is_none_or(|migration| migration.message == why) {
            return;
        }
        if let Some(migration) = self.touch_migration(id).migrations.get_mut(id) {
            why.clone_into(&mut migration.message);
        }
        let holds = self.migrations.get(id).is_some_and(|migration| migration.phase.holds_pod());
        if let Some(pod) = self.pod_mut(id).filter(|_| holds) {
            pod.message = format!("migration: {why}");
        }
    }

    fn stop_source(&mut self, id: &PodId) {
        self.enter(id, Phase::Stopping);
        let Some(migration) = self.migrations.get(id) else { return };
        let (from, reason) = (migration.from.clone(), migration.reason.clone());
        let grace_ms = migration.request.stop_grace_ms;
        let verb = PodVerb::Evict { grace_ms, disposition: EvictDisposition::Keep };
        if let Some(order) = self.order_pod(id, &from, verb, &reason) {
            self.note_order(id, order);
        }
        let presence = Presence::OnNode;
        self.move_pod(id, Standing { state: PodState::Evicting, presence }, String::new());
    }

    fn start_on_target(&mut self, id: &PodId) {
        self.enter(id, Phase::Starting);
        let Some(migration) = self.migrations.get(id) else { return };
        let (to, spec) = (migration.to.clone(), migration.to_spec.clone());
        self.run_anew(id, &to, spec, Disk::Fresh);
    }

    fn return_to_source(&mut self, id: &PodId, why: String) {
        self.enter(id, Phase::Returning { why });
        let Some(migration) = self.migrations.get(id) else { return };
        let (from, spec) = (migration.from.clone(), migration.from_spec.clone());
        let kept = self.pods.get(id).and_then(|pod| pod.kept.get(&from).copied());
        let disk = kept.map_or(Disk::Fresh, |incarnation| Disk::Kept { incarnation });
        self.run_anew(id, &from, spec, disk);
    }

    fn run_anew(&mut self, id: &PodId, node: &NodeName, spec: PodSpec, disk: Disk) {
        let Some(migration) = self.migrations.get(id) else { return };
        let (request, reason) = (migration.request.clone(), migration.reason.clone());
        self.put_placed(request, node, spec.clone());
        self.settle_default_pool(node, &format!("pod {id} is placed"));
        let verb = PodVerb::Run { spec: Box::new(spec), disk };
        if let Some(order) = self.order_pod(id, node, verb, &reason) {
            self.note_order(id, order);
        }
    }

    fn release_copy(&mut self, id: &PodId) {
        self.enter(id, Phase::Releasing);
        let Some(migration) = self.migrations.get(id) else { return };
        let from = migration.from.clone();
        if !self.pods.get(id).is_some_and(|pod| pod.kept.contains_key(&from)) {
            return self.enter(id, Phase::Done);
        }
        let reason = format!("pod {id} runs on {} now", migration.to);
        if let Some(order) = self.order_pod(id, &from, PodVerb::Release, &reason) {
            self.note_order(id, order);
        }
    }
}

fn judge_data(request: &PodRequest, wanted: Option<LeftBehind>) -> Result<LeftBehind, Denied> {
    let immovable = immovable(request);
    match (immovable.is_empty(), wanted) {
        (true, _) => Ok(LeftBehind::Nothing),
        (false, Some(wanted)) => Ok(wanted),
        (false, None) => Err(Denied::Precondition(format!(
            "pod {} cannot take its data along: {}; leave it on its node (--leave-data), or give it up (--discard-data)",
            request.pod,
            immovable.join(", ")
        ))),
    }
}
