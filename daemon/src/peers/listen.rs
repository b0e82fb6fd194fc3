//! The listener for peers: handshakes bounded in number and time, and who is behind each connection.

use super::serve::Served;
use crate::link::{NodeIdentity, PkiFiles};
use crate::report::chain;
use berth_model::NodeName;
use berth_proto::v1::peer_server::PeerServer;
use berth_tls::{Greeted, Identity};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tracing::{error, info, warn};

/// Connections at a time, those in the middle of a handshake included.
const CONNECTIONS: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a failed accept, which is a lack of descriptors in most cases.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries of opening the listener.
const LISTEN_AGAIN: Duration = Duration::from_secs(30);
/// A peer that answers no ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The largest question: two names and a number.
const MAX_QUESTION_BYTES: usize = 4 << 10;

/// The node behind a connection.
#[derive(Debug, Clone)]
pub(super) struct Behind(pub(super) NodeName);

/// Serves peers, for ever. A port that cannot be had is tried again: nothing else on the node depends on it.
pub async fn listen(address: SocketAddr, pki: PkiFiles, served: Served) -> Infallible {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                error!(%address, "cannot listen for other nodes on {address}; trying again: {error}");
            }
        }
        sleep(LISTEN_AGAIN).await;
    };
    match serve_on(listener, pki, served).await {}
}

/// Serves peers on an open listener, for ever.
pub(super) async fn serve_on(listener: TcpListener, pki: PkiFiles, served: Served) -> Infallible {
    // One place: tonic takes connections at once, and a full queue only makes handshakes wait.
    let (ready, incoming) = mpsc::channel(1);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(PeerServer::new(served).max_decoding_message_size(MAX_QUESTION_BYTES));
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(ReceiverStream::new(incoming)).await {
            error!("other nodes are served no more: {}", chain(&error));
        }
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match accept(&listener, &places).await {
            Ok((stream, place)) => drop(tokio::spawn(greet(stream, place, pki.clone(), ready.clone()))),
            Err(error) => {
                warn!("a connection cannot be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn greet(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    pki: PkiFiles,
    ready: mpsc::Sender<io::Result<Greeted<Behind>>>,
) {
    let from = stream.peer_addr().ok();
    match timeout(HANDSHAKE, shake_hands(stream, &pki)).await {
        Ok(Ok((stream, peer))) => {
            // The server is going down if nobody takes it.
            drop(ready.send(Ok(Greeted::new(stream, Behind(peer), place))).await);
        }
        Ok(Err(why)) => info!(?from, "a peer was refused, from {from:?}: {why}"),
        Err(_) => info!(?from, "a peer was refused, from {from:?}: the handshake took too long"),
    }
}

/// Keys and certificates are read anew for each connection: joining again replaces them.
async fn shake_hands(stream: TcpStream, pki: &PkiFiles) -> Result<(TlsStream<TcpStream>, NodeName), String> {
    let identity = NodeIdentity::load(pki).map_err(|error| chain(&error))?;
    let config = identity.trust.server(&identity.credential).map_err(|error| error.to_string())?;
    let stream =
        TlsAcceptor::from(Arc::new(config)).accept(stream).await.map_err(|error| error.to_string())?;
    match identity.trust.neighbour(stream.get_ref().1).map_err(|error| error.to_string())?.identity {
        Identity::Node(peer) => Ok((stream, peer)),
        other @ (Identity::Control | Identity::Platform(_)) => Err(format!("{other} is no node")),
    }
}
