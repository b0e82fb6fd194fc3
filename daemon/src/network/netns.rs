//! Network namespaces. A thread that has entered one never comes back, so each gets a thread of its own.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Moves the calling thread into a network namespace for the rest of its life.
///
/// # Errors
/// When there is none at that path, or it may not be entered (CAP_SYS_ADMIN).
pub(super) fn enter(netns: &Path) -> io::Result<()> {
    let file = File::open(netns)?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// Connects from inside a network namespace; the connection works from anywhere then.
///
/// # Errors
/// As [`enter`], or when nobody takes the connection within that time.
pub async fn connect(netns: &Path, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let netns = netns.to_owned();
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("connect".to_owned());
    thread.spawn(move || {
        let stream = enter(&netns).and_then(|()| std::net::TcpStream::connect_timeout(&to, within));
        // Whoever asked may have given up.
        let _ = tell.send(stream);
    })?;
    let stream = told.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
