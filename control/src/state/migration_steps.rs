//! Migrations, driven. Each step and what it orders become durable together, so a crash at any moment finds both or
//! neither.

use super::Tx;
use super::migration_record::Migration;
use crate::facts::Facts as HostFacts;
use crate::flow::migrate::{self, Facts, Next, OrderFact, Phase};
use crate::flow::{Ending, PodState, Presence, Standing};
use berth_model::{
    DataDisk, Disk, DiskFetch, DiskOffer, DiskSource, EvictDisposition, MAX_PEER_ADDRESSES, NodeName,
    NodeVerb, OrderId, PodId, PodSpec, PodVerb, Target,
};
use std::net::SocketAddr;

impl Tx<'_> {
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
        let at_ms = self.now().wall_ms;
        let ran = match self.orders.get(order).map(|record| &record.order.target) {
            Some(Target::Pod(given)) => matches!(given.verb, PodVerb::Run { .. }) && fact == OrderFact::Done,
            Some(Target::Node(_)) | None => false,
        };
        if let Some(migration) = self.touch_migration(&id).migrations.get_mut(&id) {
            migration.orders.insert(order.clone(), fact);
            migration.running_at_ms = migration.running_at_ms.or(ran.then_some(at_ms));
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
            luggage: migration.luggage(),
        };
        match migrate::next(&migration.phase, &facts) {
            Next::Stop => self.stop_source(id),
            Next::Offer => self.offer_disks(id),
            Next::Copy => self.copy_disks(id),
            Next::Start => self.start_on_target(id),
            Next::StartWithout => self.start_without_disks(id),
            Next::Release => self.release_copy(id),
            Next::Withdraw => self.withdraw_disks(id),
            Next::Return(why) => self.return_to_source(id, why),
            Next::Done => self.enter(id, Phase::Done),
            Next::Failed(why) => {
                tracing::warn!(pod = %id, "the migration of pod {id} has failed: {why}");
                self.drop_copies(id);
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
    pub(super) fn enter(&mut self, id: &PodId, phase: Phase) {
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
        let now = self.now().wall_ms;
        if let Some(migration) = self.touch_migration(id).migrations.get_mut(id) {
            migration.stopped_at_ms = Some(now);
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

    pub(super) fn return_to_source(&mut self, id: &PodId, why: String) {
        self.drop_copies(id);
        self.enter(id, Phase::Returning { why });
        let Some(migration) = self.migrations.get(id) else { return };
        let (from, spec) = (migration.from.clone(), migration.from_spec.clone());
        let kept = self.pods.get(id).and_then(|pod| pod.kept.get(&from).copied());
        let disk = kept.map_or(Disk::Fresh, |incarnation| Disk::Kept { incarnation });
        self.run_anew(id, &from, spec, disk);
    }

    fn offer_disks(&mut self, id: &PodId) {
        self.enter(id, Phase::Offering);
        let Some(migration) = self.migrations.get(id) else { return };
        let from = migration.from.clone();
        let offer = DiskOffer {
            pod: id.clone(),
            incarnation: migration.from_incarnation,
            disks: migration.copied.clone(),
            to: migration.to.clone(),
        };
        let reason = format!("pod {id} takes its data disks along to node {}", migration.to);
        let order = self.order_node(&from, NodeVerb::OfferDisks(offer), &reason);
        self.note_order(id, order);
    }

    /// One disk after the other: each waits for the one before it.
    fn copy_disks(&mut self, id: &PodId) {
        self.enter(id, Phase::Copying);
        let Some(migration) = self.migrations.get(id) else { return };
        let (from, to) = (migration.from.clone(), migration.to.clone());
        let at = self.addresses_between(&from, &to);
        if at.is_empty() {
            return self.return_to_source(id, format!("node {from} serves no other nodes any more"));
        }
        let fetch = |disk: &DataDisk| DiskFetch {
            pod: id.clone(),
            incarnation: migration.from_incarnation,
            disk: disk.name.clone(),
            size: match disk.source {
                DiskSource::Directory { size } => size,
                DiskSource::Device { .. } | DiskSource::Memory { .. } => None,
            },
            from: from.clone(),
            at: at.clone(),
        };
        let disks = migration.to_spec.disks.iter().filter(|disk| migration.copied.contains(&disk.name));
        let fetches: Vec<DiskFetch> = disks.map(fetch).collect();
        for fetch in fetches {
            let reason = format!("pod {id} takes data disk {} along", fetch.disk);
            let order = self.order_node(&to, NodeVerb::FetchDisk(Box::new(fetch)), &reason);
            self.note_order(id, order);
        }
    }

    /// Where one node reaches another: not by addresses that it has itself, such as a bridge's on every host.
    fn addresses_between(&self, from: &NodeName, to: &NodeName) -> Vec<SocketAddr> {
        let addresses = |node: &NodeName| {
            let facts = self.nodes.get(node).and_then(|node| node.facts.as_ref());
            facts.map(HostFacts::peer_addresses).unwrap_or_default()
        };
        let theirs = addresses(to);
        let own = |address: &SocketAddr| theirs.iter().any(|other| other.ip() == address.ip());
        let at = addresses(from).into_iter().filter(|address| !own(address));
        at.take(MAX_PEER_ADDRESSES).collect()
    }

    /// The disks are on a dead node. Should it come back, what becomes of them is what was wished.
    fn start_without_disks(&mut self, id: &PodId) {
        if let Some(migration) = self.touch_migration(id).migrations.get_mut(id) {
            migration.left_behind = migration.wanted.unwrap_or(migration.left_behind);
            migration.copied.clear();
        }
        self.start_on_target(id);
    }

    /// What the target has copied is of no use any more, once what it still copies has come to an end.
    fn drop_copies(&mut self, id: &PodId) {
        let copied = |migration: &&Migration| {
            matches!(migration.phase, Phase::Copying | Phase::Starting) && !migration.copied.is_empty()
        };
        let Some(migration) = self.migrations.get(id).filter(copied) else { return };
        let to = migration.to.clone();
        self.order_pod(id, &to, PodVerb::Release, &format!("pod {id} does not come"));
    }

    /// The source keeps what it has, and nobody else may have it any more.
    fn withdraw_disks(&mut self, id: &PodId) {
        self.enter(id, Phase::Releasing);
        let Some(migration) = self.migrations.get(id) else { return };
        let (from, reason) = (migration.from.clone(), format!("pod {id} runs on {} now", migration.to));
        let order = self.order_node(&from, NodeVerb::WithdrawDisks { pod: id.clone() }, &reason);
        self.note_order(id, order);
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
