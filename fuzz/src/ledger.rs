//! What a node finds in its ledger's file: rows, each by its table and key.

use crate::frames::frames;
use berth_model::Term;
use berth_plan::{Observed, check, next_step};
use berthd::ledger::{Book, Row, Table};
use std::collections::BTreeMap;
use std::error::Error;

/// Rows: a frame each, which begins with the key up to a line feed. SQLite has each key of a table once.
pub fn ledger(data: &[u8]) {
    let mut rows = BTreeMap::new();
    for (table, part) in frames(data) {
        let table = Table::ALL[usize::from(table) % Table::ALL.len()];
        let at = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let key = String::from_utf8_lossy(&part[..at]).into_owned();
        let bytes = part.get(at + 1..).unwrap_or_default().to_vec();
        rows.insert((table, key.clone()), Row { table, key, bytes });
    }
    let rows: Vec<Row> = rows.into_values().collect();
    match Book::from_rows(Term(1), &rows) {
        Ok(book) => {
            is_what_the_rows_say(&book, &rows);
            has_a_next_step(&book);
        }
        Err(damage) => {
            let named = rows.iter().any(|row| damage.what.ends_with(&row.key));
            assert!(named, "{damage} is no row");
            assert!(damage.source().is_some_and(|why| !why.to_string().is_empty()), "{damage}: why?");
        }
    }
}

/// Every row is taken, for what its key says, and comes back as the same record.
fn is_what_the_rows_say(book: &Book, rows: &[Row]) {
    let written = book.to_rows();
    let keys = |rows: &[Row]| {
        let mut keys: Vec<_> = rows.iter().map(|row| (row.table, row.key.clone())).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&written), keys(rows), "rows were passed over, or are taken for others");
    let again = Book::from_rows(book.term, &written).unwrap_or_else(|damage| panic!("{damage:?}"));
    assert_eq!(&again, book, "what is written is not what was read");
}

fn has_a_next_step(book: &Book) {
    for record in book.pods.values() {
        let observed = Observed { now_ms: 2_000, ..Observed::default() };
        let step = next_step(record, &observed);
        let checked = check(record, &observed, &step);
        assert!(checked.is_ok(), "{}: {checked:?}", step.describe());
    }
}
