//! What the kernel shows as text: cgroup files, pressure, the mount table, lists of CPUs, a topology in sysfs.

use crate::frames::frames;
use berth_cgroup::{
    CgroupPath, ControlFiles, ControlWrite, CpuStat, DeviceId, MemoryEvents, MemoryStat, Pressure,
    Statistics, parse_mountinfo, read_back,
};
use berth_model::{CpuSet, MemSet};
use std::convert::Infallible;
use std::fmt::{Debug, Display};
use std::io;
use std::str::FromStr;

/// Frames: a text each, of the kind that its first byte says.
pub fn kernel_texts(data: &[u8]) {
    for (kind, part) in frames(data) {
        let text = String::from_utf8_lossy(part);
        match kind % 8 {
            0 => statistics(&text),
            1 => pressure(&text),
            2 => mounts(&text),
            3 => prints_as_it_parses::<CpuSet>(&text),
            4 => prints_as_it_parses::<MemSet>(&text),
            5 => prints_as_it_parses::<DeviceId>(&text),
            6 => cgroup_path(&text),
            _ => controls(&text),
        }
    }
}

/// A number that is there is one that the text has.
fn statistics(text: &str) {
    let read = Statistics::read_with(|_| Ok::<_, Infallible>(Some(text.to_owned())));
    let Ok(statistics) = read;
    for (name, value) in statistics.to_map() {
        let digits = value.to_string();
        assert!(value == 0 || text.contains(&digits), "{name} is {value} of {text:?}");
    }
    assert_eq!(statistics.cpu, Some(CpuStat::parse(text)));
    assert_eq!(statistics.memory, Some(MemoryStat::parse(text)));
    assert_eq!(statistics.memory_events, Some(MemoryEvents::parse(text)));
}

fn pressure(text: &str) {
    let pressure = Pressure::parse(text);
    assert!(pressure.some.is_none() || text.contains("some"), "{text:?}");
    assert!(pressure.full.is_none() || text.contains("full"), "{text:?}");
}

/// No line hides another one, and none is two.
fn mounts(text: &str) {
    let mounts = parse_mountinfo(text);
    let one_by_one: Vec<_> = text.lines().flat_map(parse_mountinfo).collect();
    assert_eq!(mounts, one_by_one);
    assert!(mounts.len() <= text.lines().count());
}

fn prints_as_it_parses<T>(text: &str)
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            assert!(again.is_ok_and(|again| again == value), "{text:?} is {value}, and that is another");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "{text:?} is refused without a reason"),
    }
}

/// A path that is accepted stays below the mount.
fn cgroup_path(text: &str) {
    if let Ok(path) = text.parse::<CgroupPath>() {
        let path = path.as_str();
        assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path:?} leads out");
        assert!(!path.contains('\0'), "{path:?} is no path");
    }
}

/// A cgroup whose every file says the same.
struct Says<'a>(&'a str);

impl ControlFiles for Says<'_> {
    fn name(&self) -> &str {
        "fuzz"
    }

    fn read(&self, _: &str) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn write(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// What does not say the ordered value is not taken for it.
fn controls(text: &str) {
    let device = DeviceId { major: 254, minor: 16 };
    let plain = ControlWrite { file: "memory.max".to_owned(), key: None, value: "4096".to_owned() };
    let of_device =
        ControlWrite { file: "io.max".to_owned(), key: Some(device), value: "rbps=1 wbps=max".to_owned() };
    let applied = read_back(&Says(text), &[plain, of_device]);
    for control in applied.controls {
        let said = control.ordered.split(' ').all(|word| text.contains(word));
        assert!(!control.holds() || said, "{control:?} holds in {text:?}");
    }
}
