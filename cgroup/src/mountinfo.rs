//! `/proc/<pid>/mountinfo`, as far as limits need it. Source of the format: `proc_pid_mountinfo(5)`.

use crate::DeviceId;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where, unescaped.
    pub mount_point: String,
    /// Number of the device beneath; anonymous if there is none.
    pub device: DeviceId,
    /// Type of the filesystem, such as `ext4`.
    pub filesystem: String,
}

/// Reads all mounts, in the file's order: of two on one mount point the later hides the earlier. A line that is not
/// understood is passed over, since one strange mount must not hide the others.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // The number of optional fields before " - " varies, and no field before it can be a lone dash.
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let device = fields.nth(2)?.parse().ok()?;
    let mount_point = unescape(fields.nth(1)?)?;
    let filesystem = after.split(' ').next()?.to_owned();
    Some(Mount { mount_point, device, filesystem })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail.get(..3).and_then(octal)) {
            (b'\\', Some(escaped)) => {
                bytes.push(escaped);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, expected: Option<(&str, &str, &str)>) {
        let found = parse_mountinfo(line);
        let found =
            found.first().map(|m| (m.mount_point.as_str(), m.device.to_string(), m.filesystem.as_str()));
        let found = found.as_ref().map(|(point, device, fs)| (*point, device.as_str(), *fs));
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn lines() {
        check(
            "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
            Some(("/mnt2", "98:0", "ext3")),
        );
        check("29 1 254:1 / / rw - ext4 /dev/vda1 rw", Some(("/", "254:1", "ext4")));
        check(
            r"40 29 254:16 / /srv/a\040b\134c rw shared:1 master:2 - xfs /dev/vdb rw",
            Some((r"/srv/a b\c", "254:16", "xfs")),
        );
        check("41 29 0:33 / /run rw - tmpfs tmpfs rw", Some(("/run", "0:33", "tmpfs")));
        check("", None);
        check("36 35 98:0 /mnt1 /mnt2 rw", None);
        check("36 35 ninety:0 /mnt1 /mnt2 rw - ext3 x rw", None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in r"[0-9a-z:/\\ \-\n]{0,200}") {
            parse_mountinfo(&text);
        }
    }
}
