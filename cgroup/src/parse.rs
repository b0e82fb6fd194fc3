//! The formats of cgroup v2 files. Source: "Format" in `Documentation/admin-guide/cgroup-v2.rst`.
//!
//! All are tolerant: keys that are not known are for the caller to pass over, a line that is not understood is as
//! good as absent. The kernel adds keys with almost every version.

use crate::DeviceId;
use std::collections::BTreeMap;

/// `KEY VALUE` on each line.
pub(crate) fn flat_keyed(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key, value.trim().parse().ok()?))
        })
        .collect()
}

/// `SUBKEY=VALUE SUBKEY=VALUE…`, the part of a nested keyed line after its key.
pub(crate) fn sub_keys(rest: &str) -> impl Iterator<Item = (&str, &str)> {
    rest.split_whitespace().filter_map(|word| word.split_once('='))
}

/// One number, or nothing for `max` and for what is no number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The rest of the line that begins with the device.
pub(crate) fn line_of(text: &str, device: DeviceId) -> Option<&str> {
    device_lines(text).find(|(key, _)| *key == device).map(|(_, rest)| rest)
}

/// Lines that begin with a device, each without it.
pub(crate) fn device_lines(text: &str) -> impl Iterator<Item = (DeviceId, &str)> {
    text.lines().filter_map(|line| {
        let (key, rest) = line.split_once(' ')?;
        Some((key.parse().ok()?, rest.trim()))
    })
}
