//! What the control plane knows: pods, orders, nodes, pools.

use super::words::{
    addresses, age, binding, binding_short, class, container_phase, identity, node_state, order_state,
    outcome, pod_phase, pod_state_field, size, verb,
};
use super::{Field, Mood, Style, columns, pairs, section};
use berth_proto::v1;

/// How much a list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// What is looked for most.
    Narrow,
    /// More columns.
    Wide,
}

fn address(pod: &v1::Pod) -> String {
    let ordered = pod.spec.as_ref().map(|spec| &spec.addresses).filter(|grants| !grants.is_empty());
    let reported = pod.status.as_ref().map(|status| &status.addresses);
    ordered.or(reported).map_or_else(String::new, |grants| addresses(grants))
}

fn message(pod: &v1::Pod) -> &str {
    let reported = pod.status.as_ref().map_or("", |status| &status.message);
    if pod.message.is_empty() { reported } else { &pod.message }
}

fn kept(pod: &v1::Pod) -> String {
    let one = |kept: &v1::KeptDisks| format!("{} (incarnation {})", kept.node, kept.incarnation);
    pod.kept.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn revision(pod: &v1::Pod) -> String {
    let text =
        |revision: &v1::PodRevision| format!("{} to generation {}", revision.verb, revision.generation);
    pod.revision.as_ref().map(text).unwrap_or_default()
}

fn phase(pod: &v1::Pod) -> Field {
    pod.status.as_ref().map_or_else(|| "".into(), |status| pod_phase(status.phase))
}

/// Pods, one a row.
pub(crate) fn pods(pods: &[v1::Pod], width: Width, style: Style) -> String {
    let narrow = |pod: &v1::Pod| {
        let node = pod.node.clone().unwrap_or_default();
        [
            identity(pod.pod.as_ref()).into(),
            pod_state_field(pod.state),
            phase(pod),
            node.into(),
            address(pod).into(),
            binding_short(pod.spec.as_ref().and_then(|spec| spec.cpu.as_ref())).into(),
            message(pod).into(),
        ]
    };
    let wide = |pod: &v1::Pod| {
        let [id, state, phase, node, address, cpus, message] = narrow(pod);
        let request = pod.request.as_ref();
        let containers = request.map_or(0, |request| request.containers.len());
        let class = request.map_or("", |request| class(request.class));
        let revision = format!("{}.{}", pod.incarnation, pod.generation);
        [id, state, phase, node, address, cpus, class.into(), revision.into(), containers.into(), message]
    };
    match width {
        Width::Narrow => {
            let header = ["POD", "STATE", "PHASE", "NODE", "ADDRESS", "CPUS", "MESSAGE"];
            columns(header, pods.iter().map(narrow).collect(), style)
        }
        Width::Wide => {
            let header = [
                "POD",
                "STATE",
                "PHASE",
                "NODE",
                "ADDRESS",
                "CPUS",
                "CLASS",
                "REVISION",
                "CONTAINERS",
                "MESSAGE",
            ];
            columns(header, pods.iter().map(wide).collect(), style)
        }
    }
}

/// One pod, all that is known of it.
pub(crate) fn pod(pod: &v1::Pod, style: Style) -> String {
    let request = pod.request.as_ref();
    let spec = pod.spec.as_ref();
    let field = |text: &str| Field::from(text);
    let mut text = pairs(
        vec![
            ("Pod", identity(pod.pod.as_ref()).into()),
            ("State", pod_state_field(pod.state)),
            ("Phase", phase(pod)),
            ("Message", field(message(pod))),
            ("Under way", revision(pod).into()),
            ("Disks kept on", kept(pod).into()),
            ("Node", field(pod.node.as_deref().unwrap_or_default())),
            ("Address", address(pod).into()),
            ("CPUs", binding(spec.and_then(|spec| spec.cpu.as_ref())).into()),
            ("Class", field(request.map_or("", |request| class(request.class)))),
            (
                "Revision",
                format!("incarnation {}, generation {}, seq {}", pod.incarnation, pod.generation, pod.seq)
                    .into(),
            ),
        ],
        style,
    );
    text.push_str(&section("Containers", &containers(pod, style)));
    let controls = pod.status.iter().flat_map(|status| {
        let own = status.applied.as_ref().map(|applied| ("pod", applied));
        own.into_iter().chain(status.containers.iter().filter_map(|container| {
            container.applied.as_ref().map(|applied| (container.name.as_str(), applied))
        }))
    });
    for (of, applied) in controls {
        text.push_str(&section(
            &format!("Controls of {of}, {}", applied.cgroup),
            &super::local::controls(applied, style),
        ));
    }
    text.push_str(&section("Open orders", &open_orders(&pod.orders, style)));
    text
}

fn containers(pod: &v1::Pod, style: Style) -> String {
    let asked = pod.request.iter().flat_map(|request| &request.containers);
    let row = |container: &v1::ContainerRequest| {
        let reported = pod.status.iter().flat_map(|status| &status.containers);
        let status = reported.into_iter().find(|status| status.name == container.name);
        let phase = status.map_or_else(|| "".into(), |status| container_phase(status.phase.as_ref()));
        let ready = status.map_or("", |status| super::local::readiness(status.readiness.as_ref()));
        let attempt = status.map(|status| status.attempt.to_string()).unwrap_or_default();
        [container.name.as_str().into(), phase, ready.into(), attempt.into(), container.image.as_str().into()]
    };
    let rows: Vec<_> = asked.map(row).collect();
    if rows.is_empty() {
        String::new()
    } else {
        columns(["NAME", "PHASE", "READY", "ATTEMPT", "IMAGE"], rows, style)
    }
}

fn open_orders(orders: &[v1::Order], style: Style) -> String {
    let row = |order: &v1::Order| {
        let (verb, _) = verb(Some(order));
        [order.id.as_str().into(), verb.into(), order.node.as_str().into(), order.reason.as_str().into()]
    };
    let rows: Vec<_> = orders.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { columns(["ORDER", "VERB", "NODE", "REASON"], rows, style) }
}

/// One line about a change that a watch brought; nothing for its mark.
pub(crate) fn pod_event(event: &v1::PodEvent) -> Option<String> {
    use v1::pod_event::Event;
    match event.event.as_ref()? {
        Event::Changed(pod) => {
            let node = pod.node.as_deref().unwrap_or("-");
            let mut line = format!(
                "{:<32} {:<9} {:<9} {node:<16}",
                identity(pod.pod.as_ref()),
                pod_state_field(pod.state).text,
                phase(pod).text
            );
            line.push_str(message(pod));
            Some(line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
        }
        Event::Released(pod) => {
            Some(format!("{:<32} {:<9}", identity(Some(pod)), "Released").trim_end().to_owned())
        }
        Event::Synced(_) => None,
    }
}

/// Orders, one a row, in the order that they come in.
pub(crate) fn orders(orders: &[v1::OrderRecord], now_ms: u64, style: Style) -> String {
    let row = |record: &v1::OrderRecord| {
        let order = record.order.as_ref();
        let (verb, target) = verb(order);
        let why = outcome(record.outcome.as_ref()).map(|(_, why)| why).filter(|why| !why.is_empty());
        let why = why.unwrap_or_else(|| order.map(|order| order.reason.clone()).unwrap_or_default());
        [
            order.map_or("", |order| &order.id).into(),
            verb.into(),
            target.into(),
            order.map_or("", |order| &order.node).into(),
            order_state(&record.state),
            age(record.created_at_ms, now_ms).into(),
            why.into(),
        ]
    };
    let header = ["ORDER", "VERB", "TARGET", "NODE", "STATE", "AGE", "WHY"];
    columns(header, orders.iter().map(row).collect(), style)
}

/// Nodes, one a row.
pub(crate) fn nodes(nodes: &[v1::NodeRecord], now_ms: u64, style: Style) -> String {
    let row = |node: &v1::NodeRecord| {
        let facts = node.facts.clone().unwrap_or_default();
        let online = facts.topology.map(|topology| topology.online_cpus).unwrap_or_default();
        let allocatable = facts.memory_bytes.saturating_sub(facts.reserved_memory_bytes);
        let memory = match allocatable {
            0 => String::new(),
            bytes => format!("{}/{}", size(node.requested_memory_bytes), size(bytes)),
        };
        [
            node.name.as_str().into(),
            node_state(node.state),
            age(node.last_heartbeat_at_ms, now_ms).into(),
            node.pods.into(),
            online.into(),
            node.free_cpus.as_str().into(),
            memory.into(),
            facts.runtime.into(),
            facts.agent_version.into(),
        ]
    };
    let header = ["NODE", "STATE", "HEARTBEAT", "PODS", "CPUS", "FREE", "MEMORY", "RUNTIME", "BERTHD"];
    columns(header, nodes.iter().map(row).collect(), style)
}

/// One node, all that is known of it.
pub(crate) fn node(node: &v1::NodeRecord, now_ms: u64, style: Style) -> String {
    let facts = node.facts.clone().unwrap_or_default();
    let heartbeat = match node.last_heartbeat_at_ms {
        0 => "never".to_owned(),
        at => format!("{} ago", age(at, now_ms)),
    };
    let revoked = match node.certificates_from_ms {
        0 => String::new(),
        at => format!("all that began more than {} ago", age(at, now_ms)),
    };
    let mut text = pairs(
        vec![
            ("Node", node.name.as_str().into()),
            ("State", node_state(node.state)),
            ("Heartbeat", heartbeat.into()),
            ("Pods", node.pods.into()),
            ("Free CPUs", node.free_cpus.as_str().into()),
            ("Memory requested", size(node.requested_memory_bytes).into()),
            (
                "Still to be evicted",
                node.fenced.iter().map(|pod| identity(Some(pod))).collect::<Vec<_>>().join(", ").into(),
            ),
            ("Certificates revoked", revoked.into()),
        ],
        style,
    );
    let shared = |pool: &v1::SharedPool| {
        [
            pool.pool.as_str().into(),
            pool.cpus.as_str().into(),
            pool.mems.as_str().into(),
            pool.generation.into(),
        ]
    };
    let rows: Vec<_> = node.shared_pools.iter().map(shared).collect();
    let shared = if rows.is_empty() {
        String::new()
    } else {
        columns(["POOL", "CPUS", "MEMS", "GENERATION"], rows, style)
    };
    if node.facts.is_some() {
        text.push_str(&section("Host", &super::local::facts(&facts, style)));
    }
    text.push_str(&section("Shared CPUs", &shared));
    text.push_str(&super::local::parts(&facts, style));
    text
}

/// Pools, one a row, and below them who holds what.
pub(crate) fn pools(response: &v1::ListPoolsResponse, style: Style) -> String {
    let row = |pool: &v1::AddressPool| {
        let assigned = format!("{}/{}", pool.assigned, pool.size);
        let full = pool.size > 0 && pool.assigned >= pool.size;
        [
            pool.name.as_str().into(),
            pool.network.as_str().into(),
            pool.first.as_str().into(),
            pool.last.as_str().into(),
            pool.gateway.as_deref().unwrap_or_default().into(),
            if full { Field::mood(assigned, Mood::Bad) } else { assigned.into() },
        ]
    };
    let header = ["POOL", "NETWORK", "FIRST", "LAST", "GATEWAY", "ASSIGNED"];
    let mut text = columns(header, response.pools.iter().map(row).collect(), style);
    let holder = |held: &v1::Assignment| {
        [held.address.as_str().into(), held.pool.as_str().into(), identity(held.pod.as_ref()).into()]
    };
    let rows: Vec<_> = response.assignments.iter().map(holder).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&columns(["ADDRESS", "POOL", "POD"], rows, style));
    }
    text
}
