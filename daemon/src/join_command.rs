//! `berthd join`, and what it writes into the configuration: only keys that are not there, everything else as it was.

use crate::config::Config;
use crate::link::{FileError, JoinError, JoinRequest, Joined, join, write_durably};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, value};

/// A configuration that is made anew; everybody may read it, it holds no secret.
const CONFIG_MODE: u32 = 0o644;

/// Why joining did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum JoinCommandError {
    /// The node did not join.
    #[error("join the control plane at {enroll}")]
    Join {
        /// Where.
        enroll: String,
        /// Why not.
        source: JoinError,
    },
    /// It has joined, and the configuration does not say so.
    #[error("the node has joined, but {path} could not be written: set `control` and `node` there by hand")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Joins, and notes in the configuration at `path` where to dial and who this node is, unless it says so already.
/// Answers who the node is, and which keys were added.
///
/// # Errors
/// See [`JoinCommandError`].
pub async fn join_and_configure(
    request: &JoinRequest,
    control: &str,
    path: &Path,
) -> Result<(Joined, Vec<&'static str>), JoinCommandError> {
    let joined = join(request)
        .await
        .map_err(|source| JoinCommandError::Join { enroll: request.enroll.clone(), source })?;
    let added = configure(path, control, joined.node.as_str())
        .map_err(|source| JoinCommandError::Write { path: path.to_owned(), source })?;
    Ok((joined, added))
}

fn configure(
    path: &Path,
    control: &str,
    node: &str,
) -> Result<Vec<&'static str>, Box<dyn std::error::Error + Send + Sync>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let (text, added) = amend(&text, control, node)?;
    if added.is_empty() {
        return Ok(added);
    }
    // What is written is what the daemon will read.
    Config::parse(&text, path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_durably(path, text.as_bytes(), CONFIG_MODE).map_err(|error: FileError| error)?;
    Ok(added)
}

/// Adds the keys that are missing, before any table, and leaves the rest alone.
fn amend(text: &str, control: &str, node: &str) -> Result<(String, Vec<&'static str>), toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let mut added = Vec::new();
    for (key, text) in [("control", control), ("node", node)] {
        if !document.contains_key(key) {
            document.insert(key, value(text));
            added.push(key);
        }
    }
    Ok((document.to_string(), added))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let (amended, _) = amend(text, "control.example:7443", "n1").unwrap();
        assert_eq!(amended, expected, "from {text:?}");
        Config::parse(&amended, Path::new("x")).unwrap();
        assert!(amend(&amended, "other:1", "n2").unwrap().1.is_empty());
    }

    #[test]
    fn only_what_is_missing_is_added() {
        check("", "control = \"control.example:7443\"\nnode = \"n1\"\n");
        check("node = \"mine\" # keep\n", "node = \"mine\" # keep\ncontrol = \"control.example:7443\"\n");
        check(
            "# by hand\nlog = \"debug\"\n\n[labels]\nzone = \"a\"\n",
            "# by hand\nlog = \"debug\"\ncontrol = \"control.example:7443\"\nnode = \"n1\"\n\n[labels]\nzone = \"a\"\n",
        );
    }
}
