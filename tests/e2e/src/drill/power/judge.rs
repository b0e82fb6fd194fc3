//! The judgement, of plain data: what was acknowledged is neither lost nor done twice, and addresses stay.

use super::view::{ControlView, NodeView, OrderView};
use crate::raw_cri::Container;
use std::collections::BTreeMap;

/// What is still under way: orders without an end, and pods that are not as ordered.
pub(crate) fn unsettled(control: &ControlView, node: &NodeView, running: &[Container]) -> Vec<String> {
    let mut found = Vec::new();
    let ended = |order: &&OrderView| !matches!(order.state.as_str(), "done" | "failed" | "refused");
    found.extend(
        control.orders.iter().filter(ended).map(|order| format!("order {} is {}", order.id, order.state)),
    );
    let open = node.orders.iter().filter(|order| order.outcome.is_null());
    found.extend(open.map(|order| format!("order {} is open on the node", order.id)));
    for (name, pod) in &control.pods {
        let runs = running.iter().filter(|container| container.pod == *name).count();
        let wanted = match pod.state.as_str() {
            "Running" => 1,
            "Stopped" | "Evicted" => 0,
            // What could not be done may have left it either way; the order says so.
            "Failed" => runs.min(1),
            under_way => {
                found.push(format!("{name} is {under_way}"));
                continue;
            }
        };
        if runs != wanted {
            found.push(format!("{name} is {} and {runs} containers of it run", pod.state));
        }
    }
    let unknown = running.iter().filter(|container| !control.pods.contains_key(&container.pod));
    found.extend(unknown.map(|container| format!("{} runs, which nobody has ordered", container.pod)));
    let busy = node.pods.iter().filter(|(_, pod)| pod.next_step != "nothing");
    found.extend(busy.map(|(name, pod)| format!("{name} is to {}", pod.next_step)));
    found
}

/// Orders that the node had acknowledged and no longer knows, or that ended in two ways.
pub(crate) fn orders(told: &ControlView, control: &ControlView, node: &NodeView) -> Vec<String> {
    let mut found = Vec::new();
    let on_node: BTreeMap<&str, &OrderView> =
        node.orders.iter().map(|order| (order.id.as_str(), order)).collect();
    if on_node.len() != node.orders.len() {
        found.push(format!("the node has {} orders under {} ids", node.orders.len(), on_node.len()));
    }
    for order in told.acknowledged() {
        match on_node.get(order.id.as_str()) {
            None => {
                found.push(format!("order {} was {}, and the node does not know it", order.id, order.state));
            }
            Some(now) if !order.outcome.is_null() && now.outcome != order.outcome => {
                found.push(format!(
                    "order {} had ended with {}, and now {}",
                    order.id, order.outcome, now.outcome
                ));
            }
            Some(_) => {}
        }
    }
    for order in &control.orders {
        if let Some(now) = on_node.get(order.id.as_str()).filter(|now| now.outcome != order.outcome) {
            found.push(format!(
                "order {} ended with {} on the node, with {} here",
                order.id, now.outcome, order.outcome
            ));
        }
    }
    found
}

/// Pods whose assigned address is another one than when the power went, though they are the same incarnation.
pub(crate) fn addresses(told: &ControlView, control: &ControlView) -> Vec<String> {
    let changed = |(name, was): (&String, &super::view::PodView)| {
        let is = control.pods.get(name).filter(|is| is.incarnation == was.incarnation)?;
        let both = was.address.as_ref().zip(is.address.as_ref());
        both.filter(|(was, is)| was != is).map(|(was, is)| format!("{name} had address {was}, has {is}"))
    };
    told.pods.iter().filter_map(changed).collect()
}

/// Pods whose interface has another address than the one assigned, and addresses with two owners.
pub(crate) fn addresses_inside(control: &ControlView, inside: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, address) in inside {
        let assigned = control.pods.get(name).and_then(|pod| pod.address.as_deref());
        if assigned != Some(address) {
            found.push(format!("{name} has address {address}, assigned is {assigned:?}"));
        }
        if let Some(other) = owners.insert(address, name) {
            found.push(format!("{name} and {other} both have address {address}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::power::view::{LocalPod, PodView};
    use serde_json::{Value, json};

    fn order(id: &str, state: &str, outcome: Value) -> OrderView {
        OrderView { id: id.to_owned(), state: state.to_owned(), outcome }
    }

    fn control(orders: Vec<OrderView>, pods: &[(&str, &str, &str)]) -> ControlView {
        let pod = |(name, state, address): &(&str, &str, &str)| {
            let address = Some((*address).to_owned());
            ((*name).to_owned(), PodView { state: (*state).to_owned(), incarnation: 1, address })
        };
        ControlView { orders, pods: pods.iter().map(pod).collect() }
    }

    fn node(orders: Vec<OrderView>) -> NodeView {
        NodeView { orders, pods: BTreeMap::new() }
    }

    fn done() -> Value {
        json!({"done": {}})
    }

    #[test]
    fn acknowledged_orders() {
        let check = |told: Vec<OrderView>, on_node: Vec<OrderView>, expected: &[&str]| {
            let told = control(told, &[]);
            let found = orders(&told, &control(Vec::new(), &[]), &node(on_node));
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().zip(expected).all(|(found, part)| found.contains(part)), "{found:?}");
        };
        check(vec![order("a", "done", done())], vec![order("a", "", done())], &[]);
        check(vec![order("a", "accepted", Value::Null)], vec![order("a", "", done())], &[]);
        check(vec![order("a", "sent", Value::Null)], Vec::new(), &[]);
        let withdrawn = json!({"failed": {"details": {"why": "evicted before any node was told of it"}}});
        check(vec![order("a", "failed", withdrawn)], Vec::new(), &[]);
        check(vec![order("a", "failed", json!({"failed": {}}))], Vec::new(), &["does not know it"]);
        check(vec![order("a", "accepted", Value::Null)], Vec::new(), &["does not know it"]);
        check(vec![order("a", "done", done())], vec![order("a", "", Value::Null)], &["had ended with"]);
        check(Vec::new(), vec![order("a", "", done()), order("a", "", done())], &["2 orders under 1 ids"]);
    }

    #[test]
    fn both_sides_agree_in_the_end() {
        let now = control(vec![order("a", "failed", json!({"failed": {}}))], &[]);
        let found = orders(&control(Vec::new(), &[]), &now, &node(vec![order("a", "", done())]));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    fn container(pod: &str) -> Container {
        let text = String::new;
        Container {
            pod: pod.to_owned(),
            id: text(),
            sandbox: text(),
            image: text(),
            pid: 1,
            started_at_ns: 0,
        }
    }

    #[test]
    fn settled_is_what_runs_as_ordered_and_has_no_open_order() {
        let check = |control: &ControlView, running: &[&str], expected: usize| {
            let running: Vec<_> = running.iter().map(|pod| container(pod)).collect();
            let found = unsettled(control, &node(Vec::new()), &running);
            assert_eq!(found.len(), expected, "{found:?}");
        };
        let pods = control(Vec::new(), &[("d/a", "Running", "1"), ("d/b", "Stopped", "2")]);
        check(&pods, &["d/a"], 0);
        check(&pods, &[], 1);
        check(&pods, &["d/a", "d/a"], 1);
        check(&pods, &["d/a", "d/b"], 1);
        check(&pods, &["d/a", "d/c"], 1);
        check(&control(vec![order("a", "sent", Value::Null)], &[("d/a", "Placed", "1")]), &[], 2);
        let mut busy = node(vec![order("a", "", Value::Null)]);
        busy.pods.insert("d/a".to_owned(), LocalPod { next_step: "start".to_owned(), ..LocalPod::default() });
        assert_eq!(unsettled(&control(Vec::new(), &[]), &busy, &[]).len(), 2);
    }

    #[test]
    fn addresses_stay_and_have_one_owner() {
        let told = control(Vec::new(), &[("d/a", "Running", "1")]);
        assert!(addresses(&told, &told).is_empty());
        let other = control(Vec::new(), &[("d/a", "Running", "2")]);
        assert_eq!(addresses(&told, &other), ["d/a had address 1, has 2"]);
        let inside = |pairs: &[(&str, &str)]| {
            let inside =
                pairs.iter().map(|(pod, address)| ((*pod).to_owned(), (*address).to_owned())).collect();
            addresses_inside(
                &control(Vec::new(), &[("d/a", "Running", "1"), ("d/b", "Running", "1")]),
                &inside,
            )
        };
        assert!(inside(&[("d/a", "1")]).is_empty());
        assert_eq!(inside(&[("d/a", "1"), ("d/b", "1")]), ["d/b and d/a both have address 1"]);
        assert_eq!(inside(&[("d/a", "3")]).len(), 1);
    }
}
