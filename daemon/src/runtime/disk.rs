//! Handing a container's system disk on, taking it off the dead, and giving it up.
//!
//! Removing a container removes whatever snapshot its record names at that moment. So the old holder is detached
//! before the heir is attached: at no instant do two records name the disk. Every half is idempotent and read back;
//! after a crash between any two, doing all of it again finishes it.

use super::client::Client;
use super::containerd::Record;
use super::error::{permanent, transient};
use super::identity::{DISK_POD, GC_ROOT, Tag, pod_filter};
use super::kernel::{KernelRoots, mounted_rootfs};
use super::{DeathProof, RuntimeError};
use crate::crash_point::Deed;
use berth_model::PodId;
use std::collections::HashMap;

/// Who hands what to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handover<'a> {
    /// The dead holder, if a container still names the disk.
    pub(super) from: Option<(&'a str, &'a DeathProof)>,
    /// The heir: created, not started.
    pub(super) to_id: &'a str,
    pub(super) key: &'a str,
}

/// Makes the heir name the disk.
pub(super) async fn adopt(
    client: &Client,
    roots: &KernelRoots,
    handover: Handover<'_>,
) -> Result<(), RuntimeError> {
    let Handover { from, to_id, key } = handover;
    let heir = find(client, to_id).await?;
    let pod = expect_adoptable(client, handover, &heir).await?;
    pin(client, &pod, &heir, key).await?;
    if heir.disk_key() == Some(key) && from.is_none() {
        return Ok(());
    }
    let fresh = fresh_key(&heir, key);
    if let Some((from_id, proof)) = from {
        detach_from(client, roots, Detachment { proof, from_id, key, instead: &fresh }).await?;
    }
    if heir.disk_key() != Some(key) {
        client.set_disk_key(Deed::AttachDisk, to_id, key).await?;
    }
    expect_key(client, to_id, key).await?;
    if from.is_none() {
        // Nobody names the heir's own empty snapshot any more.
        client.remove_snapshot(heir.snapshotter(), &fresh).await?;
    }
    Ok(())
}

/// The heir has not been started, and nobody but it and the dead holder names the disk. Answers whose it is.
async fn expect_adoptable(
    client: &Client,
    handover: Handover<'_>,
    heir: &Record,
) -> Result<PodId, RuntimeError> {
    let Handover { from, to_id, key } = handover;
    let what = || format!("hand disk {key} to container {to_id}");
    let tag = Tag::from_labels(heir.labels());
    let pod = tag.ok_or_else(|| permanent(what(), "the container is not Berth's"))?.pod;
    if client.find_task(to_id).await?.is_some() {
        return Err(permanent(what(), "the container has been started already"));
    }
    let from_id = from.map(|(id, _)| id);
    let records = client.list_records(pod_filter(&pod)).await?;
    let third = records
        .iter()
        .find(|other| other.disk_key() == Some(key) && other.id() != to_id && Some(other.id()) != from_id);
    match third {
        Some(third) => Err(permanent(what(), format!("container {} names it", third.id()))),
        None => Ok(pod),
    }
}

/// Takes the disk off its dead holder, and pins it.
pub(super) async fn detach(
    client: &Client,
    roots: &KernelRoots,
    proof: &DeathProof,
    from_id: &str,
    key: &str,
) -> Result<(), RuntimeError> {
    let Some(holder) = client.find_record(from_id).await? else {
        return Ok(());
    };
    pin(client, proof.pod(), &holder, key).await?;
    detach_from(client, roots, Detachment { proof, from_id, key, instead: "" }).await
}

/// Removes kept disks. What a container still names is not loose, and stays.
pub(super) async fn release(
    client: &Client,
    snapshotter: &str,
    records: &[Record],
    keys: &[String],
) -> Result<(), RuntimeError> {
    for key in keys {
        if let Some(holder) = records.iter().find(|record| record.disk_key() == Some(key)) {
            let why = format!("container {} still names it", holder.id());
            return Err(transient(format!("remove disk {key}"), why));
        }
        client.remove_snapshot(snapshotter, key).await?;
    }
    Ok(())
}

struct Detachment<'a> {
    proof: &'a DeathProof,
    from_id: &'a str,
    key: &'a str,
    /// What the holder names afterwards; nothing if empty.
    instead: &'a str,
}

async fn detach_from(
    client: &Client,
    roots: &KernelRoots,
    detachment: Detachment<'_>,
) -> Result<(), RuntimeError> {
    let Detachment { proof, from_id, key, instead } = detachment;
    let what = || format!("take disk {key} off container {from_id}");
    if !proof.covers(from_id) {
        return Err(permanent(what(), "the container is not proven dead"));
    }
    if let Some(mount_point) = mounted_rootfs(roots, from_id)? {
        return Err(transient(what(), format!("it is still mounted at {mount_point}")));
    }
    let Some(holder) = client.find_record(from_id).await? else {
        return Ok(());
    };
    if holder.disk_key() != Some(key) {
        return Ok(());
    }
    client.set_disk_key(Deed::DetachDisk, from_id, instead).await?;
    let holder = find(client, from_id).await?;
    match holder.disk_key() {
        Some(named) if named == key => Err(transient(what(), "the record still names it")),
        Some(_) | None => Ok(()),
    }
}

/// The heir's own empty snapshot; CRI names it like the container.
fn fresh_key(heir: &Record, key: &str) -> String {
    heir.disk_key().filter(|named| *named != key).unwrap_or(heir.id()).to_owned()
}

/// Keeps the collector away, and says whose it is.
async fn pin(client: &Client, pod: &PodId, holder: &Record, key: &str) -> Result<(), RuntimeError> {
    let snapshotter = holder.snapshotter();
    let what = || format!("keep disk {key}");
    let Some(snapshot) = client.find_snapshot(snapshotter, key).await? else {
        return Err(permanent(what(), format!("snapshotter {snapshotter} has no such snapshot")));
    };
    let wanted = disk_labels(pod);
    if wanted.iter().all(|(label, value)| snapshot.labels.get(label) == Some(value)) {
        return Ok(());
    }
    client.label_snapshot(snapshotter, key, wanted).await
}

fn disk_labels(pod: &PodId) -> HashMap<String, String> {
    HashMap::from([(GC_ROOT.to_owned(), "berth".to_owned()), (DISK_POD.to_owned(), pod.to_string())])
}

async fn find(client: &Client, id: &str) -> Result<Record, RuntimeError> {
    let found = client.find_record(id).await?;
    found.ok_or_else(|| transient(format!("look for container {id}"), "containerd has no such container"))
}

async fn expect_key(client: &Client, id: &str, key: &str) -> Result<(), RuntimeError> {
    let record = find(client, id).await?;
    if record.disk_key() == Some(key) {
        return Ok(());
    }
    let why = format!("containerd accepted the change, and says {:?}", record.disk_key());
    Err(transient(format!("make container {id} name disk {key}"), why))
}
