//! What libcni keeps of an attachment, so that DEL can be told what ADD said:
//! `/var/lib/cni/results/<network>-<sandbox>-<interface>`.
//!
//! It writes that file without flushing it. After a power cut it may be empty or cut short, and then every DEL fails
//! before any plugin is asked ("decoding version from network config: unexpected end of JSON input"): the sandbox can
//! never be stopped or removed. With no such file DEL is told nothing of the past, which CNI plugins can do without.

use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::Path;
use tracing::warn;

/// libcni's own default, which containerd leaves as it is.
pub(super) const FOLDER: &str = "/var/lib/cni/results";
/// A result is some kilobytes. What is larger is not read, and not ours to judge.
const MAX_BYTES: u64 = 1 << 20;

/// Forgets what was kept of a sandbox's attachments and cannot be read any more. Whatever can be read stays.
///
/// # Errors
/// When the folder cannot be read, or a broken file cannot be removed.
pub(super) fn forget_broken(folder: &Path, sandbox_id: &str) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let of_sandbox = format!("-{sandbox_id}-");
    for entry in entries {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().contains(&of_sandbox);
        if ours && is_broken(&entry)? {
            warn!("forgetting {}, which a power cut has left unreadable", entry.path().display());
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_broken(entry: &fs::DirEntry) -> io::Result<bool> {
    let metadata = entry.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Ok(false);
    }
    Ok(serde_json::from_slice::<Map<String, Value>>(&fs::read(entry.path())?).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &[u8], stays: bool) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        forget_broken(folder.path(), "s1").unwrap();
        assert_eq!(file.exists(), stays, "{name}: {:?}", String::from_utf8_lossy(content));
    }

    #[test]
    fn only_what_cannot_be_read_is_forgotten() {
        let whole = br#"{"kind": "cniCacheV1", "containerId": "s1", "result": {"cniVersion": "1.0.0"}}"#;
        check("berth-s1-eth0", whole, true);
        check("berth-s1-eth0", b"", false);
        check("berth-s1-eth0", &[0; 4096], false);
        check("berth-s1-eth0", &whole[..40], false);
        check("berth-s1-eth0", b"null", false);
        check("berth-s12-eth0", b"", true);
        check("berth-s2-eth0", b"", true);
    }

    #[test]
    fn without_a_folder_nothing_is_to_be_done() {
        let folder = tempfile::tempdir().unwrap();
        forget_broken(&folder.path().join("none"), "s1").unwrap();
    }
}
