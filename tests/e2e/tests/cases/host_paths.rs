//! What the node's administrator shares with containers, and what is not shared.

use crate::{discard, fleet, idle_pod};
use std::time::Duration;

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] =
    &["containers.host_paths.source", "containers.host_paths.path", "containers.host_paths.access"];

/// A disk's device is one that no container may open by itself; nothing is ever read from it here, nor written.
const SHARED: &str =
    r#"{ "/srv/read" = "read-only", "/srv/write" = "read-write", "/dev/vda" = "read-only" }"#;

const CONTAINER: &str = "\
hostPaths:
- {source: /srv/read, path: /read, readOnly: true}
- {source: /srv/write}
- {source: /dev/vda, path: /dev/case, readOnly: true}
";

/// Until what is shared has been looked at again: every ten seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn what_the_host_shares_is_there_and_nothing_else() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let run = |script: &str| guest.run_ok(script).expect(script).trim().to_owned();
    run("mkdir -p /srv/read /srv/write && echo given > /srv/read/file");
    let pod = idle_pod("host-paths", "", CONTAINER);
    let refused = fleet().try_apply(&pod, &["--wait"]).expect("submit the pod");
    let why = "HostPaths: /srv/read is not shared by this host, or is not there";
    assert!(!refused.success() && refused.stderr.contains(why), "{refused:?}");

    run(&format!("sed -i '1i host_paths = {SHARED}' /etc/berth/berthd.toml && systemctl restart berthd"));
    fleet().wait_connected(guest).expect("it is back");
    let told = run("berthctl status");
    assert!(told.contains("/dev/vda (read only), /srv/read (read only), /srv/write"), "{told}");
    fleet().apply(&pod, &["--wait"]).expect("run the pod");
    let process = kernel.process("host-paths").expect("find the container");
    let inside = |script: &str| {
        kernel.exec(&process, &format!("exec 2>&1; {script}")).expect("run a script in the container")
    };
    assert_eq!(inside("cat /read/file"), "given");
    assert_eq!(inside("touch /read/x"), "touch: /read/x: Read-only file system");
    assert_eq!(inside("echo taken > /srv/write/file"), "");
    assert_eq!(run("cat /srv/write/file"), "taken");
    // The device can be opened as it is shared, under whatever name, and no other one can.
    assert_eq!(inside("(exec 3< /dev/case) && echo opened"), "opened");
    assert_eq!(inside("(exec 3> /dev/case) || true"), "sh: can\'t create /dev/case: Operation not permitted");
    let numbers = run("stat -c '0x%t 0x%T' /dev/vdb");
    let other =
        format!("mknod /other b $(printf \"%d %d\" {numbers}) && echo made; (exec 3< /other) || true");
    assert_eq!(inside(&other), "made\nsh: can\'t open /other: Operation not permitted");

    // What the host has no more holds a restart back before anything has ended.
    run("mv /srv/read /srv/gone");
    let told = guest.wait_until("berthctl doctor | grep '/srv/read is not there'", LOOK_LIMIT);
    told.expect("it is noticed");
    let refused = fleet().berth(&["restart", "case/host-paths", "--wait"]).expect("order a restart");
    let why = "/srv/read is not shared by this host, or is not there";
    assert!(!refused.success() && refused.stderr.contains(why), "{refused:?}");
    assert_eq!(kernel.process("host-paths").expect("find the container again"), process);
    // Neither would a mount inside be for reading only.
    run("mv /srv/gone /srv/read && mkdir /srv/read/inner && mount -t tmpfs case /srv/read/inner");
    let told = guest.wait_until("berthctl doctor | grep 'has /srv/read/inner mounted inside'", LOOK_LIMIT);
    told.expect("it is noticed");
    run("umount /srv/read/inner");
    let shared = "berthctl status | grep '^ *Host paths:.*/srv/read (read only)'";
    guest.wait_until(shared, LOOK_LIMIT).expect("it is shared again");
    fleet().berth_ok(&["restart", "case/host-paths", "--wait"]).expect("restart the pod");
    assert_ne!(kernel.process("host-paths").expect("find the new container").pid, process.pid);

    discard("case/host-paths");
    assert_eq!(run("cat /srv/read/file /srv/write/file"), "given\ntaken", "what is the host's stays");
    run(
        "rm -r /srv/read /srv/write; sed -i '/^host_paths/d' /etc/berth/berthd.toml && systemctl restart berthd",
    );
    fleet().wait_connected(guest).expect("it is back");
}
