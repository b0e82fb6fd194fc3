//! Disks on another file system, and by another snapshotter, than those that the host began with.

use crate::disks::check_data_disk;
use crate::{discard, fleet, idle_pod};
use berth_e2e::Kernel;
use std::time::Duration;

/// An empty disk of the node, by the name that udev gives it.
const SPARE: &str = "/dev/disk/by-id/virtio-spare";
/// Where data disks are.
const DISKS: &str = "/var/lib/berth/disks";
/// containerd's configuration, and where the case keeps what it was.
const RUNTIME: &str = "/etc/containerd/config.toml";
/// What makes it keep system disks as whole folders; Debian's file says nothing of it.
const NATIVE: &str = "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n";
/// Until a daemon answers again.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

fn run(kernel: &Kernel, script: &str) -> String {
    kernel.guest().run_ok(script).expect("prepare the host")
}

fn await_agent(kernel: &Kernel) {
    kernel.guest().wait_until("ctr version && berthctl pods", ANSWER_LIMIT).expect("the agent answers");
    fleet().wait_ready(kernel.guest()).expect("the node is ready");
}

#[test]
fn data_disks_on_xfs_are_held_to_their_size_as_well() {
    let kernel = fleet().kernel(0);
    run(
        &kernel,
        &format!(
            "systemctl stop berthd && mkfs.xfs -q -f {SPARE} && mount -o prjquota {SPARE} {DISKS} && \
             systemctl start berthd"
        ),
    );
    await_agent(&kernel);
    check_data_disk(&kernel, "on-xfs");
    run(
        &kernel,
        &format!("systemctl stop berthd && umount {DISKS} && wipefs -qa {SPARE} && systemctl start berthd"),
    );
    await_agent(&kernel);
}

#[test]
fn an_xfs_device_is_formatted_once() {
    let kernel = fleet().kernel(0);
    run(&kernel, &format!("wipefs -qa {SPARE} && dd if=/dev/zero of={SPARE} bs=1M count=4 conv=fsync"));
    let spec = format!("node: node-1\ndisks: [{{name: raw, device: {{id: {SPARE}, filesystem: xfs}}}}]");
    let manifest = idle_pod("xfs", &spec, "mounts: [{disk: raw, path: /raw}]");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process("xfs").expect("find the container");
    let written = kernel.inside(&process, "echo kept > /raw/file && sync").expect("write to the device");
    assert!(written.success(), "{written:?}");
    assert_eq!(run(&kernel, &format!("blkid -p -s TYPE -o value {SPARE}")).trim(), "xfs");
    fleet().berth_ok(&["evict", "case/xfs", "--wait"]).expect("evict the pod");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod again");
    let process = kernel.process("xfs").expect("find the container");
    assert_eq!(kernel.inside(&process, "cat /raw/file").expect("read it").stdout.trim(), "kept");
    discard("case/xfs");
}

#[test]
fn a_system_disk_of_the_native_snapshotter_is_kept_as_well() {
    let kernel = fleet().kernel(0);
    run(
        &kernel,
        &format!(
            "cp {RUNTIME} {RUNTIME}.case && cat >> {RUNTIME} <<'E'\n{NATIVE}E\nsystemctl restart containerd"
        ),
    );
    await_agent(&kernel);
    fleet().apply(&idle_pod("native", "", ""), &["--wait"]).expect("run the pod");
    let process = kernel.process("native").expect("find the container");
    let root = run(&kernel, &format!("awk '$5 == \"/\"' /proc/{}/mountinfo", process.pid));
    assert!(root.contains("io.containerd.snapshotter.v1.native/snapshots/"), "{root}");
    let written = kernel.inside(&process, "echo kept > /written && sync").expect("write to the system disk");
    assert!(written.success(), "{written:?}");

    fleet().berth_ok(&["stop", "case/native", "--wait"]).expect("stop the pod");
    fleet().berth_ok(&["start", "case/native", "--wait"]).expect("start the pod");
    let process = kernel.process("native").expect("find the container");
    assert_eq!(kernel.inside(&process, "cat /written").expect("read it").stdout.trim(), "kept");
    fleet().berth_ok(&["restart", "case/native", "--wait"]).expect("restart the pod");
    let process = kernel.process("native").expect("find the container");
    assert_eq!(kernel.inside(&process, "cat /written").expect("read it").stdout.trim(), "kept");
    discard("case/native");
    let left = run(&kernel, "ctr -n k8s.io snapshots --snapshotter native ls | grep -c Active || true");
    assert_eq!(left.trim(), "0", "writable snapshots are left");
    run(&kernel, &format!("mv {RUNTIME}.case {RUNTIME} && systemctl restart containerd"));
    await_agent(&kernel);
}
