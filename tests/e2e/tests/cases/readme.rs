//! The README's own steps, line by line, on two hosts that have nothing of Berth yet.

use crate::fleet;
use berth_e2e::{package, redact};
use berth_lab::{Guest, REGISTRY};

/// Where the README's control plane and its node are: guests on which no other case leaves anything of Berth.
const HOSTS: [u8; 2] = [1, 2];

/// The `sh` blocks below a heading, in order.
fn blocks(heading: &str) -> Vec<String> {
    let readme = include_str!("../../../../README.md");
    let (_, section) = readme.split_once(heading).expect("the README has the heading");
    let section = section.split("\n## ").next().unwrap_or(section);
    section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest).to_owned()).collect()
}

/// The README's placeholders, as they are here.
fn fill_in(text: &str, control: &Guest, token: &str) -> String {
    text.replace("control.example", &control.address())
        .replace("berth1.…", token)
        .replace("registry.example:5000/library/redis:7", &format!("{REGISTRY}/library/redis:1"))
        .replace("10.89.1.1, last: 10.89.1.250", "10.89.2.1, last: 10.89.2.250")
        .replace("node-1", "node-3")
        .replace("apt install", "apt-get install -y")
}

fn run(guest: &Guest, script: &str) -> String {
    println!("{}: {}", guest.name(), redact(script.lines().next().unwrap_or_default()));
    let done = guest.run_ok(&format!("cd /root; {script}"));
    done.unwrap_or_else(|error| {
        panic!("a step of the README does not work: {}", redact(&format!("{error:#}")))
    })
}

#[test]
fn a_person_with_the_readme_gets_a_pod_running() {
    let [control, node] = HOSTS.map(|index| fleet().lab().guest(index));
    for (guest, name) in [(&control, "berth-control"), (&node, "berth-node")] {
        let content = std::fs::read(package(name).expect("the package is built")).expect("read the package");
        guest.put_file(&format!("/root/{name}.deb"), &content).expect("copy the package");
    }
    node.run_ok("cp /etc/containerd/config.toml /root/config-before.toml").expect("keep the configuration");
    let blocks = blocks("## Install it");
    let [control_plane, each_node, pod] = blocks.as_slice() else {
        panic!("the README has three blocks of steps")
    };
    run(&control, &format!("set -e\n{}", fill_in(control_plane, &control, "")));
    let mut token = String::new();
    for line in each_node.lines() {
        let line = fill_in(line, &control, &token);
        match line.split_whitespace().next() {
            Some("berth-control") => token = run(&control, &line).trim().to_owned(),
            // The guest's own network has been made by the same commands.
            Some("ip") => {}
            Some(_) => drop(run(&node, &line)),
            None => {}
        }
    }
    let (before_evict, after) = pod.split_once("berth evict").expect("the README evicts its pod");
    run(&control, &format!("set -e\n{}", fill_in(before_evict, &control, "")));
    let cpus = node
        .run_ok("grep Cpus_allowed_list /proc/$(pgrep -o redis-server)/status")
        .expect("redis runs on the node");
    let cpus = cpus.split_whitespace().nth(1).unwrap_or_default();
    assert!(["0-1", "2-3"].contains(&cpus), "redis has the two CPUs of one memory node, not {cpus}");
    run(&control, &format!("set -e\nberth evict{}", fill_in(after, &control, "")));
    assert!(!node.run("pgrep redis-server").expect("look for redis").success(), "redis is gone");
    run(&node, "apt-get purge -y berth-node");
    run(&node, "cmp /etc/containerd/config.toml /root/config-before.toml");
    run(&node, "systemctl is-active containerd");
}
