//! Data disks and sizes of system disks, asked of the kernel.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Kernel, PodProcess};
use berth_lab::wait_until;
use serde_json::Value;
use std::time::Duration;

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &[
    "disks.name",
    "disks.directory.size_bytes",
    "disks.device.id",
    "disks.device.filesystem",
    "disks.memory.size_bytes",
    "disks.memory.page_size_bytes",
    "disks.scratch",
    "containers.mounts.disk",
    "containers.mounts.path",
    "containers.system_disk_bytes",
];

/// Until what was given up is removed from the disk.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);
/// Until a fact that nothing announces is upstream: the agent looks every 30 s.
const REPORT_LIMIT: Duration = Duration::from_secs(120);
/// An empty disk of the node, by the host's own means: a file as a device with a partition, which has a stable name.
const MAKE_DEVICE: &str =
    "truncate -s 512M /var/tmp/case-disk.img && losetup --show -P -f /var/tmp/case-disk.img";

/// Four huge pages, of memory that earlier cases may have left in pieces.
const MAKE_PAGES: &str = "echo 3 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory; echo 4 > /proc/sys/vm/nr_hugepages";

/// Runs a script inside, without the one capability that passes ext4's quotas, which no container has.
fn inside(kernel: &Kernel, process: &PodProcess, script: &str) -> (i32, String) {
    let enter = format!("setpriv --bounding-set=-sys_resource nsenter -t {} -m -p -r -w", process.pid);
    let run = kernel.guest().run(&format!("{enter} /bin/sh -c '{script}'"));
    let output = run.expect("run a script in the container");
    (output.status, output.stdout + &output.stderr)
}

/// Writes until it fails, and says how; then says how many KiB there are.
fn fill(kernel: &Kernel, process: &PodProcess, file: &str) -> (String, u64) {
    let script = format!("dd if=/dev/zero of={file} bs=64k count=1000 2>&1; echo; du -k {file}");
    let (_, said) = inside(kernel, process, &script);
    let kib = said.lines().last().and_then(|line| line.split_whitespace().next()?.parse().ok());
    (said.clone(), kib.unwrap_or_else(|| panic!("no size in {said:?}")))
}

/// What the node's own list says of the pod's data disk: used, and the limit, bytes.
fn listed(kernel: &Kernel, pod: &str) -> (u64, u64) {
    let said = kernel.guest().run_ok("berthctl -o json disks").expect("list the disks");
    let disks: Value = serde_json::from_str(&said).expect("understand the list");
    let mut disks = disks.as_array().into_iter().flatten();
    let disk = disks.find(|disk| disk["pod"]["name"] == pod && disk["name"] == "data");
    let disk = disk.unwrap_or_else(|| panic!("no disk of {pod} in {said}"));
    // JSON of protocol buffers has 64-bit numbers as text.
    let number = |key: &str| disk[key].as_u64().or_else(|| disk[key].as_str()?.parse().ok());
    (number("usedBytes").expect("usage is counted"), number("limitBytes").expect("a limit is set"))
}

/// Waits until the control plane hears something of a pod.
fn await_word(pod: &str, word: &str) {
    let heard = wait_until(&format!("{pod} to say that {word}"), REPORT_LIMIT, || {
        let said = fleet().pod(pod)?["status"]["message"].as_str().is_some_and(|said| said.contains(word));
        Ok(said.then_some(()))
    });
    heard.expect("it is a fact upstream");
}

#[test]
fn a_data_disk_is_held_to_its_size_and_kept_until_released() {
    check_data_disk(&fleet().kernel(0), "keeper");
}

/// A data disk of a pod of this name, on whatever file system data disks are on at the moment.
pub(crate) fn check_data_disk(kernel: &Kernel, name: &str) {
    let pod = format!("case/{name}");
    let spec = "disks: [{name: data, size: 4Mi}]";
    let manifest = idle_pod(name, spec, "mounts: [{disk: data, path: /data}]");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process(name).expect("find the container");
    let (said, kib) = fill(kernel, &process, "/data/full");
    assert!(said.contains("No space left") || said.contains("quota"), "{said}");
    assert!((3_500..=4_096).contains(&kib), "{kib} KiB of 4096");
    await_word(&pod, "data disk data is full");
    let (used, limit) = listed(kernel, name);
    assert!(limit == 4 << 20 && used > limit - (limit >> 5), "berthctl disks says {used} of {limit} bytes");
    assert_eq!(kernel.process(name).expect("find it again"), process, "a full disk ends nothing");
    let (status, said) = inside(kernel, &process, "rm /data/full && echo kept > /data/file && sync");
    assert_eq!(status, 0, "{said}");

    fleet().berth_ok(&["stop", &pod, "--wait"]).expect("stop the pod");
    fleet().berth_ok(&["start", &pod, "--wait"]).expect("start the pod");
    let process = kernel.process(name).expect("find the container");
    assert_eq!(inside(kernel, &process, "cat /data/file").1.trim(), "kept");

    fleet().berth_ok(&["evict", &pod, "--wait"]).expect("evict the pod");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod again");
    let process = kernel.process(name).expect("find the container");
    assert_eq!(inside(kernel, &process, "cat /data/file").1.trim(), "kept");

    discard(&pod);
    let gone = format!(
        "! test -e /var/lib/berth/disks/pods/case.{name} && ! ls -A /var/lib/berth/disks/.trash | grep -q . \
         && ! ls /var/lib/berth/disks/projects | grep -q {name}"
    );
    kernel.guest().wait_until(&gone, REMOVAL_LIMIT).expect("nothing is left of the disk");
}

#[test]
fn scratch_is_shared_in_the_pod_and_ends_with_it() {
    let kernel = fleet().kernel(0);
    let spec = "disks: [{name: shm, memory: 1Mi}, {name: spool, size: 4Mi, scratch: true}, {name: data}]";
    let mounts =
        "mounts: [{disk: shm, path: /dev/shm}, {disk: spool, path: /spool}, {disk: data, path: /data}]";
    let side = format!(
        "  - name: side\n    image: {}\n    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 1; done\"]\n\
         \x20   env: [{{name: CASE, value: beside}}]\n    mounts: [{{disk: shm, path: /in, readOnly: true}}]\n",
        berth_e2e::image("busybox")
    );
    let manifest = idle_pod("sharer", spec, mounts) + &side;
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process("sharer").expect("find the container");
    assert_eq!(
        inside(&kernel, &process, "grep \" /dev/shm \" /proc/mounts | cut -d\" \" -f3").1.trim(),
        "tmpfs"
    );
    // In the container's cgroup: whoever writes first is charged for it.
    let fill = "dd if=/dev/zero of=/dev/shm/full bs=64k count=100 2>&1; du -k /dev/shm/full";
    let said = kernel.inside(&process, fill).expect("fill the memory").stdout;
    assert!(said.contains("No space left") && said.contains("1024\t/dev/shm/full"), "{said}");
    let pod = process.pod_cgroup().trim_start_matches('/').to_owned();
    let counted = format!("sed -n 's/^shmem //p' /sys/fs/cgroup/{pod}/memory.stat");
    let counted = kernel.guest().run_ok(&counted).expect("read the pod's memory");
    assert!(counted.trim().parse::<u64>().expect("bytes") >= 1 << 20, "{counted}");
    let write = "rm /dev/shm/full && for disk in dev/shm spool data; do echo x > /$disk/file; done";
    let (status, said) = inside(&kernel, &process, write);
    assert_eq!(status, 0, "{said}");
    let beside = kernel.process("beside").expect("find the other container");
    assert_eq!(inside(&kernel, &beside, "cat /in/file").1.trim(), "x");
    assert_ne!(inside(&kernel, &beside, "echo y > /in/file").0, 0, "it may only read there");

    fleet().berth_ok(&["restart", "case/sharer", "--wait"]).expect("restart the pod");
    let process = kernel.process("sharer").expect("find the container");
    assert_eq!(inside(&kernel, &process, "cat /dev/shm/file /spool/file").1.trim(), "x\nx");
    fleet().berth_ok(&["evict", "case/sharer", "--wait"]).expect("evict the pod");
    let left = "! test -e /var/lib/berth/disks/memory/case.sharer && ! test -e /var/lib/berth/disks/scratch/case.sharer && \
                ! grep case.sharer /proc/mounts && \
                ls /var/lib/berth/disks/pods/case.sharer";
    assert_eq!(kernel.guest().run_ok(left).expect("scratch is gone").trim(), "data");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod again");
    let process = kernel.process("sharer").expect("find the container");
    assert_eq!(
        inside(&kernel, &process, "ls /dev/shm /spool; cat /data/file").1.trim(),
        "/dev/shm:\n\n/spool:\nx"
    );
    discard("case/sharer");
}

#[test]
fn huge_pages_are_set_aside_for_a_pod_and_given_back() {
    let kernel = fleet().kernel(0);
    let pages = |key: &str| {
        let said = kernel.guest().run_ok(&format!("sed -n 's/^HugePages_{key}: *//p' /proc/meminfo"));
        said.expect("read how many there are").trim().parse::<u64>().expect("a number")
    };
    kernel.guest().run_ok(MAKE_PAGES).expect("make huge pages");
    assert_eq!((pages("Total"), pages("Rsvd")), (4, 0));
    let spec = "disks: [{name: huge, memory: 4Mi, pageSize: 2Mi}]";
    let manifest = idle_pod("huge", spec, "mounts: [{disk: huge, path: /huge}]");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process("huge").expect("find the container");
    assert_eq!((pages("Free"), pages("Rsvd")), (4, 2), "nobody else gets them");
    let mounted = kernel.inside(&process, "grep ' /huge ' /proc/mounts").expect("look at the mounts").stdout;
    assert!(mounted.contains(" hugetlbfs ") && mounted.contains("pagesize=2M"), "{mounted}");
    let taken = kernel.inside(&process, "fallocate -l 4194304 /huge/file").expect("take the pages");
    assert!(taken.success(), "{taken:?}");
    assert_eq!((pages("Free"), pages("Rsvd")), (2, 0));
    let used = kernel.control(&process.cgroup, "hugetlb.2MB.current").expect("read what it uses");
    assert_eq!(used, "4194304");
    let more = kernel.inside(&process, "fallocate -l 2097152 /huge/more 2>&1").expect("take one more");
    assert!(!more.success() && more.stdout.contains("No space left"), "{more:?}");
    discard("case/huge");
    assert_eq!((pages("Free"), pages("Rsvd")), (4, 0));
    kernel.guest().run_ok("echo 0 > /proc/sys/vm/nr_hugepages").expect("give them back");
}

#[test]
fn a_system_disk_of_a_size_is_full_and_nothing_else_happens() {
    let kernel = fleet().kernel(0);
    let manifest = idle_pod("bounded", "", "systemDisk: {size: 3Mi}");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process("bounded").expect("find the container");
    let (said, kib) = fill(&kernel, &process, "/full");
    assert!(said.contains("No space left") || said.contains("quota"), "{said}");
    assert!((2_500..=3_072).contains(&kib), "{kib} KiB of 3072");
    await_word("case/bounded", "the system disk of container main is full");
    // What is in the work folder comes into the upper one by a rename: between two projects that would fail.
    let (status, said) =
        inside(&kernel, &process, "rm /full && mkdir /a && mv /a /b && echo x > /b/x && mv /b/x /y");
    assert_eq!(status, 0, "{said}");
    assert_eq!(kernel.process("bounded").expect("find it again"), process, "a full disk ends nothing");

    // The same disk, under the same limit, in the container's successor.
    fleet().berth_ok(&["stop", "case/bounded", "--wait"]).expect("stop the pod");
    fleet().berth_ok(&["start", "case/bounded", "--wait"]).expect("start the pod");
    let process = kernel.process("bounded").expect("find the container");
    assert_eq!(inside(&kernel, &process, "cat /y").1.trim(), "x");
    let (said, kib) = fill(&kernel, &process, "/full");
    assert!((2_500..=3_072).contains(&kib), "{kib} KiB of 3072: {said}");
    discard("case/bounded");
}

#[test]
fn a_device_is_formatted_once_and_a_foreign_one_never() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let device = guest.run_ok(MAKE_DEVICE).expect("make a device");
    let device = device.trim().to_owned();
    // A loop device has no link of its own: udev would make one for a disk.
    let id = "/dev/disk/by-id/case-disk";
    let link = |guest: &berth_lab::Guest| {
        guest.run_ok(&format!("mkdir -p /dev/disk/by-id && ln -sfn {device} {id}")).expect("name the device");
    };
    link(guest);
    let spec = format!("node: node-1\ndisks: [{{name: raw, device: {{id: {id}, filesystem: xfs}}}}]");
    let manifest = idle_pod("device", &spec, "mounts: [{disk: raw, path: /raw}]");

    guest.run_ok(&format!("mkfs.ext4 -q {device}")).expect("make a foreign file system");
    let sum = format!("head -c 1M {device} | sha256sum");
    let before = guest.run_ok(&sum).expect("look at the device");
    let refused = fleet().try_apply(&manifest, &["--wait"]).expect("submit the pod");
    assert!(!refused.success() && refused.stderr.contains("holds file system ext4"), "{refused:?}");
    assert_eq!(guest.run_ok(&sum).expect("look at the device"), before, "a foreign device is not touched");
    discard("case/device");

    guest
        .run_ok(&format!("wipefs -qa {device} && dd if=/dev/zero of={device} bs=1M count=1 conv=fsync"))
        .expect("wipe it");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let process = kernel.process("device").expect("find the container");
    assert_eq!(inside(&kernel, &process, "echo kept > /raw/file && ls /raw").1.trim(), "file");
    let uuid = format!("blkid -p -s UUID -o value {device}");
    let first = guest.run_ok(&uuid).expect("look at the device");
    fleet().berth_ok(&["evict", "case/device", "--wait"]).expect("evict the pod");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod again");
    let process = kernel.process("device").expect("find the container");
    assert_eq!(inside(&kernel, &process, "cat /raw/file").1.trim(), "kept");
    assert_eq!(guest.run_ok(&uuid).expect("look at the device"), first, "it was formatted once");
    let mounted = guest
        .run_ok("findmnt -no FSTYPE,OPTIONS /var/lib/berth/disks/devices/case.device/raw")
        .expect("look");
    assert!(
        mounted.starts_with("xfs ") && mounted.contains("nodev") && mounted.contains("nosuid"),
        "{mounted}"
    );

    discard("case/device");
    assert_ne!(guest.run("findmnt /var/lib/berth/disks/devices/case.device/raw").expect("look").status, 0);
    assert_ne!(
        guest.run(&format!("blkid -p {device}")).expect("look").status,
        0,
        "a released device is empty"
    );
    guest
        .run_ok(&format!("rm {id} && losetup -d {device} && rm /var/tmp/case-disk.img"))
        .expect("take it away");
}
