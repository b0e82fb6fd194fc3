//! The host that this process runs on as ground of the cases: containerd, systemd and the kernel.

use super::{Clerk, Ground, ULIMIT};
use crate::api::{Who, listen};
use crate::ledger::Ledger;
use crate::network::{Ipam, Probing};
use crate::runtime::client::in_namespace;
use crate::runtime::identity::slice_name;
use crate::runtime::{ContainerdRuntime, RuntimePaths};
use crate::testing::pod;
use containerd_client::services::v1::{Container, UpdateContainerRequest};
use k8s_cri::v1::{ListPodSandboxRequest, PodSandboxState, PodSandboxStatusRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost_types::{Any, FieldMask};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Where CRI keeps what it knows of a container (containerd, internal/cri/labels).
const CRI_EXTENSION: &str = "io.cri-containerd.container.metadata";
/// The pod's address, as its spec has it.
const ADDRESS: &str = "10.0.0.7";
/// How long containerd may take to come back, in an emulated host.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// How long what has happened may take to be seen there.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);

/// Ends all that runs, as the end of the host would, and takes away all that only memory held: `/run` and mounts.
const POWER_CUT: &str = "set -e; systemctl stop containerd; echo 1 > /sys/fs/cgroup/berth.slice/cgroup.kill
for p in /proc/[0-9]*; do if grep -qs '^containerd-shim' $p/comm; then kill -9 ${p#/proc/}; fi; done
until ! grep -qs . /sys/fs/cgroup/berth.slice/*/*/cgroup.procs; do :; done
systemctl stop \"$1\"
awk '{print $5}' /proc/self/mountinfo | grep -E '^/run/(containerd|netns)/' | sort -r | while read m; do umount -l \"$m\"; done
rm -rf /run/containerd/* /run/netns/cni-*; systemctl start containerd";

/// This host.
#[derive(Debug)]
pub struct Host {
    runtime: ContainerdRuntime,
    ledger: Ledger,
}

impl Host {
    /// Takes the host over: answers CNI's questions from the clerk's ledger, in the agent's stead, and prepares the
    /// runtime. `state` is an empty folder.
    ///
    /// # Panics
    /// When that cannot be done: then nothing can be tried here.
    pub async fn take_over(state: &Path, pause_image: &Path, clerk: &Clerk) -> Self {
        let paths =
            RuntimePaths { state: state.to_owned(), logs: state.join("logs"), ..RuntimePaths::default() };
        let runtime = ContainerdRuntime::new(paths);
        let ledger = clerk.ledger().clone();
        let socket = listen(Path::new("/run/berth/cni.sock"), Who::Root).expect("open CNI's socket");
        tokio::spawn(Ipam::new(ledger.clone(), Probing::of_config(None)).serve(socket));
        runtime.prepare(pause_image).await.expect("prepare the host");
        Self { runtime, ledger }
    }

    /// The runtime's name and version.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn version(&self) -> String {
        self.runtime.version().await.expect("containerd answers")
    }

    async fn await_runtime(&self) {
        let until = Instant::now() + RESTART_LIMIT;
        while let Err(error) = self.runtime.has_image("none").await {
            assert!(Instant::now() < until, "containerd does not come back: {error}");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Every sandbox of the pod that CRI has; with its address while it is ready.
    async fn addresses(&self) -> BTreeMap<String, Option<String>> {
        let mut runtime = self.runtime.client().runtime();
        let listed = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
        let mut addresses = BTreeMap::new();
        for sandbox in listed.expect("CRI lists its sandboxes").into_inner().items {
            let ready = sandbox.state == i32::from(PodSandboxState::SandboxReady);
            let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: false };
            let status = runtime.pod_sandbox_status(request).await.expect("CRI knows what it has listed");
            let network = status.into_inner().status.and_then(|status| status.network);
            addresses.insert(sandbox.id, ready.then(|| network.unwrap_or_default().ip));
        }
        addresses
    }

    /// The program of a container that runs.
    async fn pid(&self, id: &str) -> u32 {
        let task = self.runtime.client().find_task(id).await.expect("containerd answers");
        task.expect("the container runs").pid
    }

    /// Where a writable snapshot of overlayfs, or of a snapshotter that binds one folder, keeps what is written.
    async fn folder(&self, key: &str) -> Option<PathBuf> {
        let client = self.runtime.client();
        let snapshotter = self.runtime.snapshotter().await.expect("CRI names its snapshotter");
        client.find_snapshot(snapshotter, key).await.expect("containerd answers")?;
        let mounts = client.snapshot_mounts(snapshotter, key).await.expect("containerd answers");
        let [mount] = mounts.as_slice() else { panic!("snapshot {key} has mounts {mounts:?}") };
        let upper = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        Some(PathBuf::from(upper.unwrap_or(&mount.source)))
    }
}

impl Ground for Host {
    type Runtime = ContainerdRuntime;

    fn runtime(&self) -> &ContainerdRuntime {
        &self.runtime
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn starts(&self, key: &str) -> Option<usize> {
        let file = self.folder(key).await?.join("starts");
        Some(std::fs::read_to_string(file).map_or(0, |text| text.lines().count()))
    }

    /// What is ready has the pod's address, and what has it is there.
    async fn faults(&self) -> Vec<String> {
        let attached: BTreeSet<_> =
            self.ledger.read(|book| book.attachments.keys().map(|key| key.sandbox_id.clone()).collect());
        let addresses = self.addresses().await;
        let wrong = addresses.iter().filter_map(|(id, address)| match address {
            Some(address) if address != ADDRESS => Some(format!("sandbox {id} has address {address:?}")),
            Some(_) if !attached.contains(id) => Some(format!("sandbox {id} has an address unnoted")),
            Some(_) | None => None,
        });
        let gone = attached.iter().filter(|id| !addresses.contains_key(*id));
        wrong.chain(gone.map(|id| format!("an address is noted for sandbox {id}, which is gone"))).collect()
    }

    async fn has_ulimits(&self, id: &str) -> bool {
        let limits = format!("/proc/{}/limits", self.pid(id).await);
        let limits = std::fs::read_to_string(limits).expect("read the program's limits");
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let found: Vec<_> = files.unwrap_or_default().split_whitespace().take(2).collect();
        found == [ULIMIT.soft.to_string(), ULIMIT.hard.to_string()]
    }

    async fn exit(&self, id: &str) {
        let pid = i32::try_from(self.pid(id).await).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("tell the program to end");
    }

    async fn lose_record(&self, id: &str) {
        // What CRI knows a container by is an extension of its record; of a type that it does not know, it is no use.
        let unknown = Any { type_url: "berth.test/unknown".to_owned(), value: Vec::new() };
        let extensions = HashMap::from([(CRI_EXTENSION.to_owned(), unknown)]);
        let container = Container { id: id.to_owned(), extensions, ..Container::default() };
        let request = in_namespace(UpdateContainerRequest {
            container: Some(container),
            update_mask: Some(FieldMask { paths: vec!["extensions".to_owned()] }),
        });
        self.runtime.client().containers().update(request).await.expect("take the extension away");
        self.restart_runtime().await;
        let known = self.runtime.client().cri_status(id).await.expect("CRI answers");
        assert!(known.is_none(), "CRI still has container {id}");
    }

    async fn restart_runtime(&self) {
        shell("systemctl restart containerd", "").await;
        self.await_runtime().await;
    }

    async fn power_cut(&self) {
        shell(POWER_CUT, &slice_name(&pod())).await;
        self.await_runtime().await;
    }
}

async fn shell(script: &str, argument: &str) {
    let output = Command::new("sh").args(["-c", script, "sh", argument]).output().await.expect("run a shell");
    assert!(output.status.success(), "{script}: {output:?}");
}
