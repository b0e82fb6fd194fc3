//! A stateful stand-in for `berthd`'s side of the socket.

use berth_proto::v1::ipam_server::{Ipam, IpamServer};
use berth_proto::v1::{
    AddressGrant, AttachRequest, AttachResponse, CheckReadyRequest, CheckReadyResponse, CollectRequest,
    CollectResponse, DetachRequest, DetachResponse,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What the node knows: grants by pod, attachments by sandbox and interface.
#[derive(Default)]
pub(crate) struct State {
    grants: BTreeMap<String, (String, Vec<AddressGrant>)>,
    pub(crate) attachments: BTreeMap<(String, String), AttachRequest>,
    /// Answered instead, once per call.
    pub(crate) next: Option<Status>,
}

impl State {
    /// Grants `address`, too, to the placement of `pod` that has `uid`.
    pub(crate) fn grant(&mut self, pod: &str, uid: &str, address: &str, gateway: Option<&str>) {
        let grant = AddressGrant {
            pool: "blue".to_owned(),
            address: address.to_owned(),
            gateway: gateway.map(str::to_owned),
        };
        let (known, grants) = self.grants.entry(pod.to_owned()).or_default();
        uid.clone_into(known);
        grants.push(grant);
    }

    /// The placement has no address, which a berthd of sound mind would have refused.
    pub(crate) fn grant_nothing(&mut self, pod: &str, uid: &str) {
        self.grants.insert(pod.to_owned(), (uid.to_owned(), Vec::new()));
    }

    fn granted(&self, request: &AttachRequest) -> Result<Vec<AddressGrant>, Status> {
        let pod = request.pod.as_ref().ok_or_else(|| Status::invalid_argument("no pod"))?;
        let pod = format!("{}/{}", pod.namespace, pod.name);
        let granted = self.grants.get(&pod);
        let (uid, grants) =
            granted.ok_or_else(|| Status::not_found(format!("no address is granted to {pod}")))?;
        match &request.pod_uid {
            Some(asked) if asked != uid => {
                Err(Status::failed_precondition(format!("{pod} is another incarnation")))
            }
            Some(_) | None => Ok(grants.clone()),
        }
    }
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn state(&self) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().unwrap();
        match state.next.take() {
            Some(status) => Err(status),
            None => Ok(state),
        }
    }
}

fn key(sandbox_id: &str, interface: &str) -> (String, String) {
    (sandbox_id.to_owned(), interface.to_owned())
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state()?;
        let grants = state.granted(&request)?;
        state.attachments.insert(key(&request.sandbox_id, &request.interface), request);
        Ok(Response::new(AttachResponse { grants }))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let request = request.into_inner();
        self.state()?.attachments.remove(&key(&request.sandbox_id, &request.interface));
        Ok(Response::new(DetachResponse {}))
    }

    async fn check_attachment(
        &self,
        request: Request<AttachRequest>,
    ) -> Result<Response<AttachResponse>, Status> {
        let request = request.into_inner();
        let state = self.state()?;
        let known = state.attachments.contains_key(&key(&request.sandbox_id, &request.interface));
        let grants = match known {
            true => state.granted(&request)?,
            false => return Err(Status::not_found("no such attachment")),
        };
        Ok(Response::new(AttachResponse { grants }))
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        let CollectRequest { network, valid } = request.into_inner();
        let valid: BTreeSet<_> = valid.iter().map(|at| key(&at.sandbox_id, &at.interface)).collect();
        self.state()?.attachments.retain(|key, of| of.network != network || valid.contains(key));
        Ok(Response::new(CollectResponse {}))
    }

    async fn check_ready(
        &self,
        _: Request<CheckReadyRequest>,
    ) -> Result<Response<CheckReadyResponse>, Status> {
        self.state().map(|_| Response::new(CheckReadyResponse {}))
    }
}

/// The stand-in, listening in a directory of its own until dropped.
pub(crate) struct FakeDaemon {
    service: Service,
    directory: TempDir,
    _runtime: Runtime,
}

impl FakeDaemon {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Begins again where another one has ended.
    pub(crate) fn start_in(directory: TempDir) -> Self {
        let _ = std::fs::remove_file(socket_in(&directory));
        let runtime = Runtime::new().unwrap();
        let service = Service::default();
        let guard = runtime.enter();
        // Bound before anything is spawned: from here on, connecting succeeds.
        let listener = tokio::net::UnixListener::bind(socket_in(&directory)).unwrap();
        drop(guard);
        let server = tonic::transport::Server::builder().add_service(IpamServer::new(service.clone()));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { service, directory, _runtime: runtime }
    }

    /// Ends it as SIGKILL would: the socket stays behind, and nobody listens.
    pub(crate) fn stop(self) -> (PathBuf, TempDir) {
        (self.socket(), self.directory)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.0.lock().unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }
}

fn socket_in(directory: &TempDir) -> PathBuf {
    Path::join(directory.path(), "cni.sock")
}
