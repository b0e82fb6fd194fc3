//! Copying a data disk from the node that offers it: as often as it takes, and no longer than makes sense.

use super::piece::{Came, Sum, from_wire};
use crate::disk::{Arrival, DiskError, Disks, Expected, Left};
use crate::link::{NodeIdentity, PkiFiles, dial};
use crate::pod::Copies;
use crate::report::chain;
use berth_model::{Bytes, DiskFetch, Failure};
use berth_proto::v1;
use berth_tls::Identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tracing::{info, warn};
use v1::peer_client::PeerClient;

/// A peer from which nothing can be had for so long is out of reach: its pod is down meanwhile.
const UNREACHABLE: Duration = Duration::from_secs(90);
/// A copy that was cut off so often will be cut off again.
const CUTS: u32 = 5;
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a peer may be silent in the middle of a disk.
const SILENCE: Duration = Duration::from_secs(60);
/// Pieces that wait for the disk.
const AHEAD: usize = 8;
/// The largest piece: a file's name, link and attributes, or [`crate::disk::PIECE_BYTES`].
const MAX_PIECE_BYTES: usize = 1 << 20;
/// How much of the trash is removed in one piece of work.
const TRASH_BUDGET: usize = 4096;

/// How long a copy is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// A peer from which nothing could be had for so long is out of reach.
    pub(super) unreachable: Duration,
    /// Between two tries.
    pub(super) again: Duration,
}

/// Copies disks to this node.
#[derive(Debug, Clone)]
pub struct Courier {
    pki: PkiFiles,
    disks: Arc<Disks>,
    pub(super) patience: Patience,
}

/// Why a try came to nothing.
#[derive(Debug)]
enum Missed {
    /// Nothing came.
    Unreachable(String),
    /// Something came, and not all.
    Cut(String),
    /// Trying again will not help.
    Never(String),
}

/// What the copy is waiting for, said if its time runs out.
type Last = watch::Sender<String>;

impl Courier {
    /// Will copy to these disks, as the node of these certificates.
    pub fn new(pki: PkiFiles, disks: Arc<Disks>) -> Self {
        Self { pki, disks, patience: Patience { unreachable: UNREACHABLE, again: AGAIN } }
    }

    async fn once(&self, fetch: &DiskFetch, last: &Last) -> Result<(), Missed> {
        let identity = NodeIdentity::load(&self.pki).map_err(|error| Missed::Never(chain(&error)))?;
        let client = connect(&identity, fetch).await?;
        let (pieces, used) = begin(client, fetch).await?;
        let writer = Writer { disks: self.disks.clone(), fetch: fetch.clone(), sum: Sum::default() };
        let (to_disk, from_peer) = mpsc::channel(AHEAD);
        let writing = tokio::task::spawn_blocking(move || writer.write(used, from_peer));
        let pumped = pump(pieces, &to_disk, last).await;
        drop(to_disk);
        // The disk's own trouble is the reason of whatever else went wrong.
        match (writing.await, pumped) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(Missed::Cut(_))), Err(missed)) => Err(missed),
            (Ok(Err(missed)), _) => Err(missed),
            (Err(error), _) => Err(Missed::Cut(format!("the writer has ended: {error}"))),
        }
    }
}

#[tonic::async_trait]
impl Copies for Courier {
    /// Fails when the peer is out of reach, refuses, or breaks off again and again, or when there is no room here.
    async fn fetch(&self, fetch: &DiskFetch, last: &Last) -> Result<(), Failure> {
        let mut cuts = 0;
        let mut silent_since = Instant::now();
        loop {
            let why = match self.once(fetch, last).await {
                Ok(()) => return Ok(()),
                Err(Missed::Never(why)) => return Err(failure(fetch, &why)),
                Err(Missed::Cut(why)) if cuts + 1 == CUTS => {
                    return Err(failure(fetch, &format!("{why} (cut off {CUTS} times)")));
                }
                Err(Missed::Cut(why)) => {
                    (cuts, silent_since) = (cuts + 1, Instant::now());
                    why
                }
                Err(Missed::Unreachable(why)) if silent_since.elapsed() >= self.patience.unreachable => {
                    return Err(failure(fetch, &why));
                }
                Err(Missed::Unreachable(why)) => why,
            };
            let DiskFetch { pod, disk, .. } = fetch;
            warn!(%pod, %disk, "{pod}: data disk {disk} is not copied yet; trying again: {why}");
            last.send_replace(why);
            sleep(self.patience.again).await;
        }
    }
}

fn failure(fetch: &DiskFetch, why: &str) -> Failure {
    let why = format!("copy data disk {} of pod {} from node {}: {why}", fetch.disk, fetch.pod, fetch.from);
    Failure::Effect { step: "FetchDisk".to_owned(), why }
}

/// Addresses that several hosts have (a bridge's) are told apart by who answers there.
async fn connect(identity: &NodeIdentity, fetch: &DiskFetch) -> Result<Channel, Missed> {
    let mut tried = Vec::new();
    for address in &fetch.at {
        let config = identity.trust.client(&identity.credential, Identity::Node(fetch.from.clone()));
        let config = config.map_err(|error| Missed::Never(error.to_string()))?;
        match dial(&address.to_string(), config).await {
            Ok(channel) => return Ok(channel),
            Err(error) => tried.push(chain(&error)),
        }
    }
    Err(Missed::Unreachable(tried.join("; ")))
}

/// Asks for the disk; answers what it holds, too.
async fn begin(
    channel: Channel,
    fetch: &DiskFetch,
) -> Result<(Streaming<v1::DiskPiece>, v1::DiskPiece), Missed> {
    let mut client = PeerClient::new(channel).max_decoding_message_size(MAX_PIECE_BYTES);
    let request = v1::FetchDiskRequest {
        pod: Some((&fetch.pod).into()),
        incarnation: fetch.incarnation.0,
        disk: fetch.disk.to_string(),
    };
    let asked = timeout(SILENCE, async {
        let mut pieces = client.fetch_disk(request).await?.into_inner();
        let first = pieces.message().await?;
        Ok((pieces, first))
    });
    match asked.await {
        Err(_) => Err(Missed::Unreachable(silent())),
        Ok(Err(status)) => Err(judge(&status, Missed::Unreachable)),
        Ok(Ok((pieces, Some(first)))) => Ok((pieces, first)),
        Ok(Ok((_, None))) => Err(Missed::Unreachable("the peer sends nothing".to_owned())),
    }
}

fn silent() -> String {
    format!("the peer has sent nothing for {} s", SILENCE.as_secs())
}

fn judge(status: &Status, otherwise: fn(String) -> Missed) -> Missed {
    let why = format!("the peer says: {} ({:?})", status.message(), status.code());
    // Another crate's enumeration: what is not named here may be mended by trying again.
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unimplemented => Missed::Never(why),
        _ => otherwise(why),
    }
}

/// Hands pieces on until the peer has sent all.
async fn pump(
    mut pieces: Streaming<v1::DiskPiece>,
    to_disk: &mpsc::Sender<v1::DiskPiece>,
    last: &Last,
) -> Result<(), Missed> {
    let mut bytes: u64 = 0;
    loop {
        let piece = match timeout(SILENCE, pieces.message()).await {
            Err(_) => return Err(Missed::Cut(silent())),
            Ok(Err(status)) => return Err(judge(&status, Missed::Cut)),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(piece))) => piece,
        };
        if let Some(v1::disk_piece::Piece::Bytes(some)) = &piece.piece {
            bytes = bytes.saturating_add(some.data.len() as u64);
            last.send_replace(format!("{} were copied", Bytes(bytes)));
        }
        if to_disk.send(piece).await.is_err() {
            return Err(Missed::Cut("the disk takes no more".to_owned()));
        }
    }
}

/// Puts the disk together, on a thread of its own.
struct Writer {
    disks: Arc<Disks>,
    fetch: DiskFetch,
    sum: Sum,
}

impl Writer {
    fn write(mut self, first: v1::DiskPiece, rest: mpsc::Receiver<v1::DiskPiece>) -> Result<(), Missed> {
        let written = self.put(first, rest);
        let DiskFetch { pod, disk, from, .. } = &self.fetch;
        match &written {
            Ok(()) => info!(%pod, %disk, %from, "data disk {disk} of pod {pod} is copied"),
            Err(_) => {
                if let Err(error) = self.disks.abandon(pod, disk) {
                    warn!(%pod, %disk, "{pod}: what has come of disk {disk} is not thrown away: {}", chain(&error));
                }
            }
        }
        // What came of an earlier try, and what the new disk has replaced.
        while let Ok(Left::Something) = self.disks.empty_trash(TRASH_BUDGET) {}
        // What is still counted is freed by the next sweep.
        drop(self.disks.free_projects());
        written
    }

    fn put(&mut self, first: v1::DiskPiece, mut rest: mpsc::Receiver<v1::DiskPiece>) -> Result<(), Missed> {
        self.sum.add(&first);
        let Came::Size(used) = from_wire(first).map_err(Missed::Never)? else {
            return Err(Missed::Never("the disk's size does not come first".to_owned()));
        };
        let DiskFetch { pod, disk, size, .. } = &self.fetch;
        let expected = Expected { pod, disk, size: *size, used: used.map(Bytes) };
        let mut arrival = self.disks.expect(expected).map_err(|error| local(&error))?;
        while let Some(piece) = rest.blocking_recv() {
            let before = self.sum.clone();
            self.sum.add(&piece);
            match from_wire(piece).map_err(Missed::Never)? {
                Came::Piece(piece) => arrival.take(piece).map_err(|error| local(&error))?,
                Came::Size(_) => return Err(Missed::Never("the disk's size comes twice".to_owned())),
                Came::Digest(theirs) => return self.accept(arrival, &theirs, &before.value()),
            }
        }
        Err(Missed::Cut("the peer has broken off".to_owned()))
    }

    fn accept(&self, arrival: Arrival, theirs: &[u8], ours: &[u8]) -> Result<(), Missed> {
        if theirs != ours {
            return Err(Missed::Cut("what came is not what was sent: the digests differ".to_owned()));
        }
        self.disks.accept(arrival).map_err(|error| local(&error))
    }
}

fn local(error: &DiskError) -> Missed {
    match error.is_permanent() {
        true => Missed::Never(chain(error)),
        false => Missed::Cut(chain(error)),
    }
}
