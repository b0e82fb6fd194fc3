//! All that pods leave on a node: what containerd, the kernel's mount table, its cgroups and its network hold.

use anyhow::{Context, Result};
use berth_lab::Guest;
use std::collections::{BTreeMap, BTreeSet};

/// What is looked for, and the script that lists it, one a line.
const LOOKS: [(&str, &str); 9] = [
    ("container", r#"ctr -n k8s.io containers ls -q 'labels."io.cri-containerd.kind"==container'"#),
    ("sandbox", r#"ctr -n k8s.io containers ls -q 'labels."io.cri-containerd.kind"==sandbox'"#),
    ("task", "ctr -n k8s.io tasks ls -q"),
    // Layers of images are committed; what containers write to is not.
    ("snapshot", "ctr -n k8s.io snapshots ls | awk 'NR > 1 && $NF != \"Committed\" {print $1}'"),
    ("network namespace", "ls /run/netns"),
    ("interface", "ls /sys/class/net | grep ^veth"),
    (
        "mount",
        "awk '{print $5}' /proc/self/mountinfo | grep -E '^/(run/(containerd|netns|berth)|var/lib/(containerd|berth))/'",
    ),
    ("cgroup", "cd /sys/fs/cgroup/berth.slice && find . -mindepth 1 -type d"),
    (
        "shim",
        "for p in $(pgrep containerd-shim); do tr '\\0' ' ' < /proc/$p/cmdline | sed 's/.*-id \\([^ ]*\\).*/\\1\\n/'; done",
    ),
];

/// What a node has of its pods, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Footprint {
    /// Looks at a node.
    ///
    /// # Errors
    /// When it cannot be asked, or containerd there does not answer.
    pub fn of(guest: &Guest) -> Result<Self> {
        let mut script = "ctr -n k8s.io version >/dev/null || exit 1\n".to_owned();
        for (kind, look) in LOOKS {
            script.push_str(&format!("echo '= {kind}'; ({look}) 2>/dev/null\n"));
        }
        script.push_str("exit 0");
        Self::parse(&guest.run_ok(&script)?)
    }

    /// Understands lines below headings of the form `= kind`.
    pub(crate) fn parse(said: &str) -> Result<Self> {
        let mut kinds: BTreeMap<_, BTreeSet<String>> =
            LOOKS.iter().map(|(kind, _)| (*kind, BTreeSet::new())).collect();
        let mut current = None;
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            match line.strip_prefix("= ") {
                Some(kind) => current = LOOKS.iter().map(|(known, _)| *known).find(|known| *known == kind),
                None => {
                    let kind = current.with_context(|| format!("{line:?} is of no kind"))?;
                    kinds.entry(kind).or_default().insert(line.trim().to_owned());
                }
            }
        }
        Ok(Self { kinds })
    }

    /// Those of a kind, such as `shim`.
    ///
    /// # Panics
    /// When there is no such kind.
    pub fn kind(&self, kind: &str) -> &BTreeSet<String> {
        assert!(self.kinds.contains_key(kind), "nobody looks for a {kind}");
        &self.kinds[kind]
    }

    /// How many of each kind are here and were not in `earlier`; kinds of which there are none are left out.
    pub fn counts_beyond(&self, earlier: &Self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (kind, names) in &self.kinds {
            let had = earlier.kinds.get(*kind);
            let new = names.iter().filter(|name| !had.is_some_and(|had| had.contains(*name))).count();
            if new > 0 {
                counts.insert(*kind, new);
            }
        }
        counts
    }

    /// What is here and was not in `earlier`, each as `kind name`.
    pub fn beyond(&self, earlier: &Self) -> Vec<String> {
        let new = |(kind, names): (&&'static str, &BTreeSet<String>)| {
            let had = earlier.kinds.get(*kind).cloned().unwrap_or_default();
            names.difference(&had).map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_is_named() {
        let before = Footprint::parse("= container\na\n= shim\n= mount\n/run/netns/x\n").unwrap();
        let after = Footprint::parse("= container\na\nb\n= shim\ns\n= mount\n").unwrap();
        assert_eq!(after.beyond(&before), ["container b", "shim s"]);
        assert_eq!(after.counts_beyond(&before), BTreeMap::from([("container", 1), ("shim", 1)]));
        assert_eq!(before.beyond(&after), ["mount /run/netns/x"]);
        assert_eq!(before.kind("container").len(), 1);
        assert!(Footprint::parse("stray\n").is_err());
    }
}
