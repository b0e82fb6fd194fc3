//! Why a manifest was not accepted, and where.

use serde_saphyr::Error as Yaml;
use std::error::Error;
use std::fmt;

/// One thing that is wrong in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// Line and column, from 1; none when it is about the whole text.
    at: Option<(u64, u64)>,
    /// Path of the field; empty for the document.
    field: String,
    why: String,
}

/// A field's path as serde tells it.
pub(super) struct Position<'a>(&'a str);

impl<'a> Position<'a> {
    /// The path without what stands for "not known".
    pub(super) fn field(path: &'a str) -> Self {
        Self(path.trim_end_matches(['.', '?']))
    }
}

impl ManifestError {
    /// Something about the whole text.
    pub(super) fn whole(why: impl Into<String>) -> Self {
        Self { at: None, field: String::new(), why: why.into() }
    }

    pub(super) fn from_yaml(error: &Yaml, Position(field): &Position<'_>) -> Self {
        let error = error.without_snippet();
        let location = error.location();
        let at = location.map(|location| (location.line(), location.column()));
        Self { at, field: (*field).to_owned(), why: reason(error, at) }
    }

    /// The same, at the beginning of its document where the parser does not know better.
    #[must_use]
    pub(super) fn or_in(mut self, document: &str) -> Self {
        let before = document.lines().take_while(|line| line.is_empty()).count();
        self.at = self.at.or(Some((before as u64 + 1, 1)));
        self
    }

    /// The line, from 1.
    pub fn line(&self) -> Option<u64> {
        self.at.map(|(line, _)| line)
    }
}

/// The parser's words, without the position that it appends, and in the terms of who writes manifests.
fn reason(error: &Yaml, at: Option<(u64, u64)>) -> String {
    match error {
        Yaml::DuplicateMappingKey { key: Some(key), .. } => format!("{key} is given twice"),
        // The parser's own enum, which may grow: what is not reworded here is shown as it is.
        _ => {
            let text = error.to_string();
            let suffix = at.map(|(line, column)| format!(" at line {line}, column {column}"));
            let text =
                suffix.and_then(|suffix| text.strip_suffix(&suffix).map(str::to_owned)).unwrap_or(text);
            match text.as_str() {
                "expected mapping start" => "must be a mapping (name: value)".to_owned(),
                "expected sequence start" => "must be a list (- item)".to_owned(),
                "expected string scalar" => "must be a single value".to_owned(),
                _ => text,
            }
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.why)
    }
}

impl Error for ManifestError {}
