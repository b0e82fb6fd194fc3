//! Neighbour discovery packets of duplicate address detection (RFC 4861, RFC 4862), as whole Ethernet frames.

use super::frame::{Mac, ethernet};
use std::net::Ipv6Addr;

/// EtherType of IPv6.
pub(super) const ETHER_TYPE: u16 = 0x86dd;
const ICMP_V6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// No router has passed the packet on, or it would be less (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// "This replaces what you knew" (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;

/// A neighbour solicitation of duplicate address detection: from nobody, without a link-layer option (RFC 4862, 5.4.2).
pub(super) fn probe(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = message(SOLICITATION, 0, address);
    frame(from, Ipv6Addr::UNSPECIFIED, solicited_node(address), message)
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6).
pub(super) fn announcement(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut message = message(ADVERTISEMENT, OVERRIDE, address);
    // Target link-layer address, one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(from.0);
    frame(from, address, ALL_NODES, message)
}

/// Who else has `address` (an advertisement for it), or is about to (a solicitation from nobody): RFC 4862, 5.4.3
/// and 5.4.4.
pub(super) fn rival(frame: &[u8], own: Mac, address: Ipv6Addr) -> Option<Mac> {
    let packet = frame.get(14..78).filter(|_| frame[12..14] == ETHER_TYPE.to_be_bytes())?;
    if packet[6] != ICMP_V6 || packet[7] != HOP_LIMIT || packet[48..64] != address.octets() {
        return None;
    }
    let from_nobody = packet[8..24] == Ipv6Addr::UNSPECIFIED.octets();
    let hardware = Mac(frame[6..12].try_into().ok()?);
    let says_so = packet[40] == ADVERTISEMENT || (packet[40] == SOLICITATION && from_nobody);
    (hardware != own && says_so).then_some(hardware)
}

/// The multicast group that who has the address listens to (RFC 4291, 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

fn message(kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    // Type, code, checksum (filled in with the frame), flags and reserved.
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message
}

/// `to` must be a multicast group: its hardware address follows from it (RFC 2464, 7).
fn frame(from: Mac, source: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(source, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = to.octets();
    let mut frame = ethernet(Mac([0x33, 0x33, a, b, c, d]), from, ETHER_TYPE);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length(&message).to_be_bytes());
    frame.extend([ICMP_V6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

fn length(message: &[u8]) -> u16 {
    u16::try_from(message.len()).unwrap_or(u16::MAX)
}

/// The Internet checksum over pseudo-header and message (RFC 8200, 8.1).
fn checksum(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut words: Vec<u8> = [source.octets(), to.octets()].concat();
    words.extend(u32::from(length(message)).to_be_bytes());
    words.extend([0, 0, 0, ICMP_V6]);
    words.extend(message);
    let sum: u32 =
        words.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn a_probe_byte_by_byte() {
        let expected = [
            0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
            0x60, 0, 0, 0, 0, 24, 58, 255, // IPv6
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // from nobody
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56, // to the solicited node
            135, 0, 0xe4, 0x1e, 0, 0, 0, 0, // solicitation
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56,
        ];
        assert_eq!(probe(OURS, ADDRESS), expected);
    }

    /// A receiver adds up everything, the checksum included, and finds all ones.
    #[test]
    fn checksums_add_up() {
        for frame in
            [probe(OURS, ADDRESS), announcement(OURS, ADDRESS), announcement(THEIRS, Ipv6Addr::LOCALHOST)]
        {
            let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
            assert_eq!(checksum(address(22), address(38), &frame[54..]), 0, "{frame:?}");
        }
    }

    #[test]
    fn rivals() {
        let check = |frame: &[u8], expected: Option<Mac>| {
            assert_eq!(rival(frame, OURS, ADDRESS), expected, "{frame:?}");
        };
        check(&announcement(THEIRS, ADDRESS), Some(THEIRS));
        check(&probe(THEIRS, ADDRESS), Some(THEIRS));
        check(&probe(OURS, ADDRESS), None);
        check(&announcement(THEIRS, Ipv6Addr::LOCALHOST), None);
        // An ordinary solicitation asks for the address, and does not want it.
        let ordinary =
            frame(THEIRS, Ipv6Addr::LOCALHOST, solicited_node(ADDRESS), message(SOLICITATION, 0, ADDRESS));
        check(&ordinary, None);
        let mut routed = announcement(THEIRS, ADDRESS);
        routed[21] = 64;
        check(&routed, None);
        for length in 0..78 {
            check(&announcement(THEIRS, ADDRESS)[..length], None);
        }
    }
}
