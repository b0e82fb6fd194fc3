//! The disks of this node, for `berthctl disks`: those of pods that are here, and those that are kept.

use crate::disk::MadeOf;
use crate::host::SeenDisks;
use crate::ledger::Book;
use berth_plan::PodRecord;
use berth_proto::v1;
use v1::local_disk::Kind;

/// The keys of all system disks that the ledger knows.
pub(super) fn system_keys(book: &Book) -> Vec<String> {
    book.pods.values().flat_map(system_disks).map(|(_, key, _)| key.to_owned()).collect()
}

/// Every disk, pod by pod.
pub(super) fn list(book: &Book, seen: &SeenDisks) -> Vec<v1::LocalDisk> {
    let data = seen.data.iter().map(|disk| {
        let charter = book.pods.get(&disk.pod).and_then(|record| record.charter.as_ref());
        let ordered =
            charter.is_some_and(|charter| charter.spec.disks.iter().any(|known| known.name == disk.name));
        let path = || disk.path.display().to_string();
        let (kind, source) = match &disk.made_of {
            MadeOf::Directory(_) => (Kind::Directory, path()),
            MadeOf::Device(device) => (Kind::Device, device.to_string()),
            MadeOf::Memory => (Kind::Memory, path()),
        };
        v1::LocalDisk {
            pod: Some((&disk.pod).into()),
            name: disk.name.to_string(),
            kind: kind.into(),
            source,
            kept: !ordered,
            used_bytes: disk.usage.used.map(|bytes| bytes.0),
            limit_bytes: disk.usage.limit.map(|bytes| bytes.0),
        }
    });
    let system = book.pods.values().flat_map(|record| {
        system_disks(record).map(|(container, key, kept)| {
            let usage = seen.system.get(key);
            v1::LocalDisk {
                pod: Some((&record.pod).into()),
                name: container,
                kind: Kind::System.into(),
                source: key.to_owned(),
                kept,
                used_bytes: usage.and_then(|usage| usage.used).map(|bytes| bytes.0),
                limit_bytes: usage.and_then(|usage| usage.limit).map(|bytes| bytes.0),
            }
        })
    });
    let mut disks: Vec<_> = data.chain(system).collect();
    let key = |disk: &v1::LocalDisk| {
        let pod = disk.pod.clone().unwrap_or_default();
        (pod.namespace, pod.name, disk.kind, disk.name.clone(), disk.source.clone())
    };
    disks.sort_by_key(key);
    disks
}

/// Container, key, and whether it is kept of an incarnation that has left.
fn system_disks(record: &PodRecord) -> impl Iterator<Item = (String, &str, bool)> {
    let here = record.containers.iter().filter_map(|(name, known)| Some((name, known.disk.as_deref()?)));
    let own = here.map(|(name, key)| (name.to_string(), key, false));
    let held = move |key: &str| record.owns_disk(key);
    let kept = record.kept.iter().filter(move |kept| !held(&kept.key));
    own.chain(kept.map(|kept| (kept.container.to_string(), kept.key.as_str(), true)))
}
