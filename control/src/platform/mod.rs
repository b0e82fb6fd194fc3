//! `Platform`: what platforms and operators drive Berth by. Every RPC parses its request whole, then makes one change.

mod change;
mod events;
mod migrations;
mod pods;
mod rollouts;
mod watch;

use crate::core::Core;
use crate::guard;
use crate::state::{Denied, PoolDetail, Tx};
use crate::store::StoreStopped;
use berth_model::{CpuSet, NodeName, PoolName};
use berth_proto::v1;
use berth_proto::v1::platform_server::Platform;
use events::EventStream;
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch as signal};
use tonic::{Request, Response, Status};
use watch::PodStream;

/// Longest reason that a platform may give.
const MAX_REASON_BYTES: usize = 1_024;

/// Serves platforms.
#[derive(Debug)]
pub(crate) struct PlatformService {
    core: Arc<Core>,
    draining: signal::Receiver<bool>,
    /// Places for those who read events.
    readers: Arc<Semaphore>,
}

fn invalid(field: &str, error: impl Display) -> Status {
    Status::invalid_argument(format!("{field}: {error}"))
}

fn status(denied: &Denied) -> Status {
    let text = denied.to_string();
    match denied {
        Denied::Invalid(_) => Status::invalid_argument(text),
        Denied::NotFound(_) => Status::not_found(text),
        Denied::Exists(_) => Status::already_exists(text),
        Denied::Precondition(_) => Status::failed_precondition(text),
        Denied::Exhausted(_) => Status::resource_exhausted(text),
    }
}

fn node_name(text: String) -> Result<NodeName, Status> {
    NodeName::new(text).map_err(|error| invalid("node", error))
}

fn optional_node(text: Option<String>) -> Result<Option<NodeName>, Status> {
    text.map(node_name).transpose()
}

/// The reason as it goes into orders; a platform that gives none is named instead.
fn reason(text: &str, caller: &impl Display) -> Result<String, Status> {
    if text.len() > MAX_REASON_BYTES {
        return Err(invalid(
            "reason",
            format!("has {} bytes, at most {MAX_REASON_BYTES} are kept", text.len()),
        ));
    }
    Ok(match text.trim() {
        "" => format!("asked for by {caller}"),
        given => given.to_owned(),
    })
}

impl PlatformService {
    /// Serves until `draining` says true.
    pub(crate) fn new(core: Arc<Core>, draining: signal::Receiver<bool>) -> Self {
        Self { core, draining, readers: events::places() }
    }

    async fn look<R: Send + 'static>(&self, look: impl FnOnce(&mut Tx<'_>) -> R) -> Result<R, Status> {
        let unavailable = |stopped: StoreStopped| Status::unavailable(stopped.to_string());
        self.core.act(look).await.map_err(unavailable)
    }

    async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, Denied>,
    ) -> Result<R, Status> {
        self.look(change).await?.map_err(|denied| status(&denied))
    }

    async fn record(&self, node: NodeName) -> Result<Response<v1::NodeRecord>, Status> {
        let record = self.look({
            let node = node.clone();
            move |tx| tx.node_record(&node, tx.now())
        });
        let missing = || Status::not_found(format!("there is no node {node}"));
        record.await?.map(Response::new).ok_or_else(missing)
    }
}

#[tonic::async_trait]
impl Platform for PlatformService {
    type WatchPodsStream = PodStream;
    type WatchEventsStream = EventStream;

    async fn submit_pod(&self, request: Request<v1::SubmitPodRequest>) -> Result<Response<v1::Pod>, Status> {
        guard::platform(&request)?;
        self.submit(request.into_inner()).await
    }

    async fn get_pod(&self, request: Request<v1::GetPodRequest>) -> Result<Response<v1::Pod>, Status> {
        guard::platform(&request)?;
        self.get(request.into_inner()).await
    }

    async fn list_pods(
        &self,
        request: Request<v1::ListPodsRequest>,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        guard::platform(&request)?;
        self.list(request.into_inner()).await
    }

    async fn watch_pods(&self, request: Request<v1::ListPodsRequest>) -> Result<Response<PodStream>, Status> {
        guard::platform(&request)?;
        self.watch(request.into_inner()).await
    }

    async fn evict_pod(&self, request: Request<v1::EvictPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.evict(request.into_inner(), &caller).await
    }

    async fn release_pod(
        &self,
        request: Request<v1::ReleasePodRequest>,
    ) -> Result<Response<v1::ReleasePodResponse>, Status> {
        let caller = guard::platform(&request)?;
        self.release(request.into_inner(), &caller).await
    }

    async fn stop_pod(&self, request: Request<v1::StopPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.stop(request.into_inner(), &caller).await
    }

    async fn start_pod(&self, request: Request<v1::StartPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.start(request.into_inner(), &caller).await
    }

    async fn restart_pod(
        &self,
        request: Request<v1::RestartPodRequest>,
    ) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.restart(request.into_inner(), &caller).await
    }

    async fn upgrade_pod(
        &self,
        request: Request<v1::UpgradePodRequest>,
    ) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.upgrade(request.into_inner(), &caller).await
    }

    async fn resize_pod(&self, request: Request<v1::ResizePodRequest>) -> Result<Response<v1::Pod>, Status> {
        let caller = guard::platform(&request)?;
        self.resize(request.into_inner(), &caller).await
    }

    async fn list_orders(
        &self,
        request: Request<v1::ListOrdersRequest>,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        guard::platform(&request)?;
        self.orders(request.into_inner()).await
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        guard::platform(&request)?;
        self.events(request.into_inner())
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let caller = guard::platform(&request)?;
        self.begin_rollout(request.into_inner(), &caller).await
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        guard::platform(&request)?;
        self.rollout(request.into_inner().name).await
    }

    async fn list_rollouts(
        &self,
        request: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        guard::platform(&request)?;
        let rollouts =
            self.look(|tx| tx.rollouts().iter().map(|(name, rollout)| rollout.to_wire(name)).collect());
        Ok(Response::new(v1::ListRolloutsResponse { rollouts: rollouts.await? }))
    }

    async fn change_rollout(
        &self,
        request: Request<v1::ChangeRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        guard::platform(&request)?;
        self.alter_rollout(request.into_inner()).await
    }

    async fn migrate_pod(
        &self,
        request: Request<v1::MigratePodRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        let caller = guard::platform(&request)?;
        self.migrate(request.into_inner(), &caller).await
    }

    async fn abort_migration(
        &self,
        request: Request<v1::AbortMigrationRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        guard::platform(&request)?;
        self.abort(request.into_inner()).await
    }

    async fn get_migration(
        &self,
        request: Request<v1::GetMigrationRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        guard::platform(&request)?;
        self.migration(pods::pod_id(request.into_inner().pod)?).await
    }

    async fn list_migrations(
        &self,
        request: Request<v1::ListMigrationsRequest>,
    ) -> Result<Response<v1::ListMigrationsResponse>, Status> {
        guard::platform(&request)?;
        let migrations =
            self.look(|tx| tx.migrations().iter().map(|(pod, migration)| migration.to_wire(pod)).collect());
        Ok(Response::new(v1::ListMigrationsResponse { migrations: migrations.await? }))
    }

    async fn confirm_node_dead(
        &self,
        request: Request<v1::ConfirmNodeDeadRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let caller = guard::platform(&request)?;
        let request = request.into_inner();
        let node = node_name(request.node)?;
        let reason = reason(&request.reason, &caller)?;
        tracing::warn!(%node, reason, "{node}: {caller} says that it is dead: {reason}");
        let name = node.clone();
        self.change(move |tx| tx.confirm_dead(&name, &reason)).await?;
        self.record(node).await
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let caller = guard::platform(&request)?;
        let request = request.into_inner();
        let node = node_name(request.node)?;
        let reason = reason(&request.reason, &caller)?;
        tracing::warn!(%node, reason, "{node}: {caller} revokes its certificates: {reason}");
        let name = node.clone();
        self.change(move |tx| tx.revoke_node(&name)).await?;
        self.core.hub().cut(&node);
        self.record(node).await
    }

    async fn list_tenures(
        &self,
        request: Request<v1::ListTenuresRequest>,
    ) -> Result<Response<v1::ListTenuresResponse>, Status> {
        guard::platform(&request)?;
        let request = request.into_inner();
        let pod = request.pod.map(|pod| pods::pod_id(Some(pod))).transpose()?;
        let tenures = self.look(move |tx| tx.tenures_to_wire(pod.as_ref(), request.pool.as_deref()));
        Ok(Response::new(v1::ListTenuresResponse { tenures: tenures.await? }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        guard::platform(&request)?;
        let nodes = self.look(|tx| {
            let names = tx.nodes().keys();
            names.filter_map(|name| tx.node_record(name, tx.now())).collect()
        });
        Ok(Response::new(v1::ListNodesResponse { nodes: nodes.await? }))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        guard::platform(&request)?;
        self.record(node_name(request.into_inner().node)?).await
    }

    async fn set_shared_cpus(
        &self,
        request: Request<v1::SetSharedCpusRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        guard::platform(&request)?;
        let request = request.into_inner();
        let node = node_name(request.node)?;
        let pool = PoolName::new(request.pool).map_err(|error| invalid("pool", error))?;
        let cpus: CpuSet = request.cpus.parse().map_err(|error| invalid("cpus", error))?;
        let name = node.clone();
        self.change(move |tx| tx.set_shared_cpus(&name, pool, cpus)).await?;
        self.record(node).await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        guard::platform(&request)?;
        let request = request.into_inner();
        let node = node_name(request.node)?;
        let image = request.image.parse().map_err(|error| invalid("image", error))?;
        let digest = request.digest.map(|digest| digest.parse()).transpose();
        let digest = digest.map_err(|error| invalid("digest", error))?;
        let id = self.change(move |tx| tx.pull_image(&node, image, digest)).await?;
        let order_id = id.to_string();
        Ok(Response::new(v1::PullImageResponse { order_id }))
    }

    async fn inspect_node(
        &self,
        request: Request<v1::InspectNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        guard::platform(&request)?;
        let node = node_name(request.into_inner().node)?;
        let name = node.clone();
        self.change(move |tx| tx.inspect(&name)).await?;
        self.record(node).await
    }

    async fn put_pool(&self, request: Request<v1::AddressPool>) -> Result<Response<v1::AddressPool>, Status> {
        guard::platform(&request)?;
        let pool = request.into_inner();
        let put = self.change(move |tx| tx.put_pool(&pool));
        put.await.map(Response::new)
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        guard::platform(&request)?;
        let detail = match request.into_inner().assignments {
            true => PoolDetail::Assignments,
            false => PoolDetail::Totals,
        };
        let pools = self.look(move |tx| tx.pools_to_wire(detail));
        pools.await.map(Response::new)
    }

    async fn delete_pool(
        &self,
        request: Request<v1::DeletePoolRequest>,
    ) -> Result<Response<v1::DeletePoolResponse>, Status> {
        guard::platform(&request)?;
        let name = PoolName::new(request.into_inner().name).map_err(|error| invalid("name", error))?;
        self.change(move |tx| tx.delete_pool(&name)).await?;
        Ok(Response::new(v1::DeletePoolResponse {}))
    }
}
