//! The numbers by their names.

use super::{Moment, Used};
use berth_cgroup::{IoDeviceStat, PressureLine, Resource};
use berth_metrics::{Labels, Sheet};
use berth_model::{ContainerPhase, ContainerStatus, PodId, PodPhase, PodStatus, ProbeAnswer};

/// What one cgroup says for one number; none where the kernel does not count it.
type Read = fn(&Used) -> Option<f64>;
/// The same of one device.
type ReadIo = fn(&IoDeviceStat) -> u64;

/// As large as the kernel's counters get, a double still has them to a byte for nine petabytes.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}

fn seconds_of_us(us: u64) -> f64 {
    float(us) / 1e6
}

fn seconds_of_ms(ms: u64) -> f64 {
    float(ms) / 1e3
}

/// All numbers of one moment.
pub(super) fn tell(moment: &Moment) -> Sheet {
    let mut sheet = Sheet::new("berth");
    agent(&mut sheet, moment);
    pods(&mut sheet, &moment.pods);
    let (whole, parts): (Vec<_>, Vec<_>) = moment.used.iter().partition(|used| used.container.is_none());
    use_of(&mut sheet, "pod", &whole);
    use_of(&mut sheet, "container", &parts);
    sheet
}

fn agent(sheet: &mut Sheet, moment: &Moment) {
    sheet.info("agent_build", "The node's agent.", vec![("version", moment.version.to_owned())]);
    let started = seconds_of_ms(moment.started_at_ms);
    sheet.one("agent_start_timestamp_seconds", "When the agent began, seconds after the epoch.", started);
    let connected = f64::from(u8::from(moment.connected));
    sheet.one("agent_connected", "Whether the agent has a connection to its control plane.", connected);
    let expiry = moment.certificate_expires_at_ms.map(|at_ms| (Labels::new(), seconds_of_ms(at_ms)));
    let help = "When the node's certificate ends, seconds after the epoch.";
    sheet.gauge("agent_certificate_expiry_timestamp_seconds", help, expiry);
    let open = count(moment.open_orders);
    sheet.one("agent_open_orders", "Orders that the agent has accepted and that have no outcome yet.", open);
    let help =
        "Cgroups of pods that could not be read: most often they are gone since they were last looked at.";
    sheet.one("agent_unread_cgroups", help, count(moment.unread));
}

fn pods(sheet: &mut Sheet, pods: &[PodStatus]) {
    let rows = PodPhase::ALL.map(|phase| {
        let there = pods.iter().filter(|pod| pod.phase == phase).count();
        (vec![("phase", phase_name(phase).to_owned())], count(there))
    });
    sheet.gauge("pods", "Pods on the node, by their phase.", rows);
    let containers = || pods.iter().flat_map(|pod| pod.containers.iter().map(|one| (&pod.pod, one)));
    let row = |number: fn(&ContainerStatus) -> Option<f64>| {
        containers().filter_map(move |(pod, one)| Some((of(pod, Some(one.name.as_str())), number(one)?)))
    };
    let help = "Whether the container's first process runs.";
    sheet.gauge("container_running", help, row(is_running));
    let help =
        "Whether the container's readiness probe says that it can do its work; absent where it has none.";
    sheet.gauge("container_ready", help, row(is_ready));
    let help = "How often the container was made anew since its pod was run on the node, whatever for.";
    sheet.counter("container_restarts", help, row(|one| Some(f64::from(one.attempt.0.saturating_sub(1)))));
}

fn phase_name(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Pending => "pending",
        PodPhase::Running => "running",
        PodPhase::Degraded => "degraded",
        PodPhase::Stopped => "stopped",
        PodPhase::Evicting => "evicting",
        PodPhase::Gone => "gone",
        PodPhase::Unknown => "unknown",
        PodPhase::Held => "held",
    }
}

fn is_running(one: &ContainerStatus) -> Option<f64> {
    Some(f64::from(u8::from(matches!(one.phase, ContainerPhase::Running { .. }))))
}

fn is_ready(one: &ContainerStatus) -> Option<f64> {
    match one.readiness.as_ref()? {
        ProbeAnswer::Ready => Some(1.0),
        ProbeAnswer::NotReady(_) => Some(0.0),
    }
}

fn of(pod: &PodId, container: Option<&str>) -> Labels {
    let mut labels = vec![("namespace", pod.namespace().to_owned()), ("pod", pod.name().to_owned())];
    labels.extend(container.map(|name| ("container", name.to_owned())));
    labels
}

fn labels(used: &Used) -> Labels {
    of(&used.pod, used.container.as_ref().map(|name| name.as_str()))
}

/// What is in use at the moment.
const GAUGES: [(&str, &str, Read); 6] = [
    ("memory_bytes", "Memory in use, page cache included (memory.current).", |used| {
        used.statistics.memory_current_bytes.map(float)
    }),
    ("memory_limit_bytes", "What memory is held to (memory.max); absent without a limit.", |used| {
        used.memory_limit_bytes.map(float)
    }),
    ("memory_anon_bytes", "Memory in use that no file backs (anon of memory.stat).", |used| {
        used.statistics.memory.as_ref()?.anon_bytes.map(float)
    }),
    (
        "memory_inactive_file_bytes",
        "Page cache that goes first when memory is wanted (inactive_file of memory.stat).",
        |used| used.statistics.memory.as_ref()?.inactive_file_bytes.map(float),
    ),
    ("swap_bytes", "Swap in use (memory.swap.current).", |used| {
        used.statistics.swap_current_bytes.map(float)
    }),
    ("pids", "Processes and threads (pids.current).", |used| used.statistics.pids_current.map(float)),
];

/// What has been used since the cgroup was made: a container's since it started.
const COUNTERS: [(&str, &str, Read); 10] = [
    ("cpu_usage_seconds", "CPU time (usage_usec of cpu.stat).", |used| {
        used.statistics.cpu.as_ref()?.usage_us.map(seconds_of_us)
    }),
    ("cpu_user_seconds", "CPU time of programs (user_usec of cpu.stat).", |used| {
        used.statistics.cpu.as_ref()?.user_us.map(seconds_of_us)
    }),
    (
        "cpu_throttled_seconds",
        "Time for which cpu.max held tasks back (throttled_usec of cpu.stat).",
        |used| used.statistics.cpu.as_ref()?.throttled_us.map(seconds_of_us),
    ),
    ("cpu_system_seconds", "CPU time of the kernel for them (system_usec of cpu.stat).", |used| {
        used.statistics.cpu.as_ref()?.system_us.map(seconds_of_us)
    }),
    ("cpu_periods", "Periods of cpu.max in which something ran (nr_periods of cpu.stat).", |used| {
        used.statistics.cpu.as_ref()?.periods.map(float)
    }),
    (
        "cpu_throttled_periods",
        "Periods in which cpu.max held tasks back (nr_throttled of cpu.stat).",
        |used| used.statistics.cpu.as_ref()?.throttled_periods.map(float),
    ),
    ("major_faults", "Pages that were read from a disk when they were touched (pgmajfault).", |used| {
        used.statistics.memory.as_ref()?.major_faults.map(float)
    }),
    ("memory_max_hits", "How often memory.max was met (max of memory.events).", |used| {
        used.statistics.memory_events.as_ref()?.max.map(float)
    }),
    ("memory_high_hits", "How often memory.high was exceeded (high of memory.events).", |used| {
        used.statistics.memory_events.as_ref()?.high.map(float)
    }),
    (
        "oom_kills",
        "Processes that the kernel killed for want of memory (oom_kill of memory.events).",
        |used| used.statistics.memory_events.as_ref()?.oom_kill.map(float),
    ),
];

/// What has been read and written, by device.
const IO: [(&str, &str, ReadIo); 4] = [
    ("io_read_bytes", "Bytes read from a device (rbytes of io.stat).", |stat| stat.read_bytes),
    ("io_written_bytes", "Bytes written to a device (wbytes of io.stat).", |stat| stat.written_bytes),
    ("io_reads", "Reads from a device (rios of io.stat).", |stat| stat.read_ops),
    ("io_writes", "Writes to a device (wios of io.stat).", |stat| stat.write_ops),
];

fn use_of(sheet: &mut Sheet, what: &str, all: &[&Used]) {
    let rows = |read: Read| all.iter().filter_map(move |used| Some((labels(used), read(used)?)));
    for (name, help, read) in GAUGES {
        sheet.gauge(&format!("{what}_{name}"), help, rows(read));
    }
    for (name, help, read) in COUNTERS {
        sheet.counter(&format!("{what}_{name}"), help, rows(read));
    }
    for (name, help, read) in IO {
        let of_one = |used: &&Used| {
            let devices = used.statistics.io.iter();
            let row = |device: &dyn ToString| {
                let mut labels = labels(used);
                labels.push(("device", device.to_string()));
                labels
            };
            devices.map(|(device, stat)| (row(device), float(read(stat)))).collect::<Vec<_>>()
        };
        sheet.counter(&format!("{what}_{name}"), help, all.iter().flat_map(of_one));
    }
    let help = "Time for which tasks waited for a resource: some of them, or all that had work to do (PSI).";
    sheet.counter(&format!("{what}_pressure_seconds"), help, all.iter().flat_map(|used| pressure(used)));
}

fn pressure(used: &Used) -> Vec<(Labels, f64)> {
    let lines = used.pressure.iter().flat_map(|(resource, pressure)| {
        [(resource, "some", pressure.some), (resource, "full", pressure.full)]
    });
    let row = |(resource, who, line): (&Resource, &str, Option<PressureLine>)| {
        let waited = seconds_of_us(line?.total_us);
        let mut labels = labels(used);
        labels.extend([("resource", resource.name().to_owned()), ("tasks", who.to_owned())]);
        Some((labels, waited))
    };
    lines.filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::testing::pod;
    use berth_cgroup::{Pressure, Statistics};
    use berth_model::Attempt;
    use std::collections::BTreeMap;

    fn moment() -> Moment {
        let container = ContainerStatus {
            name: "web".parse().unwrap(),
            id: None,
            attempt: Attempt(3),
            image_digest: None,
            phase: ContainerPhase::Running { started_at_ns: 1, pid: 2 },
            applied: None,
            readiness: Some(ProbeAnswer::NotReady("no".to_owned())),
        };
        let status = PodStatus { phase: PodPhase::Degraded, ..testing::status(vec![container]) };
        let files = |file: &str| -> Result<Option<String>, ()> {
            Ok(match file {
                "cpu.stat" => {
                    Some("usage_usec 1500000\nuser_usec 1000000\nthrottled_usec 250000\n".to_owned())
                }
                "memory.current" => Some("4096\n".to_owned()),
                "memory.stat" => Some("anon 1024\ninactive_file 512\npgmajfault 7\n".to_owned()),
                "memory.events" => Some("high 2\nmax 1\noom_kill 1\n".to_owned()),
                "pids.current" => Some("5\n".to_owned()),
                "io.stat" => Some("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n".to_owned()),
                _ => None,
            })
        };
        let used = |container: Option<&str>| Used {
            pod: pod(),
            container: container.map(|name| name.parse().unwrap()),
            memory_limit_bytes: container.map(|_| 8192),
            statistics: Statistics::read_with(files).unwrap(),
            pressure: BTreeMap::from([(
                Resource::Memory,
                Pressure::parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n"),
            )]),
        };
        Moment {
            version: "0.1.0",
            started_at_ms: 1_500,
            connected: true,
            certificate_expires_at_ms: Some(2_000),
            open_orders: 4,
            pods: vec![status],
            used: vec![used(None), used(Some("web"))],
            unread: 1,
        }
    }

    fn values(moment: &Moment) -> String {
        let text = tell(moment).text();
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn everything_has_a_name() {
        insta::assert_snapshot!(values(&moment()));
    }

    #[test]
    fn every_number_is_documented() {
        let rows = berth_metrics::catalogue(&tell(&moment()).text());
        let said = include_str!("../../../docs/observability.md").contains(&format!("--- |\n{rows}\n"));
        assert!(said, "docs/observability.md has to say exactly:\n{rows}");
    }

    #[test]
    fn a_node_that_has_not_joined_and_has_no_pods_says_so() {
        let said = values(&Moment::default());
        assert!(said.contains("berth_agent_connected 0\n"), "{said}");
        assert!(said.contains("berth_pods{phase=\"running\"} 0\n"), "{said}");
        assert!(!said.contains("expiry") && !said.contains("container"), "{said}");
    }
}
