//! Every field of a pod's spec where it takes effect: in the kernel, in the process, on the node's file systems.
//!
//! The list of fields is the wire's own. Each has a row here, or stands in the `FIELDS` of the module whose cases look
//! at it; one that has neither fails a test.

use crate::{
    addresses, boot, config, controls, discard, disks, fleet, host_network, host_paths, idle_pod, migration,
    probes, roles,
};
use berth_e2e::{Kernel, PodProcess};
use berth_lab::wait_until;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Until what was killed runs again.
const RESTART_LIMIT: Duration = Duration::from_secs(60);
/// For so long what is not to run again is looked for: twice as long as the others take on an emulated host.
const STAYS_DEAD: Duration = Duration::from_secs(35);

/// A profile that refuses one system call and nothing else.
const SECCOMP: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;

/// A profile that refuses one path and nothing else.
const APPARMOR: &str = "profile case-confined flags=(attach_disconnected, mediate_deleted) {
  file, network, capability, mount, umount, signal, ptrace, unix,
  deny /refused w,
}
";

const POD: &str = "\
hostname: field-host
class: batch
priority: 7
dns: {servers: [192.0.2.53], searches: [case.example], options: [\"ndots:3\"]}
sysctls: {net.core.somaxconn: 1234, kernel.shm_rmid_forced: 1}
";
const CONTAINER: &str = "\
args: [first, second word]
workingDir: /var
user: {uid: 1234, gid: 2345}
security:
  groups: [3456, 4567]
  capabilities: {add: [NET_ADMIN], drop: [ALL]}
  seccomp: {localhost: case.json}
  apparmor: Unconfined
  readOnlyRoot: true
  noNewPrivileges: true
";

/// Where a field's effect is looked for.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// A line of the first process's `/proc/PID/status`.
    Status(&'static str),
    /// What a script says on the node, `$pid` being the first process.
    Host(&'static str),
    /// What a script says inside the container.
    Inside(&'static str),
    /// A file of the pod's cgroup.
    Control(&'static str),
}

/// Field, where it is seen, and what is seen there.
const ROWS: [(&str, Look, &str); 23] = [
    ("hostname", Look::Inside("hostname"), "field-host"),
    ("class", Look::Control("cpu.weight"), "10"),
    // In the node's ledger, from where pods are taken up in its order; boot.rs of berthd's tests looks at that order.
    (
        "priority",
        Look::Host("berthctl -o json pod case/fields | grep -o '\"priority\": [0-9]*'"),
        "\"priority\": 7",
    ),
    ("dns.servers", Look::Inside("grep nameserver /etc/resolv.conf"), "nameserver 192.0.2.53"),
    ("dns.searches", Look::Inside("grep search /etc/resolv.conf"), "search case.example"),
    ("dns.options", Look::Inside("grep options /etc/resolv.conf"), "options ndots:3"),
    ("sysctls", Look::Inside("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced"), "1234\n1"),
    ("containers.name", Look::Host("basename $(dirname /var/log/berth/pods/case_fields_*/*/*.log)"), "main"),
    ("containers.image", Look::Inside("busybox | head -1 | cut -d' ' -f1"), "BusyBox"),
    ("containers.command", Look::Host("tr '\\0' '\\n' < /proc/$pid/cmdline | head -2"), "sh\n-c"),
    ("containers.args", Look::Host("tr '\\0' '\\n' < /proc/$pid/cmdline | tail -2"), "first\nsecond word"),
    ("containers.env.name", Look::Host("tr '\\0' '\\n' < /proc/$pid/environ | grep -o '^CASE='"), "CASE="),
    (
        "containers.env.value",
        Look::Host("tr '\\0' '\\n' < /proc/$pid/environ | grep '^CASE='"),
        "CASE=fields",
    ),
    ("containers.working_dir", Look::Inside("readlink /proc/1/cwd"), "/var"),
    ("containers.user.id.uid", Look::Status("Uid"), "1234\t1234\t1234\t1234"),
    ("containers.user.id.gid", Look::Status("Gid"), "2345\t2345\t2345\t2345"),
    ("containers.security.groups", Look::Status("Groups"), "2345 3456 4567"),
    // CAP_NET_ADMIN is capability 12, which the runtime's set does not have; nothing else is left of that set.
    ("containers.security.add_capabilities", Look::Status("CapBnd"), "0000000000001000"),
    ("containers.security.drop_capabilities", Look::Status("CapBnd"), "0000000000001000"),
    // ENOSPC, which nothing else would answer here.
    (
        "containers.security.seccomp.localhost",
        Look::Inside("mkdir /tmp/x 2>&1 | grep -o 'No space.*'"),
        "No space left on device",
    ),
    (
        "containers.security.root",
        Look::Inside("touch /x 2>&1 | grep -o 'Read-only.*'"),
        "Read-only file system",
    ),
    (
        "containers.security.apparmor.unconfined",
        Look::Host("cat /proc/$pid/attr/apparmor/current"),
        "unconfined",
    ),
    ("containers.security.no_new_privileges", Look::Status("NoNewPrivs"), "1"),
];

/// Those whose case is a story of its own, below.
const STORIES: &[&str] = &[
    "containers.user.name",
    "containers.security.seccomp.unconfined",
    "containers.security.apparmor.localhost",
    "restart",
    "disk",
    "stop_grace_ms",
    "containers.digest",
    "containers.lifecycle.pre_stop",
    "containers.lifecycle.stop_signal",
    "containers.mounts.access",
    "containers.readiness.exec",
    "containers.readiness.period_ms",
];

/// Every leaf of a message's tree of fields, by its dotted path.
fn leaves(message: &MessageDescriptor, path: &str, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let path = [path, field.name()].join(".");
        match field.kind() {
            Kind::Message(inner) if !inner.is_map_entry() && inner.fields().len() > 0 => {
                leaves(&inner, &path, found);
            }
            _ => drop(found.insert(path.trim_start_matches('.').to_owned())),
        }
    }
}

#[test]
fn every_field_of_a_pods_spec_has_a_case() {
    let pool = DescriptorPool::decode(berth_proto::DESCRIPTORS).expect("the wire's own description");
    let spec = pool.get_message_by_name("berth.v1.PodSpec").expect("the message of a pod's spec");
    let mut fields = BTreeSet::new();
    leaves(&spec, "", &mut fields);
    assert!(fields.contains("containers.limits.memory_max_bytes"), "{fields:#?}");
    let elsewhere = [
        addresses::FIELDS,
        boot::FIELDS,
        config::FIELDS,
        controls::FIELDS,
        disks::FIELDS,
        host_network::FIELDS,
        host_paths::FIELDS,
        migration::FIELDS,
        probes::FIELDS,
        roles::FIELDS,
    ];
    let rows = ROWS.iter().map(|(field, ..)| field);
    let seen = rows.chain(STORIES).chain(elsewhere.into_iter().flatten());
    let seen: BTreeSet<String> = seen.map(|field| (*field).to_owned()).collect();
    let missing: Vec<_> = fields.difference(&seen).collect();
    assert!(missing.is_empty(), "fields without a case: {missing:#?}");
    let unknown: Vec<_> = seen.difference(&fields).collect();
    assert!(unknown.is_empty(), "cases of fields that are no more: {unknown:#?}");
}

fn look(kernel: &Kernel, process: &PodProcess, look: Look) -> String {
    let said = match look {
        Look::Status(key) => kernel.status(process.pid, key),
        Look::Host(script) => kernel.guest().run_ok(&format!("pid={}; {script}", process.pid)),
        Look::Inside(script) => kernel.exec(process, script),
        Look::Control(file) => kernel.control(process.pod_cgroup(), file),
    };
    said.unwrap_or_else(|error| panic!("{look:?}: {error:#}")).trim().to_owned()
}

#[test]
fn every_plain_field_is_seen_where_it_takes_effect() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let refused =
        fleet().try_apply(&idle_pod("fields", POD, CONTAINER), &["--wait"]).expect("submit the pod");
    assert!(!refused.success() && refused.stderr.contains("seccomp profile case.json"), "{refused:?}");
    discard("case/fields");
    guest.run_ok("mkdir -p /etc/berth/seccomp").expect("make the folder of profiles");
    guest.put_file("/etc/berth/seccomp/case.json", SECCOMP.as_bytes()).expect("put the profile there");
    fleet().apply(&idle_pod("fields", POD, CONTAINER), &["--wait"]).expect("run the pod");
    let process = kernel.process("fields").expect("find the container");
    let wrong: Vec<_> = ROWS
        .into_iter()
        .filter_map(|(field, place, expected)| {
            let said = look(&kernel, &process, place);
            (said != expected).then(|| format!("{field}: {place:?} says {said:?}, not {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    discard("case/fields");
}

#[test]
fn a_profile_of_the_hosts_own_is_loaded_before_it_confines() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let pod = |profile: &str| idle_pod("confined", "", &format!("security: {{apparmor: {profile}}}"));
    let own = pod("{localhost: case-confined}");
    let refused = fleet().try_apply(&own, &["--wait"]).expect("submit the pod");
    assert!(!refused.success() && refused.stderr.contains("AppArmor profile case-confined"), "{refused:?}");
    discard("case/confined");
    guest.put_file("/root/case-confined", APPARMOR.as_bytes()).expect("put the profile there");
    guest.run_ok("apparmor_parser --replace /root/case-confined").expect("load the profile");
    let check = |pod: &str, profile: &str, said: &str| {
        fleet().apply(pod, &["--wait"]).expect("run the pod");
        let process = kernel.process("confined").expect("find the container");
        let current = Look::Host("cat /proc/$pid/attr/apparmor/current");
        assert_eq!(look(&kernel, &process, current), profile);
        assert_eq!(
            look(&kernel, &process, Look::Inside("touch /refused 2>&1 | grep -o 'Perm.*' || :")),
            said
        );
        discard("case/confined");
    };
    check(&own, "case-confined (enforce)", "Permission denied");
    check(&pod("RuntimeDefault"), "cri-containerd.apparmor.d (enforce)", "");
}

#[test]
fn a_user_by_name_and_no_filter_of_system_calls() {
    let kernel = fleet().kernel(0);
    let container = "user: postgres\nsecurity: {seccomp: Unconfined}";
    fleet().apply(&idle_pod("named", "", container), &["--wait"]).expect("run the pod");
    let process = kernel.process("named").expect("find the container");
    // By the image's own /etc/passwd.
    assert_eq!(look(&kernel, &process, Look::Status("Uid")), "101\t101\t101\t101");
    assert_eq!(look(&kernel, &process, Look::Status("Seccomp")), "0");
    discard("case/named");
}

/// The process that runs in the place of one that was killed, if there is one within this time.
fn successor(kernel: &Kernel, name: &str, killed: &PodProcess, limit: Duration) -> Option<PodProcess> {
    let begun = Instant::now();
    let again = wait_until("another process", limit, || {
        let other = kernel.has_process(name)? && kernel.process(name)? != *killed;
        Ok(other.then_some(()))
    });
    println!("fields: {name} was looked for during {:.1} s", begun.elapsed().as_secs_f64());
    again.ok().map(|()| kernel.process(name).expect("find it"))
}

#[test]
fn what_died_is_started_again_as_its_policy_says() {
    let kernel = fleet().kernel(0);
    let pods = [
        ("always", "restart: Always", Some(true)),
        ("rebuilt", "restart: Always\ndisk: Rebuild", Some(false)),
        ("never", "restart: Never", None),
    ];
    let killed = pods.map(|(name, spec, _)| {
        fleet().apply(&idle_pod(name, spec, ""), &["--wait"]).expect("run the pod");
        let process = kernel.process(name).expect("find the container");
        kernel.inside(&process, "echo kept > /written && sync").expect("write to the system disk");
        process
    });
    let kill = killed.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" ");
    kernel.guest().run_ok(&format!("kill -KILL {kill}")).expect("kill them");
    let all_killed = Instant::now();
    for ((name, _, keeps), killed) in pods.iter().zip(&killed) {
        let limit = match keeps {
            Some(_) => RESTART_LIMIT,
            None => STAYS_DEAD.saturating_sub(all_killed.elapsed()),
        };
        let other = successor(&kernel, name, killed, limit);
        assert_eq!(other.is_some(), keeps.is_some(), "{name} is started again");
        if let Some(other) = other {
            let read = kernel.inside(&other, "cat /written").expect("look at the system disk");
            assert_eq!(Some(read.stdout.trim() == "kept"), *keeps, "{name}: {read:?}");
        }
        discard(&format!("case/{name}"));
    }
}

#[test]
fn a_container_has_its_grace_before_it_is_killed() {
    let kernel = fleet().kernel(0);
    let manifest = idle_pod("deaf", "", "")
        .replace("stopGrace: 2s", "stopGrace: 9s")
        .replace("trap 'exit 0' TERM", "trap 'echo TERM >> /heard' TERM");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let begun = Instant::now();
    fleet().berth_ok(&["stop", "case/deaf", "--wait"]).expect("stop the pod");
    // It would never have ended by itself, so whatever the time, it was killed.
    assert!(begun.elapsed() >= Duration::from_secs(9), "killed before its grace: {:?}", begun.elapsed());
    fleet().berth_ok(&["start", "case/deaf", "--wait"]).expect("start the pod");
    let process = kernel.process("deaf").expect("find the container");
    let heard = kernel.inside(&process, "cat /heard").expect("read what it heard").stdout;
    assert_eq!(heard, "TERM\n", "asked once before it was killed");
    discard("case/deaf");
}

#[test]
fn an_image_is_the_one_of_its_digest() {
    let kernel = fleet().kernel(0);
    fleet().apply(&idle_pod("digest", "", ""), &["--wait"]).expect("run the pod");
    let pod = fleet().pod("case/digest").expect("look at the pod");
    let digest = pod["status"]["containers"][0]["imageDigest"].as_str().expect("it has one").to_owned();
    let images = kernel.guest().run_ok("berthctl -o json images").expect("list the images");
    let images: Vec<Value> = serde_json::from_str(&images).expect("understand the images");
    let own =
        images.iter().find(|image| image["digests"] == json!([digest])).expect("the node has its image");
    assert_eq!(own["names"], json!([berth_e2e::image("busybox")]));
    assert!(own["sizeBytes"].as_u64().is_some_and(|size| size > 100_000), "{own}");
    let pod = json!({ "namespace": "case", "name": "digest" });
    assert!(own["usedBy"].as_array().is_some_and(|pods| pods.contains(&pod)), "{own}");
    discard("case/digest");
    let pinned = |digest: &str| idle_pod("digest", "", &format!("digest: {digest}"));
    fleet().apply(&pinned(&digest), &["--wait"]).expect("run the pod by its digest");
    assert!(kernel.has_process("digest").expect("look for it"));
    discard("case/digest");
    let other = format!("sha256:{}", "0".repeat(64));
    let refused =
        fleet().try_apply(&pinned(&other), &["--wait", "--timeout", "10m"]).expect("submit the pod");
    assert!(!refused.success() && refused.stderr.contains(&other), "{refused:?}");
    discard("case/digest");
}

#[test]
fn a_mount_that_is_for_reading_is_not_written_to() {
    let kernel = fleet().kernel(0);
    let container = "mounts: [{disk: data, path: /data, readOnly: true}]";
    fleet().apply(&idle_pod("reader", "disks: [{name: data}]", container), &["--wait"]).expect("run the pod");
    let process = kernel.process("reader").expect("find the container");
    let said = look(&kernel, &process, Look::Inside("touch /data/x 2>&1 | grep -o 'Read-only.*'"));
    assert_eq!(said, "Read-only file system");
    discard("case/reader");
}

#[test]
fn an_upgrade_waits_for_the_probe_and_asks_it_at_its_pace() {
    let kernel = fleet().kernel(0);
    // Ready when asked for the third time; each time is written down, of each version by itself.
    let probe = "readiness: {exec: [sh, -c, \"cut -d' ' -f1 /proc/uptime >> /probes.$VERSION; \
                 test $(wc -l < /probes.$VERSION) -ge 3\"], periodMs: 1500}";
    let version = |name: &str| {
        let env = format!("value: probed}}, {{name: VERSION, value: {name}}}");
        idle_pod("probed", "", probe).replace("value: probed}", &env)
    };
    fleet().apply(&version("one"), &["--wait"]).expect("run the pod");
    let new = version("two");
    let upgraded = fleet().change("upgrade", &new, &["--wait"]).expect("run berth upgrade");
    assert!(upgraded.success(), "{upgraded:?}");
    let process = kernel.process("probed").expect("find the new container");
    let said = kernel.inside(&process, "cat /probes.two").expect("read when it was asked").stdout;
    let times: Vec<f64> = said.lines().map(|line| line.parse().expect("a time")).collect();
    assert!(times.len() >= 3, "an upgrade does not wait for its probe: {times:?}");
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= 1.4), "{times:?}");
    discard("case/probed");
}

#[test]
fn a_container_is_asked_to_end_in_its_own_way() {
    let kernel = fleet().kernel(0);
    let lifecycle = "lifecycle: {preStop: [sh, -c, 'echo asked >> /said; sleep 2'], stopSignal: USR1}";
    let manifest = idle_pod("polite", "", lifecycle)
        .replace(
            "trap 'exit 0' TERM",
            "trap 'echo USR1 >> /said; exit 0' USR1; trap 'echo TERM >> /said' TERM",
        )
        .replace("stopGrace: 2s", "stopGrace: 30s");
    fleet().apply(&manifest, &["--wait"]).expect("run the pod");
    let begun = Instant::now();
    fleet().berth_ok(&["stop", "case/polite", "--wait"]).expect("stop the pod");
    assert!(begun.elapsed() < Duration::from_secs(25), "it ended before its grace: {:?}", begun.elapsed());
    fleet().berth_ok(&["start", "case/polite", "--wait"]).expect("start the pod");
    let process = kernel.process("polite").expect("find the container");
    let said = kernel.inside(&process, "cat /said").expect("read what it was told").stdout;
    assert_eq!(said, "asked\nUSR1\n", "the command, then the signal, and no other");
    discard("case/polite");
}
