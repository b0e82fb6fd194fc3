//! Directories that look like a cgroup tree.

use crate::{
    Capabilities, Cgroup, CgroupError, CgroupPath, CgroupRoot, ControlFiles, CpuStat, DeviceId, Population,
    Resource, Statistics,
};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// `a.slice/b.slice` with the files given.
fn tree(files: &[(&str, &str)]) -> (TempDir, CgroupRoot) {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("a.slice/b.slice");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("cgroup.controllers"), "cpu io\n").unwrap();
    for (name, text) in files {
        fs::write(inner.join(name), text).unwrap();
    }
    let root = CgroupRoot::new(directory.path());
    (directory, root)
}

fn path(text: &str) -> CgroupPath {
    text.parse().unwrap()
}

fn open(root: &CgroupRoot) -> Cgroup {
    root.open(&path("a.slice/b.slice")).unwrap()
}

#[test]
fn paths() {
    for (text, expected) in [
        ("a.slice/b.slice", Some("a.slice/b.slice")),
        ("/a.slice", Some("a.slice")),
        ("", Some("")),
        ("/", Some("")),
        ("a//b", None),
        ("a/", None),
        ("//a", None),
        ("a/../b", None),
        ("..", None),
        (".", None),
        ("a\0", None),
    ] {
        let found = text.parse::<CgroupPath>().ok();
        assert_eq!(found.as_ref().map(CgroupPath::as_str), expected, "{text:?}");
    }
    assert_eq!(path("a").join("b.scope").unwrap(), path("a/b.scope"));
    assert!(path("a").join("../b").is_err());
    assert_eq!(CgroupPath::root().join("b").unwrap(), path("b"));
}

#[test]
fn no_link_is_followed() {
    let (directory, root) = tree(&[("real", "1\n")]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("cgroup.events"), "populated 1\n").unwrap();
    symlink(outside.path(), directory.path().join("link.slice")).unwrap();
    symlink("real", directory.path().join("a.slice/b.slice/alias")).unwrap();
    let error = root.open(&path("link.slice")).unwrap_err();
    assert_eq!(error.to_string(), "open directory of cgroup /link.slice");
    assert!(root.population(&path("link.slice")).is_err());
    let cgroup = open(&root);
    assert_eq!(cgroup.read("real").unwrap(), "1\n");
    assert!(cgroup.read("alias").is_err());
    assert!(cgroup.write("alias", "2").is_err());
    assert!(cgroup.read("../b.slice/real").is_err());
}

fn check_population(events: Option<&str>, expected: Option<Population>) {
    let files: Vec<_> = events.map(|events| ("cgroup.events", events)).into_iter().collect();
    let (_directory, root) = tree(&files);
    let found = root.population(&path("a.slice/b.slice"));
    assert_eq!(found.as_ref().ok().copied(), expected, "{events:?}: {found:?}");
}

#[test]
fn populations() {
    check_population(Some("populated 1\nfrozen 0\n"), Some(Population::Populated));
    check_population(Some("populated 0\nfrozen 0\n"), Some(Population::Empty));
    // What cannot be known is never taken for empty.
    check_population(Some("frozen 0\n"), None);
    check_population(Some("populated\n"), None);
    check_population(None, None);
    let (_directory, root) = tree(&[]);
    assert_eq!(root.population(&path("a.slice/c.slice")).unwrap(), Population::Gone);
    let missing = root.open(&path("c.slice")).unwrap_err();
    assert!(matches!(missing, CgroupError::Gone { .. }));
    assert_eq!(missing.to_string(), "cgroup /c.slice does not exist");
}

#[test]
fn an_opened_cgroup_is_not_mistaken_for_its_successor() {
    let (directory, root) = tree(&[("cgroup.procs", "1\n")]);
    let cgroup = open(&root);
    let inner = directory.path().join("a.slice/b.slice");
    fs::remove_dir_all(&inner).unwrap();
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.procs"), "2\n").unwrap();
    assert!(cgroup.processes().is_err());
    assert!(matches!(cgroup.statistics(), Err(CgroupError::Gone { .. })));
    assert!(matches!(cgroup.pressure(Resource::Cpu), Err(CgroupError::Gone { .. })));
    assert_eq!(open(&root).processes().unwrap(), [2]);
}

#[test]
fn what_is_inside() {
    let (directory, root) = tree(&[("cgroup.procs", "12\n0\n345\n"), ("memory.max", "max\n")]);
    fs::create_dir(directory.path().join("a.slice/b.slice/c.scope")).unwrap();
    let cgroup = open(&root);
    assert_eq!(cgroup.processes().unwrap(), [12, 0, 345]);
    assert_eq!(cgroup.children().unwrap(), ["c.scope"]);
    assert_eq!(cgroup.files().unwrap(), ["cgroup.controllers", "cgroup.procs", "memory.max"]);
    assert_eq!(Capabilities::read(&cgroup).unwrap().names(), ["memory.max"]);
}

#[test]
fn what_it_really_runs_on() {
    let (_directory, root) = tree(&[("cpuset.cpus.effective", "0-1,3\n")]);
    let cgroup = open(&root);
    assert_eq!(cgroup.effective_cpus().unwrap().unwrap().to_string(), "0-1,3");
    assert_eq!(cgroup.effective_mems().unwrap(), None);
    let (_directory, root) = tree(&[("cpuset.mems.effective", "all\n")]);
    let error = open(&root).effective_mems().unwrap_err();
    assert_eq!(error.to_string(), "cpuset.mems.effective of cgroup /a.slice/b.slice says \"all\"");
}

#[test]
fn statistics() {
    let (_directory, root) = tree(&[
        ("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_throttled 2\nnews 9\n"),
        ("memory.current", "4096\n"),
        ("memory.peak", "nonsense\n"),
        ("memory.stat", "anon 1\nfile 2\npgmajfault 3\n"),
        ("memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n"),
        ("io.stat", "254:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 \nbad line\n"),
        ("memory.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=5\n"),
    ]);
    let cgroup = open(&root);
    let read = cgroup.statistics().unwrap();
    assert_eq!(read.cpu.unwrap().usage_us, Some(10));
    assert_eq!(read.cpu.unwrap().periods, None);
    assert_eq!((read.memory_current_bytes, read.memory_peak_bytes), (Some(4_096), None));
    assert_eq!(read.memory_events.unwrap().oom_kill, Some(4));
    assert_eq!((read.pids_current, read.swap_current_bytes), (None, None));
    let disk = DeviceId { major: 254, minor: 16 };
    assert_eq!((read.io[&disk].written_bytes, read.io.len()), (2, 2));
    let map = read.to_map();
    assert_eq!(map.get("cpu.stat usage_usec"), Some(&10));
    assert_eq!(map.get("io.stat 254:16 wbytes"), Some(&2));
    assert!(!map.contains_key("memory.peak"));
    let waited = cgroup.pressure(Resource::Memory).unwrap().unwrap();
    assert_eq!((waited.some.unwrap().avg10_permyriad, waited.full), (50, None));
    assert_eq!(cgroup.pressure(Resource::Io).unwrap(), None);
}

#[test]
fn controllers_are_enabled_from_the_root_down() {
    let (directory, root) = tree(&[("cgroup.subtree_control", "untouched")]);
    let control = |below: &str| directory.path().join(below).join("cgroup.subtree_control");
    fs::write(control(""), "cpu memory\n").unwrap();
    fs::write(control("a.slice"), "cpu hugetlb memory\n").unwrap();
    root.enable_controllers(&path("a.slice/b.slice"), &["hugetlb"]).unwrap();
    assert_eq!(fs::read_to_string(control("")).unwrap(), "+hugetlb\n");
    assert_eq!(fs::read_to_string(control("a.slice")).unwrap(), "cpu hugetlb memory\n");
    assert_eq!(fs::read_to_string(control("a.slice/b.slice")).unwrap(), "untouched");
    fs::remove_file(control("a.slice")).unwrap();
    let error = root.enable_controllers(&path("a.slice/b.slice"), &["cpu"]).unwrap_err();
    assert_eq!(error.to_string(), "read cgroup.subtree_control of cgroup /a.slice");
}

#[test]
fn io_cost_is_enabled_once() {
    let (directory, root) = tree(&[]);
    let qos = directory.path().join("io.cost.qos");
    let disk = DeviceId { major: 254, minor: 16 };
    fs::write(&qos, "254:0 enable=1 ctrl=auto\n254:16 enable=0 ctrl=auto\n").unwrap();
    root.enable_io_cost(disk).unwrap();
    assert_eq!(fs::read_to_string(&qos).unwrap(), "254:16 enable=1\n");
    fs::write(&qos, "254:16 enable=1 ctrl=user rpct=95.00\n").unwrap();
    root.enable_io_cost(disk).unwrap();
    assert_eq!(fs::read_to_string(&qos).unwrap(), "254:16 enable=1 ctrl=user rpct=95.00\n");
    fs::remove_file(&qos).unwrap();
    let error = root.enable_io_cost(disk).unwrap_err();
    assert_eq!(error.to_string(), "read io.cost.qos of cgroup /");
}

proptest! {
    #[test]
    fn any_text_is_taken(text in r"(populated|usage_usec|anon|oom|8:0|rbytes=|[0-9a-z=: \n-]){0,40}") {
        CpuStat::parse(&text);
        let read = Statistics::read_with(|_| Ok::<_, ()>(Some(text.clone()))).unwrap();
        read.to_map();
    }
}
