//! The one pod, host and image of these lives.

use berth_model::{
    AddressGrant, AppClass, ContainerSpec, CpuBinding, Digest, DiskPolicy, DnsConfig, Limits, PodId, PodSpec,
    RecoveryPolicy, RestartPolicy,
};
use berth_plan::HostView;
use std::collections::BTreeSet;

pub(crate) fn pod() -> PodId {
    "shop/web".parse().unwrap()
}

pub(crate) fn digest() -> Digest {
    format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
}

pub(crate) fn host() -> HostView {
    HostView {
        online_cpus: "0-3".parse().unwrap(),
        mems: "0".parse().unwrap(),
        mount_points: BTreeSet::new(),
        page_sizes: BTreeSet::new(),
        io_weight: true,
        swap: true,
    }
}

pub(crate) fn spec(disk: DiskPolicy) -> PodSpec {
    let container = |name: &str| ContainerSpec {
        name: name.parse().unwrap(),
        image: "registry.example/web:1".parse().unwrap(),
        digest: None,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        limits: Limits::default(),
        cpus: None,
        mems: None,
        ulimits: Vec::new(),
    };
    PodSpec {
        hostname: "web".to_owned(),
        class: AppClass::Standard,
        priority: 0,
        containers: vec![container("web"), container("side")],
        cpu: CpuBinding::Exclusive { cpus: "0".parse().unwrap(), mems: "0".parse().unwrap() },
        limits: Limits::default(),
        address: Some(AddressGrant {
            pool: "blue".parse().unwrap(),
            address: "10.0.0.7/24".parse().unwrap(),
            gateway: None,
        }),
        dns: DnsConfig::default(),
        restart: RestartPolicy::Always,
        disk,
        recovery: RecoveryPolicy::Offline,
        stop_grace_ms: 10,
    }
}
