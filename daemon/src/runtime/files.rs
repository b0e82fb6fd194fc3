//! The folder of a pod, and the file that the agent itself makes for it, if its network is its own: `/etc/hosts`.
//! Names and resolver files are containerd's.

use super::RuntimeError;
use super::error::{permanent, transient};
use super::identity::pod_hash;
use crate::crash_point::Deed;
use berth_model::{PodId, PodSpec};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A pod's folder.
#[derive(Debug, Clone)]
pub(super) struct PodFiles {
    folder: PathBuf,
}

impl PodFiles {
    pub(super) fn new(state: &Path, pod: &PodId) -> Self {
        Self { folder: state.join("pods").join(pod_hash(pod)) }
    }

    /// Where the pod's `/etc/hosts` is on the host.
    pub(super) fn hosts(&self) -> PathBuf {
        self.folder.join("etc-hosts")
    }

    /// Writes it anew: for a new sandbox, when no container has it mounted.
    pub(super) async fn write_hosts(&self, spec: &PodSpec) -> Result<(), RuntimeError> {
        let (path, text) = (self.hosts(), hosts_text(spec));
        let what = format!("write {}", path.display());
        let written =
            Deed::WriteHosts.between(tokio::task::spawn_blocking(move || replace(&path, &text))).await;
        written.map_err(|error| transient(&what, error))?.map_err(|error| transient(&what, error))
    }

    /// Writes it if it is missing. What containers wrote into it stays.
    pub(super) async fn ensure_hosts(&self, spec: &PodSpec) -> Result<(), RuntimeError> {
        match tokio::fs::try_exists(self.hosts()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => self.write_hosts(spec).await,
        }
    }

    /// Removes the pod's folder, if it is there.
    pub(super) async fn remove(&self) -> Result<(), RuntimeError> {
        match Deed::RemoveFiles.between(tokio::fs::remove_dir_all(&self.folder)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(permanent(format!("remove {}", self.folder.display()), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Removes the folders of pods that are gone: the only one who knows is asked by a folder's name, the pod's hash.
pub(super) fn forget(state: &Path, is_gone: impl Fn(&str) -> bool) {
    let folder = state.join("pods");
    let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| name.to_str().is_some_and(&is_gone)) {
        if let Err(error) = Deed::RemoveFiles.between_now(|| std::fs::remove_dir_all(folder.join(&name))) {
            let folder = folder.join(&name);
            tracing::warn!("files of a pod that is gone are not removed: {}: {error}", folder.display());
        }
    }
}

/// Whole or not at all, also over a power cut.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(folder)?.sync_all()
}

fn hosts_text(spec: &PodSpec) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    for grant in &spec.addresses {
        text.push_str(&format!("{}\t{}\n", grant.address.address(), spec.hostname));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_written_replaced_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let pod = PodId::new("shop", "web").unwrap();
        let files = PodFiles::new(state.path(), &pod);
        let spec = crate::runtime::fake::spec("web");
        files.ensure_hosts(&spec).await.unwrap();
        let text = std::fs::read_to_string(files.hosts()).unwrap();
        assert!(text.ends_with("10.0.0.7\tweb\n"), "{text}");
        std::fs::write(files.hosts(), "changed inside").unwrap();
        files.ensure_hosts(&spec).await.unwrap();
        assert_eq!(std::fs::read_to_string(files.hosts()).unwrap(), "changed inside");
        files.write_hosts(&spec).await.unwrap();
        assert_eq!(std::fs::read_to_string(files.hosts()).unwrap(), text);
        let other = PodFiles::new(state.path(), &PodId::new("shop", "other").unwrap());
        other.ensure_hosts(&spec).await.unwrap();
        forget(state.path(), |name| name != pod_hash(&pod));
        assert!(files.hosts().exists() && !other.hosts().exists());
        files.remove().await.unwrap();
        files.remove().await.unwrap();
        assert!(!files.hosts().exists());
        forget(&state.path().join("none"), |_| true);
    }
}
