//! What ARP and neighbour discovery have in common: Ethernet.

use std::fmt;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// Everybody on the link.
pub(super) const BROADCAST: Mac = Mac([0xff; 6]);
/// The hardware address that a question leaves open.
pub(super) const NOBODY: Mac = Mac([0; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame's header, to which the packet is appended.
pub(super) fn ethernet(to: Mac, from: Mac, ether_type: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ether_type.to_be_bytes());
    frame
}
