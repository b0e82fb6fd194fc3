//! Rollouts and their pods.

use super::words::{age, identity};
use super::{Field, Mood, Style, columns, pairs, section};
use berth_proto::v1;

fn state(rollout: &v1::Rollout) -> Field {
    let undoing = if rollout.undoing { " (undo)" } else { "" };
    match rollout.state() {
        v1::RolloutState::Running => Field::mood(format!("Running{undoing}"), Mood::Wait),
        v1::RolloutState::Paused => Field::mood(format!("Paused{undoing}"), Mood::Bad),
        v1::RolloutState::Done => Field::mood(format!("Done{undoing}"), Mood::Good),
        v1::RolloutState::Unspecified => "?".into(),
    }
}

fn progress(rollout: &v1::Rollout) -> String {
    let counts = [
        (rollout.done, "done"),
        (rollout.undone, "undone"),
        (rollout.under_way, "under way"),
        (rollout.waiting, "waiting"),
        (rollout.rolled_back, "rolled back"),
        (rollout.skipped, "passed over"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// Rollouts, one a row.
pub(crate) fn rollouts(rollouts: &[v1::Rollout], now_ms: u64, style: Style) -> String {
    let row = |rollout: &v1::Rollout| {
        [
            rollout.name.as_str().into(),
            state(rollout),
            progress(rollout).into(),
            age(rollout.changed_at_ms, now_ms).into(),
            rollout.message.as_str().into(),
        ]
    };
    columns(["ROLLOUT", "STATE", "PODS", "CHANGED", "MESSAGE"], rollouts.iter().map(row).collect(), style)
}

/// One rollout, all that is known of it.
pub(crate) fn rollout(rollout: &v1::Rollout, now_ms: u64, style: Style) -> String {
    let mut text = pairs(
        vec![
            ("Rollout", rollout.name.as_str().into()),
            ("State", state(rollout)),
            ("Message", rollout.message.as_str().into()),
            ("Pods", progress(rollout).into()),
            ("Unavailable", format!("at most {}", rollout.max_unavailable).into()),
            ("Reason", rollout.reason.as_str().into()),
            ("Changed", format!("{} ago", age(rollout.changed_at_ms, now_ms)).into()),
        ],
        style,
    );
    let rows: Vec<_> = rollout.pods.iter().map(pod).collect();
    let pods =
        if rows.is_empty() { String::new() } else { columns(["POD", "STATE", "MESSAGE"], rows, style) };
    text.push_str(&section("Pods", &pods));
    text
}

fn pod(pod: &v1::RolloutPod) -> [Field; 3] {
    use v1::RolloutPodState as State;
    let state = match pod.state() {
        State::Waiting => "Waiting".into(),
        State::Ordered => Field::mood("Under way", Mood::Wait),
        State::Done => Field::mood("Done", Mood::Good),
        State::RolledBack => Field::mood("Rolled back", Mood::Bad),
        State::Skipped => Field::mood("Passed over", Mood::Bad),
        State::Undone => Field::mood("Undone", Mood::Good),
        State::Unspecified => "?".into(),
    };
    [identity(pod.pod.as_ref()).into(), state, pod.message.as_str().into()]
}

/// How a rollout goes, in one line.
pub(crate) fn rollout_line(rollout: &v1::Rollout) -> String {
    let line =
        format!("{}: {}, {}  {}", rollout.name, state(rollout).text, progress(rollout), rollout.message);
    line.trim_end().to_owned()
}
