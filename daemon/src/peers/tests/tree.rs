//! Odd files, and what can be seen of them.

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, setxattr};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Whether this process may make devices and give files away.
pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A disk on which nothing is as usual. `outside` is what nobody may reach by it.
pub(super) fn make_odd(root: &Path, outside: &Path) {
    std::fs::write(root.join("plain"), "content").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("large"), vec![7; 700_000]).unwrap();
    std::fs::create_dir_all(root.join("a/b/c")).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("a/b/c/again")).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("third")).unwrap();
    symlink(outside.join("secret"), root.join("to-a-file")).unwrap();
    symlink(outside, root.join("to-a-folder")).unwrap();
    symlink("../../nowhere", root.join("a/dangling")).unwrap();
    std::fs::hard_link(root.join("a/dangling"), root.join("a/dangling-too")).unwrap();
    let odd = [b"new\nline".as_slice(), b"\xff\xfe not utf-8", b"-rf *", b" "];
    for name in odd {
        std::fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::write(root.join("x".repeat(255)), "long").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"middle", 4 << 20).unwrap();
    std::fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    mknod(&root.join("fifo"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0).unwrap();
    mknod(&root.join("socket"), SFlag::S_IFSOCK, Mode::from_bits_truncate(0o640), 0).unwrap();
    setxattr(root.join("plain"), "user.comment", b"one\0two", XattrFlags::empty()).unwrap();
    setxattr(root.join("a"), "user.folder", b"", XattrFlags::empty()).unwrap();
    if is_root() {
        let null = makedev(1, 3);
        mknod(&root.join("device"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), null).unwrap();
        std::os::unix::fs::chown(root.join("a/b"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::lchown(root.join("to-a-file"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::chown(root.join("large"), Some(1234), Some(5678)).unwrap();
        // Nobody but root reads these.
        set_mode(&root.join("empty"), 0);
        set_mode(&root.join("a/b"), 0);
    }
    set_mode(&root.join("large"), 0o6755);
    set_mode(&root.join("a"), 0o1777);
    set_mode(root, 0o3770);
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["plain", "a", "."] {
        std::fs::File::open(root.join(name)).unwrap().set_modified(then).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything that can be seen of a tree, a line a file.
pub(super) fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe_one(root, Path::new(""), &mut lines);
    lines.sort();
    lines
}

fn describe_one(root: &Path, path: &Path, lines: &mut Vec<String>) {
    let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
    let found = std::fs::symlink_metadata(&full).unwrap();
    let kind = found.file_type();
    let content = match (kind.is_file(), kind.is_symlink()) {
        (true, _) => {
            let bytes = std::fs::read(&full).unwrap();
            format!(
                "{} bytes, {:x?}, sparse {}",
                bytes.len(),
                sum(&bytes),
                found.blocks() * 512 < found.len()
            )
        }
        (_, true) => format!("-> {:?}", std::fs::read_link(&full).unwrap()),
        (false, false) => format!("device {}", found.rdev()),
    };
    let names = if kind.is_dir() { 0 } else { found.nlink() };
    lines.push(format!(
        "{path:?} {:o} {}:{} {}.{} names {names} {content} {:?}",
        found.mode(),
        found.uid(),
        found.gid(),
        found.mtime(),
        found.mtime_nsec(),
        attributes(&full),
    ));
    if kind.is_dir() {
        for entry in std::fs::read_dir(&full).unwrap() {
            describe_one(root, &path.join(entry.unwrap().file_name()), lines);
        }
    }
}

fn sum(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut buffer = vec![0; 4096];
    let length = llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 4096];
            let name = String::from_utf8(name.to_vec()).unwrap();
            let length = lgetxattr(path, &name, &mut value[..]).unwrap();
            (name, value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}
