//! One helper that prints a chain of errors in one line.

use std::error::Error;

/// The error and all its sources, joined by colons.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(source.to_string().trim_end());
        next = source.source();
    }
    text
}
