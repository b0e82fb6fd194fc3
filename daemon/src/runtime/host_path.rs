//! What containers have of their host, as CRI says it.

use super::RuntimeError;
use super::error::{permanent, transient};
use berth_model::{Access, HostPath};
use k8s_cri::v1::{Device, Mount, MountPropagation};
use std::fs;
use std::os::unix::fs::FileTypeExt;

/// What of the host goes into one container.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Shared {
    /// Folders, files and sockets.
    pub(super) mounts: Vec<Mount>,
    /// Devices, which a mount alone would not let it open.
    pub(super) devices: Vec<Device>,
}

/// Looks at what there is at each path. That the host shares them was found out before: here one that is gone meanwhile is
/// not made anew, as containerd would.
pub(super) fn shared(paths: &[HostPath]) -> Result<Shared, RuntimeError> {
    let mut found = Shared::default();
    for path in paths {
        let at = fs::metadata(&path.source)
            .map_err(|error| transient(format!("look at {} of the host", path.source), error))?;
        let kind = at.file_type();
        match (kind.is_char_device() || kind.is_block_device(), path.path.starts_with("/dev/")) {
            (true, true) => found.devices.push(device(path)),
            // The runtime would make its node on whatever is mounted there, the host's own folders included.
            (true, false) => {
                let what = format!("let device {} through to {}", path.source, path.path);
                return Err(permanent(what, "a device can only be in /dev"));
            }
            (false, _) => found.mounts.push(mount(path)),
        }
    }
    Ok(found)
}

fn mount(path: &HostPath) -> Mount {
    Mount {
        container_path: path.path.clone(),
        host_path: path.source.clone(),
        readonly: path.access == Access::ReadOnly,
        propagation: MountPropagation::PropagationPrivate.into(),
        ..Mount::default()
    }
}

fn device(path: &HostPath) -> Device {
    let permissions = match path.access {
        Access::ReadOnly => "r",
        Access::ReadWrite => "rw",
    };
    Device {
        container_path: path.path.clone(),
        host_path: path.source.clone(),
        permissions: permissions.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(source: &str, access: Access) -> HostPath {
        HostPath { source: source.to_owned(), path: "/dev/x".to_owned(), access }
    }

    #[test]
    fn a_device_is_let_through_and_the_rest_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let paths = [path("/dev/null", Access::ReadOnly), path("/dev/zero", Access::ReadWrite)];
        let found = shared(&[&paths[..], &[path(folder, Access::ReadOnly)]].concat()).unwrap();
        let devices: Vec<_> = found
            .devices
            .iter()
            .map(|device| (device.host_path.as_str(), device.permissions.as_str()))
            .collect();
        assert_eq!(devices, [("/dev/null", "r"), ("/dev/zero", "rw")]);
        let [mount] = &found.mounts[..] else { panic!("{found:?}") };
        assert_eq!((mount.host_path.as_str(), mount.container_path.as_str()), (folder, "/dev/x"));
        assert!(mount.readonly && mount.propagation == i32::from(MountPropagation::PropagationPrivate));
    }

    #[test]
    fn a_device_is_in_dev() {
        let elsewhere = HostPath { path: "/data/x".to_owned(), ..path("/dev/null", Access::ReadOnly) };
        let error = shared(&[elsewhere]).unwrap_err();
        assert!(error.to_string().contains("can only be in /dev"), "{error}");
    }

    #[test]
    fn what_is_gone_is_not_made() {
        let error = shared(&[path("/nonexistent/models", Access::ReadOnly)]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/models"), "{error}");
    }
}
