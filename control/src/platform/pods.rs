//! The RPCs about pods and orders.

use super::{PlatformService, invalid, optional_node, reason};
use crate::random;
use crate::state::{Evict, Tx};
use berth_model::{EvictDisposition, NodeName, PodId, PodRequest};
use berth_proto::{pod_from, v1};
use std::fmt::Display;
use tonic::{Response, Status};

/// Largest request: it is kept, put into an order and sent to a node, whole.
pub(super) const MAX_POD_BYTES: usize = 256 * 1024;

pub(super) fn pod_id(wire: Option<v1::PodRef>) -> Result<PodId, Status> {
    pod_from(wire).map_err(|error| Status::invalid_argument(error.chain()))
}

/// Which pods a list or a watch is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    namespace: Option<String>,
    node: Option<NodeName>,
}

impl Filter {
    pub(super) fn parse(request: v1::ListPodsRequest) -> Result<Self, Status> {
        let namespace = request.namespace;
        if let Some(Err(error)) = namespace.as_ref().map(|text| NodeName::new(text.as_str())) {
            return Err(invalid("namespace", error));
        }
        let node = optional_node(request.node)?;
        Ok(Self { namespace, node })
    }

    pub(super) fn matches(&self, pod: &v1::Pod) -> bool {
        let namespace = pod.pod.as_ref().map(|pod| pod.namespace.as_str());
        self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
            && self.node.as_ref().is_none_or(|wanted| pod.node.as_deref() == Some(wanted.as_str()))
    }

    /// An identity that has ended is on no node: who watches one does not know whether it was there.
    pub(super) fn matches_released(&self, pod: &PodId) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| pod.namespace() == wanted)
    }
}

/// All pods that match, by identity.
pub(super) fn snapshot(tx: &Tx<'_>, filter: &Filter) -> Vec<v1::Pod> {
    let pods = tx.pods().values().map(crate::state::Pod::to_wire);
    pods.filter(|pod| filter.matches(pod)).collect()
}

/// A pod with its open orders.
pub(super) fn whole_pod(tx: &Tx<'_>, id: &PodId) -> Option<v1::Pod> {
    let mut pod = tx.pods().get(id)?.to_wire();
    let open = tx.orders_of_pod(id).into_iter().filter(|(_, order)| order.is_open());
    pod.orders = open.map(|(_, order)| order.to_wire()).collect();
    Some(pod)
}

fn wire_pod(tx: &Tx<'_>, id: &PodId) -> v1::Pod {
    let pod = tx.pods().get(id).map(crate::state::Pod::to_wire);
    // A pod whose identity has just ended is shown as what it was called.
    pod.unwrap_or_else(|| v1::Pod {
        pod: Some(id.into()),
        state: v1::PodState::Evicted.into(),
        ..v1::Pod::default()
    })
}

impl PlatformService {
    pub(super) async fn submit(&self, request: v1::SubmitPodRequest) -> Result<Response<v1::Pod>, Status> {
        let size = prost::Message::encoded_len(&request);
        if size > MAX_POD_BYTES {
            return Err(invalid("pod", format!("has {size} bytes, at most {MAX_POD_BYTES} are accepted")));
        }
        let wire = request.pod.ok_or_else(|| invalid("pod", "is missing"))?;
        let pod = PodRequest::try_from(wire).map_err(|error| Status::invalid_argument(error.chain()))?;
        let seed = random::bytes::<8>().map_err(|error| Status::unavailable(error.to_string()))?;
        let submitted = self.change(move |tx| {
            let id = pod.pod.clone();
            tx.submit(pod, u64::from_le_bytes(seed)).map(|()| wire_pod(tx, &id))
        });
        submitted.await.map(Response::new)
    }

    pub(super) async fn get(&self, request: v1::GetPodRequest) -> Result<Response<v1::Pod>, Status> {
        let id = pod_id(request.pod)?;
        let name = id.clone();
        let found = self.look(move |tx| whole_pod(tx, &id));
        let missing = || Status::not_found(format!("there is no pod {name}"));
        found.await?.map(Response::new).ok_or_else(missing)
    }

    pub(super) async fn list(
        &self,
        request: v1::ListPodsRequest,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        let filter = Filter::parse(request)?;
        let pods = self.look(move |tx| snapshot(tx, &filter)).await?;
        Ok(Response::new(v1::ListPodsResponse { pods }))
    }

    pub(super) async fn evict(
        &self,
        request: v1::EvictPodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        let id = pod_id(request.pod)?;
        let wish = Evict {
            grace_ms: request.grace_ms,
            disposition: match request.release {
                true => EvictDisposition::Release,
                false => EvictDisposition::Keep,
            },
            reason: reason(&request.reason, caller)?,
        };
        let evicted = self.change(move |tx| tx.evict(&id, &wish).map(|()| wire_pod(tx, &id)));
        evicted.await.map(Response::new)
    }

    pub(super) async fn release(
        &self,
        request: v1::ReleasePodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::ReleasePodResponse>, Status> {
        let id = pod_id(request.pod)?;
        let reason = reason(&request.reason, caller)?;
        self.change(move |tx| tx.release(&id, &reason)).await?;
        Ok(Response::new(v1::ReleasePodResponse {}))
    }

    pub(super) async fn stop(
        &self,
        request: v1::StopPodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        let id = pod_id(request.pod)?;
        let reason = reason(&request.reason, caller)?;
        let grace_ms = request.grace_ms;
        let stopped = self.change(move |tx| tx.stop(&id, grace_ms, &reason).map(|()| wire_pod(tx, &id)));
        stopped.await.map(Response::new)
    }

    pub(super) async fn start(
        &self,
        request: v1::StartPodRequest,
        caller: &impl Display,
    ) -> Result<Response<v1::Pod>, Status> {
        let id = pod_id(request.pod)?;
        let reason = reason(&request.reason, caller)?;
        let started = self.change(move |tx| tx.start(&id, &reason).map(|()| wire_pod(tx, &id)));
        started.await.map(Response::new)
    }

    pub(super) async fn orders(
        &self,
        request: v1::ListOrdersRequest,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        let pod = request.pod.map(|pod| pod_id(Some(pod))).transpose()?;
        let node = optional_node(request.node)?;
        let orders = self.look(move |tx| {
            let wanted = |record: &&crate::state::OrderRecord| {
                pod.as_ref().is_none_or(|pod| record.pod() == Some(pod))
                    && node.as_ref().is_none_or(|node| record.node == *node)
            };
            let records = tx.orders().values().filter(wanted);
            records.map(crate::state::OrderRecord::to_record).collect()
        });
        Ok(Response::new(v1::ListOrdersResponse { orders: orders.await? }))
    }
}
