//! Devices that a pod may want to be near to, or to have: GPUs and other accelerators, NVMe disks, network adapters. By
//! their PCI classes, as sysfs shows them (`Documentation/ABI/testing/sysfs-bus-pci`).

use berth_proto::v1;
use std::fs;
use std::path::{Path, PathBuf};
use v1::device::Class;

/// The folders below a device's own in which the kernel lists what programs call it, and what comes before the name.
const NAMES: [(&str, &str); 3] = [("net", ""), ("nvme", "/dev/"), ("drm", "/dev/dri/")];

/// Most devices that are told: the lowest addresses. The largest hosts have a tenth of that.
const MOST: usize = 256;

/// All of them, by address. A host without PCI has none. What cannot be read is left out: a device that is just being taken
/// away is no reason to tell nothing of the host.
pub(super) fn devices(sys: &Path) -> Vec<v1::Device> {
    let all = folders(&sys.join("bus/pci/devices"), |_| true);
    let mut found: Vec<_> = all.filter_map(|folder| device(&folder)).collect();
    found.sort_by(|one: &v1::Device, other| one.address.cmp(&other.address));
    found.truncate(MOST);
    found
}

/// None for what is of no class that anybody places pods by, and for virtual functions, which are parts of a device.
fn device(folder: &Path) -> Option<v1::Device> {
    if folder.join("physfn").exists() {
        return None;
    }
    let class = class(number(folder, "class")?)?;
    let driver = fs::read_link(folder.join("driver")).ok();
    let driver = driver.and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
    Some(v1::Device {
        address: folder.file_name()?.to_string_lossy().into_owned(),
        class: class.into(),
        vendor: number(folder, "vendor")?,
        device: number(folder, "device")?,
        // The kernel says -1 where the firmware does not say.
        memory_node: text(folder, "numa_node").and_then(|node| node.parse().ok()),
        driver: driver.unwrap_or_default(),
        names: names(folder),
    })
}

/// By the base class, the subclass and the programming interface (PCI Code and ID Assignment Specification).
fn class(code: u32) -> Option<Class> {
    match (code >> 16, (code >> 8) & 0xff, code & 0xff) {
        // Display controllers, and processing accelerators.
        (0x03 | 0x12, _, _) => Some(Class::Gpu),
        (0x01, 0x08, 0x02) => Some(Class::Nvme),
        (0x02, _, _) => Some(Class::Nic),
        _ => None,
    }
}

fn text(folder: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

fn number(folder: &Path, file: &str) -> Option<u32> {
    u32::from_str_radix(text(folder, file)?.strip_prefix("0x")?, 16).ok()
}

/// What programs call it: interfaces, and files below `/dev`. A device of virtio has a folder of its own below that of its
/// adapter; an NVMe controller's disks are below its own.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for below in std::iter::once(folder.to_owned()).chain(folders(folder, |name| name.starts_with("virtio")))
    {
        for (kind, before) in NAMES {
            for named in folders(&below.join(kind), |_| true) {
                let disks = folders(&named, |name| kind == "nvme" && name.starts_with("nvme"));
                let all = disks.chain([named.clone()]).filter_map(|path| disk(path.file_name()?.to_str()?));
                names.extend(all.map(|name| format!("{before}{name}")));
            }
        }
    }
    names.sort();
    names
}

/// The disk of an NVMe controller by its own name: where several controllers share it, its folder is named after one path to
/// it (`nvme0c1n2` for `nvme0n2`).
fn disk(name: &str) -> Option<String> {
    let Some((subsystem, path)) = name.strip_prefix("nvme").and_then(|rest| rest.split_once('c')) else {
        return Some(name.to_owned());
    };
    let (_, number) = path.split_once('n')?;
    Some(format!("nvme{subsystem}n{number}"))
}

fn folders(folder: &Path, wanted: impl Fn(&str) -> bool) -> std::vec::IntoIter<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found: Vec<_> = entries
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Makes a device; answers its folder.
    fn make(sys: &Path, address: &str, class: &str, numa_node: &str) -> PathBuf {
        let folder = sys.join("bus/pci/devices").join(address);
        fs::create_dir_all(&folder).unwrap();
        let files = [("class", class), ("vendor", "0x10de"), ("device", "0x20b5"), ("numa_node", numa_node)];
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), format!("{text}\n")).unwrap());
        folder
    }

    #[test]
    fn devices_are_known_by_their_classes() {
        let sys = tempfile::tempdir().unwrap();
        let gpu = make(sys.path(), "0000:3b:00.0", "0x030200", "1");
        fs::create_dir_all(gpu.join("drm/renderD128")).unwrap();
        symlink("/sys/bus/pci/drivers/nvidia", gpu.join("driver")).unwrap();
        let disk = make(sys.path(), "0000:01:00.0", "0x010802", "-1");
        fs::create_dir_all(disk.join("nvme/nvme0/nvme0n1")).unwrap();
        fs::create_dir_all(disk.join("nvme/nvme0/power")).unwrap();
        let adapter = make(sys.path(), "0000:00:03.0", "0x020000", "0");
        fs::create_dir_all(adapter.join("virtio0/net/eth0")).unwrap();
        make(sys.path(), "0000:00:1f.3", "0x0c0500", "0");
        let shared = make(sys.path(), "0000:02:00.0", "0x010802", "0");
        fs::create_dir_all(shared.join("nvme/nvme1/nvme1c1n1")).unwrap();
        let function = make(sys.path(), "0000:3c:00.1", "0x020000", "0");
        symlink("../0000:3c:00.0", function.join("physfn")).unwrap();
        fs::create_dir_all(sys.path().join("bus/pci/devices/0000:3c:00.0")).unwrap();
        let broken = make(sys.path(), "0000:00:04.0", "0x020000", "0");
        fs::remove_file(broken.join("vendor")).unwrap();

        let found = devices(sys.path());
        let told = |device: &v1::Device| {
            let node = device.memory_node.map_or("-".to_owned(), |node| node.to_string());
            format!(
                "{} {:?} {node} {:?} {}",
                device.address,
                device.class(),
                device.driver,
                device.names.join(" ")
            )
        };
        assert_eq!(
            found.iter().map(told).collect::<Vec<_>>(),
            [
                "0000:00:03.0 Nic 0 \"\" eth0",
                "0000:01:00.0 Nvme - \"\" /dev/nvme0 /dev/nvme0n1",
                "0000:02:00.0 Nvme 0 \"\" /dev/nvme1 /dev/nvme1n1",
                "0000:3b:00.0 Gpu 1 \"nvidia\" /dev/dri/renderD128",
            ]
        );
        assert_eq!((found[3].vendor, found[3].device), (0x10de, 0x20b5));
    }

    #[test]
    fn a_host_without_pci_has_none() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(devices(sys.path()), []);
    }
}
