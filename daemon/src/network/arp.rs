//! ARP packets of address probing and announcement (RFC 826, RFC 5227), as whole Ethernet frames.

use super::frame::{BROADCAST, Mac, NOBODY, ethernet};
use std::net::Ipv4Addr;

/// EtherType of ARP.
pub(super) const ETHER_TYPE: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet, IPv4, and the lengths of their addresses.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP Probe: who has `address`? The sender has none (RFC 5227, 1.1).
pub(super) fn probe(from: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(from, Ipv4Addr::UNSPECIFIED, address)
}

/// An ARP Announcement: sender and target are the address (RFC 5227, 1.1).
pub(super) fn announcement(from: Mac, address: Ipv4Addr) -> Vec<u8> {
    request(from, address, address)
}

fn request(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, from, ETHER_TYPE);
    frame.extend(PREFIX);
    frame.extend(REQUEST.to_be_bytes());
    frame.extend(from.0);
    frame.extend(sender.octets());
    frame.extend(NOBODY.0);
    frame.extend(target.octets());
    frame
}

/// Who else has `address`, or is about to: a packet sent from it, or another's probe for it (RFC 5227, 2.1.1).
pub(super) fn rival(frame: &[u8], own: Mac, address: Ipv4Addr) -> Option<Mac> {
    let packet = frame.get(14..42).filter(|_| frame[12..14] == ETHER_TYPE.to_be_bytes())?;
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    if packet[..6] != PREFIX || !matches!(operation, REQUEST | REPLY) {
        return None;
    }
    let hardware = Mac(packet[8..14].try_into().ok()?);
    let sender: [u8; 4] = packet[14..18].try_into().ok()?;
    let target: [u8; 4] = packet[24..28].try_into().ok()?;
    let probes_too = operation == REQUEST && sender == [0; 4] && target == address.octets();
    (hardware != own && (sender == address.octets() || probes_too)).then_some(hardware)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn a_probe_byte_by_byte() {
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // request
            2, 0, 0, 0, 0, 1, 0, 0, 0, 0, // from us, who have no address
            0, 0, 0, 0, 0, 0, 10, 0, 0, 7,
        ];
        assert_eq!(probe(OURS, ADDRESS), expected);
    }

    #[test]
    fn an_announcement_byte_by_byte() {
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, //
            0, 1, 8, 0, 6, 4, 0, 1, //
            2, 0, 0, 0, 0, 1, 10, 0, 0, 7, //
            0, 0, 0, 0, 0, 0, 10, 0, 0, 7,
        ];
        assert_eq!(announcement(OURS, ADDRESS), expected);
    }

    #[test]
    fn rivals() {
        let check = |frame: &[u8], expected: Option<Mac>| {
            assert_eq!(rival(frame, OURS, ADDRESS), expected, "{frame:?}");
        };
        let mut reply = announcement(THEIRS, ADDRESS);
        reply[21] = 2;
        check(&reply, Some(THEIRS));
        check(&announcement(THEIRS, ADDRESS), Some(THEIRS));
        check(&probe(THEIRS, ADDRESS), Some(THEIRS));
        check(&probe(OURS, ADDRESS), None);
        check(&probe(THEIRS, Ipv4Addr::new(10, 0, 0, 8)), None);
        check(&request(THEIRS, Ipv4Addr::new(10, 0, 0, 8), ADDRESS), None);
        for length in 0..42 {
            check(&reply[..length], None);
        }
        reply[13] = 0;
        check(&reply, None);
    }
}
