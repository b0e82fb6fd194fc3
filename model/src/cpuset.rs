//! Sets of CPUs and of memory nodes, in the kernel's list format (`0-3,8`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Why a list of CPUs or memory nodes was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSetError {
    /// Part of the list is no number and no range.
    #[error("{part:?} in list {list:?} is neither a number nor a range such as 0-3")]
    NotARange {
        /// The offending part.
        part: String,
        /// The whole list.
        list: String,
    },
    /// A range runs backwards.
    #[error("range {part:?} in list {list:?} ends before it begins")]
    Backwards {
        /// The offending part.
        part: String,
        /// The whole list.
        list: String,
    },
    /// A member is higher than any kernel supports.
    #[error("{number} in list {list:?} is above the highest possible, {max}")]
    TooHigh {
        /// The offending number.
        number: u32,
        /// The whole list.
        list: String,
        /// The highest possible.
        max: u32,
    },
}

fn parse_list(list: &str, max: u32) -> Result<BTreeSet<u32>, ParseSetError> {
    let mut members = BTreeSet::new();
    let trimmed = list.trim();
    if trimmed.is_empty() {
        return Ok(members);
    }
    for part in trimmed.split(',').map(str::trim) {
        let (first, last) = parse_range(part, list)?;
        if last > max {
            return Err(ParseSetError::TooHigh { number: last, list: list.to_owned(), max });
        }
        members.extend(first..=last);
    }
    Ok(members)
}

fn parse_range(part: &str, list: &str) -> Result<(u32, u32), ParseSetError> {
    let not_a_range = || ParseSetError::NotARange { part: part.to_owned(), list: list.to_owned() };
    // `u32::from_str` accepts a leading plus, the kernel does not.
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .ok_or_else(not_a_range)
    };
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(part)?, number(part)?),
    };
    if last < first {
        return Err(ParseSetError::Backwards { part: part.to_owned(), list: list.to_owned() });
    }
    Ok((first, last))
}

fn format_list(members: &BTreeSet<u32>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = members.iter().copied().peekable();
    let mut separator = "";
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        match last - first {
            0 => write!(f, "{separator}{first}")?,
            _ => write!(f, "{separator}{first}-{last}")?,
        }
        separator = ",";
    }
    Ok(())
}

macro_rules! set {
    ($(#[$doc:meta])* $name:ident, $max_name:ident = $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(BTreeSet<u32>);

        impl $name {
            /// The highest number a member may have.
            pub const $max_name: u32 = $max;

            /// The empty set.
            pub fn new() -> Self {
                Self::default()
            }

            /// Whether nothing is in the set.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// How many members the set has.
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether `number` is a member.
            pub fn contains(&self, number: u32) -> bool {
                self.0.contains(&number)
            }

            /// The members, ascending.
            pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
                self.0.iter().copied()
            }

            /// Whether every member is also one of `other`.
            pub fn is_subset(&self, other: &Self) -> bool {
                self.0.is_subset(&other.0)
            }

            /// Members of both.
            #[must_use]
            pub fn intersection(&self, other: &Self) -> Self {
                Self(self.0.intersection(&other.0).copied().collect())
            }

            /// Members of either.
            #[must_use]
            pub fn union(&self, other: &Self) -> Self {
                Self(self.0.union(&other.0).copied().collect())
            }

            /// Members of this one only.
            #[must_use]
            pub fn difference(&self, other: &Self) -> Self {
                Self(self.0.difference(&other.0).copied().collect())
            }

            /// Makes a set of numbers.
            ///
            /// # Errors
            /// When a number is above the highest possible.
            pub fn try_from_iter(numbers: impl IntoIterator<Item = u32>) -> Result<Self, ParseSetError> {
                let members: BTreeSet<u32> = numbers.into_iter().collect();
                match members.last() {
                    Some(&number) if number > Self::$max_name => Err(ParseSetError::TooHigh {
                        number,
                        list: number.to_string(),
                        max: Self::$max_name,
                    }),
                    _ => Ok(Self(members)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                format_list(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseSetError;
            fn from_str(list: &str) -> Result<Self, ParseSetError> {
                parse_list(list, Self::$max_name).map(Self)
            }
        }
    };
}

set! {
    /// A set of logical CPUs, as in `cpuset.cpus`.
    CpuSet, MAX_CPU = 8191 // The largest CONFIG_NR_CPUS of any architecture (x86 with MAXSMP).
}
set! {
    /// A set of memory nodes, as in `cpuset.mems`.
    MemSet, MAX_NODE = 1023 // The largest CONFIG_NODES_SHIFT is 10.
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(list: &str, expected: Option<&str>) {
        assert_eq!(list.parse::<CpuSet>().ok().map(|set| set.to_string()).as_deref(), expected, "{list:?}");
    }

    #[test]
    fn lists() {
        check("", Some(""));
        check("0", Some("0"));
        check("0-3", Some("0-3"));
        check("3,1,2", Some("1-3"));
        check("0,2,4-5\n", Some("0,2,4-5"));
        check("8191", Some("8191"));
        check("8192", None);
        check("0-4294967295", None);
        check("3-1", None);
        check("-1", None);
        check("+1", None);
        check("a", None);
        check("1,,2", None);
        check("1-", None);
    }

    proptest! {
        #[test]
        fn a_list_survives_being_written_and_read(numbers in prop::collection::btree_set(0u32..=8191, 0..60)) {
            let set = CpuSet::try_from_iter(numbers).unwrap();
            prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
    }
}
