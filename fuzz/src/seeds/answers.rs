//! What containerd and CRI answer of a container that runs, of one that has ended, and of a sandbox.

use super::Seed;
use crate::frames::frame;
use containerd_client::services::v1::Container;
use containerd_client::types::v1::{Process, Status};
use k8s_cri::v1::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};
use prost::Message;
use prost_types::{Any, Timestamp};

const SPEC: &str = r#"{"ociVersion":"1.1.0","process":{"args":["/bin/web"],"rlimits":[{"type":"RLIMIT_NOFILE","soft":1024,"hard":1024}]},"linux":{"cgroupsPath":"berth-0123456789abcdef0123.slice:cri-containerd:abc"},"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"s1"}}"#;
const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax stack size            8388608              unlimited            bytes     \nMax open files            1024                 524288               files     \nMax locked memory         8388608              8388608              bytes     \nMax nice priority         0                    0                    \n";

/// All of them. A record that is written has one label, since several come in any order.
pub(super) fn all() -> Vec<Seed> {
    let running = status(ContainerState::ContainerRunning, 0, "");
    let exited = status(ContainerState::ContainerExited, 137, "OOMKilled");
    let unseen = status(ContainerState::ContainerExited, 255, "Unknown");
    let container = |status: &[u8], rest: &[u8]| [record(true), frame(1, status), rest.to_vec()].concat();
    let seed = |name: &str, data: Vec<u8>| Seed::new("runtime_answers", name, data);
    vec![
        seed("running", container(&running, &[task(Status::Running), frame(4, &[2])].concat())),
        seed("exited", container(&exited, &frame(4, &[1]))),
        seed("unseen", container(&unseen, &frame(4, &[0]))),
        seed("stopped", container(&exited, &[task(Status::Stopped), frame(4, &[0])].concat())),
        seed(
            "sandbox",
            [record(false), frame(2, &sandbox()), task(Status::Running), frame(4, &[2])].concat(),
        ),
        seed("limits", frame(5, LIMITS.as_bytes())),
    ]
}

fn record(is_container: bool) -> Vec<u8> {
    let label = |key: &str, value: &str| (format!("io.berth.{key}"), value.to_owned());
    let mut labels = vec![label("pod", "shop/web"), label("incarnation", "1"), label("attempt", "2")];
    if is_container {
        let digest = format!("sha256:{}", "0a".repeat(32));
        labels.extend([label("container", "web"), label("generation", "3"), label("image-digest", &digest)]);
    }
    let whole = Container {
        id: "abc".to_owned(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "abc".to_owned(),
        created_at: Some(Timestamp { seconds: 1_600_000_000, nanos: 5 }),
        spec: Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
            value: SPEC.into(),
        }),
        ..Container::default()
    };
    // Labels are a map, which is written in any order: each is a message of its own here, and the parts are one message.
    let labels = labels
        .into_iter()
        .flat_map(|label| Container { labels: [label].into(), ..Container::default() }.encode_to_vec());
    frame(0, &[whole.encode_to_vec(), labels.collect()].concat())
}

fn status(state: ContainerState, exit_code: i32, reason: &str) -> Vec<u8> {
    ContainerStatus {
        id: "abc".to_owned(),
        state: state.into(),
        created_at: 1_600_000_000_000_000_000,
        started_at: 1_600_000_001_000_000_000,
        finished_at: if exit_code == 0 { 0 } else { 1_600_000_002_000_000_000 },
        exit_code,
        reason: reason.to_owned(),
        ..ContainerStatus::default()
    }
    .encode_to_vec()
}

fn sandbox() -> Vec<u8> {
    PodSandboxStatus {
        id: "abc".to_owned(),
        state: PodSandboxState::SandboxReady.into(),
        ..PodSandboxStatus::default()
    }
    .encode_to_vec()
}

fn task(status: Status) -> Vec<u8> {
    let process = Process { id: "abc".to_owned(), pid: 77, status: status.into(), ..Process::default() };
    frame(3, &process.encode_to_vec())
}
