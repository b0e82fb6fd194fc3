//! Writing a plan, and reading it back.

use crate::{ControlWrite, parse};
use berth_model::{Applied, Control, ControlValue};
use std::fmt;
use std::io;

/// The control files of one cgroup.
pub trait ControlFiles {
    /// Path of the cgroup below the mount.
    fn name(&self) -> &str;

    /// Reads a whole file.
    ///
    /// # Errors
    /// What the kernel says.
    fn read(&self, file: &str) -> io::Result<String>;

    /// Writes one line, without its newline, in one call.
    ///
    /// # Errors
    /// What the kernel says.
    fn write(&self, file: &str, line: &str) -> io::Result<()>;
}

/// One write that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("write {value:?} to {file} of cgroup {cgroup}")]
pub struct WriteError {
    /// Path of the cgroup below the mount.
    pub cgroup: String,
    /// Which file.
    pub file: String,
    /// What was written, the device included.
    pub value: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Some writes of a plan were refused; the others were done.
#[derive(Debug)]
pub struct ApplyError {
    /// At least one, in the order of the plan.
    pub failures: Vec<WriteError>,
}

impl fmt::Display for ApplyError {
    /// Names each failure with its source, of which an error can have only one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{failure}: {}", failure.source)?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

/// Writes all of a plan, in its order. A failure does not keep the rest from being written: a limit more is better
/// than one less, and each is reported.
///
/// # Errors
/// Every write that the kernel refused.
pub fn apply(cgroup: &impl ControlFiles, writes: &[ControlWrite]) -> Result<(), ApplyError> {
    let failures: Vec<_> = writes
        .iter()
        .filter_map(|write| {
            let source = cgroup.write(&write.file, &write.line()).err()?;
            Some(WriteError {
                cgroup: cgroup.name().to_owned(),
                file: write.file.clone(),
                value: write.line(),
                source,
            })
        })
        .collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(ApplyError { failures }),
    }
}

/// Reads every control of a plan again: what was ordered beside what is so.
pub fn read_back(cgroup: &impl ControlFiles, writes: &[ControlWrite]) -> Applied {
    Applied {
        cgroup: cgroup.name().to_owned(),
        controls: writes.iter().map(|write| read_control(cgroup, write)).collect(),
    }
}

fn read_control(cgroup: &impl ControlFiles, write: &ControlWrite) -> Control {
    let read = match cgroup.read(&write.file) {
        Ok(text) => ControlValue::Text(value_in(&text, write)),
        Err(error) => ControlValue::Unreadable(error.to_string()),
    };
    Control { file: write.name(), ordered: write.value.clone(), read }
}

fn value_in(text: &str, write: &ControlWrite) -> String {
    match write.key {
        None => text.trim().to_owned(),
        // A device without a line of its own is at the kernel's default.
        Some(device) => {
            parse::line_of(text, device).map_or_else(|| write.kernel_default().to_owned(), str::to_owned)
        }
    }
}
