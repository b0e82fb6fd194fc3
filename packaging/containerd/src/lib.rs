//! Amends containerd's configuration for Berth without losing what an administrator wrote, and gives it back.
//!
//! containerd's `imports` replace whole plugin tables, so a drop-in would lose settings: the file itself is edited,
//! key by key, comments and order kept. What stood there before is noted beside, so that [`restore`] undoes exactly
//! our own keys, and those only where nobody has changed them since.
//!
//! [`amend`] and [`restore`] are pure; the thin binary reads, writes and renames.
#![forbid(unsafe_code)]

mod amend;
mod settings;
mod undo;

pub use amend::{AmendError, Amended, Restored, amend, restore};
pub use settings::PAUSE_IMAGE;
pub use undo::{ParseUndoError, Undo, UndoEntry};
