//! Migrations, and the history of addresses.

use super::words::{age, identity};
use super::{Field, Mood, Style, columns};
use berth_proto::v1;

fn phase(migration: &v1::Migration) -> Field {
    use v1::MigrationPhase as Phase;
    match migration.phase() {
        Phase::Preparing => Field::mood("Preparing", Mood::Wait),
        Phase::Stopping => Field::mood("Stopping", Mood::Wait),
        Phase::Offering => Field::mood("Offering", Mood::Wait),
        Phase::Copying => Field::mood("Copying", Mood::Wait),
        Phase::Starting => Field::mood("Starting", Mood::Wait),
        Phase::Releasing => Field::mood("Releasing", Mood::Wait),
        Phase::Returning => Field::mood("Returning", Mood::Bad),
        Phase::Done => Field::mood("Done", Mood::Good),
        Phase::Failed => Field::mood("Failed", Mood::Bad),
        Phase::Unspecified => "?".into(),
    }
}

/// For how long the pod did not answer, at most: from the order to stop it until it ran again.
fn gap(migration: &v1::Migration) -> String {
    match (migration.stopped_at_ms, migration.running_at_ms) {
        (Some(stopped), Some(running)) => {
            let ms = running.saturating_sub(stopped);
            format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
        }
        (Some(_), None) => "goes on".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// Migrations, one a row.
pub(crate) fn migrations(migrations: &[v1::Migration], now_ms: u64, style: Style) -> String {
    let row = |migration: &v1::Migration| {
        [
            identity(migration.pod.as_ref()).into(),
            migration.from.as_str().into(),
            migration.to.as_str().into(),
            phase(migration),
            age(migration.started_at_ms, now_ms).into(),
            gap(migration).into(),
            migration.message.as_str().into(),
        ]
    };
    columns(
        ["POD", "FROM", "TO", "PHASE", "AGE", "GAP", "MESSAGE"],
        migrations.iter().map(row).collect(),
        style,
    )
}

/// How a migration goes, in one line.
pub(crate) fn migration_line(migration: &v1::Migration) -> String {
    let v1::Migration { pod, from, to, message, .. } = migration;
    let line = format!("{} {from} -> {to}: {}  {message}", identity(pod.as_ref()), phase(migration).text);
    line.trim_end().to_owned()
}

/// Who held which address when, the oldest first.
pub(crate) fn pool_history(tenures: &[v1::AddressTenure], now_ms: u64, style: Style) -> String {
    let row = |tenure: &v1::AddressTenure| {
        let released = tenure.released_at_ms.map_or_else(|| "still".to_owned(), |at_ms| age(at_ms, now_ms));
        [
            tenure.address.as_str().into(),
            tenure.pool.as_str().into(),
            identity(tenure.pod.as_ref()).into(),
            age(tenure.assigned_at_ms, now_ms).into(),
            released.into(),
        ]
    };
    columns(["ADDRESS", "POOL", "POD", "SINCE", "UNTIL"], tenures.iter().map(row).collect(), style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps() {
        let check = |stopped_at_ms, running_at_ms, expected: &str| {
            let migration = v1::Migration { stopped_at_ms, running_at_ms, ..v1::Migration::default() };
            assert_eq!(gap(&migration), expected, "{stopped_at_ms:?} {running_at_ms:?}");
        };
        check(None, None, "-");
        check(Some(1_000), None, "goes on");
        check(Some(1_000), Some(13_390), "12.3 s");
        check(None, Some(13_390), "-");
    }
}
