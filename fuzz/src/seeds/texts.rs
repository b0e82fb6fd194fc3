//! Texts: manifests, what a container runtime tells a CNI plugin, what the kernel shows.

use super::Seed;
use super::fleet::PODS;
use crate::frames::frame;

const ENVIRONMENT: &str = "CNI_CONTAINERID=3f2a\nCNI_NETNS=/run/netns/cni-1\nCNI_IFNAME=eth0\nCNI_PATH=/usr/lib/cni\nCNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=3f2a;K8S_POD_UID=0b5b6d3e-1c5a-4d1e-9a53-0c1f6d1c3b7a\n";
const CONFIG: &str = r#""name":"berth","type":"bridge","bridge":"br0","ipam":{"type":"berth-ipam","socket":"/run/berth/cni.sock"}"#;
const PREVIOUS: &str =
    r#""prevResult":{"ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}"#;

/// What is one text for one target.
pub(super) fn all() -> Vec<Seed> {
    let mut seeds = vec![
        Seed::new("manifests", "example", berth_cli::EXAMPLE),
        Seed::new("manifests", "pods", PODS),
        Seed::new(
            "manifests",
            "small",
            "kind: Pod\nmetadata: {namespace: shop, name: web}\nspec:\n  containers:\n  - {name: web, image: registry.example/web:1}\n",
        ),
        Seed::new(
            "manifests",
            "pools",
            "kind: AddressPool\nmetadata: {name: blue6}\nspec: {network: 2001:db8::/64}\n--- # next\nkind: SharedCpus\nmetadata: {name: default}\nspec: {node: node-1, cpus: 0-1}\n",
        ),
    ];
    seeds.extend(cni());
    seeds.extend(kernel());
    seeds
}

fn cni() -> Vec<Seed> {
    let seed = |command: &str, version: &str, more: &str| {
        let config = format!(r#"{{"cniVersion":"{version}",{CONFIG}{more}}}"#);
        let text = format!("CNI_COMMAND={command}\n{ENVIRONMENT}\n{config}");
        Seed::new("cni", &format!("{}-{version}", command.to_lowercase()), text)
    };
    let valid = r#","cni.dev/valid-attachments":[{"containerID":"3f2a","ifname":"eth0"}]"#;
    vec![
        seed("ADD", "0.3.1", ""),
        seed("ADD", "1.0.0", ""),
        seed("DEL", "0.4.0", ""),
        seed("CHECK", "1.1.0", &format!(",{PREVIOUS}")),
        seed("GC", "1.1.0", valid),
        seed("STATUS", "1.1.0", ""),
        seed("VERSION", "1.0.0", ""),
    ]
}

fn kernel() -> Vec<Seed> {
    let texts = [
        (
            "cpu-stat",
            0,
            "usage_usec 8412\nuser_usec 5000\nsystem_usec 3412\nnr_periods 9\nnr_throttled 2\nthrottled_usec 700\nnr_bursts 0\nburst_usec 0\n",
        ),
        (
            "memory-stat",
            0,
            "anon 1228800\nfile 5677056\nkernel 1343488\nkernel_stack 49152\nsock 4096\nshmem 0\ninactive_file 4096000\npgmajfault 17\n",
        ),
        ("memory-events", 0, "low 0\nhigh 3\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"),
        (
            "io-stat",
            0,
            "254:0 rbytes=1056768 wbytes=4096 rios=32 wios=1 dbytes=0 dios=0\n254:16 \n8:0 rbytes=0 wbytes=0 rios=0 wios=0 dbytes=0 dios=0 cost.usage=12\n",
        ),
        ("number", 0, "9871360\n"),
        (
            "pressure",
            1,
            "some avg10=1.53 avg60=0.87 avg300=100.00 total=157656722\nfull avg10=0.00 avg60=0.00 avg300=0.05 total=7\n",
        ),
        (
            "mountinfo",
            2,
            "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n40 29 254:16 / /srv/a\\040b\\134c rw shared:1 master:2 - xfs /dev/vdb rw\n41 29 0:33 / /run rw,nosuid - tmpfs tmpfs rw,size=1024k\n31 29 0:27 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/rootfs rw - overlay overlay rw,lowerdir=/a:/b\n",
        ),
        ("cpus", 3, "0-3,8,10-11\n"),
        ("mems", 4, "0-1\n"),
        ("device", 5, "259:1048575"),
        ("path", 6, "berth.slice/berth-0123456789abcdef0123.slice/cri-containerd-abc.scope"),
        ("io-max", 7, "254:0 rbps=max wbps=4096 riops=max wiops=max\n254:16 rbps=1 wbps=max\n"),
        ("memory-max", 7, "4096\n"),
    ];
    texts.map(|(name, kind, text)| Seed::new("kernel_texts", name, frame(kind, text.as_bytes()))).into()
}
