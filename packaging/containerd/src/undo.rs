//! The note of what stood in the configuration before.

use std::str::FromStr;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

/// What [`restore`](crate::restore) needs.
#[derive(Debug, Clone, Default)]
pub struct Undo {
    /// Whether there was no file at all.
    pub created_file: bool,
    /// Key by key.
    pub entries: Vec<UndoEntry>,
}

/// One key that was set.
#[derive(Debug, Clone)]
pub struct UndoEntry {
    /// From the root.
    pub path: Vec<String>,
    /// What was written.
    pub ours: Value,
    /// What stood there before, if anything.
    pub theirs: Option<Value>,
}

/// Why a note could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseUndoError {
    /// Not TOML.
    #[error("parse the note as TOML")]
    Toml(#[from] toml_edit::TomlError),
    /// TOML of another shape.
    #[error("entry {0} of the note has no path or no value of ours")]
    Entry(usize),
}

impl Undo {
    /// The entry of that path.
    pub fn entry(&self, path: &[&str]) -> Option<&UndoEntry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

impl std::fmt::Display for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut document = DocumentMut::new();
        document["created_file"] = value(self.created_file);
        let mut tables = ArrayOfTables::new();
        for entry in &self.entries {
            let mut table = Table::new();
            table["path"] = value(entry.path.iter().collect::<Array>());
            table["ours"] = value(entry.ours.clone());
            if let Some(theirs) = &entry.theirs {
                table["theirs"] = value(theirs.clone());
            }
            tables.push(table);
        }
        document["setting"] = Item::ArrayOfTables(tables);
        write!(f, "# What stood in containerd's configuration before Berth amended it.\n{document}")
    }
}

impl FromStr for Undo {
    type Err = ParseUndoError;

    fn from_str(text: &str) -> Result<Self, ParseUndoError> {
        let document: DocumentMut = text.parse()?;
        let created_file = document.get("created_file").and_then(Item::as_bool).unwrap_or(false);
        let tables = document.get("setting").and_then(Item::as_array_of_tables);
        let entries = tables
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, table)| parse_entry(table).ok_or(ParseUndoError::Entry(index)))
            .collect::<Result<_, _>>()?;
        Ok(Self { created_file, entries })
    }
}

fn parse_entry(table: &Table) -> Option<UndoEntry> {
    let path = table.get("path")?.as_array()?;
    Some(UndoEntry {
        path: path.iter().map(|part| part.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        ours: table.get("ours")?.as_value()?.clone(),
        theirs: table.get("theirs").and_then(Item::as_value).cloned(),
    })
}
