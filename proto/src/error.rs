//! Why a message from the wire was not accepted: the path of the field, and the model's own reason.

use std::error::Error;
use std::fmt;

/// A message from the wire that is no model value.
#[derive(Debug)]
pub struct InvalidMessage {
    path: String,
    source: Box<dyn Error + Send + Sync>,
}

impl InvalidMessage {
    /// `field` is not acceptable because of `source`.
    pub fn new(field: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { path: field.into(), source: source.into() }
    }

    /// A field that must be there and is not.
    pub fn missing(field: &str) -> Self {
        Self::new(field, "is missing")
    }

    /// The same error, seen from the message that holds `field`.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        self.path = match self.path.is_empty() {
            true => field.to_owned(),
            false => format!("{field}.{}", self.path),
        };
        self
    }

    /// Which field, from the root of the message.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path and the whole chain of reasons, in one line.
    pub fn chain(&self) -> String {
        let mut text = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        let mut next: Option<&dyn Error> = Some(self.source.as_ref());
        let mut separator = "";
        while let Some(error) = next {
            text.push_str(separator);
            text.push_str(&error.to_string());
            separator = ": ";
            next = error.source();
        }
        text
    }
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str("message"),
            false => f.write_str(&self.path),
        }
    }
}

impl Error for InvalidMessage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Shorthand for the conversions of this crate.
pub(crate) type Result<T> = std::result::Result<T, InvalidMessage>;

/// Names the field that a conversion failed in.
pub(crate) trait At<T> {
    /// Puts `field` before whatever path the error has.
    fn at(self, field: &str) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> At<T> for std::result::Result<T, E> {
    fn at(self, field: &str) -> Result<T> {
        self.map_err(|error| {
            let error: Box<dyn Error + Send + Sync> = error.into();
            match error.downcast::<InvalidMessage>() {
                Ok(inner) => inner.within(field),
                Err(other) => InvalidMessage::new(field, other),
            }
        })
    }
}

/// The field, which must be there.
pub(crate) fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| InvalidMessage::missing(field))
}

/// Converts each of a repeated field, naming the index of the one that fails.
pub(crate) fn each<W, M>(values: Vec<W>, field: &str, convert: impl Fn(W) -> Result<M>) -> Result<Vec<M>> {
    let numbered = values.into_iter().enumerate();
    numbered
        .map(|(index, value)| convert(value).map_err(|error| error.within(&format!("{field}[{index}]"))))
        .collect()
}
