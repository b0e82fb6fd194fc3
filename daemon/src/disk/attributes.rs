//! Extended attributes of open files and folders (xattr(7)).

use super::error::{DiskError, Tried};
use super::piece::Attribute;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Largest list of names, and largest value, that the kernel gives (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const MAX_BYTES: usize = 64 << 10;
/// Set by each host's own policy.
const OF_THE_HOST: &str = "security.selinux";

/// All of them, by name.
pub(super) fn read(fd: impl AsFd, path: &Path) -> Result<Vec<Attribute>, DiskError> {
    let mut buffer = vec![0; MAX_BYTES];
    let length = match flistxattr(fd.as_fd(), &mut buffer[..]) {
        Ok(length) => length,
        // The file system has none.
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error).tried("list the attributes of", path),
    };
    let mut names: Vec<&[u8]> =
        buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let mut attributes = Vec::new();
    for name in names.into_iter().filter(|name| *name != OF_THE_HOST.as_bytes()) {
        let mut value = vec![0; MAX_BYTES];
        let name = OsStr::from_bytes(name);
        let length = fgetxattr(fd.as_fd(), name, &mut value[..]).tried("read an attribute of", path)?;
        value.truncate(length);
        attributes.push(Attribute { name: name.to_owned(), value });
    }
    Ok(attributes)
}

/// Sets these.
pub(super) fn write(fd: impl AsFd, attributes: &[Attribute], path: &Path) -> Result<(), DiskError> {
    attributes.iter().try_for_each(|attribute| {
        fsetxattr(fd.as_fd(), &attribute.name, &attribute.value, XattrFlags::empty())
            .tried("set an attribute of", path)
    })
}
