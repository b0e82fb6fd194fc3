//! A control plane that knows pods, orders, nodes and pools, and is as slow and as unkind as it is told to be.

use berth_access::{Authority, Credentials};
use berth_proto::v1::platform_server::{Platform, PlatformServer};
use berth_proto::v1::{self, PodState, pod_event};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What the fake holds, and what it was asked.
#[derive(Debug, Default)]
pub struct State {
    pub pods: BTreeMap<String, v1::Pod>,
    pub pools: Vec<v1::AddressPool>,
    pub nodes: Vec<v1::NodeRecord>,
    pub orders: Vec<v1::OrderRecord>,
    pub rollouts: Vec<v1::Rollout>,
    pub migrations: Vec<v1::Migration>,
    /// What befalls pods while somebody watches; each watch takes one list.
    pub fates: VecDeque<Vec<Fate>>,
    /// Every request that changes something, as `Debug` shows it.
    pub asked: Vec<String>,
}

/// What befalls a pod.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It comes into this state, with this message.
    Becomes(&'static str, PodState, &'static str),
    /// It is released.
    Released(&'static str),
    /// The stream breaks.
    Break,
}

/// A running fake.
pub struct FakePlatform {
    pub state: Arc<Mutex<State>>,
    pub address: String,
    server: JoinHandle<()>,
}

impl Drop for FakePlatform {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl FakePlatform {
    /// Serves by mutual TLS on a port of the loopback device.
    pub async fn start(authority: &Authority, shown: &Credentials) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(&shown.certificate_pem, &shown.key_pem))
            .client_ca_root(Certificate::from_pem(authority.certificate_pem()));
        let state = Arc::new(Mutex::new(State::default()));
        let service = PlatformServer::new(Service(state.clone()));
        let serving = Server::builder().tls_config(tls).unwrap().add_service(service);
        let server = tokio::spawn(async move {
            serving.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { state, address, server }
    }

    pub fn asked(&self) -> String {
        self.state.lock().unwrap().asked.join("\n")
    }
}

fn id(pod: Option<&v1::PodRef>) -> String {
    let pod = pod.unwrap();
    format!("{}/{}", pod.namespace, pod.name)
}

impl Service {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn change_node(
        &self,
        name: &str,
        change: impl FnOnce(&mut v1::NodeRecord),
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let mut state = self.state();
        let found = state.nodes.iter_mut().find(|node| node.name == name);
        let node = found.ok_or_else(|| Status::not_found(format!("there is no node {name}")))?;
        change(node);
        Ok(Response::new(node.clone()))
    }

    fn bring(
        &self,
        pod: Option<&v1::PodRef>,
        to: PodState,
        asked: &dyn std::fmt::Debug,
    ) -> Result<Response<v1::Pod>, Status> {
        let mut state = self.state();
        state.asked.push(format!("{asked:?}"));
        let name = id(pod);
        let pod = state.pods.get_mut(&name);
        let pod = pod.ok_or_else(|| Status::not_found(format!("there is no pod {name}")))?;
        pod.state = to.into();
        Ok(Response::new(pod.clone()))
    }

    /// Gives a pod an order that is done, or rolled back where its reason says so, by the time that somebody looks.
    fn order(
        &self,
        pod: Option<&v1::PodRef>,
        asked: &dyn std::fmt::Debug,
    ) -> Result<Response<v1::Pod>, Status> {
        let asked = format!("{asked:?}");
        let mut state = self.state();
        let name = id(pod);
        let found = state.pods.get_mut(&name);
        let found = found.ok_or_else(|| Status::not_found(format!("there is no pod {name}")))?;
        found.seq += 1;
        let target = v1::PodOrder { pod: pod.cloned(), seq: found.seq, ..Default::default() };
        let order = v1::Order {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            node: "node-1".to_owned(),
            target: Some(v1::order::Target::Pod(target)),
            ..Default::default()
        };
        let answer = v1::Pod { orders: vec![order.clone()], ..found.clone() };
        let reason =
            v1::Reason { code: "NotReady".to_owned(), message: "it died".to_owned(), ..Default::default() };
        let (ending, outcome) = match asked.contains("broken") {
            true => {
                ("rolled back", Some(v1::Outcome { outcome: Some(v1::outcome::Outcome::RolledBack(reason)) }))
            }
            false => ("accepted", None),
        };
        state.orders.push(v1::OrderRecord {
            order: Some(order),
            state: ending.to_owned(),
            outcome,
            ..Default::default()
        });
        state.asked.push(asked);
        Ok(Response::new(answer))
    }

    /// What a watch shows of a fate; an error ends the stream.
    fn suffer(&self, fate: &Fate) -> Result<v1::PodEvent, Status> {
        let mut state = self.state();
        let event = match fate {
            Fate::Becomes(name, to, message) => {
                let pod = state.pods.get_mut(*name).unwrap();
                pod.state = (*to).into();
                pod.message = (*message).to_owned();
                pod_event::Event::Changed(pod.clone())
            }
            Fate::Released(name) => {
                pod_event::Event::Released(state.pods.remove(*name).unwrap().pod.unwrap())
            }
            Fate::Break => return Err(Status::unavailable("the watcher fell behind")),
        };
        Ok(v1::PodEvent { event: Some(event) })
    }

    fn node(&self, name: &str) -> Result<Response<v1::NodeRecord>, Status> {
        let found = self.state().nodes.iter().find(|node| node.name == name).cloned();
        found.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no node {name}")))
    }
}

#[tonic::async_trait]
impl Platform for Service {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;
    type WatchPodsStream = Pin<Box<dyn Stream<Item = Result<v1::PodEvent, Status>> + Send>>;

    async fn submit_pod(&self, request: Request<v1::SubmitPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner().pod.unwrap();
        // What the real one does first, so that what the client sends is known to be acceptable.
        berth_model::PodRequest::try_from(request.clone())
            .map_err(|error| Status::invalid_argument(error.chain()))?;
        let name = id(request.pod.as_ref());
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        if request.node.as_deref() == Some("full") {
            return Err(Status::resource_exhausted("no node fits: full: 2 CPUs asked, 1 free"));
        }
        let pod = v1::Pod {
            pod: request.pod.clone(),
            incarnation: 1,
            generation: 1,
            seq: 1,
            state: PodState::Placed.into(),
            node: Some("node-1".to_owned()),
            request: Some(request),
            ..Default::default()
        };
        state.pods.insert(name, pod.clone());
        Ok(Response::new(pod))
    }

    async fn get_pod(&self, request: Request<v1::GetPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let name = id(request.into_inner().pod.as_ref());
        let pod = self.state().pods.get(&name).cloned();
        pod.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no pod {name}")))
    }

    async fn list_pods(
        &self,
        request: Request<v1::ListPodsRequest>,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        let v1::ListPodsRequest { namespace, node } = request.into_inner();
        let wanted = |pod: &&v1::Pod| {
            let of = pod.pod.as_ref().unwrap();
            namespace.as_ref().is_none_or(|namespace| of.namespace == *namespace)
                && (node.is_none() || pod.node == node)
        };
        let pods = self.state().pods.values().filter(wanted).cloned().collect();
        Ok(Response::new(v1::ListPodsResponse { pods }))
    }

    async fn watch_pods(
        &self,
        _: Request<v1::ListPodsRequest>,
    ) -> Result<Response<Self::WatchPodsStream>, Status> {
        let mut state = self.state();
        let changed = |pod: &v1::Pod| v1::PodEvent { event: Some(pod_event::Event::Changed(pod.clone())) };
        let mut first: Vec<_> = state.pods.values().map(changed).map(Ok).collect();
        first.push(Ok(v1::PodEvent { event: Some(pod_event::Event::Synced(pod_event::Synced {})) }));
        let fates = state.fates.pop_front().unwrap_or_default();
        let service = self.clone();
        let later = tokio_stream::iter(fates).map(move |fate| service.suffer(&fate));
        let stream = tokio_stream::iter(first).chain(later).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let of = |node: &str, code: &str| v1::Event {
            at_ms: 1_795_340_000_250,
            node: node.to_owned(),
            pod: request.pod.clone(),
            code: code.to_owned(),
            message: "it is so".to_owned(),
            ..Default::default()
        };
        let all = ["node-1", "node-2"].map(|node| of(node, "OomKill"));
        let wanted =
            all.into_iter().filter(|event| request.node.as_ref().is_none_or(|node| *node == event.node));
        let first: Vec<_> = wanted.map(Ok).collect();
        // Who follows is cut off in the end.
        let end = request.follow.then(|| Err(Status::unavailable("the control plane is going down")));
        Ok(Response::new(Box::pin(tokio_stream::iter(first.into_iter().chain(end)))))
    }

    async fn evict_pod(&self, request: Request<v1::EvictPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.bring(request.pod.as_ref(), PodState::Evicting, &request)
    }

    async fn release_pod(
        &self,
        request: Request<v1::ReleasePodRequest>,
    ) -> Result<Response<v1::ReleasePodResponse>, Status> {
        let request = request.into_inner();
        let name = id(request.pod.as_ref());
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        match state.pods.get(&name).map(|pod| pod.state == i32::from(PodState::Evicted)) {
            Some(true) => {
                state.pods.remove(&name);
                Ok(Response::new(v1::ReleasePodResponse {}))
            }
            Some(false) => {
                Err(Status::failed_precondition(format!("pod {name} is on node-1: evict it first")))
            }
            None => Err(Status::not_found(format!("there is no pod {name}"))),
        }
    }

    async fn stop_pod(&self, request: Request<v1::StopPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.bring(request.pod.as_ref(), PodState::Stopping, &request)
    }

    async fn start_pod(&self, request: Request<v1::StartPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.bring(request.pod.as_ref(), PodState::Placed, &request)
    }

    async fn restart_pod(
        &self,
        request: Request<v1::RestartPodRequest>,
    ) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.order(request.pod.as_ref(), &request)
    }

    async fn upgrade_pod(
        &self,
        request: Request<v1::UpgradePodRequest>,
    ) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.order(request.pod.as_ref(), &request)
    }

    async fn resize_pod(&self, request: Request<v1::ResizePodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        self.order(request.pod.as_ref(), &request)
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        let v1::StartRolloutRequest { name, selector, patch, max_unavailable, .. } = request;
        let waiting = u32::try_from(state.pods.len()).unwrap();
        let running = v1::RolloutState::Running.into();
        let rollout = v1::Rollout {
            name,
            selector,
            patch,
            max_unavailable,
            waiting,
            state: running,
            ..Default::default()
        };
        state.rollouts.push(rollout.clone());
        Ok(Response::new(rollout))
    }

    /// A rollout goes one step each time that somebody looks; one whose name says so stops.
    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let name = request.into_inner().name;
        let mut state = self.state();
        let found = state.rollouts.iter_mut().find(|rollout| rollout.name == name);
        let rollout = found.ok_or_else(|| Status::not_found(format!("there is no rollout {name}")))?;
        if name == "broken" {
            rollout.state = v1::RolloutState::Paused.into();
            rollout.message = "2 pods were rolled back".to_owned();
        } else if rollout.waiting > 0 {
            (rollout.waiting, rollout.under_way) = (0, rollout.waiting);
        } else {
            (rollout.under_way, rollout.done) = (0, rollout.under_way + rollout.done);
            rollout.state = v1::RolloutState::Done.into();
        }
        let pod = Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() });
        let done = v1::RolloutPodState::Done.into();
        let pods = vec![v1::RolloutPod { pod, state: done, message: String::new() }];
        Ok(Response::new(v1::Rollout { pods, ..rollout.clone() }))
    }

    async fn list_rollouts(
        &self,
        _: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        Ok(Response::new(v1::ListRolloutsResponse { rollouts: self.state().rollouts.clone() }))
    }

    async fn change_rollout(
        &self,
        request: Request<v1::ChangeRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        let found = state.rollouts.iter().find(|rollout| rollout.name == request.name).cloned();
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no rollout {}", request.name)))
    }

    async fn list_orders(
        &self,
        request: Request<v1::ListOrdersRequest>,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        let node = request.into_inner().node;
        let mut state = self.state();
        let of = |record: &&v1::OrderRecord| {
            node.as_ref().is_none_or(|node| record.order.as_ref().unwrap().node == *node)
        };
        let orders: Vec<_> = state.orders.iter().filter(of).cloned().collect();
        // An accepted order is done by the next time that somebody looks.
        for record in state.orders.iter_mut().filter(|record| record.state == "accepted") {
            record.state = "done".to_owned();
            record.outcome =
                Some(v1::Outcome { outcome: Some(v1::outcome::Outcome::Done(v1::outcome::Done {})) });
        }
        Ok(Response::new(v1::ListOrdersResponse { orders }))
    }

    async fn migrate_pod(
        &self,
        request: Request<v1::MigratePodRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        let migration = v1::Migration {
            pod: request.pod,
            from: "node-1".to_owned(),
            to: request.to.unwrap_or_else(|| "node-2".to_owned()),
            phase: v1::MigrationPhase::Preparing.into(),
            ..Default::default()
        };
        state.migrations.push(migration.clone());
        Ok(Response::new(migration))
    }

    async fn abort_migration(
        &self,
        request: Request<v1::AbortMigrationRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        let found = state.migrations.iter_mut().find(|migration| migration.pod == request.pod);
        let migration = found.ok_or_else(|| Status::not_found("pod shop/web has no migration"))?;
        migration.phase = v1::MigrationPhase::Failed.into();
        Ok(Response::new(migration.clone()))
    }

    /// A migration goes one step each time that somebody looks; one to a barren node fails.
    async fn get_migration(
        &self,
        request: Request<v1::GetMigrationRequest>,
    ) -> Result<Response<v1::Migration>, Status> {
        let pod = request.into_inner().pod;
        let mut state = self.state();
        let found = state.migrations.iter_mut().rev().find(|migration| migration.pod == pod);
        let migration =
            found.ok_or_else(|| Status::not_found(format!("pod {} has no migration", id(pod.as_ref()))))?;
        match migration.to.as_str() {
            "barren" => {
                migration.phase = v1::MigrationPhase::Failed.into();
                migration.message = "no room".to_owned();
            }
            _ => migration.phase = v1::MigrationPhase::Done.into(),
        }
        Ok(Response::new(migration.clone()))
    }

    async fn list_migrations(
        &self,
        _: Request<v1::ListMigrationsRequest>,
    ) -> Result<Response<v1::ListMigrationsResponse>, Status> {
        Ok(Response::new(v1::ListMigrationsResponse { migrations: self.state().migrations.clone() }))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let request = request.into_inner();
        self.state().asked.push(format!("{request:?}"));
        self.change_node(&request.node, |node| node.certificates_from_ms = 1)
    }

    async fn confirm_node_dead(
        &self,
        request: Request<v1::ConfirmNodeDeadRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let request = request.into_inner();
        self.state().asked.push(format!("{request:?}"));
        self.change_node(&request.node, |node| {
            node.state = v1::NodeState::Dead.into();
            node.fenced = vec![v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() }];
        })
    }

    async fn list_tenures(
        &self,
        request: Request<v1::ListTenuresRequest>,
    ) -> Result<Response<v1::ListTenuresResponse>, Status> {
        let tenure = v1::AddressTenure {
            pool: "blue".to_owned(),
            address: "10.0.0.7".to_owned(),
            pod: request.into_inner().pod,
            assigned_at_ms: 1,
            released_at_ms: None,
        };
        Ok(Response::new(v1::ListTenuresResponse { tenures: vec![tenure] }))
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Ok(Response::new(v1::ListNodesResponse { nodes: self.state().nodes.clone() }))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        self.node(&request.into_inner().node)
    }

    async fn set_shared_cpus(
        &self,
        request: Request<v1::SetSharedCpusRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let request = request.into_inner();
        self.state().asked.push(format!("{request:?}"));
        let v1::SetSharedCpusRequest { node, pool, cpus } = request;
        let shared_pools = vec![v1::SharedPool { pool, cpus, mems: "0".to_owned(), generation: 1 }];
        Ok(Response::new(v1::NodeRecord { name: node, shared_pools, ..Default::default() }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.asked.push(format!("{request:?}"));
        let order_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
        let refused = v1::Reason {
            code: "Busy".to_owned(),
            message: "pulls is full at 8".to_owned(),
            ..Default::default()
        };
        let (ending, outcome) = match request.image.contains("busy") {
            true => ("refused", Some(v1::Outcome { outcome: Some(v1::outcome::Outcome::Refused(refused)) })),
            false => ("accepted", None),
        };
        let order = v1::Order { id: order_id.clone(), node: request.node, ..Default::default() };
        let record =
            v1::OrderRecord { order: Some(order), state: ending.to_owned(), outcome, ..Default::default() };
        state.orders.push(record);
        Ok(Response::new(v1::PullImageResponse { order_id }))
    }

    async fn inspect_node(
        &self,
        request: Request<v1::InspectNodeRequest>,
    ) -> Result<Response<v1::NodeRecord>, Status> {
        let request = request.into_inner();
        self.state().asked.push(format!("{request:?}"));
        self.node(&request.node)
    }

    async fn put_pool(&self, request: Request<v1::AddressPool>) -> Result<Response<v1::AddressPool>, Status> {
        let mut pool = request.into_inner();
        pool.size = 254;
        let mut state = self.state();
        state.asked.push(format!("{pool:?}"));
        state.pools.push(pool.clone());
        Ok(Response::new(pool))
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let pod = Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() });
        let held = v1::Assignment { pool: "blue".to_owned(), address: "10.0.0.7".to_owned(), pod };
        let assignments = if request.into_inner().assignments { vec![held] } else { Vec::new() };
        Ok(Response::new(v1::ListPoolsResponse { pools: self.state().pools.clone(), assignments }))
    }

    async fn delete_pool(
        &self,
        request: Request<v1::DeletePoolRequest>,
    ) -> Result<Response<v1::DeletePoolResponse>, Status> {
        let name = request.into_inner().name;
        let mut state = self.state();
        let before = state.pools.len();
        state.pools.retain(|pool| pool.name != name);
        match state.pools.len() < before {
            true => Ok(Response::new(v1::DeletePoolResponse {})),
            false => Err(Status::not_found(format!("there is no pool {name}"))),
        }
    }
}
