//! How a pod's identity is written into containerd, systemd and the file system, and read back. Pure.
//!
//! Everything that Berth makes carries labels `io.berth.*`; a record without them is somebody else's.

use berth_model::{Attempt, ContainerName, Digest, Generation, Incarnation, PodId};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The slice that holds every pod's; the package installs it.
pub const ROOT_SLICE: &str = "berth.slice";

const POD: &str = "io.berth.pod";
const INCARNATION: &str = "io.berth.incarnation";
const ATTEMPT: &str = "io.berth.attempt";
const CONTAINER: &str = "io.berth.container";
const GENERATION: &str = "io.berth.generation";
const IMAGE_DIGEST: &str = "io.berth.image-digest";

/// Set on every snapshot that is kept, beside containerd's own `containerd.io/gc.root`.
pub(super) const DISK_POD: &str = POD;
/// Keeps containerd's collector away from a snapshot.
pub(super) const GC_ROOT: &str = "containerd.io/gc.root";

/// The `uid` that CRI and CNI know a placement of a pod by: written like a UUID, derived from identity and
/// incarnation, so that the CNI plugin's question names the incarnation it is asked for.
pub fn pod_uid(pod: &PodId, incarnation: Incarnation) -> String {
    let hex = hash(&format!("{pod}/{incarnation}"), 16);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The pod's short name in paths and units: no dash, which would nest slices.
pub fn pod_hash(pod: &PodId) -> String {
    hash(&pod.to_string(), 10)
}

/// The pod's slice, `berth-<hash>.slice`.
pub fn slice_name(pod: &PodId) -> String {
    slice_name_of(&pod_hash(pod))
}

fn slice_name_of(hash: &str) -> String {
    format!("berth-{hash}.slice")
}

/// The slice of a pod whose hash is known, below the cgroup mount.
pub(super) fn slice_path_of(hash: &str) -> PathBuf {
    Path::new(ROOT_SLICE).join(slice_name_of(hash))
}

/// The pod's slice, below the cgroup mount.
pub fn slice_path(pod: &PodId) -> PathBuf {
    Path::new(ROOT_SLICE).join(slice_name(pod))
}

/// The systemd scope in which containerd's CRI puts a container, sandboxes' own included.
pub(super) fn scope_name(id: &str) -> String {
    format!("cri-containerd-{id}.scope")
}

/// A container's cgroup, below the cgroup mount.
pub(super) fn scope_path(pod: &PodId, id: &str) -> PathBuf {
    slice_path(pod).join(scope_name(id))
}

/// The folder of a placement's container logs, below the log root. Labels hold no `_`, so the name reads back.
pub(super) fn log_folder(pod: &PodId, incarnation: Incarnation) -> String {
    format!("{}_{}_{}", pod.namespace(), pod.name(), pod_uid(pod, incarnation))
}

/// Whether a folder's name is one that [`log_folder`] gives.
pub(super) fn is_log_folder(name: &str) -> bool {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next(), parts.next(), parts.next());
    let is_uid =
        |uid: &str| !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_pod = |namespace, pod| PodId::new(namespace, pod).is_ok();
    parts.next().is_none()
        && uid.is_some_and(is_uid)
        && namespace.zip(pod).is_some_and(|(namespace, pod)| is_pod(namespace, pod))
}

/// A container's log, below the folder of its pod.
pub(super) fn log_file(container: &ContainerName, attempt: Attempt) -> String {
    format!("{container}/{attempt}.log")
}

fn hash(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..bytes].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a record of containerd says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) pod: PodId,
    pub(super) incarnation: Incarnation,
    pub(super) attempt: Attempt,
    pub(super) role: Role,
}

/// Which part of a pod a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Sandbox,
    Container { name: ContainerName, generation: Generation, digest: Digest },
}

impl Tag {
    /// As labels.
    pub(super) fn to_labels(&self) -> HashMap<String, String> {
        let mut labels = HashMap::from([
            (POD.to_owned(), self.pod.to_string()),
            (INCARNATION.to_owned(), self.incarnation.to_string()),
            (ATTEMPT.to_owned(), self.attempt.to_string()),
        ]);
        match &self.role {
            Role::Sandbox => {}
            Role::Container { name, generation, digest } => {
                labels.insert(CONTAINER.to_owned(), name.to_string());
                labels.insert(GENERATION.to_owned(), generation.to_string());
                labels.insert(IMAGE_DIGEST.to_owned(), digest.to_string());
            }
        }
        labels
    }

    /// From labels; none when they are not ours or not whole.
    pub(super) fn from_labels(labels: &HashMap<String, String>) -> Option<Self> {
        let role = match labels.get(CONTAINER) {
            None => Role::Sandbox,
            Some(name) => {
                // Before there were upgrades, no container said which generation it is of.
                let generation = labels.get(GENERATION).map_or(Some(0), |text| text.parse().ok())?;
                let digest = labels.get(IMAGE_DIGEST)?.parse().ok()?;
                Role::Container { name: name.parse().ok()?, generation: Generation(generation), digest }
            }
        };
        Some(Self {
            pod: labels.get(POD)?.parse().ok()?,
            incarnation: Incarnation(labels.get(INCARNATION)?.parse().ok()?),
            attempt: Attempt(labels.get(ATTEMPT)?.parse().ok()?),
            role,
        })
    }
}

/// containerd's filter for the records of one pod.
pub(super) fn pod_filter(pod: &PodId) -> String {
    format!("labels.\"{POD}\"==\"{pod}\"")
}

/// containerd's filter for the records of every pod.
pub(super) fn any_pod_filter() -> String {
    format!("labels.\"{POD}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodId {
        PodId::new("shop", "web-1").unwrap()
    }

    #[test]
    fn a_uid_names_one_placement_and_looks_like_a_uuid() {
        let uid = pod_uid(&pod(), Incarnation(1));
        assert_eq!(uid, pod_uid(&pod(), Incarnation(1)));
        assert_ne!(uid, pod_uid(&pod(), Incarnation(2)));
        let lengths: Vec<_> = uid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn a_slice_nests_in_the_root_slice_only() {
        let name = slice_name(&pod());
        assert_eq!(name.matches('-').count(), 1, "{name}");
        assert_eq!(slice_path(&pod()), Path::new("berth.slice").join(name));
    }

    #[test]
    fn a_tag_survives_labels() {
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let container =
            Role::Container { name: ContainerName::new("app").unwrap(), generation: Generation(4), digest };
        for role in [Role::Sandbox, container] {
            let tag = Tag { pod: pod(), incarnation: Incarnation(7), attempt: Attempt(3), role };
            assert_eq!(Tag::from_labels(&tag.to_labels()), Some(tag));
        }
    }

    #[test]
    fn labels_that_are_not_ours_are_no_tag() {
        let foreign = HashMap::from([("io.kubernetes.pod.name".to_owned(), "web".to_owned())]);
        assert_eq!(Tag::from_labels(&foreign), None);
        let broken = HashMap::from([(POD.to_owned(), "no identity".to_owned())]);
        assert_eq!(Tag::from_labels(&broken), None);
    }
}
