//! Migrations: begun and aborted.

use super::migration_record::Migration;
use super::submit::{ENOUGH_NODES, binding, spec};
use super::{Denied, Tx};
use crate::flow::PodState;
use crate::flow::luggage::{Packed, pack};
use crate::flow::migrate::{LeftBehind, OrderFact, Phase};
use crate::place::Topologies;
use berth_model::{Digest, NodeName, NodeVerb, OrderId, PodId, PodRequest, PodSpec, PodStatus};
use berth_placement::{NodeView, Search};
use std::collections::BTreeMap;

/// Most migrations that are remembered: the oldest that has ended makes room.
const MAX_MIGRATIONS: usize = 4_096;

const ABORTED: &str = "aborted by a platform";

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
        let packed = self.pack(&request, &from, wish.left_behind)?;
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
            left_behind: packed.left_behind,
            copied: packed.copied,
            wanted: wish.left_behind,
            reason: wish.reason,
            message: String::new(),
            started_at_ms: now,
            changed_at_ms: now,
            stopped_at_ms: None,
            running_at_ms: None,
            from,
            to,
        };
        self.make_room_for_migration()?;
        self.prepare(id, migration);
        Ok(())
    }

    /// What goes along and what does not, if the source is able to let it go.
    fn pack(
        &self,
        request: &PodRequest,
        from: &NodeName,
        wanted: Option<LeftBehind>,
    ) -> Result<Packed, Denied> {
        let pod = &request.pod;
        let packed = pack(request, wanted).map_err(|left| {
            Denied::Precondition(format!(
                "pod {pod} cannot take its data along: {left}; leave it on its node (--leave-data), or give it up \
                 (--discard-data)"
            ))
        })?;
        let facts = self.nodes.get(from).and_then(|node| node.facts.as_ref());
        if !packed.copied.is_empty() && facts.is_some_and(|facts| facts.peer_addresses().is_empty()) {
            return Err(Denied::Precondition(format!(
                "pod {pod} cannot take its data disks along: node {from} serves no other nodes (peer_listen)"
            )));
        }
        Ok(packed)
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

    pub(super) fn note_order(&mut self, id: &PodId, order: OrderId) {
        if let Some(migration) = self.touch_migration(id).migrations.get_mut(id) {
            migration.orders.insert(order, OrderFact::Open);
        }
    }

    /// Gives a migration up as long as the target was not ordered to run the pod. Once the source has stopped it, it
    /// runs there again.
    ///
    /// # Errors
    /// When there is none, or it is further.
    pub(crate) fn abort_migration(&mut self, id: &PodId) -> Result<(), Denied> {
        match self.migrations.get(id).map(|migration| &migration.phase) {
            None => Err(Denied::NotFound(format!("pod {id} has no migration"))),
            Some(Phase::Preparing) => {
                self.enter(id, Phase::Failed { why: ABORTED.to_owned() });
                Ok(())
            }
            Some(Phase::Offering | Phase::Copying) => {
                self.return_to_source(id, ABORTED.to_owned());
                Ok(())
            }
            Some(phase) => Err(Denied::Precondition(format!(
                "the migration of pod {id} is {}: only one that is Preparing, Offering or Copying can be aborted",
                phase.name()
            ))),
        }
    }
}
