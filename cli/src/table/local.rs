//! What one node knows of itself.

use super::words::{
    addresses, age, binding, binding_short, class, container_phase, identity, order_state, outcome,
    pod_phase, run_state, size, until, verb,
};
use super::{Field, Mood, Style, columns, pairs, section};
use crate::berthctl::top::Use;
use berth_model::Access;
use berth_proto::v1;
use berth_proto::v1::local_disk::Kind;
use std::collections::BTreeMap;

pub(super) fn facts(facts: &v1::NodeFacts, style: Style) -> String {
    pairs(
        vec![
            ("OS", facts.os.as_str().into()),
            ("Kernel", format!("{} {}", facts.kernel, facts.architecture).trim().into()),
            ("Runtime", facts.runtime.as_str().into()),
            ("berthd", facts.agent_version.as_str().into()),
            ("Boot", facts.boot_id.as_str().into()),
            ("Addresses", facts.addresses.join(", ").into()),
            (
                "Memory",
                format!("{}, {} reserved", size(facts.memory_bytes), size(facts.reserved_memory_bytes))
                    .into(),
            ),
            ("Reserved CPUs", facts.reserved_cpus.as_str().into()),
            (
                "Reserved PIDs",
                if facts.reserved_pids > 0 { facts.reserved_pids.to_string() } else { String::new() }.into(),
            ),
            ("Capabilities", facts.capabilities.join(", ").into()),
            ("Mount points", facts.mount_points.join(", ").into()),
            ("Host network", if facts.host_network { "shared" } else { "" }.into()),
            ("Host paths", host_paths(facts).into()),
        ],
        style,
    )
}

/// What a node tells upstream of its host.
pub(crate) fn node_facts(host: &v1::NodeFacts, style: Style) -> String {
    facts(host, style) + &parts(host, style)
}

/// Of what there are several on a host.
pub(super) fn parts(facts: &v1::NodeFacts, style: Style) -> String {
    let mut labels: Vec<_> = facts.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    let topology = facts.topology.as_ref().map(|topology| memory_nodes(topology, style));
    section("Labels", &labels.join("\n"))
        + &section("Memory nodes", &topology.unwrap_or_default())
        + &section("Devices", &devices(facts, style))
}

/// What the host shares with containers.
fn host_paths(facts: &v1::NodeFacts) -> String {
    let shared = berth_proto::shared_from(facts);
    let words = shared.iter().map(|(path, access)| match access {
        Access::ReadOnly => format!("{path} (read only)"),
        Access::ReadWrite => path.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What there is on its bus; nothing where there is none.
fn devices(facts: &v1::NodeFacts, style: Style) -> String {
    use v1::device::Class;
    let row = |device: &v1::Device| {
        let class = match device.class() {
            Class::Gpu => "GPU",
            Class::Nvme => "NVMe",
            Class::Nic => "NIC",
            Class::Unspecified => "unknown",
        };
        [
            class.into(),
            device.address.as_str().into(),
            format!("{:04x}:{:04x}", device.vendor, device.device).into(),
            device.memory_node.map(|node| node.to_string()).unwrap_or_default().into(),
            device.driver.as_str().into(),
            device.names.join(", ").into(),
        ]
    };
    if facts.devices.is_empty() {
        return String::new();
    }
    let header = ["DEVICE", "ADDRESS", "ID", "NODE", "DRIVER", "NAMES"];
    columns(header, facts.devices.iter().map(row).collect(), style)
}

fn memory_nodes(topology: &v1::Topology, style: Style) -> String {
    let row = |node: &v1::MemoryNode| {
        let distances: Vec<_> = node.distances.iter().map(ToString::to_string).collect();
        let huge = |pages: &v1::HugePages| {
            format!("{}/{} of {}", pages.free, pages.total, size(pages.page_size_bytes))
        };
        let huge: Vec<_> = node.huge_pages.iter().map(huge).collect();
        [
            node.id.into(),
            node.cpus.as_str().into(),
            size(node.memory_bytes).into(),
            distances.join(" ").into(),
            huge.join(", ").into(),
        ]
    };
    let header = ["NODE", "CPUS", "MEMORY", "DISTANCES", "HUGE PAGES FREE"];
    columns(header, topology.nodes.iter().map(row).collect(), style)
}

/// How the node is.
pub(crate) fn status(status: &v1::NodeStatus, now_ms: u64, style: Style) -> String {
    let link = match (status.connected, status.link_message.as_str()) {
        (true, _) => Field::mood("connected", Mood::Good),
        (false, "") => Field::mood("not connected", Mood::Bad),
        (false, why) => Field::mood(format!("not connected: {why}"), Mood::Bad),
    };
    let expires = match status.certificate_expires_at_ms {
        0 => String::new(),
        at => until(at, now_ms),
    };
    let certificate = [status.certificate_subject.as_str(), expires.as_str()];
    let certificate: Vec<_> = certificate.into_iter().filter(|text| !text.is_empty()).collect();
    let mut text = pairs(
        vec![
            ("Node", status.node.as_str().into()),
            ("Control plane", status.control.as_str().into()),
            ("Link", link),
            ("Term", status.term.into()),
            ("Pods", status.pods.into()),
            ("Open orders", status.open_orders.into()),
            ("Certificate", certificate.join(", expires ").into()),
            ("berthd", format!("{}, up {}", status.agent_version, age(status.started_at_ms, now_ms)).into()),
        ],
        style,
    );
    if let Some(host) = &status.facts {
        text.push_str(&section("Host", &facts(host, style)));
    }
    text
}

/// Pods of the node, one a row.
pub(crate) fn local_pods(pods: &[v1::LocalPod], style: Style) -> String {
    let row = |pod: &v1::LocalPod| {
        let status = pod.status.clone().unwrap_or_default();
        let address = addresses(&status.addresses);
        [
            identity(status.pod.as_ref()).into(),
            pod_phase(status.phase),
            run_state(pod.run_state).into(),
            format!("{}.{}", status.incarnation, status.generation).into(),
            address.into(),
            binding_short(pod.spec.as_ref().and_then(|spec| spec.cpu.as_ref())).into(),
            pod.next_step.as_str().into(),
            status.message.into(),
        ]
    };
    let header = ["POD", "PHASE", "WANTED", "REVISION", "ADDRESS", "CPUS", "NEXT STEP", "MESSAGE"];
    columns(header, pods.iter().map(row).collect(), style)
}

/// One pod of the node, all that is known of it here.
pub(crate) fn local_pod(pod: &v1::LocalPod, style: Style) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let mut text = pairs(
        vec![
            ("Pod", identity(status.pod.as_ref()).into()),
            ("Phase", pod_phase(status.phase)),
            ("Message", status.message.as_str().into()),
            ("Wanted", run_state(pod.run_state).into()),
            ("Next step", pod.next_step.as_str().into()),
            ("Open order", status.open_order.clone().unwrap_or_default().into()),
            (
                "Revision",
                format!(
                    "incarnation {}, generation {}, seq {}",
                    status.incarnation, status.generation, pod.seq
                )
                .into(),
            ),
            ("Hostname", if spec.host_network { "the host's" } else { spec.hostname.as_str() }.into()),
            ("Class", class(spec.class).into()),
            ("CPUs", binding(spec.cpu.as_ref()).into()),
            (
                "Address",
                if spec.host_network { "the host's".to_owned() } else { addresses(&spec.addresses) }.into(),
            ),
            ("Sandbox", status.sandbox_id.clone().unwrap_or_default().into()),
        ],
        style,
    );
    text.push_str(&section("Containers", &containers(&status, style)));
    text
}

fn containers(status: &v1::PodStatus, style: Style) -> String {
    let row = |container: &v1::ContainerStatus| {
        [
            container.name.as_str().into(),
            container_phase(container.phase.as_ref()),
            readiness(container.readiness.as_ref()).into(),
            container.attempt.into(),
            container.id.as_deref().unwrap_or_default().into(),
            container.image_digest.as_deref().unwrap_or_default().into(),
        ]
    };
    let rows: Vec<_> = status.containers.iter().map(row).collect();
    if rows.is_empty() {
        String::new()
    } else {
        columns(["NAME", "PHASE", "READY", "ATTEMPT", "ID", "IMAGE"], rows, style)
    }
}

/// Whether a container is ready, in a word.
pub(super) fn readiness(answer: Option<&v1::ProbeAnswer>) -> &'static str {
    match answer {
        Some(v1::ProbeAnswer { ready: true, .. }) => "yes",
        Some(v1::ProbeAnswer { ready: false, .. }) => "no",
        None => "-",
    }
}

/// Orders of the node, one a row.
pub(crate) fn local_orders(orders: &[v1::LocalOrder], now_ms: u64, style: Style) -> String {
    let row = |local: &v1::LocalOrder| {
        let order = local.order.as_ref();
        let (verb, target) = verb(order);
        let (state, why) = outcome(local.outcome.as_ref()).unwrap_or(("open", local.step.clone()));
        let why =
            if why.is_empty() { order.map(|order| order.reason.clone()).unwrap_or_default() } else { why };
        [
            order.map_or("", |order| &order.id).into(),
            verb.into(),
            target.into(),
            order_state(state),
            age(local.accepted_at_ms, now_ms).into(),
            why.into(),
        ]
    };
    let header = ["ORDER", "VERB", "TARGET", "STATE", "AGE", "STEP OR WHY"];
    columns(header, orders.iter().map(row).collect(), style)
}

/// Memory nodes, cores, and who holds which CPUs.
pub(crate) fn topology(node: &v1::NodeTopology, style: Style) -> String {
    let topology = node.topology.clone().unwrap_or_default();
    let mut text = pairs(
        vec![
            ("Online CPUs", topology.online_cpus.as_str().into()),
            ("Reserved CPUs", node.reserved_cpus.as_str().into()),
        ],
        style,
    );
    text.push_str(&section("Memory nodes", &memory_nodes(&topology, style)));
    let core =
        |core: &v1::Core| [core.id.into(), core.socket.into(), core.l3.into(), core.cpus.as_str().into()];
    let cores = topology.cores.iter().map(core).collect();
    text.push_str(&section("Cores", &columns(["CORE", "SOCKET", "L3", "CPUS"], cores, style)));
    let holder = |held: &v1::CpuHolder| {
        let how = if held.exclusive { "exclusive" } else { "shared" };
        [held.holder.as_str().into(), held.cpus.as_str().into(), held.mems.as_str().into(), how.into()]
    };
    let rows: Vec<[Field; 4]> = node.holders.iter().map(holder).collect();
    if !rows.is_empty() {
        text.push_str(&section("Holders", &columns(["HOLDER", "CPUS", "MEMS", "HOW"], rows, style)));
    }
    text
}

/// Ordered and kernel, side by side.
pub(super) fn controls(applied: &v1::Applied, style: Style) -> String {
    use v1::control::Read;
    let row = |control: &v1::Control| {
        let (kernel, verdict) = match &control.read {
            Some(Read::Text(text)) if *text == control.ordered => {
                (text.clone(), Field::mood("ok", Mood::Good))
            }
            Some(Read::Text(text)) => (text.clone(), Field::mood("DIFFERS", Mood::Bad)),
            Some(Read::Unreadable(why)) => (why.clone(), Field::mood("UNREADABLE", Mood::Bad)),
            None => (String::new(), Field::mood("NOT READ", Mood::Bad)),
        };
        [control.file.as_str().into(), control.ordered.as_str().into(), kernel.into(), verdict]
    };
    let rows: Vec<_> = applied.controls.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { columns(["CONTROL", "ORDERED", "KERNEL", ""], rows, style) }
}

/// What the kernel says of a control, or why it does not.
pub(crate) fn found(control: &v1::Control) -> String {
    use v1::control::Read;
    match &control.read {
        Some(Read::Text(text)) => text.clone(),
        Some(Read::Unreadable(why)) => format!("unreadable: {why}"),
        None => String::new(),
    }
}

/// Controls that are not as they were ordered, with whose they are.
pub(crate) fn differing(controls: &[(String, v1::Control)], style: Style) -> String {
    let row = |(of, control): &(String, v1::Control)| {
        [
            of.as_str().into(),
            control.file.as_str().into(),
            control.ordered.as_str().into(),
            found(control).into(),
        ]
    };
    columns(["OF", "CONTROL", "ORDERED", "KERNEL"], controls.iter().map(row).collect(), style)
}

/// A pod's cgroups: ordered and kernel side by side, then statistics.
pub(crate) fn cgroup(response: &v1::GetCgroupResponse, style: Style) -> String {
    let mut text = String::new();
    for view in &response.cgroups {
        if !text.is_empty() {
            text.push('\n');
        }
        let applied = view.applied.clone().unwrap_or_default();
        text.push_str(&format!("{}  {}", view.of, applied.cgroup).replace(char::is_control, " "));
        text.push_str("\n\n");
        text.push_str(&controls(&applied, style));
        let statistics: BTreeMap<_, _> = view.statistics.iter().collect();
        let rows: Vec<[Field; 2]> = statistics
            .into_iter()
            .map(|(name, value)| [name.as_str().into(), value.as_str().into()])
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&columns(["STATISTIC", "VALUE"], rows, style));
        }
    }
    text
}

/// What pods or containers use.
pub(crate) fn top(rows: &[Use], style: Style) -> String {
    let told = |bytes: Option<u64>| bytes.map(size).unwrap_or_default();
    let rate = |bytes: Option<u64>| bytes.map(|bytes| format!("{}/s", size(bytes))).unwrap_or_default();
    let row = |row: &Use| {
        let cpus = row.milli_cpu.map(|milli| format!("{}.{:03}", milli / 1_000, milli % 1_000));
        [
            row.pod.as_str().into(),
            row.container.as_deref().unwrap_or_default().into(),
            cpus.unwrap_or_default().into(),
            told(row.memory).into(),
            told(row.memory_max).into(),
            row.pids.map(|pids| pids.to_string()).unwrap_or_default().into(),
            rate(row.read).into(),
            rate(row.written).into(),
        ]
    };
    let header = ["POD", "CONTAINER", "CPUS", "MEMORY", "OF", "PIDS", "READ", "WRITTEN"];
    columns(header, rows.iter().map(row).collect(), style)
}

/// Address grants and the interfaces that have them.
pub(crate) fn leases(leases: &[v1::AddressLease], style: Style) -> String {
    let row = |(lease, grant): (&v1::AddressLease, &v1::AddressGrant)| {
        let attachments: Vec<_> = lease.attachments.iter().map(attachment).collect();
        [
            grant.address.as_str().into(),
            identity(lease.pod.as_ref()).into(),
            lease.incarnation.into(),
            grant.pool.as_str().into(),
            grant.gateway.as_deref().unwrap_or_default().into(),
            attachments.join(", ").into(),
        ]
    };
    let header = ["ADDRESS", "POD", "INCARNATION", "POOL", "GATEWAY", "ATTACHED TO"];
    let grants = leases.iter().flat_map(|lease| lease.grants.iter().map(move |grant| (lease, grant)));
    columns(header, grants.map(row).collect(), style)
}

fn attachment(at: &v1::Attachment) -> String {
    format!("{}:{}", at.sandbox_id.get(..12).unwrap_or(&at.sandbox_id), at.interface)
}

/// Data disks and system disks.
pub(crate) fn disks(disks: &[v1::LocalDisk], style: Style) -> String {
    let told = |bytes: Option<u64>| bytes.map(size).unwrap_or_default();
    let row = |disk: &v1::LocalDisk| {
        let kind = match disk.kind() {
            Kind::Unspecified => "?",
            Kind::Directory => "directory",
            Kind::Device => "device",
            Kind::System => "system",
            Kind::Memory => "memory",
        };
        [
            identity(disk.pod.as_ref()).into(),
            disk.name.as_str().into(),
            kind.into(),
            if disk.kept { "kept" } else { "in use" }.into(),
            told(disk.used_bytes).into(),
            told(disk.limit_bytes).into(),
            disk.source.as_str().into(),
        ]
    };
    let header = ["POD", "NAME", "KIND", "STATE", "USED", "LIMIT", "SOURCE"];
    columns(header, disks.iter().map(row).collect(), style)
}

/// Images. One without a name is called by its digest.
pub(crate) fn images(images: &[v1::LocalImage], style: Style) -> String {
    let row = |image: &v1::LocalImage| {
        let called = if image.names.is_empty() { &image.digests } else { &image.names };
        let users: Vec<_> = image.used_by.iter().map(|pod| identity(Some(pod))).collect();
        [
            called.join(", ").into(),
            size(image.size_bytes).into(),
            image.digests.join(", ").into(),
            users.join(", ").into(),
        ]
    };
    columns(["IMAGE", "SIZE", "DIGEST", "USED BY"], images.iter().map(row).collect(), style)
}

/// Who had which address when, the newest first.
pub(crate) fn tenures(tenures: &[v1::Tenure], now_ms: u64, style: Style) -> String {
    let row = |tenure: &v1::Tenure| {
        let detached = match tenure.detached_at_ms {
            Some(at_ms) => age(at_ms, now_ms),
            None => "still attached".to_owned(),
        };
        [
            tenure.addresses.join(", ").into(),
            identity(tenure.pod.as_ref()).into(),
            tenure.incarnation.into(),
            tenure.attachment.as_ref().map(attachment).unwrap_or_default().into(),
            age(tenure.attached_at_ms, now_ms).into(),
            detached.into(),
        ]
    };
    let header = ["ADDRESS", "POD", "INCARNATION", "ATTACHED TO", "SINCE", "UNTIL"];
    columns(header, tenures.iter().map(row).collect(), style)
}

/// Findings, the worst first, each with what to do about it.
pub(crate) fn findings(findings: &[v1::Finding], style: Style) -> String {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let row = |finding: &&v1::Finding| {
        let level = match v1::finding::Level::try_from(finding.level) {
            Ok(v1::finding::Level::Ok) => Field::mood("ok", Mood::Good),
            Ok(v1::finding::Level::Warning) => Field::mood("warning", Mood::Wait),
            Ok(v1::finding::Level::Error) => Field::mood("ERROR", Mood::Bad),
            Ok(v1::finding::Level::Unspecified) | Err(_) => "?".into(),
        };
        [level, finding.check.as_str().into(), finding.found.as_str().into(), finding.remedy.as_str().into()]
    };
    columns(["LEVEL", "CHECK", "FOUND", "REMEDY"], sorted.iter().map(row).collect(), style)
}

/// One order of the node.
pub(crate) fn local_order(local: &v1::LocalOrder, now_ms: u64, style: Style) -> String {
    let order = local.order.clone().unwrap_or_default();
    let (verb, target) = verb(local.order.as_ref());
    let (state, why) = outcome(local.outcome.as_ref()).unwrap_or(("open", String::new()));
    pairs(
        vec![
            ("Order", order.id.as_str().into()),
            ("Verb", verb.into()),
            ("Target", target.into()),
            ("Reason", order.reason.as_str().into()),
            ("State", order_state(state)),
            ("Why", why.into()),
            ("Step", local.step.as_str().into()),
            ("Term", order.term.into()),
            ("Deadline", format!("{} ms from receipt", order.deadline_ms).into()),
            ("Accepted", format!("{} ago", age(local.accepted_at_ms, now_ms)).into()),
        ],
        style,
    )
}
