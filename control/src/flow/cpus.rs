//! Who has which CPUs of a node: exclusive pods, shared pools, the host itself, and what is left.

use berth_model::{CpuSet, PoolName};
use std::collections::BTreeMap;

/// A shared pool, as far as CPUs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenPool {
    /// What it was ordered to be.
    pub ordered: CpuSet,
    /// What an operator chose; none where the pool is all that nobody else has.
    pub chosen: Option<CpuSet>,
}

/// The CPUs of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeCpus {
    /// Those that are online.
    pub online: CpuSet,
    /// Those that the host keeps for itself.
    pub reserved: CpuSet,
    /// Those that pods have for themselves alone, by holder.
    pub exclusive: BTreeMap<String, CpuSet>,
    /// The shared pools.
    pub pools: BTreeMap<PoolName, ChosenPool>,
}

/// Why a pool cannot have the CPUs that an operator chose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolDenied {
    /// None at all.
    #[error("a pool has at least one CPU")]
    Empty,
    /// Some do not exist, or are the host's own.
    #[error("CPUs {missing} are not there for pods (online: {online}, reserved for the host: {reserved})")]
    Missing {
        /// Those.
        missing: CpuSet,
        /// All that are online.
        online: CpuSet,
        /// The host's own.
        reserved: CpuSet,
    },
    /// Some are someone else's.
    #[error("CPUs {cpus} belong to {holder}")]
    Taken {
        /// Those.
        cpus: CpuSet,
        /// Whose they are.
        holder: String,
    },
}

impl NodeCpus {
    fn all_exclusive(&self) -> CpuSet {
        union(self.exclusive.values())
    }

    fn usable(&self) -> CpuSet {
        self.online.difference(&self.reserved)
    }

    /// CPUs that a pod could have for itself: those of the pool that lends them included.
    pub(crate) fn free(&self, lender: &PoolName) -> CpuSet {
        let others = self.pools.iter().filter(|(name, _)| *name != lender);
        let others = union(others.map(|(_, pool)| &pool.ordered));
        self.usable().difference(&self.all_exclusive()).difference(&others)
    }

    /// What the pool that lends CPUs should be now: what was chosen for it, or else all that nobody else has.
    pub(crate) fn lender_wanted(&self, lender: &PoolName) -> CpuSet {
        let free = self.free(lender);
        match self.pools.get(lender).and_then(|pool| pool.chosen.as_ref()) {
            Some(chosen) => chosen.intersection(&free),
            None => free,
        }
    }

    /// Whether an operator may set a pool to `cpus`.
    ///
    /// # Errors
    /// When they are none, not there, or someone else's.
    pub(crate) fn check_choice(&self, pool: &PoolName, cpus: &CpuSet) -> Result<(), PoolDenied> {
        if cpus.is_empty() {
            return Err(PoolDenied::Empty);
        }
        let missing = cpus.difference(&self.usable());
        if !missing.is_empty() {
            return Err(PoolDenied::Missing {
                missing,
                online: self.online.clone(),
                reserved: self.reserved.clone(),
            });
        }
        let pools = self.pools.iter().filter(|(name, _)| *name != pool);
        let pools = pools.map(|(name, other)| (format!("shared pool {name}"), &other.ordered));
        let pods = self.exclusive.iter().map(|(pod, cpus)| (format!("pod {pod}"), cpus));
        for (holder, theirs) in pools.chain(pods) {
            let taken = theirs.intersection(cpus);
            if !taken.is_empty() {
                return Err(PoolDenied::Taken { cpus: taken, holder });
            }
        }
        Ok(())
    }
}

fn union<'a>(sets: impl Iterator<Item = &'a CpuSet>) -> CpuSet {
    sets.fold(CpuSet::new(), |all, set| all.union(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    fn name(text: &str) -> PoolName {
        PoolName::new(text).unwrap()
    }

    fn node(exclusive: &[(&str, &str)], pools: &[(&str, &str, Option<&str>)]) -> NodeCpus {
        let pool = |ordered: &str, chosen: Option<&str>| ChosenPool {
            ordered: set(ordered),
            chosen: chosen.map(set),
        };
        NodeCpus {
            online: set("0-7"),
            reserved: set("0"),
            exclusive: exclusive.iter().map(|(pod, cpus)| ((*pod).to_owned(), set(cpus))).collect(),
            pools: pools
                .iter()
                .map(|(pool_name, ordered, chosen)| (name(pool_name), pool(ordered, *chosen)))
                .collect(),
        }
    }

    #[test]
    fn what_is_left() {
        let check = |node: NodeCpus, free: &str, wanted: &str| {
            let default = name("default");
            assert_eq!(node.free(&default), set(free), "{node:?}");
            assert_eq!(node.lender_wanted(&default), set(wanted), "{node:?}");
        };
        check(node(&[], &[]), "1-7", "1-7");
        check(node(&[], &[("default", "1-7", None)]), "1-7", "1-7");
        check(node(&[("a/b", "2-3")], &[("default", "1-7", None)]), "1,4-7", "1,4-7");
        check(
            node(&[("a/b", "2-3")], &[("default", "1-3", Some("1-3")), ("batch", "6-7", Some("6-7"))]),
            "1,4-5",
            "1",
        );
    }

    #[test]
    fn choices() {
        let node = node(&[("a/b", "2-3")], &[("default", "1,4-5", None), ("batch", "6-7", None)]);
        let check = |pool: &str, cpus: &str, expected: &str| {
            let said = node.check_choice(&name(pool), &set(cpus));
            assert_eq!(
                said.map_err(|error| error.to_string()),
                match expected {
                    "" => Ok(()),
                    text => Err(text.to_owned()),
                }
            );
        };
        check("default", "1,4", "");
        check("batch", "6", "");
        check("batch", "5-6", "CPUs 5 belong to shared pool default");
        check("default", "1-2", "CPUs 2 belong to pod a/b");
        check("default", "", "a pool has at least one CPU");
        check("default", "0,8", "CPUs 0,8 are not there for pods (online: 0-7, reserved for the host: 0)");
    }
}
