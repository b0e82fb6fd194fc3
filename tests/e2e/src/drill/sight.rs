//! What is seen of a pod that must come back the same: by the runtime, by the kernel, and from inside the container.

use crate::raw_cri::Cri;
use anyhow::{Context, Result, ensure};
use berth_lab::Guest;
use std::collections::BTreeMap;

/// A file on every pod's system disk.
const MARK: &str = "/drill-mark";

/// What is seen from inside a container, and how; one line each.
const INSIDE: [(&str, &str); 5] = [
    ("hostname", "hostname"),
    ("addresses", "ip -o addr show dev eth0 scope global | tr -s ' ' | cut -d' ' -f4 | tr '\\n' ' '"),
    ("file", "cat /drill-mark"),
    ("CPUs inside", "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/1/status"),
    ("memory nodes inside", "sed -n 's/^Mems_allowed_list:\\t//p' /proc/1/status"),
];

/// What is seen of one pod; ids and pids, which may change, are no part of it.
pub(crate) type Sight = BTreeMap<&'static str, String>;

/// Writes a file that says the pod's own name to every system disk.
pub(crate) fn mark(guest: &Guest, cri: &mut Cri) -> Result<()> {
    let mut script = "set -e\n".to_owned();
    for container in cri.running()? {
        let (pid, pod) = (container.pid, &container.pod);
        script.push_str(&inside(pid, &format!("echo {pod} of {pid} > {MARK}; sync {MARK}")));
    }
    guest.run_ok(&script).map(drop)
}

/// Looks at all pods that run.
pub(crate) fn look(guest: &Guest, cri: &mut Cri) -> Result<BTreeMap<String, Sight>> {
    let containers = cri.running()?;
    let mut script = "set -e\n".to_owned();
    for container in &containers {
        let pid = container.pid;
        script.push_str(&format!("echo '= {}'\n", container.pod));
        for (_, command) in INSIDE {
            script.push_str(&inside(pid, &format!("echo $({command})")));
        }
        script.push_str(&format!("sed -n 's/^Cpus_allowed_list:\\t//p' /proc/{pid}/status\n"));
    }
    let mut seen = parse(&guest.run_ok(&script)?)?;
    for container in containers {
        let sight =
            seen.get_mut(&container.pod).with_context(|| format!("{} was not looked at", container.pod))?;
        sight.insert("image", container.image);
    }
    Ok(seen)
}

fn inside(pid: u32, script: &str) -> String {
    format!("nsenter -t {pid} -m -u -n -p -r -w /bin/sh -c '{}'\n", script.replace('\'', r"'\''"))
}

fn parse(said: &str) -> Result<BTreeMap<String, Sight>> {
    let mut seen = BTreeMap::new();
    for part in said.split("= ").filter(|part| !part.trim().is_empty()) {
        let mut lines = part.lines();
        let pod = lines.next().context("a pod's name")?;
        let keys = INSIDE.iter().map(|(key, _)| *key).chain(["CPUs"]);
        let sight: Sight = keys.zip(&mut lines).map(|(key, line)| (key, line.trim().to_owned())).collect();
        ensure!(sight.len() == INSIDE.len() + 1 && lines.next().is_none(), "{pod} was seen as {part:?}");
        ensure!(seen.insert(pod.to_owned(), sight).is_none(), "{pod} runs twice");
    }
    Ok(seen)
}

/// How the pods differ from what they were.
pub(crate) fn differences(before: &BTreeMap<String, Sight>, after: &BTreeMap<String, Sight>) -> Vec<String> {
    let mut found = Vec::new();
    for (pod, was) in before {
        let Some(is) = after.get(pod) else {
            found.push(format!("{pod} is not back"));
            continue;
        };
        for (key, value) in was {
            let now = is.get(key).map_or("", String::as_str);
            if now != value {
                found.push(format!("{pod}: {key} was {value:?}, is {now:?}"));
            }
        }
    }
    found.extend(
        after.keys().filter(|pod| !before.contains_key(*pod)).map(|pod| format!("{pod} was not there")),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "= drill/a\na\n10.0.0.1/16\ndrill/a of 7\n0-1\n0\n0-1\n= drill/b\nb\n10.0.0.2/16\nx\n2\n1\n2\n";

    #[test]
    fn what_changed_is_named() {
        let before = parse(SAID).unwrap();
        assert_eq!(differences(&before, &before), Vec::<String>::new());
        let after =
            parse(&SAID.replace("10.0.0.1/", "10.0.0.9/").replace("= drill/b\nb", "= drill/c\nb")).unwrap();
        let expected = [
            "drill/a: addresses was \"10.0.0.1/16\", is \"10.0.0.9/16\"",
            "drill/b is not back",
            "drill/c was not there",
        ];
        assert_eq!(differences(&before, &after), expected);
    }

    #[test]
    fn half_a_sight_is_none() {
        assert!(parse("= drill/a\na\n").is_err());
        assert!(parse(&format!("{SAID}{SAID}")).is_err());
    }
}
