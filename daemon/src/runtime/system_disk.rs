//! Between a container's snapshot and [`crate::disk`]: holding its system disk to a size.

use super::RuntimeError;
use super::client::Client;
use super::containerd::{Record, SnapshotMount};
use super::data_disk::told;
use super::error::{permanent, transient};
use crate::crash_point::Deed;
use crate::disk::{Disks, SystemDisk};
use berth_model::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// Whether a created container's system disk is held to the size that is ordered.
pub(super) async fn is_held(
    client: &Client,
    disks: &Arc<Disks>,
    container: &Record,
    size: Option<Bytes>,
) -> Result<bool, RuntimeError> {
    let Some(disk) = find(client, container, size).await? else {
        return Ok(true);
    };
    work(disks, container, move |disks| Ok(disks.system_disk_fault(&disk, size)?.is_none())).await
}

/// Holds a created container's system disk to a size, or to none.
pub(super) async fn hold(
    client: &Client,
    disks: &Arc<Disks>,
    container: &Record,
    size: Option<Bytes>,
) -> Result<(), RuntimeError> {
    let Some(disk) = find(client, container, size).await? else {
        return Ok(());
    };
    let hold = move |disks: &Disks| disks.limit_system_disk(&disk, size);
    Deed::HoldSystemDisk.between(work(disks, container, hold)).await
}

async fn work<T: Send + 'static>(
    disks: &Arc<Disks>,
    container: &Record,
    work: impl FnOnce(&Disks) -> Result<T, crate::disk::DiskError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let what = format!("hold the system disk of container {} to its size", container.id());
    let disks = disks.clone();
    let done = tokio::task::spawn_blocking(move || work(&disks)).await;
    done.map_err(|error| transient(&what, error))?.map_err(|error| told(what, &error))
}

/// The disk's folders; none where there is none, or its snapshotter has no folders and no size is ordered.
async fn find(
    client: &Client,
    container: &Record,
    size: Option<Bytes>,
) -> Result<Option<SystemDisk>, RuntimeError> {
    let Some(key) = container.disk_key() else { return Ok(None) };
    let mounts = client.snapshot_mounts(container.snapshotter(), key).await?;
    match (folders(&mounts), size) {
        (Some(folders), _) => Ok(Some(SystemDisk { key: key.to_owned(), folders })),
        (None, None) => Ok(None),
        (None, Some(size)) => Err(permanent(
            format!("hold disk {key} to {size}"),
            format!("snapshotter {} keeps no folders that a quota could be put on", container.snapshotter()),
        )),
    }
}

/// What is written goes into an overlay's upper folder by way of its work folder, or into the one folder that is bound.
fn folders(mounts: &[SnapshotMount]) -> Option<Vec<PathBuf>> {
    let [mount] = mounts else { return None };
    let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
    match mount.kind.as_str() {
        "overlay" => Some(vec![option("upperdir=")?.into(), option("workdir=")?.into()]),
        "bind" | "rbind" if mount.options.iter().any(|option| option == "rw") => {
            Some(vec![PathBuf::from(&mount.source)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, source: &str, options: &[&str], expected: Option<&[&str]>) {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mount = SnapshotMount { kind: kind.to_owned(), source: source.to_owned(), options };
        let expected = expected.map(|paths| paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(folders(&[mount]), expected);
    }

    #[test]
    fn where_a_snapshot_is_written() {
        let options = ["index=off", "workdir=/s/7/work", "upperdir=/s/7/fs", "lowerdir=/s/1/fs:/s/2/fs"];
        check("overlay", "overlay", &options, Some(&["/s/7/fs", "/s/7/work"]));
        check("bind", "/s/7", &["rbind", "rw"], Some(&["/s/7"]));
        check("bind", "/s/7", &["rbind", "ro"], None);
        check("overlay", "overlay", &["lowerdir=/s/1/fs:/s/2/fs"], None);
        check("zfs", "pool/7", &["rw"], None);
        assert_eq!(folders(&[]), None);
    }
}
