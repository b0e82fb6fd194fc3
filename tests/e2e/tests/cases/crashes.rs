//! The agent dies between the halves of what it does, in a real host with a real runtime, once at each point; each time
//! systemd starts it again, and the pod gets to where it was ordered, with all that is its own.
//!
//! `daemon/src/pod/crashes.rs` does that at every point there is, on a runtime in memory, and `cargo xtask drill crash` on
//! a real one; these are the points at which most hangs on it.

use crate::fleet;
use berth_e2e::{CrashPoints, Footprint, Kernel, PodProcess, image};
use berth_lab::{Machine, wait_until};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The program of both containers: says on its own system disk that it was started.
const PROGRAM: &str = "echo start >> /starts; sync /starts; trap 'exit 0' TERM; while :; do sleep 1; done";
/// A soft limit that CRI cannot say: a container has it only if its spec was amended.
const FILES: &str = "1111";
/// From the end of an act until nothing superfluous is left of it, or the pod is back by itself.
const SETTLE_LIMIT: Duration = Duration::from_secs(240);
/// What one pod of two containers has on its node; mounts are a root file system for each of three tasks, the sandbox's
/// shared memory and its network namespace.
const RUNNING: [(&str, usize); 9] = [
    ("cgroup", 4),
    ("container", 2),
    ("interface", 1),
    ("mount", 5),
    ("network namespace", 1),
    ("sandbox", 1),
    ("shim", 1),
    ("snapshot", 3),
    ("task", 3),
];

/// The points of each act, in the order in which they are reached.
const RESTART: [&str; 3] = ["after label disk", "after detach disk", "after attach disk"];
const REPLACEMENT: [&str; 3] = ["after stop sandbox", "after make sandbox", "before remove sandbox"];
const UPGRADE: [&str; 1] = ["after stop container"];
const REBOOT: [&str; 3] = ["before note boot", "after make sandbox", "after detach disk"];
const EVICT: [&str; 1] = ["after detach disk"];
const RELEASE: [&str; 2] = ["after remove snapshot", "after give up data disk"];

fn manifest(version: &str) -> String {
    let container = |name: &str, mark: &str, more: &str| {
        format!(
            "  - name: {name}\n    image: {}\n    command: [sh, -c, \"{PROGRAM}\"]\n    \
             env: [{{name: CASE, value: {mark}}}{more}]\n    ulimits: [{{name: nofile, soft: {FILES}}}]\n    \
             mounts: [{{disk: data, path: /data}}]\n",
            image("busybox")
        )
    };
    let version = format!(", {{name: VERSION, value: {version}}}");
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: mortal}}\nspec:\n  addressPool: pods\n  stopGrace: 2s\n  \
         disks: [{{name: data, size: 4Mi}}]\n  containers:\n{}{}",
        container("main", "mortal", &version),
        container("side", "mortal-side", "")
    )
}

/// What is the pod's own, seen by the kernel: none of it changes, but for the starts.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    address: String,
    hostname: String,
    /// Of both containers' system disks: what was written there, and how often each was started.
    disks: [String; 2],
    data: String,
    files: String,
}

struct Drill {
    kernel: Kernel,
    node: CrashPoints,
    before: Footprint,
}

impl Drill {
    fn processes(&self) -> [PodProcess; 2] {
        ["mortal", "mortal-side"].map(|mark| self.kernel.process(mark).expect("find the container"))
    }

    fn inside(&self, process: &PodProcess, script: &str) -> String {
        let output = self.kernel.inside(process, script).expect("ask inside");
        assert!(output.success(), "{script}: {output:?}");
        output.stdout.trim().to_owned()
    }

    fn own(&self) -> Own {
        let [main, side] = self.processes();
        let disk = "cat /written; wc -l < /starts";
        let address = "ip -o -4 addr show dev eth0 | tr -s ' ' | cut -d' ' -f4";
        let soft = format!("sed -n 's/^Max open files *\\([0-9]*\\).*/\\1/p' /proc/{}/limits", main.pid);
        Own {
            address: self.inside(&main, address),
            hostname: self.inside(&main, "hostname"),
            disks: [self.inside(&main, disk), self.inside(&side, disk)],
            data: self.inside(&main, "cat /data/written"),
            files: self.kernel.guest().run_ok(&soft).expect("read the limits").trim().to_owned(),
        }
    }

    /// Waits until the node has exactly this of the pod.
    fn settle(&self, expected: &BTreeMap<&'static str, usize>) {
        let mut has = BTreeMap::new();
        let settled = wait_until("the node to settle", SETTLE_LIMIT, || {
            has = Footprint::of(self.kernel.guest())?.counts_beyond(&self.before);
            Ok((has == *expected).then_some(()))
        });
        let now = Footprint::of(self.kernel.guest()).expect("look at the node");
        assert!(settled.is_ok(), "expected {expected:?}, it has {has:?}: {:?}", now.beyond(&self.before));
    }

    /// Orders the deaths, does what they are to come in the middle of, and waits until all have come and all is well.
    fn act(&self, name: &str, points: &[&str], act: impl FnOnce(&Self)) {
        let (begun, begun_s) = (Instant::now(), self.node.now_s().expect("read the node's clock"));
        self.node.order(points).expect("order the deaths");
        act(self);
        self.node.wait_over().expect("the agent dies as ordered");
        // The journal begins anew with each boot: of what died before there is only that its order was taken.
        let deaths = self.node.deaths().expect("read the journal");
        let seconds =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        for point in points {
            let death = deaths.iter().find(|death| death.at_s >= begun_s && death.point == *point);
            let died = seconds(death.map(|death| death.at_s - begun_s));
            let back = seconds(death.and_then(|death| death.back_after_s));
            println!("crash {name:<12} {point:<26} died at {died:>5} s, back after {back:>4} s");
        }
        let took = begun.elapsed().as_secs_f64();
        println!("crash {name:<12} done after {} deaths and {took:.0} s", points.len());
    }

    /// The pod is as it was, its containers started so many times in all, and its node has nothing superfluous.
    fn check(&self, name: &str, own: &Own, starts: [u32; 2]) {
        self.settle(&RUNNING.into());
        let disks = starts.map(|count| format!("kept\n{count}"));
        let expected = Own {
            address: own.address.clone(),
            hostname: own.hostname.clone(),
            disks,
            data: own.data.clone(),
            files: own.files.clone(),
        };
        assert_eq!(self.own(), expected, "after {name}");
        println!("crash {name:<12} files kept, {}, starts {starts:?}, nothing left over", own.address);
    }

    /// Waits until main has been started so often.
    fn wait_started(&self, count: u32) {
        wait_until("the pod to be back", SETTLE_LIMIT, || {
            let Ok(main) = self.kernel.process("mortal") else { return Ok(None) };
            let said = self.kernel.inside(&main, "wc -l < /starts")?.stdout;
            Ok((said.trim() == count.to_string()).then_some(()))
        })
        .expect("the pod comes back by itself");
    }

    /// Everything of the sandbox is gone at once, its network's holder too.
    fn kill_sandbox(&self) {
        let guest = self.kernel.guest();
        let held = Footprint::of(guest).expect("look at the node");
        let sandboxes: Vec<_> = held.kind("sandbox").difference(self.before.kind("sandbox")).collect();
        let [sandbox] = sandboxes.as_slice() else { panic!("one sandbox, not {sandboxes:?}") };
        let [main, side] = self.processes();
        let pause = format!("ctr -n k8s.io tasks ls | awk '$1 == \"{sandbox}\" {{print $2}}'");
        guest.run_ok(&format!("kill -9 {} {} $({pause})", main.pid, side.pid)).expect("end all of it");
    }
}

fn berth(arguments: &[&str]) {
    fleet().berth_ok(&[arguments, &["--wait"]].concat()).expect("berth carries it out");
}

#[test]
fn a_pod_survives_the_agents_death_at_every_half() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest().clone();
    let released = "berthd crash-points || grep -qa BERTH_CRASH_ORDERS /usr/sbin/berthd";
    assert!(!guest.run(released).expect("ask the package's agent").success(), "no release has crash points");
    let before = Footprint::of(&guest).expect("look at the node");
    let node = CrashPoints::install(&guest).expect("install the agent that dies");
    println!("crash: the program has {} points", node.known());
    let drill = Drill { kernel, node, before };

    fleet().wait_connected(&guest).expect("the agent is back");
    fleet().apply(&manifest("one"), &["--wait"]).expect("run the pod");
    for process in drill.processes() {
        drill.inside(&process, "echo kept > /written; echo kept > /data/written; sync");
    }
    let own = drill.own();
    assert_eq!(own.files, FILES);
    drill.check("run", &own, [1, 1]);

    drill.act("restart", &RESTART, |_| berth(&["restart", "case/mortal"]));
    drill.check("restart", &own, [2, 2]);

    drill.act("replacement", &REPLACEMENT, |drill| {
        drill.kill_sandbox();
        drill.wait_started(3);
    });
    drill.check("replacement", &own, [3, 3]);

    let [_, side] = drill.processes();
    drill.act("upgrade", &UPGRADE, |_| {
        let upgraded = fleet().change("upgrade", &manifest("two"), &["--wait"]).expect("run berth upgrade");
        assert!(upgraded.success(), "{upgraded:?}");
    });
    drill.check("upgrade", &own, [4, 3]);
    assert_eq!(drill.processes()[1], side, "the sibling was not touched");

    drill.act("reboot", &REBOOT, |drill| {
        drill.kernel.guest().reboot_into(&Machine::default()).expect("reboot the host");
        drill.wait_started(5);
    });
    drill.check("reboot", &own, [5, 4]);

    drill.act("evict", &EVICT, |_| berth(&["evict", "case/mortal"]));
    // Both system disks are kept.
    drill.settle(&BTreeMap::from([("snapshot", 2)]));
    drill.act("release", &RELEASE, |_| berth(&["release", "case/mortal"]));
    drill.settle(&BTreeMap::new());
    let emptied =
        "! test -e /var/lib/berth/disks/pods/case.mortal && ! ls -A /var/lib/berth/disks/.trash | grep -q .";
    guest.wait_until(emptied, SETTLE_LIMIT).expect("the data disk is gone");
    println!("crash release      nothing left over");
}
