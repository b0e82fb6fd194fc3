//! What is to be done with the logs of one container: no I/O.

use berth_model::Attempt;
use std::collections::BTreeMap;
use std::fmt;

/// What a log that is being packed ends in, until it is whole.
const UNFINISHED: &str = ".new";

/// How much is kept of each container's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A file that is larger than so many bytes is rotated.
    pub max_bytes: u64,
    /// Most files, the one that is written to included; at least 1.
    pub files: usize,
}

impl Default for LogLimits {
    /// kubelet's defaults (`containerLogMaxSize`, `containerLogMaxFiles`).
    fn default() -> Self {
        Self { max_bytes: 10 << 20, files: 5 }
    }
}

/// A log's name in its container's folder. The order is that in which they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LogName {
    pub(super) attempt: Attempt,
    pub(super) part: Part,
}

/// Which part of an attempt's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// One that is written to no more.
    Ended { number: u32, packed: bool },
    /// The one that containerd writes to while the container runs.
    Current,
}

impl LogName {
    pub(super) fn current(attempt: Attempt) -> Self {
        Self { attempt, part: Part::Current }
    }

    pub(super) fn packed(self) -> Self {
        match self.part {
            Part::Ended { number, .. } => Self { part: Part::Ended { number, packed: true }, ..self },
            Part::Current => self,
        }
    }

    /// None for what is no log.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (attempt, rest) = name.split_once(".log")?;
        let attempt = Attempt(attempt.parse().ok()?);
        let part = match rest.strip_prefix('.') {
            None if rest.is_empty() => Part::Current,
            None => return None,
            Some(rest) => {
                let (number, packed) =
                    rest.strip_suffix(".gz").map_or((rest, false), |number| (number, true));
                Part::Ended { number: number.parse().ok()?, packed }
            }
        };
        let parsed = Self { attempt, part };
        // "01.log" and "+1.log" are nobody's.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.log", self.attempt)?;
        match self.part {
            Part::Current => Ok(()),
            Part::Ended { number, packed } => write!(f, ".{number}{}", if packed { ".gz" } else { "" }),
        }
    }
}

/// Something to be done with a container's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chore {
    /// If the container of this attempt runs: rename its log to `to`, and have it begin anew.
    Rotate { attempt: Attempt, to: LogName },
    /// If it runs: have it begin anew. Its log was renamed to `last`, and that was all. If not: rename it back.
    Reopen { attempt: Attempt, last: LogName },
    /// Pack this file.
    Pack(LogName),
    /// Remove this one.
    Remove(String),
}

/// The name of a file that is being packed.
pub(super) fn unfinished(name: LogName) -> String {
    format!("{name}{UNFINISHED}")
}

/// What is to be done, given the names and sizes of what there is.
pub(super) fn chores(files: &BTreeMap<String, u64>, limits: LogLimits) -> Vec<Chore> {
    let logs: BTreeMap<LogName, u64> =
        files.iter().filter_map(|(name, bytes)| Some((LogName::parse(name)?, *bytes))).collect();
    // Packing them was interrupted, before it was whole or after: the one or the other is all there.
    let half = files.keys().filter(|name| is_unfinished(name)).cloned();
    let twice = logs.keys().filter(|name| is_packed_too(name, &logs)).map(ToString::to_string);
    let mut chores: Vec<Chore> = half.chain(twice).map(Chore::Remove).collect();
    let logs: BTreeMap<LogName, u64> = logs
        .iter()
        .filter(|(name, _)| !is_packed_too(name, &logs))
        .map(|(name, bytes)| (*name, *bytes))
        .collect();
    let surplus = logs.len().saturating_sub(limits.files.max(1));
    chores.extend(logs.keys().take(surplus).map(|name| Chore::Remove(name.to_string())));
    let newest = logs.keys().next_back().map(|name| name.attempt);
    for (name, bytes) in logs.iter().skip(surplus) {
        let last_ended = last_ended(&logs, name.attempt);
        match name.part {
            Part::Current if *bytes > limits.max_bytes => {
                let number = last_ended.unwrap_or(0).saturating_add(1);
                let to = LogName { part: Part::Ended { number, packed: false }, ..*name };
                chores.push(Chore::Rotate { attempt: name.attempt, to });
            }
            // The last one of an attempt may still be written to: containerd begins anew when it gets to it.
            Part::Ended { number, packed: false }
                if last_ended != Some(number) || newest != Some(name.attempt) =>
            {
                chores.push(Chore::Pack(*name));
            }
            Part::Current | Part::Ended { .. } => {}
        }
    }
    if let Some(last) =
        logs.keys().next_back().filter(|last| last.part != Part::Current && **last != last.packed())
    {
        chores.push(Chore::Reopen { attempt: last.attempt, last: *last });
    }
    chores
}

fn is_unfinished(name: &str) -> bool {
    let packed = name.strip_suffix(UNFINISHED).and_then(LogName::parse);
    packed.is_some_and(|name| name == name.packed() && name.part != Part::Current)
}

fn is_packed_too(name: &LogName, logs: &BTreeMap<LogName, u64>) -> bool {
    matches!(name.part, Part::Ended { packed: false, .. }) && logs.contains_key(&name.packed())
}

fn last_ended(logs: &BTreeMap<LogName, u64>, attempt: Attempt) -> Option<u32> {
    let numbers = logs.keys().filter(|name| name.attempt == attempt).filter_map(|name| match name.part {
        Part::Ended { number, .. } => Some(number),
        Part::Current => None,
    });
    numbers.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: LogLimits = LogLimits { max_bytes: 100, files: 3 };

    fn check(files: &[(&str, u64)], expected: &str) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        let said: Vec<String> = chores(&files, LIMITS)
            .iter()
            .map(|chore| match chore {
                Chore::Rotate { attempt, to } => format!("rotate {attempt} to {to}"),
                Chore::Reopen { attempt, last } => format!("reopen {attempt} after {last}"),
                Chore::Pack(name) => format!("pack {name}"),
                Chore::Remove(name) => format!("remove {name}"),
            })
            .collect();
        assert_eq!(said.join(", "), expected, "{files:?}");
    }

    #[test]
    fn folders() {
        check(&[], "");
        check(&[("1.log", 100)], "");
        check(&[("1.log", 101)], "rotate 1 to 1.log.1");
        check(&[("1.log", 101), ("1.log.1", 200)], "rotate 1 to 1.log.2");
        check(&[("1.log", 5), ("1.log.1", 200), ("1.log.2", 200)], "pack 1.log.1");
        check(&[("1.log", 5), ("1.log.1.gz", 20), ("1.log.2", 200)], "");
        let full = [("1.log", 101), ("1.log.9.gz", 20), ("1.log.10", 200)];
        check(&full, "rotate 1 to 1.log.11");
        check(
            &[("1.log", 5), ("1.log.9.gz", 20), ("1.log.10.gz", 20), ("1.log.11", 200)],
            "remove 1.log.9.gz",
        );
    }

    #[test]
    fn what_was_interrupted_is_finished() {
        check(&[("1.log.1", 101)], "reopen 1 after 1.log.1");
        check(&[("1.log.1.gz", 101)], "");
        check(
            &[("1.log", 5), ("1.log.1", 101), ("1.log.1.gz.new", 9), ("1.log.2", 101)],
            "remove 1.log.1.gz.new, pack 1.log.1",
        );
        check(&[("1.log", 5), ("1.log.1", 101), ("1.log.1.gz", 9), ("1.log.2", 101)], "remove 1.log.1");
    }

    #[test]
    fn attempts_before_count_and_are_packed_to_the_end() {
        check(&[("1.log", 5), ("2.log", 5), ("3.log", 5)], "");
        check(&[("1.log", 5), ("2.log", 5), ("3.log", 5), ("10.log", 5)], "remove 1.log");
        check(&[("1.log", 5), ("1.log.4", 150), ("2.log", 5)], "pack 1.log.4");
    }

    #[test]
    fn whatever_else_is_there_is_left_alone() {
        check(
            &[
                ("note.txt", 5),
                ("note.new", 5),
                ("1.log.new", 5),
                ("1.log.1.new", 5),
                ("01.log", 500),
                ("1.log.x", 500),
                ("1.logs", 500),
                ("1.log", 5),
            ],
            "",
        );
    }

    fn folder() -> impl Strategy<Value = BTreeMap<String, u64>> {
        let name = (
            1u32..4,
            prop_oneof![
                Just(String::new()),
                (1u32..5).prop_map(|number| format!(".{number}")),
                (1u32..5).prop_map(|number| format!(".{number}.gz")),
                (1u32..5).prop_map(|number| format!(".{number}.gz.new")),
            ],
        );
        prop::collection::btree_map(
            name.prop_map(|(attempt, rest)| format!("{attempt}.log{rest}")),
            0u64..200,
            0..12,
        )
    }

    proptest! {
        /// The newest attempt's current log is never removed, what is kept is the newest, and doing it all leaves little
        /// to do: nothing loops.
        #[test]
        fn any_folder_comes_to_rest(mut files in folder()) {
            for round in 0..6 {
                let todo = chores(&files, LIMITS);
                if todo.is_empty() {
                    return Ok(());
                }
                prop_assert!(round < 5, "{files:?}: {todo:?}");
                let newest = files.keys().filter_map(|name| LogName::parse(name)).max();
                for chore in todo {
                    match chore {
                        Chore::Rotate { attempt, to } => {
                            let bytes = files.insert(LogName::current(attempt).to_string(), 0);
                            prop_assert!(files.insert(to.to_string(), bytes.unwrap()).is_none());
                        }
                        Chore::Reopen { attempt, .. } => {
                            prop_assert!(files.insert(LogName::current(attempt).to_string(), 0).is_none());
                        }
                        Chore::Pack(name) => {
                            let bytes = files.remove(&name.to_string());
                            prop_assert!(files.insert(name.packed().to_string(), bytes.unwrap()).is_none());
                        }
                        Chore::Remove(name) => {
                            prop_assert!(files.remove(&name).is_some());
                            let kept_otherwise = |newest: LogName| files.contains_key(&newest.packed().to_string());
                            prop_assert!(newest.is_none_or(|newest| newest.to_string() != name || kept_otherwise(newest)));
                        }
                    }
                }
            }
        }
    }
}
