//! Probing and announcing over a real link: one network namespace for the host, one for whoever has the address, and
//! a pair of interfaces between them. Both are made here and end with the test. They need root, as `berthd` has it.

use super::packet_socket::PacketSocket;
use super::{ProbeTiming, Verdict, announce, arp, ndp, probe};
use nix::sched::{CloneFlags, unshare};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const MAC: &str = "02:00:00:00:00:77";

/// The namespace on the other side of the link, kept by a process.
struct Other {
    keeper: Child,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("these tests make links with `ip`: install iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

impl Other {
    /// `host0` here, `eth0` there with 10.0.0.7 and 2001:db8::7.
    fn linked() -> Self {
        let keeper =
            Command::new("unshare").args(["-n", "sleep", "300"]).stdin(Stdio::null()).spawn().unwrap();
        let other = Self { keeper };
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        until("a namespace of its own", || {
            std::fs::read_link(other.netns()).is_ok_and(|theirs| theirs != ours)
        });
        let pid = other.keeper.id();
        ip(&format!("link add host0 type veth peer name eth0 address {MAC} netns {pid}"));
        ip("link set host0 up");
        for line in
            ["link set eth0 up", "addr add 10.0.0.7/24 dev eth0", "addr add 2001:db8::7/64 dev eth0 nodad"]
        {
            let entered = Command::new("nsenter")
                .args(["-t", &pid.to_string(), "-n", "ip"])
                .args(line.split(' '))
                .status();
            assert!(entered.unwrap().success(), "{line}");
        }
        until("the link", || {
            std::fs::read_to_string("/sys/class/net/host0/carrier").is_ok_and(|up| up == "1\n") || {
                // sysfs shows the namespace that it was mounted in; the link itself knows.
                let shown = Command::new("ip").args(["-o", "link", "show", "host0"]).output().unwrap();
                String::from_utf8_lossy(&shown.stdout).contains("LOWER_UP")
            }
        });
        other
    }

    fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keeper.id()))
    }
}

/// Runs a test on a thread that is in a fresh network namespace, and all that it starts as well.
fn in_fresh_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect(
            "these tests make network namespaces, which takes root (CAP_SYS_ADMIN): run them as root",
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn an_address_that_somebody_has_is_found_with_its_owner() {
    in_fresh_namespace(async || {
        let _other = Other::linked();
        let verdict = async |address: &str| {
            // Free answers are slow on purpose; taken ones come at once.
            probe("host0", address.parse().unwrap(), ProbeTiming { probes: 3, wait_ms: 400 }).await.unwrap()
        };
        for taken in ["10.0.0.7", "2001:db8::7"] {
            match verdict(taken).await {
                Verdict::Taken { by } => assert_eq!(by.to_string(), MAC, "{taken}"),
                Verdict::Free => panic!("{taken} was found free"),
            }
        }
        for free in ["10.0.0.8", "2001:db8::8"] {
            assert_eq!(verdict(free).await, Verdict::Free, "{free}");
        }
        let absent = probe("none0", "10.0.0.7".parse().unwrap(), ProbeTiming::BRISK).await.unwrap_err();
        assert_eq!(absent.to_string(), "probe 10.0.0.7 on interface none0");
    });
}

#[test]
fn announcements_are_heard_on_the_other_side() {
    in_fresh_namespace(async || {
        let other = Other::linked();
        let addresses: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let heard = [arp::ETHER_TYPE, ndp::ETHER_TYPE].map(|kind| PacketSocket::open("host0", kind).unwrap());
        announce(&other.netns(), "eth0", &addresses).await.unwrap();
        let own = heard[0].mac();
        let hears = |socket: &PacketSocket, is_it: &dyn Fn(&[u8]) -> bool| {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                let frame = socket.receive(Duration::from_millis(100)).unwrap();
                if frame.is_some_and(|frame| is_it(&frame)) {
                    return true;
                }
            }
            false
        };
        let v4 = |frame: &[u8]| {
            arp::rival(frame, own, [10, 0, 0, 7].into()).is_some_and(|mac| mac.to_string() == MAC)
        };
        let v6 = |frame: &[u8]| {
            let rival = ndp::rival(frame, own, "2001:db8::7".parse().unwrap());
            rival.is_some_and(|mac| mac.to_string() == MAC)
        };
        assert!(hears(&heard[0], &v4), "no ARP announcement");
        assert!(hears(&heard[1], &v6), "no neighbour advertisement");
        let gone = announce(&PathBuf::from("/run/netns/none"), "eth0", &addresses).await.unwrap_err();
        assert_eq!(gone.to_string(), "enter network namespace /run/netns/none");
    });
}
