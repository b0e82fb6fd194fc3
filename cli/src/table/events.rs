//! What has happened, a line each.

use super::words::identity;
use super::{Field, Mood, Style, columns};
use berth_proto::v1;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Events as a table, in the order in which they are given.
pub(crate) fn events(events: &[v1::Event], style: Style) -> String {
    let header = ["TIME", "NODE", "POD", "CONTAINER", "WHAT", "MESSAGE"];
    columns(header, events.iter().map(row).collect(), style)
}

/// One event as it comes.
pub(crate) fn event_line(event: &v1::Event) -> String {
    let words = row(event).map(|field| match field.text.trim() {
        "" => "-".to_owned(),
        text => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
    });
    words.join("  ")
}

fn row(event: &v1::Event) -> [Field; 6] {
    let pod = event.pod.as_ref().map(|pod| identity(Some(pod))).unwrap_or_default();
    [
        Field::from(utc(event.at_ms)),
        Field::from(&event.node),
        Field::from(pod),
        Field::from(event.container.as_deref().unwrap_or_default()),
        of_code(&event.code),
        Field::from(&event.message),
    ]
}

/// Codes of a newer node are as good as any.
fn of_code(code: &str) -> Field {
    match code {
        "OomKill" | "ContainerNotReady" | "UnknownContainer" | "ControlDrift" | "PressureHigh" => {
            Field::mood(code, Mood::Bad)
        }
        "ContainerReady" | "PressureOver" => Field::mood(code, Mood::Good),
        _ => Field::from(code),
    }
}

/// A moment as RFC 3339 has it, to the millisecond; empty where it is beyond what that can say.
fn utc(at_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::Event {
        v1::Event {
            at_ms: 1_795_340_000_250,
            node: "node-1".to_owned(),
            pod: Some(v1::PodRef { namespace: "shop".to_owned(), name: "web".to_owned() }),
            container: Some("main".to_owned()),
            code: "ContainerExited".to_owned(),
            message: "attempt 1 has ended\nwith code 3 (Error)".to_owned(),
            ..v1::Event::default()
        }
    }

    #[test]
    fn events_as_a_table_and_as_they_come() {
        let of_node = v1::Event { pod: None, container: None, at_ms: 0, ..event() };
        insta::assert_snapshot!(events(&[event(), of_node.clone()], Style::Plain));
        insta::assert_snapshot!(format!("{}\n{}", event_line(&event()), event_line(&of_node)));
        assert_eq!(utc(u64::MAX), "");
    }
}
