//! A connection after its handshake, as a gRPC server takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// A connection, who is behind it, and its place among the permitted number, which it holds until it is dropped.
#[derive(Debug)]
pub struct Greeted<I> {
    stream: TlsStream<TcpStream>,
    who: I,
    _place: OwnedSemaphorePermit,
}

impl<I> Greeted<I> {
    /// A connection of `who`, which every request on it will carry.
    pub fn new(stream: TlsStream<TcpStream>, who: I, place: OwnedSemaphorePermit) -> Self {
        Self { stream, who, _place: place }
    }
}

impl<I: Clone + Send + Sync + 'static> Connected for Greeted<I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.who.clone()
    }
}

impl<I: Unpin> AsyncRead for Greeted<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<I: Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
