//! Accepting connections: handshakes, bounded in number and time, and who is behind each connection.

use super::until;
use anyhow::Context;
use berth_tls::{Greeted, Neighbour, Trust};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept, which is a lack of descriptors in most cases.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is behind a connection whose certificate was verified.
pub(super) fn identify(trust: Trust) -> impl Fn(&TlsStream<TcpStream>) -> Result<Neighbour, String> + Clone {
    move |stream| trust.neighbour(stream.get_ref().1).map_err(|error| error.to_string())
}

/// Connections, ready to be served.
pub(super) type Incoming<I> = ReceiverStream<io::Result<Greeted<I>>>;

/// Listens, and shakes hands with at most `most` peers at a time.
pub(super) async fn listen_on<I: Send + 'static>(
    address: SocketAddr,
    config: ServerConfig,
    most: usize,
    identify: impl Fn(&TlsStream<TcpStream>) -> Result<I, String> + Clone + Send + Sync + 'static,
    draining: &watch::Receiver<bool>,
) -> anyhow::Result<(SocketAddr, Incoming<I>)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let bound = listener.local_addr().with_context(|| format!("look at the listener on {address}"))?;
    // One place: tonic takes connections at once, and a full queue only makes handshakes wait.
    let (ready, incoming) = mpsc::channel(1);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let door = Door { listener, acceptor, places: Arc::new(Semaphore::new(most)), identify, ready };
    tokio::spawn(door.accept(until(draining.clone())));
    Ok((bound, ReceiverStream::new(incoming)))
}

struct Door<I, F> {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    identify: F,
    ready: mpsc::Sender<io::Result<Greeted<I>>>,
}

impl<I, F> Door<I, F>
where
    I: Send + 'static,
    F: Fn(&TlsStream<TcpStream>) -> Result<I, String> + Clone + Send + Sync + 'static,
{
    async fn accept(self, drained: impl Future<Output = ()>) {
        let mut drained = std::pin::pin!(drained);
        loop {
            // Both arms only wait: a connection that was not accepted stays in the kernel's queue.
            let next = tokio::select! {
                () = &mut drained => return,
                next = self.next() => next,
            };
            match next {
                Ok((stream, place)) => self.shake_hands(stream, place),
                Err(error) => {
                    tracing::warn!("a connection cannot be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn next(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, place))
    }

    fn shake_hands(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (acceptor, identify, ready) = (self.acceptor.clone(), self.identify.clone(), self.ready.clone());
        tokio::spawn(async move {
            let from = stream.peer_addr().ok();
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            let why = match shaken {
                Err(_) => "the handshake took too long".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(stream)) => match identify(&stream) {
                    Err(why) => why,
                    Ok(peer) => {
                        let peer = Greeted::new(stream, peer, place);
                        // The server is going down if nobody takes it.
                        let _ = ready.send(Ok(peer)).await;
                        return;
                    }
                },
            };
            tracing::info!(?from, "a connection was refused, from {from:?}: {why}");
        });
    }
}
