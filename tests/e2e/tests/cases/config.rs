//! Configuration files, seen by the container's processes and in the node's file system.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Kernel, PodProcess};

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &[
    "containers.config.path",
    "containers.config.files.name",
    "containers.config.files.content",
    "containers.config.files.mode",
];

/// A user who is not root reads what everybody may.
const CONTAINER: &str = "\
user: {uid: 1234, gid: 1234}
config:
- path: /etc/case
  files:
  - {name: app.conf, content: \"good 1\\n\"}
  - {name: run, base64: IyEvYmluL3NoCmVjaG8gcmFuCg==, mode: \"0555\"}
  - {name: secret, content: hidden, mode: \"0400\"}
";

/// What every container of the node has of configuration: contents in the store.
fn contents(kernel: &Kernel) -> Vec<String> {
    let said = kernel.guest().run_ok("ls /var/lib/berth/config 2>/dev/null || true").expect("list the store");
    said.lines().map(str::to_owned).collect()
}

/// What a script says inside the container, as the container's own user.
fn inside(kernel: &Kernel, process: &PodProcess, script: &str) -> String {
    kernel.exec(process, &format!("exec 2>&1; {script}")).expect("run a script in the container")
}

/// A pod that ends at once unless its configuration is good.
fn pod(name: &str) -> String {
    idle_pod(name, "", CONTAINER)
        .replace("ulimit -Sn;", "grep -q good /etc/case/app.conf || exit 3; ulimit -Sn;")
}

#[test]
fn configuration_travels_in_the_order_and_is_replaced_with_its_container() {
    let kernel = fleet().kernel(0);
    let before = contents(&kernel);
    fleet().apply(&pod("config"), &["--wait"]).expect("run the pod");
    let first = kernel.process("config").expect("find the container");
    let sandbox = |what: &str| {
        let pod = fleet().pod("case/config").expect(what);
        let sandbox = pod["status"]["sandboxId"].as_str().expect("it has a sandbox").to_owned();
        (fleet().address("case/config").expect(what), sandbox)
    };
    let identity = sandbox("the pod");
    let look = "cat /etc/case/app.conf; /etc/case/run; cat /etc/case/secret; touch /etc/case/x; \
                stat -c %a:%u /etc/case /etc/case/app.conf /etc/case/run /etc/case/secret; \
                grep -c \"/etc/case ro\" /proc/self/mountinfo";
    let said = inside(&kernel, &first, look);
    let expected = "good 1\nran\ncat: can't open '/etc/case/secret': Permission denied\n\
                    touch: /etc/case/x: Read-only file system\n755:0\n444:0\n555:0\n400:0\n1";
    assert_eq!(said, expected);
    assert_eq!(contents(&kernel).len(), before.len() + 3);

    // Another pod with the same content has the same file.
    fleet().apply(&pod("config-too"), &["--wait"]).expect("run another pod");
    let other = kernel.process("config-too").expect("find its container");
    assert_eq!(contents(&kernel).len(), before.len() + 3);
    let inode = |process: &PodProcess| -> u64 {
        inside(&kernel, process, "stat -c %i /etc/case/app.conf").parse().expect("the number of an inode")
    };
    assert_eq!(inode(&first), inode(&other), "the content is there once");

    // One file is replaced: a new container in the same sandbox has it, and the other pod notices nothing.
    let file = fleet().lab().directory().join("app.conf");
    std::fs::write(&file, "good 2\n").expect("write the new file");
    let change = format!("main:/etc/case/app.conf={}", file.display());
    fleet()
        .berth_ok(&["upgrade", "case/config", "--config-file", &change, "--wait"])
        .expect("upgrade the pod");
    let second = kernel.process("config").expect("find the new container");
    assert_ne!(second.pid, first.pid);
    assert_eq!(sandbox("the pod"), identity);
    assert_eq!(inside(&kernel, &second, "cat /etc/case/app.conf; /etc/case/run"), "good 2\nran");
    assert_eq!(inside(&kernel, &other, "cat /etc/case/app.conf"), "good 1");

    // What does not become ready goes back to the files that it had.
    std::fs::write(&file, "bad\n").expect("write a bad file");
    let upgrade = ["upgrade", "case/config", "--config-file", &change, "--wait"];
    let refused = fleet().berth(&upgrade).expect("run berth upgrade");
    assert!(!refused.success() && refused.stderr.contains("RolledBack"), "{refused:?}");
    let third = kernel.process("config").expect("find the container that is back");
    assert_eq!(inside(&kernel, &third, "cat /etc/case/app.conf"), "good 2");
    assert_eq!(sandbox("the pod"), identity);

    discard("case/config");
    assert_eq!(inside(&kernel, &other, "cat /etc/case/app.conf"), "good 1", "what was shared stays");
    discard("case/config-too");
    assert_eq!(contents(&kernel), before, "left in the store");
}
