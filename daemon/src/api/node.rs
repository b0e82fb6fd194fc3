//! What `berthctl` shows: from the ledger, the last looks, the link and the host. Nothing here changes anything.

use super::disks;
use super::events::{self, Asked};
use super::images;
use super::logs::{Logs, no_pod};
use super::upstream::upstream;
use crate::clock::epoch_ms;
use crate::host::{Host, Unseen};
use crate::ledger::{Attachment, AttachmentKey, Book, Ledger, OrderEntry};
use crate::link::{LinkState, NodeIdentity, PkiFiles};
use crate::reports::Reports;
use berth_cgroup::{CgroupPath, CgroupRoot};
use berth_model::{Applied, CpuBinding, CpuSet, OrderId, PodPhase, PodStatus, RunState, Target};
use berth_plan::PodRecord;
use berth_proto::v1::node_server::Node;
use berth_proto::{pod_from, v1};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What the answers are made of.
pub struct NodeApi<H> {
    /// The durable record.
    pub ledger: Ledger,
    /// The last looks.
    pub reports: Arc<Reports>,
    /// The link to upstream.
    pub link: LinkState,
    /// The host.
    pub host: Arc<H>,
    /// The kernel's cgroups.
    pub cgroups: CgroupRoot,
    /// What does not change while the daemon runs.
    pub about: About,
    /// Places for those who read events.
    pub readers: Readers,
}

/// Places for those who read events.
#[derive(Debug)]
pub struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(events::places())
    }
}

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct About {
    /// Where it dials; empty if nowhere.
    pub control: String,
    /// Its key and certificates.
    pub pki: PkiFiles,
    /// Containers' logs.
    pub log_dir: PathBuf,
    /// CPUs that no pod is placed on.
    pub reserved_cpus: CpuSet,
    /// When it began, milliseconds after the epoch.
    pub started_at_ms: u64,
}

impl<H: Host> NodeApi<H> {
    fn local_pod(&self, record: &PodRecord) -> v1::LocalPod {
        let status = self.reports.status(&record.pod).unwrap_or_else(|| not_looked_at(record));
        let charter = record.charter.as_ref();
        let run_state = charter.map_or(RunState::Stopped, |charter| charter.run_state);
        v1::LocalPod {
            status: Some((&status).into()),
            spec: charter.map(|charter| (&charter.spec).into()),
            run_state: v1::RunState::from(run_state).into(),
            seq: record.seq.0,
            next_step: self.reports.next_step(&record.pod).unwrap_or_default(),
        }
    }

    fn local_order(&self, entry: &OrderEntry) -> v1::LocalOrder {
        let step = match (&entry.ended, &entry.order().target) {
            (None, Target::Pod(order)) => self.reports.next_step(&order.pod),
            (None, Target::Node(order)) => Some(order.verb.name().to_owned()),
            (Some(_), Target::Pod(_) | Target::Node(_)) => None,
        };
        v1::LocalOrder {
            order: Some((&entry.addressed).into()),
            outcome: entry.ended.as_ref().map(|ended| (&ended.outcome).into()),
            step: step.unwrap_or_default(),
            accepted_at_ms: entry.accepted_at_ms,
        }
    }

    fn record(&self, pod: Option<v1::PodRef>) -> Result<PodRecord, Status> {
        let pod = pod_from(pod).map_err(|error| Status::invalid_argument(error.chain()))?;
        let record = self.ledger.pod(&pod).filter(|record| record.charter.is_some());
        record.ok_or_else(|| no_pod(&pod))
    }

    fn cgroup_view(&self, of: &str, applied: &Applied) -> v1::CgroupView {
        v1::CgroupView {
            of: of.to_owned(),
            applied: Some(applied.into()),
            statistics: self.statistics(&applied.cgroup),
        }
    }

    fn statistics(&self, cgroup: &str) -> HashMap<String, String> {
        let path = cgroup.parse::<CgroupPath>().map_err(|error| error.to_string());
        let opened = path.and_then(|path| self.cgroups.open(&path).map_err(|error| error.to_string()));
        let read = opened.and_then(|cgroup| cgroup.statistics().map_err(|error| error.to_string()));
        match read {
            Ok(statistics) => {
                statistics.to_map().into_iter().map(|(key, value)| (key, value.to_string())).collect()
            }
            Err(error) => HashMap::from([("error".to_owned(), error)]),
        }
    }
}

fn unseen(error: &Unseen) -> Status {
    Status::unavailable(error.to_string())
}

/// A pod of the ledger that no task has looked at yet.
fn not_looked_at(record: &PodRecord) -> PodStatus {
    PodStatus {
        pod: record.pod.clone(),
        incarnation: record.incarnation,
        generation: record.generation,
        phase: PodPhase::Unknown,
        message: "it has not been looked at yet".to_owned(),
        sandbox_id: None,
        addresses: record.charter.as_ref().map_or_else(Vec::new, |charter| charter.spec.addresses.clone()),
        containers: Vec::new(),
        applied: None,
        open_order: record.open.as_ref().map(|open| open.id.clone()),
    }
}

/// Who holds CPUs here: pools, and pods with CPUs of their own.
fn holders(book: &Book) -> Vec<v1::CpuHolder> {
    let pools = book.pools.values().map(|pool| v1::CpuHolder {
        holder: format!("pool {}", pool.name),
        cpus: pool.cpus.to_string(),
        mems: pool.mems.to_string(),
        exclusive: false,
    });
    let pods = book.pods.values().filter_map(|record| match &record.charter.as_ref()?.spec.cpu {
        CpuBinding::Exclusive { cpus, mems } => Some(v1::CpuHolder {
            holder: record.pod.to_string(),
            cpus: cpus.to_string(),
            mems: mems.to_string(),
            exclusive: true,
        }),
        CpuBinding::Shared { .. } => None,
    });
    pools.chain(pods).collect()
}

fn interface(attachment: &Attachment) -> v1::Attachment {
    let AttachmentKey { sandbox_id, interface } = attachment.key.clone();
    v1::Attachment { sandbox_id, interface }
}

/// Who has which address, and who had it: the newest first.
fn history(book: &Book) -> Vec<v1::Tenure> {
    let tenure = |attachment: &Attachment, detached_at_ms| v1::Tenure {
        pod: Some((&attachment.pod).into()),
        incarnation: attachment.incarnation.0,
        addresses: attachment.addresses.iter().map(ToString::to_string).collect(),
        attachment: Some(interface(attachment)),
        attached_at_ms: attachment.attached_at_ms,
        detached_at_ms,
    };
    let current = book.attachments.values().map(|attachment| tenure(attachment, None));
    let ended = book.tenures.values().map(|ended| tenure(&ended.attachment, Some(ended.detached_at_ms)));
    let mut all: Vec<_> = current.chain(ended).collect();
    all.sort_by_key(|tenure| Reverse((tenure.attached_at_ms, tenure.detached_at_ms.is_none())));
    all
}

fn leases(book: &Book) -> Vec<v1::AddressLease> {
    let mut attached: BTreeMap<_, Vec<&Attachment>> = BTreeMap::new();
    for attachment in book.attachments.values() {
        attached.entry((&attachment.pod, attachment.incarnation)).or_default().push(attachment);
    }
    let grants = book.pods.keys().filter_map(|pod| book.grant(pod));
    let lease = |grant: crate::ledger::Grant| v1::AddressLease {
        pod: Some((&grant.pod).into()),
        incarnation: grant.incarnation.0,
        grants: grant.addresses.iter().map(Into::into).collect(),
        attachments: attached
            .get(&(&grant.pod, grant.incarnation))
            .into_iter()
            .flatten()
            .map(|attachment| interface(attachment))
            .collect(),
    };
    grants.map(lease).collect()
}

#[tonic::async_trait]
impl<H: Host> Node for NodeApi<H> {
    type WatchEventsStream = ReceiverStream<Result<v1::Event, Status>>;
    type ReadLogsStream = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Result<Response<v1::NodeStatus>, Status> {
        // A host that cannot be looked at is all the more reason to answer; `berthctl doctor` says what it is.
        let facts = self.host.facts().await.ok();
        let link = self.link.get();
        let identity = NodeIdentity::load(&self.about.pki).ok();
        let (term, pods, open_orders) = self.ledger.read(|book| {
            let here = book.pods.values().filter(|record| record.charter.is_some()).count();
            (book.term.0, here, book.open_orders().count())
        });
        Ok(Response::new(v1::NodeStatus {
            node: self.ledger.node().map(ToString::to_string).unwrap_or_default(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            control: self.about.control.clone(),
            connected: link.connected,
            link_message: link.message,
            term,
            facts,
            pods: u32::try_from(pods).unwrap_or(u32::MAX),
            open_orders: u32::try_from(open_orders).unwrap_or(u32::MAX),
            certificate_subject: identity.as_ref().map(|identity| identity.uri.clone()).unwrap_or_default(),
            certificate_expires_at_ms: identity.map_or(0, |identity| identity.expires_at_ms),
            started_at_ms: self.about.started_at_ms,
        }))
    }

    async fn list_pods(
        &self,
        _: Request<v1::ListLocalPodsRequest>,
    ) -> Result<Response<v1::ListLocalPodsResponse>, Status> {
        let here = |record: &&PodRecord| record.charter.is_some();
        let records = self.ledger.read(|book| book.pods.values().filter(here).cloned().collect::<Vec<_>>());
        let pods = records.iter().map(|record| self.local_pod(record)).collect();
        Ok(Response::new(v1::ListLocalPodsResponse { pods }))
    }

    async fn get_pod(
        &self,
        request: Request<v1::GetLocalPodRequest>,
    ) -> Result<Response<v1::LocalPod>, Status> {
        let record = self.record(request.into_inner().pod)?;
        Ok(Response::new(self.local_pod(&record)))
    }

    async fn list_orders(
        &self,
        _: Request<v1::ListLocalOrdersRequest>,
    ) -> Result<Response<v1::ListLocalOrdersResponse>, Status> {
        let entries = self.ledger.read(|book| book.orders.values().cloned().collect::<Vec<_>>());
        let orders = entries.iter().map(|entry| self.local_order(entry)).collect();
        Ok(Response::new(v1::ListLocalOrdersResponse { orders }))
    }

    async fn get_order(
        &self,
        request: Request<v1::GetLocalOrderRequest>,
    ) -> Result<Response<v1::LocalOrder>, Status> {
        let text = request.into_inner().id;
        let id: OrderId = text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let entry = self.ledger.read(|book| book.orders.get(&id).cloned());
        let entry = entry.ok_or_else(|| {
            Status::not_found(format!("order {id} is not known here, or its outcome is not kept any more"))
        })?;
        Ok(Response::new(self.local_order(&entry)))
    }

    async fn get_topology(
        &self,
        _: Request<v1::GetTopologyRequest>,
    ) -> Result<Response<v1::NodeTopology>, Status> {
        let facts = self.host.facts().await.map_err(|error| unseen(&error))?;
        Ok(Response::new(v1::NodeTopology {
            topology: facts.topology,
            reserved_cpus: self.about.reserved_cpus.to_string(),
            holders: self.ledger.read(holders),
        }))
    }

    async fn get_cgroup(
        &self,
        request: Request<v1::GetCgroupRequest>,
    ) -> Result<Response<v1::GetCgroupResponse>, Status> {
        let record = self.record(request.into_inner().pod)?;
        let status = self.reports.status(&record.pod);
        let status = status.ok_or_else(|| Status::unavailable("the pod has not been looked at yet"))?;
        let pod = status.applied.iter().map(|applied| self.cgroup_view("pod", applied));
        let containers = status.containers.iter().filter_map(|container| {
            let applied = container.applied.as_ref()?;
            Some(self.cgroup_view(container.name.as_str(), applied))
        });
        Ok(Response::new(v1::GetCgroupResponse { cgroups: pod.chain(containers).collect() }))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let history = match request.into_inner().history {
            true => self.ledger.read(history),
            false => Vec::new(),
        };
        Ok(Response::new(v1::ListLeasesResponse { leases: self.ledger.read(leases), history }))
    }

    async fn list_disks(
        &self,
        _: Request<v1::ListDisksRequest>,
    ) -> Result<Response<v1::ListDisksResponse>, Status> {
        let keys = self.ledger.read(disks::system_keys);
        let seen = self.host.disks(keys).await.map_err(|error| unseen(&error))?;
        let disks = self.ledger.read(|book| disks::list(book, &seen));
        Ok(Response::new(v1::ListDisksResponse { disks }))
    }

    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let seen = self.host.images().await.map_err(|error| unseen(&error))?;
        let images = self.ledger.read(|book| images::list(book, seen));
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn read_logs(
        &self,
        request: Request<v1::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let logs = Logs { ledger: &self.ledger, reports: &self.reports, folder: &self.about.log_dir };
        let stream = logs.read(request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchLocalEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let v1::WatchLocalEventsRequest { pod, follow } = request.into_inner();
        let pod = pod.map(|pod| pod_from(Some(pod))).transpose();
        let pod = pod.map_err(|error| Status::invalid_argument(error.chain()))?;
        let events = events::send(self.reports.journal().clone(), &self.readers.0, Asked { pod, follow })?;
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn diagnose(
        &self,
        _: Request<v1::DiagnoseRequest>,
    ) -> Result<Response<v1::DiagnoseResponse>, Status> {
        let identity = NodeIdentity::load(&self.about.pki);
        let upstream = upstream(&self.link.get(), &identity, epoch_ms());
        let mut findings = self.host.diagnose().await;
        findings.extend(upstream.into_iter().map(Into::into));
        Ok(Response::new(v1::DiagnoseResponse { findings }))
    }
}
