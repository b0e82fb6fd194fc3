//! Why a platform's wish was not granted. Nothing has changed then.

/// Why not, for people, and of what kind, for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The wish itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What it is about is not there.
    #[error("{0}")]
    NotFound(String),
    /// Something else is there already.
    #[error("{0}")]
    Exists(String),
    /// Not as things are; something else has to happen first.
    #[error("{0}")]
    Precondition(String),
    /// There is no room.
    #[error("{0}")]
    Exhausted(String),
}
