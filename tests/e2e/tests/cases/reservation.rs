//! What is kept for the system's own services.

use crate::{discard, fleet, idle_pod};
use anyhow::Result;
use berth_lab::Guest;
use std::time::Duration;

/// Until the kernel holds the pods to the rest: berthd looks when it starts, and every minute.
const HELD_LIMIT: Duration = Duration::from_secs(150);
/// What is left for all pods together, bytes.
const LEFT: u64 = 160 << 20;
/// What is kept of process ids.
const RESERVED_PIDS: u64 = 1_000;

/// Fills a file system in memory, and holds it.
const HOLDER: &str = "dd if=/dev/zero of=/shm/held bs=1M count=200; touch /held; exec sleep 3600";
/// Asks for as much at once; says how that ended.
const EATER: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1; echo $? > /ended; exec sleep 3600";

/// A pod that does this, and has nowhere to swap to.
fn pod(name: &str, script: &str) -> String {
    let spec = "node: node-1\nlimits: {swapMax: 0}\ndisks:\n- {name: shm, memory: 256Mi}";
    let idle = idle_pod(name, spec, "mounts:\n- {disk: shm, path: /shm}");
    let (before, rest) = idle.split_once("    command:").expect("it has a command");
    let (_, after) = rest.split_once('\n').expect("the command is one line");
    format!("{before}    command: [sh, -c, \"{script}\"]\n{after}")
}

/// Takes the reservation back, also after a case that failed: the next ones would have no room.
struct Reserved<'a>(&'a Guest);

impl Reserved<'_> {
    fn reserve(&self, lines: &str) {
        let script = format!("sed -i '1i {lines}' /etc/berth/berthd.toml && systemctl restart berthd");
        self.0.run_ok(&script).expect("reserve something");
        fleet().wait_connected(self.0).expect("it is back");
    }

    fn take_back(&self) -> Result<()> {
        let script = "sed -i '/^reserved_/d' /etc/berth/berthd.toml && systemctl restart berthd \
                      && systemctl set-property --runtime berth.slice MemoryMax=infinity TasksMax=infinity";
        self.0.run_ok(script)?;
        fleet().wait_connected(self.0)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = self.take_back()
        {
            eprintln!("the reservation could not be taken back: {error:#}");
        }
    }
}

#[test]
fn pods_are_held_to_what_is_not_reserved_and_nothing_is_taken_from_them() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let run = |script: &str| guest.run_ok(script).expect(script).trim().to_owned();
    let number = |script: &str| run(script).parse::<u64>().expect(script);
    let limits = "cd /sys/fs/cgroup/berth.slice && echo $(cat memory.max pids.max memory.high)";
    let total =
        1024 * number("awk '/MemTotal/ {sum += $4} END {print sum}' /sys/devices/system/node/node*/meminfo");
    let pids = number("sort -n /proc/sys/kernel/pid_max /proc/sys/kernel/threads-max | head -1");
    let left_pids = pids - RESERVED_PIDS;
    let reserved = Reserved(guest);

    // More memory is in use than is left: the pod lives on, nothing of it is set, and the administrator hears of it. Process
    // ids there are, and those are held.
    fleet().apply(&pod("holder", HOLDER), &["--wait"]).expect("run the pod");
    let holder = kernel.process("holder").expect("find the container");
    let held = format!("test -e /proc/{}/root/held", holder.pid);
    guest.wait_until(&held, HELD_LIMIT).expect("it holds its memory");
    reserved.reserve(&format!("reserved_memory = \"{}\"\\nreserved_pids = {RESERVED_PIDS}", total - LEFT));
    let said = "journalctl -u berthd --no-pager | grep 'bytes of memory are in use'";
    guest.wait_until(said, HELD_LIMIT).expect("it is said");
    let told = run("berthctl doctor || true");
    assert!(told.contains(&format!("memory.max={LEFT}, and memory.max of berth.slice is not so")), "{told}");
    assert_eq!(run(limits), format!("max {left_pids} max"));
    assert_eq!(kernel.process("holder").expect("find the container again"), holder);

    // Once there is room, the kernel keeps it, also when systemd writes everything anew.
    discard("case/holder");
    let all = format!("{LEFT} {left_pids} max");
    guest
        .wait_until(&format!("test \"$({limits})\" = '{all}'"), HELD_LIMIT)
        .expect("pods are held to the rest");
    run("systemctl daemon-reload");
    let kept = "systemctl show --value -p MemoryMax -p TasksMax berth.slice | sort -n | xargs";
    assert_eq!(run(kept), format!("{left_pids} {LEFT}"));
    assert_eq!(run(limits), all);
    let told = run("berthctl doctor || true");
    assert!(told.contains(&format!("all pods together: pids.max={left_pids}")), "{told}");

    // Who takes more is ended by the kernel, inside the pods' slice.
    fleet().apply(&pod("eater", EATER), &["--wait"]).expect("run the pod");
    let eater = kernel.process("eater").expect("find the container");
    let ended = guest.wait_until(&format!("grep . /proc/{}/root/ended", eater.pid), HELD_LIMIT);
    assert_eq!(ended.expect("it has ended").trim(), "137");
    assert!(number("awk '/^oom_kill / {print $2}' /sys/fs/cgroup/berth.slice/memory.events") > 0);

    discard("case/eater");
    reserved.take_back().expect("take the reservation back");
    assert_eq!(run(limits), "max max max");
}
