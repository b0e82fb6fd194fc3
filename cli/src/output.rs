//! Where answers go: standard output, as a table or as JSON.

use crate::failure::{Failure, Result};
use crate::json::{self, Wire};
use crate::table::Style;
use clap::ValueEnum;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON for programs: all that the API returns, names in camelCase
    Json,
}

/// Writes answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How.
    pub format: Format,
    /// Whether tables are coloured.
    pub style: Style,
}

impl Output {
    /// Colours only for a terminal whose owner wants them (no-color.org).
    pub(crate) fn new(format: Format) -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = if io::stdout().is_terminal() && !unwanted { Style::Coloured } else { Style::Plain };
        Self { format, style }
    }

    /// Writes one message: as JSON, or as `table` makes it.
    pub(crate) fn message(&self, message: &impl Wire, table: impl FnOnce(Style) -> String) -> Result<()> {
        match self.format {
            Format::Json => line(&json::pretty(&json::to_json(message))),
            Format::Table | Format::Wide => write(&table(self.style)),
        }
    }

    /// Writes several messages of one type: as a JSON array, or as `table` makes it.
    pub(crate) fn list<M: Wire>(&self, messages: &[M], table: impl FnOnce(Style) -> String) -> Result<()> {
        match self.format {
            Format::Json => {
                line(&json::pretty(&messages.iter().map(|message| json::to_json(message)).collect()))
            }
            Format::Table | Format::Wide => write(&table(self.style)),
        }
    }

    /// Writes what is no message of the wire: as JSON, or as `table` makes it.
    pub(crate) fn value(&self, json: &serde_json::Value, table: impl FnOnce(Style) -> String) -> Result<()> {
        match self.format {
            Format::Json => line(&json::pretty(json)),
            Format::Table | Format::Wide => write(&table(self.style)),
        }
    }

    /// Writes one message of a stream: one line of JSON, or `text`.
    pub(crate) fn event(&self, message: &impl Wire, text: Option<String>) -> Result<()> {
        match self.format {
            Format::Json => line(&json::to_json(message).to_string()),
            Format::Table | Format::Wide => text.map_or(Ok(()), |text| line(&text)),
        }
    }

    /// Tells people what was done; programs have their JSON already.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        match self.format {
            Format::Json => Ok(()),
            Format::Table | Format::Wide => line(text),
        }
    }
}

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

/// Writes text as it is.
pub(crate) fn write(text: &str) -> Result<()> {
    write_bytes(text.as_bytes())
}

/// Writes bytes as they are, and at once.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        // Whoever closes the pipe has read enough (`berth orders | head`).
        let code = if error.kind() == io::ErrorKind::BrokenPipe { BROKEN_PIPE } else { "Output" };
        Failure::refused(code, format!("cannot write to standard output: {error}"))
    })
}

/// The code of a failure that is none.
pub(crate) const BROKEN_PIPE: &str = "BrokenPipe";

/// Tells people how it goes, on standard error.
pub(crate) fn progress(text: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Milliseconds after the epoch; 0 when the clock stands before it.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
