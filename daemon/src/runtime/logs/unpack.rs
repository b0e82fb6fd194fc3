//! A packed log, as a stream.

use flate2::read::GzDecoder;
use std::io::{self, Cursor, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// What is unpacked at a time …
const PIECE_BYTES: usize = 64 << 10;
/// … and how many of these ahead of the reader.
const PIECES_AHEAD: usize = 4;

/// A packed file, unpacked a little ahead of its reader.
pub(super) struct Unpacking {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: Cursor<Vec<u8>>,
}

impl Unpacking {
    /// Begins with a file.
    pub(super) fn begin(file: std::fs::File) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut unpacked = GzDecoder::new(file);
            loop {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = unpacked.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
                let is_last = !matches!(read, Ok(1..));
                // Without a reader there is nothing more to do.
                if sender.blocking_send(read.map(|_| piece)).is_err() || is_last {
                    return;
                }
            }
        });
        Self { pieces, piece: Cursor::new(Vec::new()) }
    }
}

impl AsyncRead for Unpacking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.piece = Cursor::new(piece?),
                None => return Poll::Ready(Ok(())),
            }
        }
        Pin::new(&mut self.piece).poll_read(context, buffer)
    }
}
