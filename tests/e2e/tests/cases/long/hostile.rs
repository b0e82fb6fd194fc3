//! What goes wrong around the agent ends nothing, is acknowledged falsely by nobody, and passes by itself.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Kernel, PodProcess};
use berth_lab::wait_until;
use std::time::Duration;

/// How long containerd hangs …
const HANG: Duration = Duration::from_secs(120);
/// … unless the long tests are wanted: longer than the agent waits for an answer to a look.
const SHORT_HANG: Duration = Duration::from_secs(30);
/// Until an order is carried out once what was in its way is gone.
const RECOVERY_LIMIT: Duration = Duration::from_secs(240);
/// A configuration file, bytes, of about the size that a pod may have.
const LARGE: usize = 120_000;
/// An empty disk of the node, by the name that udev gives it.
const SPARE: &str = "/dev/disk/by-id/virtio-spare";
/// How long nothing may happen while it is.
const STANDSTILL_S: u32 = 15;

struct Victim {
    kernel: Kernel,
    name: &'static str,
    before: PodProcess,
}

impl Victim {
    fn run(name: &'static str) -> Self {
        let kernel = fleet().kernel(0);
        fleet().apply(&idle_pod(name, "", ""), &["--wait"]).expect("run the pod");
        let before = kernel.process(name).expect("find the container");
        Self { kernel, name, before }
    }

    fn pod(&self) -> String {
        format!("case/{}", self.name)
    }

    fn guest(&self, script: &str) -> String {
        self.kernel.guest().run_ok(script).expect(script).trim().to_owned()
    }

    fn state(&self) -> String {
        let pod = fleet().pod(&self.pod()).expect("look at the pod");
        pod["state"].as_str().expect("it has a state").to_owned()
    }

    /// Its container lives, and nobody says that the order to stop it is done.
    fn stands(&self, when: &str) {
        assert_eq!(self.kernel.process(self.name).expect("find the container again"), self.before, "{when}");
        assert_ne!(self.state(), "Stopped", "{when}");
    }

    fn order_stop(&self) {
        fleet().berth_ok(&["stop", &self.pod()]).expect("order the stop");
    }

    /// The order is carried out after all, and the next one too.
    fn recovers(&self) {
        let stopped = || Ok((self.state() == "Stopped").then_some(()));
        wait_until("the pod to be stopped", RECOVERY_LIMIT, stopped).expect("it recovers by itself");
        assert!(!self.kernel.has_process(self.name).expect("look for it"));
        fleet().berth_ok(&["start", &self.pod(), "--wait"]).expect("start the pod");
        discard(&self.pod());
    }
}

#[test]
fn containerd_that_hangs_ends_nothing() {
    let victim = Victim::run("hung");
    victim.guest("systemctl kill -s STOP containerd");
    victim.order_stop();
    let hang = if std::env::var_os("BERTH_LONG").is_some() { HANG } else { SHORT_HANG };
    let told = format!("sleep {}; berthctl pods", hang.as_secs());
    let told = victim.guest(&told);
    victim.stands("containerd hangs");
    let upstream = fleet().pod(&victim.pod()).expect("look at the pod").to_string();
    victim.guest("systemctl kill -s CONT containerd");
    assert!(told.contains("hung"), "berthctl answers: {told}");
    assert!(upstream.contains("no answer in"), "it is a fact upstream: {upstream}");
    victim.recovers();
}

#[test]
fn a_clock_that_is_set_ends_nothing() {
    let victim = Victim::run("timeless");
    for (shift, back) in [("+1 hour", "-1 hour"), ("-1 hour", "+1 hour")] {
        victim.guest(&format!("date -s '{shift}'; sleep {STANDSTILL_S}"));
        victim.stands(shift);
        fleet().wait_ready(victim.kernel.guest()).expect("the node is heard");
        fleet().berth_ok(&["resize", &victim.pod(), "--pids-max", "77", "--wait"]).expect("orders arrive");
        fleet().berth_ok(&["resize", &victim.pod(), "--pids-max", "78", "--wait"]).expect("orders arrive");
        victim.guest(&format!("date -s '{back}'"));
        victim.stands(back);
    }
    victim.order_stop();
    victim.recovers();
}

#[test]
fn without_descriptors_nothing_ends() {
    let victim = Victim::run("narrow");
    let limit = |soft: &str| format!("prlimit --pid $(pidof -s berthd) --nofile={soft}:");
    victim.guest(&limit("$(ls /proc/$(pidof -s berthd)/fd | wc -l)"));
    victim.order_stop();
    victim.guest(&format!("sleep {STANDSTILL_S}"));
    victim.stands("berthd can open nothing");
    victim.guest(&limit("65536"));
    victim.recovers();
}

/// A folder of the host that is moved onto a disk of its own, to be filled.
struct OwnDisk {
    kernel: Kernel,
    folder: &'static str,
    /// Whoever has files open there.
    daemons: &'static str,
}

impl OwnDisk {
    /// The folder with all that is in it, on the host's spare disk.
    fn make(folder: &'static str, daemons: &'static str) -> Self {
        let disk = Self { kernel: fleet().kernel(0), folder, daemons };
        disk.guest(&format!(
            "systemctl stop {daemons} && mkfs.ext4 -q -F {SPARE} && mount {SPARE} /mnt && cp -a {folder}/. /mnt/ && \
             umount /mnt && mount {SPARE} {folder} && systemctl start {daemons}"
        ));
        disk.await_agent();
        disk
    }

    fn guest(&self, script: &str) -> String {
        self.kernel.guest().run_ok(script).expect(script).trim().to_owned()
    }

    fn await_agent(&self) {
        self.kernel
            .guest()
            .wait_until("ctr version && berthctl pods", RECOVERY_LIMIT)
            .expect("the agent answers");
        fleet().wait_connected(self.kernel.guest()).expect("it is connected");
    }

    /// To the last block, root's own reserve included.
    fn fill(&self) {
        let folder = self.folder;
        self.guest(&format!(
            "i=0; for size in 1G 128M 16M 1M 64K 4K; do \
             while fallocate -l $size {folder}/fill.$i 2>/dev/null; do i=$((i+1)); done; done; \
             ! dd if=/dev/zero of={folder}/fill.more bs=4k count=1 2>/dev/null"
        ));
    }

    fn free(&self) {
        self.guest(&format!("rm -f {}/fill.*", self.folder));
    }

    /// What was there before is there again; what was written meanwhile is of pods that are gone.
    fn give_back(self) {
        let Self { folder, daemons, .. } = &self;
        self.guest(&format!(
            "systemctl stop {daemons}; i=0; until umount {folder}; do i=$((i+1)); [ $i -lt 30 ] || exit 1; sleep 1; done; wipefs -qa {SPARE} && \
             systemctl start {daemons}"
        ));
        self.await_agent();
    }
}

#[test]
fn a_full_disk_under_the_ledger_ends_nothing() {
    let disk = OwnDisk::make("/var/lib/berth", "berthd");
    let victim = Victim::run("unwritten");
    disk.fill();
    // More than what the ledger's files have room for without growing.
    let file = fleet().lab().directory().join("large");
    std::fs::write(&file, "x".repeat(LARGE)).expect("write a large file");
    let change = format!("main:/etc/case/large={}", file.display());
    fleet().berth_ok(&["upgrade", &victim.pod(), "--config-file", &change]).expect("order an upgrade");
    victim.guest(&format!("sleep {STANDSTILL_S}"));
    victim.stands("the disk under the ledger is full");
    disk.free();
    let upgraded = || {
        let found = victim.kernel.process(victim.name).ok().filter(|found| *found != victim.before);
        found.map(|process| Ok(victim.kernel.inside(&process, "wc -c < /etc/case/large")?.stdout)).transpose()
    };
    let size = wait_until("the pod to be upgraded", RECOVERY_LIMIT, upgraded).expect("it recovers by itself");
    assert_eq!(size.trim(), LARGE.to_string());
    victim.order_stop();
    victim.recovers();
    disk.give_back();
}

#[test]
fn a_full_disk_under_containerd_ends_nothing() {
    let disk = OwnDisk::make("/var/lib/containerd", "berthd containerd");
    let victim = Victim::run("unmade");
    disk.fill();
    let refused = fleet().berth(&["restart", &victim.pod(), "--wait"]).expect("order a restart");
    assert!(!refused.success() && refused.stderr.contains("no space left"), "{refused:?}");
    victim.stands("the disk under containerd is full");
    disk.free();
    fleet().berth_ok(&["restart", &victim.pod(), "--wait"]).expect("restart the pod");
    assert_ne!(victim.kernel.process(victim.name).expect("find the new container"), victim.before);
    victim.order_stop();
    victim.recovers();
    disk.give_back();
}

#[test]
fn a_full_disk_under_the_logs_ends_nothing() {
    let disk = OwnDisk::make("/var/log/berth", "berthd");
    let victim = Victim::run("unheard");
    disk.fill();
    let say = "timeout 60 sh -c 'yes many words that nobody can keep | head -n 20000 > /proc/1/fd/1'";
    victim.kernel.inside(&victim.before, say).expect("write to the log");
    victim.stands("the disk under the logs is full");
    fleet()
        .berth_ok(&["resize", &victim.pod(), "--pids-max", "77", "--wait"])
        .expect("orders are carried out");
    victim.stands("an order was carried out");
    disk.free();
    victim.order_stop();
    victim.recovers();
    disk.give_back();
}

#[test]
fn a_full_disk_ends_nothing() {
    let victim = Victim::run("crowded");
    let fill = "i=0; for size in 1G 128M 16M 1M 64K 4K; do \
                while fallocate -l $size /var/tmp/fill.$i 2>/dev/null; do i=$((i+1)); done; done; \
                ! dd if=/dev/zero of=/var/tmp/fill.more bs=4k count=1 2>/dev/null";
    victim.guest(fill);
    victim.order_stop();
    victim.guest(&format!("sleep {STANDSTILL_S}"));
    victim.stands("the disk is full");
    victim.guest("rm -f /var/tmp/fill.*");
    victim.recovers();
}
