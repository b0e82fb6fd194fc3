//! What the CNI plugin asks.

use super::collect::{self, Gate, Places};
use super::guard::Probing;
use crate::api::Listener;
use crate::clock::epoch_ms;
use crate::ledger::{AttachError, Attachment, AttachmentKey, Grant, Ledger, LedgerError};
use crate::runtime::pod_uid;
use berth_model::PodId;
use berth_proto::v1::ipam_server::{self, IpamServer};
use berth_proto::{pod_from, v1};
use std::collections::BTreeSet;
use std::convert::Infallible;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The largest question: GC's list of what is in use, a hundred bytes for each of some thousand attachments.
const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Questions at once on one connection. The plugin has one.
const QUESTIONS: usize = 32;
/// Longest name of a network interface (IFNAMSIZ less the NUL).
const INTERFACE_MAX_BYTES: usize = 15;
/// Longest sandbox id and path that is written down; containerd's ids have 64 characters.
const TEXT_MAX_BYTES: usize = 256;

/// Answers the CNI plugin from the ledger.
#[derive(Debug, Clone)]
pub struct Ipam {
    ledger: Ledger,
    probing: Probing,
    gate: Gate,
}

impl Ipam {
    /// Answers from this ledger, and probes each address before it is used for the first time in a sandbox.
    pub fn new(ledger: Ledger, probing: Probing) -> Self {
        Self { ledger, probing, gate: Gate::default() }
    }

    /// Tells the plugins of the pods' network what is left over, now and every ten minutes.
    pub async fn collect_for_ever(self) -> Infallible {
        collect::collect_for_ever(self.ledger, self.gate, Places::system()).await
    }

    /// Answers whoever this socket admits; lasts until it fails.
    ///
    /// # Errors
    /// When connections can be accepted no more.
    pub async fn serve(self, socket: Listener) -> Result<(), tonic::transport::Error> {
        let service = IpamServer::new(self).max_decoding_message_size(MAX_QUESTION_BYTES);
        let server = Server::builder().concurrency_limit_per_connection(QUESTIONS).add_service(service);
        server.serve_with_incoming(socket.admitted()).await
    }

    /// The grant of the pod that asks; its uid, where the runtime passes it on, names the incarnation.
    fn grant(&self, pod: &PodId, uid: Option<&str>) -> Result<Grant, Status> {
        let grant = self.ledger.read(|book| book.grant(pod));
        let grant = grant.ok_or_else(|| refused(&AttachError::NoGrant(pod.clone())))?;
        match uid {
            Some(uid) if uid != pod_uid(pod, grant.incarnation) => Err(Status::failed_precondition(format!(
                "the address of pod {pod} is granted to incarnation {}, and pod uid {uid} is another's",
                grant.incarnation
            ))),
            Some(_) | None => Ok(grant),
        }
    }
}

fn refused(error: &AttachError) -> Status {
    match error {
        AttachError::NoGrant(_) => Status::not_found(error.to_string()),
        AttachError::OtherIncarnation { .. } => Status::failed_precondition(error.to_string()),
        AttachError::Taken { .. } => Status::already_exists(error.to_string()),
        AttachError::Ledger(error) => unwritten(error),
    }
}

fn unwritten(error: &LedgerError) -> Status {
    Status::unavailable(error.to_string())
}

fn key_from(sandbox_id: String, interface: String) -> Result<AttachmentKey, Status> {
    for (what, text, max_bytes) in
        [("sandbox_id", &sandbox_id, TEXT_MAX_BYTES), ("interface", &interface, INTERFACE_MAX_BYTES)]
    {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if text.is_empty() || text.len() > max_bytes || !plain {
            return Err(Status::invalid_argument(format!(
                "{what} {text:?} is empty, longer than {max_bytes} bytes or has other than printable characters"
            )));
        }
    }
    Ok(AttachmentKey { sandbox_id, interface })
}

fn pod_of(pod: Option<v1::PodRef>) -> Result<PodId, Status> {
    pod_from(pod).map_err(|error| Status::invalid_argument(error.chain()))
}

fn answer(grant: &Grant) -> Response<v1::AttachResponse> {
    Response::new(v1::AttachResponse { grants: grant.addresses.iter().map(Into::into).collect() })
}

#[tonic::async_trait]
impl ipam_server::Ipam for Ipam {
    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let asked = request.into_inner();
        let pod = pod_of(asked.pod)?;
        let key = key_from(asked.sandbox_id, asked.interface)?;
        for (what, text) in [("netns", &asked.netns), ("network", &asked.network)] {
            if text.len() > TEXT_MAX_BYTES {
                return Err(Status::invalid_argument(format!(
                    "{what} is longer than {TEXT_MAX_BYTES} bytes"
                )));
            }
        }
        let grant = self.grant(&pod, asked.pod_uid.as_deref())?;
        // Who asks again has the address by now, or will have: it would find itself.
        if !self.ledger.read(|book| book.attachments.contains_key(&key)) {
            self.probing.check(&grant).await?;
        }
        // From here on until it is noted nothing is collected: see there.
        let _open = self.gate.read().await;
        let incarnation = grant.incarnation;
        let attachment = Attachment {
            key,
            netns: asked.netns,
            pod,
            incarnation,
            attached_at_ms: epoch_ms(),
            network: asked.network,
            addresses: Vec::new(),
        };
        let attached = self.ledger.attach(attachment).await;
        attached.map(|grant| answer(&grant)).map_err(|error| refused(&error))
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        let asked = request.into_inner();
        let key = key_from(asked.sandbox_id, asked.interface)?;
        let detached = self.ledger.detach(BTreeSet::from([key]), epoch_ms()).await;
        detached.map(|()| Response::new(v1::DetachResponse {})).map_err(|error| unwritten(&error))
    }

    async fn check_attachment(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let asked = request.into_inner();
        let pod = pod_of(asked.pod)?;
        let key = key_from(asked.sandbox_id, asked.interface)?;
        let grant = self.grant(&pod, asked.pod_uid.as_deref())?;
        let known = self.ledger.read(|book| book.attachments.get(&key).cloned());
        match known {
            Some(known) if known.pod == pod && known.incarnation == grant.incarnation => Ok(answer(&grant)),
            Some(_) | None => Err(Status::not_found(format!(
                "interface {} of sandbox {} is not attached for pod {pod}",
                key.interface, key.sandbox_id
            ))),
        }
    }

    async fn collect(
        &self,
        request: Request<v1::CollectRequest>,
    ) -> Result<Response<v1::CollectResponse>, Status> {
        let asked = request.into_inner();
        if asked.network.is_empty() {
            return Err(Status::invalid_argument(
                "network is empty: which attachments are meant is not known",
            ));
        }
        let valid = asked.valid.into_iter().map(|at| key_from(at.sandbox_id, at.interface));
        let valid = valid.collect::<Result<BTreeSet<_>, _>>()?;
        let collected = super::reconcile::collect(&self.ledger, &asked.network, &valid).await;
        collected.map(|()| Response::new(v1::CollectResponse {})).map_err(|error| unwritten(&error))
    }

    async fn check_ready(
        &self,
        _: Request<v1::CheckReadyRequest>,
    ) -> Result<Response<v1::CheckReadyResponse>, Status> {
        // Whoever can write an attachment down can attach.
        let ready = self.ledger.come_round().await;
        ready.map(|()| Response::new(v1::CheckReadyResponse {})).map_err(|error| unwritten(&error))
    }
}
