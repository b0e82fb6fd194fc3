//! What of a pod's data a migration takes along, and what it cannot.

use super::migrate::LeftBehind;
use berth_model::{DataDisk, DiskLife, DiskName, DiskPolicy, DiskSource, PodRequest};
use std::collections::BTreeSet;

/// What becomes of a pod's data when it moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Data disks that are copied to the target.
    pub copied: BTreeSet<DiskName>,
    /// What becomes of the rest.
    pub left_behind: LeftBehind,
}

/// Sorts a pod's data; `wanted` is what may become of what cannot be taken along.
///
/// # Errors
/// With what cannot be taken along, for people, when nothing was said of it.
pub(crate) fn pack(request: &PodRequest, wanted: Option<LeftBehind>) -> Result<Packed, String> {
    let kept = request.disks.iter().filter(|disk| disk.life != DiskLife::Scratch);
    let (copied, left): (Vec<_>, Vec<_>) = kept.partition(|disk| why_fixed(disk).is_none());
    let disk = |disk: &&DataDisk| Some(format!("data disk {} {}", disk.name, why_fixed(disk)?));
    let system = match request.disk {
        DiskPolicy::Reuse => Some("its containers reuse their system disks (disk: Reuse)".to_owned()),
        DiskPolicy::Rebuild => None,
    };
    let left: Vec<String> = left.iter().filter_map(disk).chain(system).collect();
    let left_behind = match (left.is_empty(), wanted) {
        (true, _) => LeftBehind::Nothing,
        (false, Some(wanted)) => wanted,
        (false, None) => return Err(left.join(", ")),
    };
    Ok(Packed { copied: copied.into_iter().map(|disk| disk.name.clone()).collect(), left_behind })
}

/// Why a disk stays where it is; none if it can be copied.
fn why_fixed(disk: &DataDisk) -> Option<&'static str> {
    match (&disk.source, disk.life) {
        (DiskSource::Device { .. }, _) => Some("is a device of its node"),
        (DiskSource::Directory { .. } | DiskSource::Memory { .. }, DiskLife::Kept | DiskLife::Scratch) => {
            Some("is not movable")
        }
        (DiskSource::Directory { .. } | DiskSource::Memory { .. }, DiskLife::Movable) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1;

    fn request(disks: Vec<v1::DataDisk>, disk: v1::DiskPolicy) -> PodRequest {
        let container = v1::ContainerRequest {
            name: "web".to_owned(),
            image: "registry.example/web:1".to_owned(),
            ..v1::ContainerRequest::default()
        };
        let wire = v1::PodRequest {
            pod: Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() }),
            containers: vec![container],
            disks,
            disk: disk.into(),
            node: Some("n1".to_owned()),
            ..v1::PodRequest::default()
        };
        wire.try_into().unwrap()
    }

    fn directory(name: &str, movable: bool) -> v1::DataDisk {
        let source = v1::data_disk::Source::Directory(v1::DirectoryDisk { size_bytes: None });
        v1::DataDisk { name: name.to_owned(), source: Some(source), movable, scratch: false }
    }

    fn device(name: &str) -> v1::DataDisk {
        let source = v1::DeviceDisk { id: "/dev/disk/by-id/virtio-1".to_owned(), filesystem: 0 };
        let source = Some(v1::data_disk::Source::Device(source));
        v1::DataDisk { source, ..directory(name, true) }
    }

    fn check(
        request: &PodRequest,
        wanted: Option<LeftBehind>,
        expected: Result<(&[&str], LeftBehind), &str>,
    ) {
        let packed = pack(request, wanted);
        let packed = packed.as_ref().map_err(String::as_str).map(|packed| {
            let copied: Vec<&str> = packed.copied.iter().map(DiskName::as_str).collect();
            (copied, packed.left_behind)
        });
        assert_eq!(packed, expected.map(|(copied, left)| (copied.to_vec(), left)), "{request:?}");
    }

    #[test]
    fn what_can_be_copied_goes_along() {
        use v1::DiskPolicy::{Rebuild, Reuse};
        let (kept, discarded) = (Some(LeftBehind::Kept), Some(LeftBehind::Discarded));
        let none = request(Vec::new(), Rebuild);
        check(&none, None, Ok((&[], LeftBehind::Nothing)));
        check(&none, kept, Ok((&[], LeftBehind::Nothing)));
        let movable = request(vec![directory("a", true), directory("b", true)], Rebuild);
        check(&movable, None, Ok((&["a", "b"], LeftBehind::Nothing)));
        check(&movable, discarded, Ok((&["a", "b"], LeftBehind::Nothing)));
        let reused = request(vec![directory("a", true)], Reuse);
        check(&reused, None, Err("its containers reuse their system disks (disk: Reuse)"));
        check(&reused, kept, Ok((&["a"], LeftBehind::Kept)));
        let fixed = request(vec![directory("a", true), directory("b", false)], Rebuild);
        check(&fixed, None, Err("data disk b is not movable"));
        check(&fixed, discarded, Ok((&["a"], LeftBehind::Discarded)));
        let scratch = v1::DataDisk { scratch: true, ..directory("b", false) };
        let scratch = request(vec![directory("a", true), scratch], Rebuild);
        check(&scratch, None, Ok((&["a"], LeftBehind::Nothing)));
        let device = request(vec![directory("a", true), directory("b", false), device("c")], Rebuild);
        check(&device, None, Err("data disk b is not movable, data disk c is a device of its node"));
    }
}
