//! Duplicate addresses: [`probe`] asks before an address is used whether somebody has it (RFC 5227 for IPv4, RFC 4862
//! for IPv6), [`announce`] tells everybody once it is used.
//!
//! Before there is a sandbox, the question goes out by the host's own side of the pods' network: the bridge, or the
//! master of a macvlan or ipvlan. Pods of this very host are not asked there by a macvlan or ipvlan; the ledger knows
//! them. Both calls do their waiting on threads of their own.

use super::frame::Mac;
use super::packet_socket::PacketSocket;
use super::{arp, ndp};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often an address is announced, and how long after each other: ANNOUNCE_NUM and ANNOUNCE_INTERVAL of RFC 5227.
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// How often to ask, and how long to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTiming {
    /// How many questions; at least one is sent.
    pub probes: u32,
    /// How long to listen after each, milliseconds.
    pub wait_ms: u64,
}

impl ProbeTiming {
    /// Three questions in 0.6 s. RFC 5227 spreads its three over up to seven seconds, for hosts that boot at once and
    /// choose addresses by themselves; here one authority assigns them, and the question is for what it does not know.
    pub const BRISK: Self = Self { probes: 3, wait_ms: 200 };
    /// PROBE_NUM, PROBE_MIN and ANNOUNCE_WAIT of RFC 5227, without its random delays: 6 s.
    pub const PATIENT: Self = Self { probes: 3, wait_ms: 2_000 };
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody objected.
    Free,
    /// Somebody has the address, or wants it at the same time.
    Taken {
        /// Who.
        by: Mac,
    },
}

/// Why it cannot be known, or told.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Frames cannot be sent or heard.
    #[error("{what} {address} on interface {interface}")]
    Packets {
        /// What was tried.
        what: &'static str,
        /// Which address.
        address: IpAddr,
        /// By which interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
    /// The pod's network namespace cannot be entered.
    #[error("enter network namespace {path}")]
    Namespace {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no thread for it.
    #[error("start a thread that asks")]
    Thread(#[source] io::Error),
}

/// Asks on `interface` of the host whether anybody has `address`.
///
/// # Errors
/// When the interface is not there or down, or packets may not be sent (CAP_NET_RAW).
pub async fn probe(interface: &str, address: IpAddr, timing: ProbeTiming) -> Result<Verdict, ProbeError> {
    let interface = interface.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let asked = probe_here(&interface, address, timing);
        asked.map_err(|source| ProbeError::Packets { what: "probe", address, interface, source })
    });
    asked.await.map_err(|error| ProbeError::Thread(io::Error::other(error)))?
}

/// Announces the addresses from `interface` inside a network namespace; returns once all have been announced the
/// first time. The second time follows by itself, if the namespace is still there then.
///
/// # Errors
/// When the namespace cannot be entered, or has no such interface.
pub async fn announce(netns: &Path, interface: &str, addresses: &[IpAddr]) -> Result<(), ProbeError> {
    let (netns, interface, addresses) = (netns.to_owned(), interface.to_owned(), addresses.to_vec());
    let (told, first) = tokio::sync::oneshot::channel();
    // Not one of the runtime's threads: this one is in another namespace for the rest of its life.
    let thread = std::thread::Builder::new().name("announce".to_owned());
    let announcing = move || {
        let result = enter(&netns).and_then(|()| announce_here(&interface, &addresses));
        let again = result.is_ok();
        if told.send(result).is_ok() && again {
            // Nobody sends: it is a timer.
            let (_never, timer) = mpsc::channel::<()>();
            for _ in 1..ANNOUNCEMENTS {
                let _ = timer.recv_timeout(ANNOUNCE_INTERVAL);
                let _ = announce_here(&interface, &addresses);
            }
        }
    };
    thread.spawn(announcing).map_err(ProbeError::Thread)?;
    first.await.map_err(|error| ProbeError::Thread(io::Error::other(error)))?
}

fn probe_here(interface: &str, address: IpAddr, timing: ProbeTiming) -> io::Result<Verdict> {
    let socket = PacketSocket::open(interface, ether_type(address))?;
    let question = match address {
        IpAddr::V4(address) => arp::probe(socket.mac(), address),
        IpAddr::V6(address) => ndp::probe(socket.mac(), address),
    };
    for _ in 0..timing.probes.max(1) {
        socket.send(&question)?;
        let until = Instant::now() + Duration::from_millis(timing.wait_ms);
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let frame = socket.receive(left)?.unwrap_or_default();
            let rival = match address {
                IpAddr::V4(address) => arp::rival(&frame, socket.mac(), address),
                IpAddr::V6(address) => ndp::rival(&frame, socket.mac(), address),
            };
            if let Some(by) = rival {
                return Ok(Verdict::Taken { by });
            }
        }
    }
    Ok(Verdict::Free)
}

fn announce_here(interface: &str, addresses: &[IpAddr]) -> Result<(), ProbeError> {
    let send = |address: IpAddr| {
        let socket = PacketSocket::open(interface, ether_type(address))?;
        socket.send(&match address {
            IpAddr::V4(address) => arp::announcement(socket.mac(), address),
            IpAddr::V6(address) => ndp::announcement(socket.mac(), address),
        })
    };
    addresses.iter().try_for_each(|&address| {
        let interface = interface.to_owned();
        send(address).map_err(|source| ProbeError::Packets { what: "announce", address, interface, source })
    })
}

fn ether_type(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => arp::ETHER_TYPE,
        IpAddr::V6(_) => ndp::ETHER_TYPE,
    }
}

fn enter(netns: &Path) -> Result<(), ProbeError> {
    super::netns::enter(netns).map_err(|source| ProbeError::Namespace { path: netns.to_owned(), source })
}
