//! What a node holds beyond what its pods account for.

use super::view::NodeView;
use crate::Footprint;
use std::collections::BTreeSet;

/// Everything that belongs to no pod of the node. `clean` is the node before it had any, `kept_disks` how many disks are
/// kept for pods that are not there.
pub(crate) fn leaks(held: &Footprint, clean: &Footprint, node: &NodeView, kept_disks: usize) -> Vec<String> {
    let mut found = Vec::new();
    let sandboxes: BTreeSet<&str> = node.pods.values().filter_map(|pod| pod.sandbox.as_deref()).collect();
    let containers: BTreeSet<&str> =
        node.pods.values().flat_map(|pod| pod.containers.iter().map(String::as_str)).collect();
    let known = |id: &str| sandboxes.contains(id) || containers.contains(id);
    let mut beyond = |kind: &str, owned: &dyn Fn(&str) -> bool| {
        let names = held.kind(kind).iter().filter(|name| !clean.kind(kind).contains(*name));
        found
            .extend(names.filter(|name| !owned(name)).map(|name| format!("{kind} {name} belongs to no pod")));
    };
    beyond("sandbox", &|id| sandboxes.contains(id));
    beyond("container", &|id| containers.contains(id));
    beyond("task", &known);
    // Containers share their sandbox's shim, unless that did not answer within 100 ms: then containerd starts another one
    // for the container (runc's shim manager, 1.7: `Start` and `CanConnect`), which is the pod's as long as that lives.
    let tasks = held.kind("task");
    beyond("shim", &|id| sandboxes.contains(id) || (containers.contains(id) && tasks.contains(id)));
    let slices: BTreeSet<&str> = node.pods.values().filter_map(|pod| pod.slice.as_deref()).collect();
    beyond("cgroup", &|path| {
        let mut parts = path.trim_start_matches("./").split('/');
        let in_slice = parts.next().is_some_and(|slice| slices.contains(slice));
        in_slice && parts.next().is_none_or(|scope| known(container_of(scope)))
    });
    let networks = held.kind("network namespace");
    beyond("mount", &|path| {
        let of_task = path.split('/').any(known);
        of_task || path.strip_prefix("/run/netns/").is_some_and(|name| networks.contains(name))
    });
    // Network namespaces, interfaces and disks have names of their own: they are counted.
    let live = tasks.iter().filter(|id| sandboxes.contains(id.as_str())).count();
    let mut count = |kind: &str, has: usize, most: usize| {
        if has > most {
            found.push(format!("{has} of kind {kind} for {most}: {:?}", held.kind(kind)));
        }
    };
    count("network namespace", networks.len() - clean.kind("network namespace").len(), live);
    count("interface", held.kind("interface").len() - clean.kind("interface").len(), live);
    let disks = held.kind("snapshot").iter().filter(|key| !sandboxes.contains(key.as_str())).count();
    count("snapshot", disks, node.pods.len() + kept_disks);
    found
}

/// `cri-containerd-<id>.scope`.
fn container_of(scope: &str) -> &str {
    let id = scope.strip_prefix("cri-containerd-").unwrap_or(scope);
    id.strip_suffix(".scope").unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::power::view::LocalPod;
    use std::collections::BTreeMap;

    fn node() -> NodeView {
        let pod = LocalPod {
            sandbox: Some("s1".to_owned()),
            containers: BTreeSet::from(["c1".to_owned()]),
            slice: Some("berth-a.slice".to_owned()),
            ..LocalPod::default()
        };
        NodeView { orders: Vec::new(), pods: BTreeMap::from([("d/a".to_owned(), pod)]) }
    }

    const OWNED: &str = "= sandbox\ns1\n= container\nc1\n= task\ns1\nc1\n= shim\ns1\n= network namespace\nn1\n\
        = interface\nveth1\n= snapshot\ns1\nc0\n= cgroup\n./berth-a.slice\n./berth-a.slice/cri-containerd-c1.scope\n\
        = mount\n/run/netns/n1\n/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/rootfs\n";

    fn check(more: &str, kept_disks: usize, expected: &[&str]) {
        let held = Footprint::parse(&format!("{OWNED}{more}")).unwrap();
        let found = leaks(&held, &Footprint::parse("").unwrap(), &node(), kept_disks);
        assert_eq!(found.len(), expected.len(), "{more}: {found:?}");
        assert!(found.iter().zip(expected).all(|(found, part)| found.contains(part)), "{more}: {found:?}");
    }

    #[test]
    fn what_belongs_to_no_pod_is_named() {
        check("", 0, &[]);
        check("= sandbox\ns2\n", 0, &["sandbox s2"]);
        check("= container\nc2\n", 0, &["container c2"]);
        check("= task\nc2\n", 0, &["task c2"]);
        check("= shim\ns2\nc2\n", 0, &["shim c2", "shim s2"]);
        check("= shim\nc1\n", 0, &[]);
        let ended = Footprint::parse("= shim\ns1\nc1\n= task\ns1\n").unwrap();
        let found = leaks(&ended, &Footprint::parse("").unwrap(), &node(), 0);
        assert_eq!(found, ["shim c1 belongs to no pod"], "its container has ended");
        check("= cgroup\n./berth-b.slice\n", 0, &["cgroup ./berth-b.slice"]);
        check("= cgroup\n./berth-a.slice/cri-containerd-c2.scope\n", 0, &["c2.scope"]);
        check("= network namespace\nn2\n= mount\n/run/netns/n2\n", 0, &["2 of kind network namespace for 1"]);
        check("= mount\n/run/netns/n2\n", 0, &["mount /run/netns/n2"]);
        check("= interface\nveth2\n", 0, &["2 of kind interface for 1"]);
        check("= snapshot\nc9\n", 0, &["2 of kind snapshot for 1"]);
        check("= snapshot\nc9\n", 1, &[]);
    }
}
