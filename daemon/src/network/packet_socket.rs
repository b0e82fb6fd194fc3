//! Sockets that send and hear whole Ethernet frames: packet(7).

use super::frame::Mac;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recvfrom, send, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Longest frame that is looked at: more than either protocol needs.
const FRAME_MAX_BYTES: usize = 256;

/// A socket on one interface of the calling thread's network namespace, for frames of one EtherType.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: OwnedFd,
    interface_index: usize,
    mac: Mac,
}

impl PacketSocket {
    /// Opens it.
    pub(super) fn open(interface: &str, ether_type: u16) -> io::Result<Self> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, "there is no such interface with a hardware address");
        let mut known = getifaddrs()?.filter(|one| one.interface_name == interface);
        let link = known.find_map(|one| one.address?.as_link_addr().copied()).ok_or_else(missing)?;
        let mac = Mac(link.addr().ok_or_else(missing)?);
        let socket = packet_socket(ether_type)?;
        // The link's own address names no protocol, which leaves the socket the one that it was made for.
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self { socket, interface_index: link.ifindex(), mac })
    }

    /// The interface's hardware address.
    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that the interface hears within `timeout`, cut off after 256 bytes; none if there is none.
    pub(super) fn receive(&self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        // Zero would mean for ever.
        let micros = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &TimeVal::microseconds(micros))?;
        let mut frame = vec![0; FRAME_MAX_BYTES];
        match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
            // Before it was bound it heard all interfaces.
            Ok((_, Some(from))) if from.ifindex() != self.interface_index => Ok(Some(Vec::new())),
            Ok((length, _)) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[allow(unsafe_code, reason = "nix knows no socket protocol for ARP")]
fn packet_socket(ether_type: u16) -> io::Result<OwnedFd> {
    let protocol = i32::from(ether_type.to_be());
    // SAFETY: socket(2) takes three numbers and no pointer.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
