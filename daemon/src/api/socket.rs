//! Unix sockets that know who asks. The file's mode keeps others out; the peer's credentials are checked as well,
//! since a file's mode can be changed.

use nix::unistd::{Gid, Group, Uid, User, chown, getgrouplist};
use std::ffi::CString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tracing::warn;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root, and whoever the daemon itself runs as.
    Root,
    /// Root, and the members of this group.
    Group(Gid),
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("open socket {path}")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

impl Who {
    /// Root and a group by its name; root alone if there is no such group.
    pub fn of_group(name: &str) -> Self {
        match Group::from_name(name) {
            Ok(Some(group)) => Self::Group(group.gid),
            Ok(None) => {
                warn!(group = name, "there is no group {name}: only root may look at this node");
                Self::Root
            }
            Err(error) => {
                warn!(group = name, "cannot look group {name} up: only root may look at this node: {error}");
                Self::Root
            }
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Root => 0o600,
            Self::Group(_) => 0o660,
        }
    }

    /// Whether a user whose group is `gid` may ask a daemon that runs as `own`. `is_member` says whether the user
    /// database has them in a group besides.
    fn admits(self, uid: Uid, gid: Gid, own: Uid, is_member: impl FnOnce(Gid) -> bool) -> bool {
        if uid.is_root() || uid == own {
            return true;
        }
        match self {
            Self::Root => false,
            Self::Group(group) => gid == group || is_member(group),
        }
    }
}

/// Supplementary groups do not come with the peer's credentials, so the user database says.
fn is_member(uid: Uid, gid: Gid, group: Gid) -> bool {
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, gid).is_ok_and(|groups| groups.contains(&group))
}

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    who: Who,
}

/// Connections of those who may ask, for a gRPC server.
#[derive(Debug)]
pub struct Admitted {
    connections: UnixListenerStream,
    who: Who,
}

/// Opens a socket, in place of one that an earlier run left.
///
/// # Errors
/// When it cannot be made, or something else is in its place.
pub fn listen(path: &Path, who: Who) -> Result<Listener, SocketError> {
    let open = || {
        remove_socket(path)?;
        let listener = UnixListener::bind(path)?;
        if let Who::Group(group) = who {
            chown(path, None, Some(group))?;
        }
        // Until here the mode is what the umask left; the credentials are checked anyway.
        std::fs::set_permissions(path, Permissions::from_mode(who.mode()))?;
        Ok(Listener { listener, who })
    };
    open().map_err(|source| SocketError { path: path.to_owned(), source })
}

/// The ledger is held already, so no other berthd can be listening here.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something other than a socket is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Listener {
    /// The connections of those who may ask.
    pub fn admitted(self) -> Admitted {
        Admitted { connections: UnixListenerStream::new(self.listener), who: self.who }
    }
}

impl Stream for Admitted {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.connections).poll_next(context) {
                Poll::Ready(Some(Ok(stream))) if !admits(self.who, &stream) => {}
                other => return other,
            }
        }
    }
}

/// Whoever may not ask finds the connection closed.
fn admits(who: Who, stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) => {
            let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
            let admitted = who.admits(uid, gid, Uid::effective(), |group| is_member(uid, gid, group));
            if !admitted {
                let (uid, gid, pid) = (peer.uid(), peer.gid(), peer.pid());
                warn!("turned away from a local socket: uid {uid}, gid {gid}, pid {pid:?}");
            }
            admitted
        }
        Err(error) => {
            warn!("turned away from a local socket: its credentials cannot be read: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask() {
        let (own, group) = (998, Gid::from_raw(77));
        let check = |uid: u32, gid: u32, listed: bool, expected: [bool; 2]| {
            let found = [Who::Root, Who::Group(group)].map(|who| {
                who.admits(Uid::from_raw(uid), Gid::from_raw(gid), Uid::from_raw(own), |asked| {
                    assert_eq!(asked, group);
                    listed
                })
            });
            assert_eq!(found, expected, "user {uid} of group {gid}, listed: {listed}");
        };
        check(0, 0, false, [true, true]);
        check(own, own, false, [true, true]);
        check(1_000, 77, false, [false, true]);
        check(1_000, 1_000, true, [false, true]);
        check(1_000, 1_000, false, [false, false]);
        // Root's group is not root.
        check(1_000, 0, false, [false, false]);
    }

    #[test]
    fn who_is_in_a_group_says_the_user_database() {
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        assert!(is_member(root.uid, root.gid, root.gid));
        assert!(!is_member(root.uid, root.gid, Gid::from_raw(u32::MAX - 7)));
        let nobody_has_it = Uid::from_raw(u32::MAX - 7);
        assert!(!is_member(nobody_has_it, root.gid, root.gid));
    }
}
