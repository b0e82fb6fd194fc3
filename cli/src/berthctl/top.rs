//! What pods use, between two looks.

use berth_proto::v1;
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// What identifies a row: the pod, and the container's name; empty for the pod as a whole.
type Key = (String, String);

/// All counts of one look.
#[derive(Debug, Clone, Default)]
pub(super) struct Look(BTreeMap<Key, v1::CgroupView>);

/// What a pod or a container used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// `namespace/name`.
    pub pod: String,
    /// None for the pod as a whole.
    pub container: Option<String>,
    /// Thousandths of a CPU; none if it was not there all the time.
    pub milli_cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// `memory.max`, bytes; none without a limit.
    pub memory_max: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes a second, of all devices; none if it was not there all the time.
    pub read: Option<u64>,
    /// As `read`.
    pub written: Option<u64>,
}

impl Look {
    /// Notes what a pod's cgroups say.
    pub(super) fn add(&mut self, pod: &str, cgroups: Vec<v1::CgroupView>) {
        let key = |view: &v1::CgroupView| {
            let of = if is_pod(view) { String::new() } else { view.of.clone() };
            (pod.to_owned(), of)
        };
        self.0.extend(cgroups.into_iter().map(|view| (key(&view), view)));
    }

    /// What was used since `before`, who used most of the CPUs first.
    pub(super) fn since(&self, before: &Self, time: Duration) -> Vec<Use> {
        let row = |(key, now): (&Key, &v1::CgroupView)| used(key, before.0.get(key), now, time);
        let mut all: Vec<_> = self.0.iter().map(row).collect();
        all.sort_by_key(|row| Reverse(row.milli_cpu));
        all
    }
}

fn used((pod, of): &Key, before: Option<&v1::CgroupView>, now: &v1::CgroupView, time: Duration) -> Use {
    // A counter that has gone back is another cgroup's, of the same name.
    let grown = |count: &dyn Fn(&v1::CgroupView) -> Option<u64>| count(now)?.checked_sub(count(before?)?);
    let a_second = |grown: u64, scale: u128| {
        let scaled = u128::from(grown) * scale * 1_000_000 / time.as_micros().max(1);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let of_devices = |key: &'static str| grown(&|view| Some(sum(view, key))).map(|bytes| a_second(bytes, 1));
    Use {
        pod: pod.clone(),
        container: (!is_pod(now)).then(|| of.clone()),
        milli_cpu: grown(&|view| number(view, "cpu.stat usage_usec"))
            .map(|us| a_second(us, 1_000) / 1_000_000),
        memory: number(now, "memory.current"),
        memory_max: memory_max(now),
        pids: number(now, "pids.current"),
        read: of_devices(" rbytes"),
        written: of_devices(" wbytes"),
    }
}

/// A pod's cgroup is a slice of systemd's, a container's a scope in it; a container may well be named `pod`.
fn is_pod(view: &v1::CgroupView) -> bool {
    view.applied.as_ref().is_some_and(|applied| applied.cgroup.ends_with(".slice"))
}

fn number(view: &v1::CgroupView, key: &str) -> Option<u64> {
    view.statistics.get(key)?.parse().ok()
}

fn sum(view: &v1::CgroupView, key: &str) -> u64 {
    let of_io =
        view.statistics.iter().filter(|(name, _)| name.starts_with("io.stat ") && name.ends_with(key));
    of_io.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn memory_max(view: &v1::CgroupView) -> Option<u64> {
    let controls = &view.applied.as_ref()?.controls;
    match &controls.iter().find(|control| control.file == "memory.max")?.read {
        Some(v1::control::Read::Text(text)) => text.parse().ok(),
        Some(v1::control::Read::Unreadable(_)) | None => None,
    }
}

/// As programs read it.
pub(super) fn to_json(rows: &[Use]) -> Json {
    let row = |row: &Use| {
        let all = json!({
            "pod": row.pod,
            "container": row.container,
            "milliCpu": row.milli_cpu,
            "memoryBytes": row.memory,
            "memoryMaxBytes": row.memory_max,
            "pids": row.pids,
            "readBytesPerSec": row.read,
            "writeBytesPerSec": row.written,
        });
        match all {
            // What is absent is left out, as everywhere.
            Json::Object(all) => {
                Json::Object(all.into_iter().filter(|(_, value)| !value.is_null()).collect())
            }
            other => other,
        }
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(of: &str, statistics: &[(&str, u64)], memory_max: &str) -> v1::CgroupView {
        let control = v1::Control {
            file: "memory.max".to_owned(),
            ordered: String::new(),
            read: Some(v1::control::Read::Text(memory_max.to_owned())),
        };
        v1::CgroupView {
            of: of.to_owned(),
            applied: Some(v1::Applied {
                cgroup: if of == "pod" { "berth-p.slice" } else { "berth-p.slice/cri.scope" }.to_owned(),
                controls: vec![control],
            }),
            statistics: statistics
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.to_string()))
                .collect(),
        }
    }

    fn look(pods: &[(&str, v1::CgroupView)]) -> Look {
        let mut look = Look::default();
        pods.iter().for_each(|(pod, view)| look.add(pod, vec![view.clone()]));
        look
    }

    #[test]
    fn what_was_used_between_two_looks() {
        let web = |us: u64, read: u64| {
            let io = [("io.stat 8:0 rbytes", read), ("io.stat 8:16 rbytes", read), ("io.stat 8:0 wbytes", 7)];
            view("pod", &[&[("cpu.stat usage_usec", us), ("memory.current", 4096)], &io[..]].concat(), "8192")
        };
        let idle = view("main", &[("cpu.stat usage_usec", 50)], "max");
        let before = look(&[("shop/web", web(1_000_000, 1_000)), ("shop/idle", idle.clone())]);
        let after =
            look(&[("shop/idle", idle.clone()), ("shop/new", idle), ("shop/web", web(4_000_000, 3_000))]);
        let rows = after.since(&before, Duration::from_secs(2));
        let told: Vec<_> = rows.iter().map(|row| (row.pod.as_str(), row.milli_cpu, row.memory_max)).collect();
        let expected =
            [("shop/web", Some(1_500), Some(8192)), ("shop/idle", Some(0), None), ("shop/new", None, None)];
        assert_eq!(told, expected);
        assert_eq!((rows[0].read, rows[0].written, rows[0].memory), (Some(2_000), Some(0), Some(4096)));
        assert_eq!((&rows[0].container, rows[1].container.as_deref()), (&None, Some("main")));
        // Whoever was made anew under the same name has used nothing yet that could be told.
        assert_eq!(before.since(&after, Duration::from_secs(2))[0].milli_cpu, Some(0));
        let back = before.since(&after, Duration::from_secs(2));
        let web = back.iter().find(|row| row.pod == "shop/web").unwrap();
        assert_eq!((web.milli_cpu, web.read), (None, None));
    }

    #[test]
    fn json_leaves_out_what_is_not_known() {
        let rows = look(&[("shop/web", view("pod", &[("pids.current", 3)], "max"))]);
        let rows = rows.since(&Look::default(), Duration::from_secs(1));
        assert_eq!(to_json(&rows), json!([{"pod": "shop/web", "pids": 3}]));
    }
}
