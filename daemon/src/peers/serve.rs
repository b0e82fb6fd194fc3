//! Serving a disk to the one node that it is offered to.

use super::listen::Behind;
use super::piece::{Sum, digest_to_wire, size_to_wire, to_wire};
use crate::disk::{DiskError, Disks};
use crate::ledger::Ledger;
use crate::report::chain;
use berth_model::{DiskName, Incarnation, NodeName, PodId};
use berth_proto::v1::peer_server::Peer;
use berth_proto::{pod_from, v1};
use std::sync::Arc;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

/// Disks that are served at a time: more would only share one disk and one network.
const STREAMS: usize = 4;
/// Pieces that wait for the network.
const AHEAD: usize = 8;

/// What is served to peers.
#[derive(Debug)]
pub struct Served {
    ledger: Ledger,
    disks: Arc<Disks>,
    places: Arc<Semaphore>,
}

/// Which disk, to whom.
#[derive(Debug, Clone)]
struct Wish {
    pod: PodId,
    incarnation: Incarnation,
    disk: DiskName,
    peer: NodeName,
}

/// Why a disk was not sent whole.
enum Cut {
    /// The peer takes no more.
    Gone,
    /// The offer has ended.
    Withdrawn,
    /// The disk cannot be read.
    Disk(DiskError),
}

impl From<DiskError> for Cut {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl<T> From<SendError<T>> for Cut {
    fn from(_: SendError<T>) -> Self {
        Self::Gone
    }
}

impl Served {
    /// Serves what the ledger offers.
    pub fn new(ledger: Ledger, disks: Arc<Disks>) -> Self {
        Self { ledger, disks, places: Arc::new(Semaphore::new(STREAMS)) }
    }

    fn wish(&self, request: Request<v1::FetchDiskRequest>) -> Result<Wish, Status> {
        let behind = request.extensions().get::<Behind>().cloned();
        let Behind(peer) = behind.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let request = request.into_inner();
        let invalid = |field: &str, error: String| Status::invalid_argument(format!("{field}: {error}"));
        Ok(Wish {
            pod: pod_from(request.pod).map_err(|error| invalid("pod", error.to_string()))?,
            incarnation: Incarnation(request.incarnation),
            disk: request.disk.parse().map_err(|error| invalid("disk", format!("{error}")))?,
            peer,
        })
    }
}

/// Whether the disk is this peer's to have, at this moment.
fn is_offered(ledger: &Ledger, wish: &Wish) -> bool {
    ledger.read(|book| {
        let here = book.pods.get(&wish.pod).is_some_and(|record| record.charter.is_some());
        let offer = book.offers.get(&wish.pod).filter(|offer| {
            offer.incarnation == wish.incarnation && offer.to == wish.peer && offer.disks.contains(&wish.disk)
        });
        offer.is_some() && !here
    })
}

#[tonic::async_trait]
impl Peer for Served {
    type FetchDiskStream = ReceiverStream<Result<v1::DiskPiece, Status>>;

    async fn fetch_disk(
        &self,
        request: Request<v1::FetchDiskRequest>,
    ) -> Result<Response<Self::FetchDiskStream>, Status> {
        let wish = self.wish(request)?;
        let Wish { pod, disk, peer, incarnation } = &wish;
        if !is_offered(&self.ledger, &wish) {
            warn!(%pod, %disk, %peer, "node {peer} asks for disk {disk} of pod {pod}, which is not offered to it");
            return Err(Status::permission_denied(format!(
                "data disk {disk} of pod {pod}, incarnation {incarnation}, is not offered to node {peer}"
            )));
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{STREAMS} disks are being copied from here: try again later"))
        })?;
        info!(%pod, %disk, %peer, "sending data disk {disk} of pod {pod} to node {peer}");
        let (pieces, receiver) = mpsc::channel(AHEAD);
        let (ledger, disks) = (self.ledger.clone(), self.disks.clone());
        tokio::task::spawn_blocking(move || send(&ledger, &disks, &wish, &pieces, place));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends a disk, and says how that went.
fn send(
    ledger: &Ledger,
    disks: &Disks,
    wish: &Wish,
    pieces: &mpsc::Sender<Result<v1::DiskPiece, Status>>,
    place: OwnedSemaphorePermit,
) {
    let Wish { pod, disk, peer, .. } = wish;
    match send_pieces(ledger, disks, wish, pieces) {
        Ok(()) => info!(%pod, %disk, %peer, "data disk {disk} of pod {pod} is sent"),
        Err(Cut::Gone) => {
            warn!(%pod, %disk, %peer, "data disk {disk} of pod {pod}: node {peer} has broken off");
        }
        Err(Cut::Withdrawn) => {
            let status = Status::permission_denied("the offer has ended");
            drop(pieces.blocking_send(Err(status)));
        }
        Err(Cut::Disk(error)) => {
            warn!(%pod, %disk, "data disk {disk} of pod {pod} cannot be sent: {}", chain(&error));
            let status = match error.is_permanent() {
                true => Status::failed_precondition(chain(&error)),
                false => Status::unavailable(chain(&error)),
            };
            drop(pieces.blocking_send(Err(status)));
        }
    }
    drop(place);
}

fn send_pieces(
    ledger: &Ledger,
    disks: &Disks,
    wish: &Wish,
    pieces: &mpsc::Sender<Result<v1::DiskPiece, Status>>,
) -> Result<(), Cut> {
    let (usage, departure) = disks.depart(&wish.pod, &wish.disk)?;
    let mut sum = Sum::default();
    let first = size_to_wire(usage.used.map(|used| used.0));
    sum.add(&first);
    pieces.blocking_send(Ok(first))?;
    for piece in departure {
        let piece = to_wire(piece?);
        sum.add(&piece);
        // After reading: what was read is only sent if nobody could have changed it meanwhile.
        if !is_offered(ledger, wish) {
            return Err(Cut::Withdrawn);
        }
        pieces.blocking_send(Ok(piece))?;
    }
    pieces.blocking_send(Ok(digest_to_wire(sum.value())))?;
    Ok(())
}
