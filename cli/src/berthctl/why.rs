//! `berthctl why`: what a pod waits for, and what is not as it was ordered, from all that the node knows.

use crate::json::to_json;
use crate::output::now_ms;
use crate::table::{self, Style};
use berth_proto::v1;
use serde_json::{Value, json};
use v1::finding::Level;

/// Events that are shown: the newest.
const EVENTS: usize = 10;

/// All that may say why.
pub(super) struct Why {
    /// The pod, as it was last looked at.
    pub(super) pod: v1::LocalPod,
    /// The orders for it that this node knows, the oldest first.
    pub(super) orders: Vec<v1::LocalOrder>,
    /// What has happened to it, the oldest first.
    pub(super) events: Vec<v1::Event>,
    /// What is wrong with the host.
    pub(super) findings: Vec<v1::Finding>,
}

impl Why {
    /// Leaves out what is long past, and of the host what is well.
    pub(super) fn new(
        pod: v1::LocalPod,
        orders: Vec<v1::LocalOrder>,
        mut events: Vec<v1::Event>,
        findings: Vec<v1::Finding>,
    ) -> Self {
        let name = pod.status.as_ref().and_then(|status| status.pod.clone());
        let is_for = |order: &v1::LocalOrder| {
            let target = order.order.as_ref().and_then(|order| order.target.as_ref());
            matches!(target, Some(v1::order::Target::Pod(target)) if target.pod == name)
        };
        events.drain(..events.len().saturating_sub(EVENTS));
        Self {
            orders: orders.into_iter().filter(is_for).collect(),
            findings: findings.into_iter().filter(|finding| finding.level() != Level::Ok).collect(),
            pod,
            events,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "pod": to_json(&self.pod),
            "differing": self.differing().iter().map(|(of, control)| json!({
                "of": of, "file": control.file, "ordered": control.ordered, "found": table::found(control),
            })).collect::<Vec<_>>(),
            "orders": self.orders.iter().map(to_json).collect::<Vec<_>>(),
            "events": self.events.iter().map(to_json).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(to_json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self, style: Style) -> String {
        let mut text = table::local_pod(&self.pod, style);
        let differing = self.differing();
        text.push_str(&table::part("Not as ordered", &differing, |all| table::differing(all, style)));
        text.push_str(&table::part("Orders", &self.orders, |all| table::local_orders(all, now_ms(), style)));
        text.push_str(&table::part("Events", &self.events, |all| table::events(all, style)));
        text.push_str(&table::part("Wrong with the host", &self.findings, |all| table::findings(all, style)));
        text
    }

    /// Controls that are not as they were ordered, and whose they are.
    fn differing(&self) -> Vec<(String, v1::Control)> {
        let Some(status) = &self.pod.status else { return Vec::new() };
        let of_pod = status.applied.iter().map(|applied| ("pod".to_owned(), applied));
        let containers = status.containers.iter();
        let parts = containers.filter_map(|one| Some((one.name.clone(), one.applied.as_ref()?)));
        let controls = of_pod.chain(parts).flat_map(|(of, applied)| {
            applied.controls.iter().map(move |control| (of.clone(), control.clone()))
        });
        controls.filter(|(_, control)| table::found(control) != control.ordered).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(file: &str, ordered: &str, read: &str) -> v1::Control {
        let read = Some(v1::control::Read::Text(read.to_owned()));
        v1::Control { file: file.to_owned(), ordered: ordered.to_owned(), read }
    }

    #[test]
    fn only_what_may_say_why_is_shown() {
        let name = v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() };
        let applied = v1::Applied {
            cgroup: "/berth.slice".to_owned(),
            controls: vec![control("cpu.weight", "100", "7"), control("pids.max", "9", "9")],
        };
        let status =
            v1::PodStatus { pod: Some(name.clone()), applied: Some(applied), ..v1::PodStatus::default() };
        let order = |pod: &str| {
            let pod = Some(v1::PodRef { name: pod.to_owned(), ..name.clone() });
            let target = v1::order::Target::Pod(v1::PodOrder { pod, ..v1::PodOrder::default() });
            let order = v1::Order { target: Some(target), ..v1::Order::default() };
            v1::LocalOrder { order: Some(order), ..v1::LocalOrder::default() }
        };
        let event = |at_ms| v1::Event { at_ms, ..v1::Event::default() };
        let finding = |level: Level| v1::Finding { level: level.into(), ..v1::Finding::default() };
        let why = Why::new(
            v1::LocalPod { status: Some(status), ..v1::LocalPod::default() },
            vec![order("web"), order("db")],
            (1..=12).map(event).collect(),
            vec![finding(Level::Ok), finding(Level::Warning)],
        );
        assert_eq!((why.orders.len(), why.findings.len()), (1, 1));
        assert_eq!(
            why.events.iter().map(|event| event.at_ms).collect::<Vec<_>>(),
            (3..=12).collect::<Vec<_>>()
        );
        let json = why.to_json();
        assert_eq!(json["differing"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&json["differing"][0]["file"], &json["differing"][0]["found"]),
            (&"cpu.weight".into(), &"7".into())
        );
        let text = why.text(Style::Plain);
        assert!(text.contains("Not as ordered") && !text.contains("pids.max"), "{text}");
    }
}
