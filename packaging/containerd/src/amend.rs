//! Setting our keys, and undoing exactly them.

use crate::settings::{Rule, Setting, settings};
use crate::undo::{Undo, UndoEntry};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

/// The version written where there is no file: containerd 1.x knows no other, 2.x still reads it.
const VERSION_OF_NEW_FILE: i64 = 2;

/// Why the configuration could not be amended. It was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// Not TOML.
    #[error("parse containerd's configuration as TOML")]
    Toml(#[from] toml_edit::TomlError),
    /// A version of the configuration that we know no keys of.
    #[error(
        "containerd's configuration is of version {0}, known are 2 and 3: convert it by `containerd config migrate`"
    )]
    Version(i64),
    /// A table is expected where a value stands.
    #[error("{0} in containerd's configuration is no table")]
    NotATable(String),
}

/// An amended configuration.
#[derive(Debug)]
pub struct Amended {
    /// The new text.
    pub text: String,
    /// How to undo it.
    pub undo: Undo,
}

/// A restored configuration.
#[derive(Debug)]
pub struct Restored {
    /// The text; none where the file was ours altogether and goes.
    pub text: Option<String>,
    /// Keys that somebody has changed since; they were left alone.
    pub left_alone: Vec<String>,
}

/// Sets what Berth needs. `original` is none where there is no file; `earlier` is the note of an earlier run,
/// whose record of what stood there before remains the valid one.
///
/// # Errors
/// When the text is no TOML, of an unknown version, or has a value where a table belongs.
pub fn amend(original: Option<&str>, earlier: Option<&Undo>) -> Result<Amended, AmendError> {
    let mut document: DocumentMut = original.unwrap_or_default().parse()?;
    let empty = document.iter().next().is_none();
    if empty {
        document["version"] = toml_edit::value(VERSION_OF_NEW_FILE);
    }
    // Without the key containerd takes a file for version 1.
    let version = document.get("version").and_then(Item::as_integer).unwrap_or(1);
    let mut undo = Undo {
        created_file: earlier.map_or(original.is_none(), |earlier| earlier.created_file),
        entries: Vec::new(),
    };
    for setting in settings(version).ok_or(AmendError::Version(version))? {
        let known = earlier.and_then(|earlier| earlier.entry(&setting.path));
        if said_otherwise(&document, &setting) {
            known.map_or(Ok(true), |ours| undo_one(&mut document, ours))?;
            continue;
        }
        let present = get(&document, &setting.path);
        if setting.rule == Rule::KeepTheirs && known.is_none() && present.as_ref().is_some_and(says_something)
        {
            continue;
        }
        let theirs = match known {
            Some(entry) => entry.theirs.clone(),
            None => present,
        };
        set(&mut document, &setting.path, setting.value.clone())?;
        undo.entries.push(UndoEntry {
            path: setting.path.iter().map(|&part| part.to_owned()).collect(),
            ours: setting.value,
            theirs,
        });
    }
    // What an earlier version of this package set and this one does not is still to be undone.
    let earlier_entries = earlier.map(|earlier| earlier.entries.as_slice()).unwrap_or_default();
    for entry in earlier_entries {
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        let ours_still = get(&document, &path).is_some_and(|present| same(&present, &entry.ours));
        if ours_still && !undo.entries.iter().any(|known| known.path == entry.path) {
            undo.entries.push(entry.clone());
        }
    }
    Ok(Amended { text: document.to_string(), undo })
}

/// Undoes what [`amend`] did.
///
/// # Errors
/// When the text is no TOML, or has a value where a table belongs.
pub fn restore(current: &str, undo: &Undo) -> Result<Restored, AmendError> {
    let mut document: DocumentMut = current.parse()?;
    let mut left_alone = Vec::new();
    for entry in &undo.entries {
        if !undo_one(&mut document, entry)? {
            left_alone.push(entry.path.join("."));
        }
    }
    let only_version = document.iter().all(|(key, _)| key == "version");
    let text = (!(undo.created_file && only_version)).then(|| document.to_string());
    Ok(Restored { text, left_alone })
}

/// Puts back what stood there before; false where somebody has changed ours since, which stays.
fn undo_one(document: &mut DocumentMut, entry: &UndoEntry) -> Result<bool, AmendError> {
    let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
    let ours_still = get(document, &path).is_some_and(|present| same(&present, &entry.ours));
    match (&entry.theirs, ours_still) {
        (_, false) => {}
        (Some(theirs), true) => set(document, &path, theirs.clone())?,
        (None, true) => remove(document.as_table_mut(), &path),
    }
    Ok(ours_still)
}

/// Whether the administrator says the same by a key that excludes ours.
fn said_otherwise(document: &DocumentMut, setting: &Setting) -> bool {
    let Some((_, tables)) = setting.path.split_last() else {
        return false;
    };
    let beside = |key: &&str| item(document, &[tables, &[*key]].concat());
    setting.unless.iter().filter_map(beside).any(|item| match item.as_table_like() {
        Some(table) => !table.is_empty(),
        None => item.as_value().is_some_and(says_something),
    })
}

/// `containerd config default` writes empty texts and arrays where nothing is set.
fn says_something(value: &Value) -> bool {
    value.as_str() != Some("") && !value.as_array().is_some_and(Array::is_empty)
}

fn same(one: &Value, other: &Value) -> bool {
    let plain = |value: &Value| value.clone().decorated("", "").to_string();
    plain(one) == plain(other)
}

fn get(document: &DocumentMut, path: &[&str]) -> Option<Value> {
    item(document, path)?.as_value().map(|value| value.clone().decorated("", ""))
}

fn item<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a Item> {
    let (last, tables) = path.split_last()?;
    let mut table: &dyn TableLike = document.as_table();
    for part in tables {
        table = table.get(part)?.as_table_like()?;
    }
    table.get(last)
}

fn set(document: &mut DocumentMut, path: &[&str], value: Value) -> Result<(), AmendError> {
    let Some((last, tables)) = path.split_last() else {
        return Ok(());
    };
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, part) in tables.iter().enumerate() {
        let missing = || {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        };
        let next = table.entry(part).or_insert_with(missing);
        let not_a_table = || AmendError::NotATable(path[..=depth].join("."));
        table = next.as_table_like_mut().ok_or_else(not_a_table)?;
    }
    match table.get_mut(last).and_then(Item::as_value_mut) {
        // The comment behind the old value stays.
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(last, Item::Value(value));
        }
    }
    Ok(())
}

/// Removes the key, and tables above it that have become empty.
fn remove(table: &mut dyn TableLike, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(first);
        return;
    }
    let Some(next) = table.get_mut(first).and_then(Item::as_table_like_mut) else {
        return;
    };
    remove(next, rest);
    if next.is_empty() {
        table.remove(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian ships it.
    const DEBIAN: &str = r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"#;

    /// With an administrator's own settings and comments.
    const ADMINISTRATED: &str = r#"version = 2
oom_score = -999 # ours

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.example/pause:3.9" # mirrored
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/srv/certs.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "/usr/local/bin/runc"
"#;

    const VERSION_3: &str =
        "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'overlayfs'\n";

    fn given_back(original: &str) {
        let amended = amend(Some(original), None).unwrap();
        assert_ne!(amended.text, original);
        let again = amend(Some(&amended.text), Some(&amended.undo)).unwrap();
        assert_eq!(again.text, amended.text, "amending twice changes nothing");
        let undo: Undo = again.undo.to_string().parse().unwrap();
        let restored = restore(&again.text, &undo).unwrap();
        assert_eq!(restored.text.as_deref(), Some(original));
        assert!(restored.left_alone.is_empty());
    }

    /// As `containerd config default` prints it: every key there, empty.
    const DUMPED: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.example/pause:3.8"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = ""
"#;

    const OLD_MIRRORS: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
endpoint = ["https://mirror.example"]
"#;

    const OLD_BIN_DIR: &str = r#"version = 3
[plugins."io.containerd.cri.v1.runtime"]
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dir = "/opt/cni/bin"
"#;

    #[test]
    fn every_configuration_is_given_back_as_it_was() {
        given_back(DEBIAN);
        given_back(ADMINISTRATED);
        given_back(VERSION_3);
        given_back(DUMPED);
        given_back(OLD_MIRRORS);
        given_back(OLD_BIN_DIR);
    }

    /// containerd does not load CRI with both.
    #[test]
    fn what_excludes_ours_stays_alone() {
        for (original, ours) in [(OLD_MIRRORS, "config_path"), (OLD_BIN_DIR, "bin_dirs")] {
            assert!(!amend(Some(original), None).unwrap().text.contains(ours), "{ours}");
        }
    }

    #[test]
    fn an_administrator_who_changes_over_is_followed() {
        let first = amend(Some(DUMPED), None).unwrap();
        let mirrors = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"http://m\"]\n";
        let with_mirrors = format!("{}{mirrors}", first.text);
        let second = amend(Some(&with_mirrors), Some(&first.undo)).unwrap();
        assert!(second.text.contains("config_path = \"\""), "{}", second.text);
        let third = amend(Some(&second.text), Some(&second.undo)).unwrap();
        assert_eq!(third.text, second.text);
        let restored = restore(&third.text, &third.undo).unwrap();
        assert_eq!(restored.text, Some(format!("{DUMPED}{mirrors}")));
        assert!(restored.left_alone.is_empty(), "{:?}", restored.left_alone);
    }

    #[test]
    fn a_file_of_our_own_goes() {
        let amended = amend(None, None).unwrap();
        assert!(amended.text.contains("version = 2"));
        assert_eq!(restore(&amended.text, &amended.undo).unwrap().text, None);
    }

    #[test]
    fn amended() {
        insta::assert_snapshot!("debian", amend(Some(DEBIAN), None).unwrap().text);
        insta::assert_snapshot!("administrated", amend(Some(ADMINISTRATED), None).unwrap().text);
        insta::assert_snapshot!("version_3", amend(Some(VERSION_3), None).unwrap().text);
    }

    #[test]
    fn an_empty_text_counts_as_unset() {
        assert!(
            amend(Some(DUMPED), None).unwrap().text.contains("config_path = \"/etc/containerd/certs.d\"")
        );
    }

    #[test]
    fn what_was_changed_since_is_left_alone() {
        let amended = amend(Some(DEBIAN), None).unwrap();
        let changed = amended.text.replace("berth.local/pause:1", "registry.example/pause:4");
        let restored = restore(&changed, &amended.undo).unwrap();
        assert_eq!(restored.left_alone, ["plugins.io.containerd.grpc.v1.cri.sandbox_image"]);
        assert!(restored.text.unwrap().contains("registry.example/pause:4"));
    }

    #[test]
    fn bad_files_are_refused() {
        for (text, expected) in [
            ("version = 1\n", "of version 1"),
            ("oom_score = 1\n", "of version 1"),
            ("version = 9\n", "of version 9"),
            ("version = \n", "as TOML"),
            ("version = 2\nplugins = 3\n", "plugins in containerd's configuration is no table"),
        ] {
            let error = amend(Some(text), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
