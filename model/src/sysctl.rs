//! Kernel parameters of a pod's own namespaces.

use std::collections::BTreeMap;

/// Most kernel parameters of one pod.
pub const MAX_SYSCTLS: usize = 64;
/// Longest value, bytes: the kernel takes a page, no namespaced parameter needs as much.
const MAX_VALUE_BYTES: usize = 1024;

/// Kernel parameters of a pod by their dotted names, as in sysctl.d(5).
pub type Sysctls = BTreeMap<String, String>;

/// Those that are the IPC namespace's alone (ipc_namespaces(7), mq_overview(7)).
const OF_IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "fs.mqueue.",
];
/// Parameters of the network namespace live here. Not all that live here are namespaced: those that are not are absent
/// in any namespace but the first, so that writing them fails.
const OF_NETWORK: &str = "net.";

/// Why kernel parameters were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSysctl {
    /// More than a pod may have.
    #[error("{0} kernel parameters, at most {MAX_SYSCTLS} are possible")]
    TooMany(usize),
    /// Not of a pod's namespaces.
    #[error(
        "kernel parameter {0:?} is not one of a pod's own namespaces (net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)"
    )]
    NotThePods(String),
    /// A value that no parameter has.
    #[error("kernel parameter {name}: value {value:?} is empty, too long, or holds a control character")]
    Value {
        /// Which.
        name: String,
        /// What it was to be.
        value: String,
    },
}

/// Checks that each is a parameter of a pod's own namespaces, so that no other pod and not the host hears of it.
///
/// # Errors
/// The first thing found wrong.
pub(crate) fn validate_sysctls(sysctls: &Sysctls) -> Result<(), InvalidSysctl> {
    if sysctls.len() > MAX_SYSCTLS {
        return Err(InvalidSysctl::TooMany(sysctls.len()));
    }
    for (name, value) in sysctls {
        if !is_the_pods(name) {
            return Err(InvalidSysctl::NotThePods(name.clone()));
        }
        let fits = !value.is_empty() && value.len() <= MAX_VALUE_BYTES;
        if !fits || value.contains(|c: char| c.is_control() && c != '\t') {
            return Err(InvalidSysctl::Value { name: name.clone(), value: value.clone() });
        }
    }
    Ok(())
}

/// The first that is of the network namespace.
pub(crate) fn first_of_network(sysctls: &Sysctls) -> Option<&str> {
    sysctls.keys().map(String::as_str).find(|name| name.starts_with(OF_NETWORK))
}

fn is_the_pods(name: &str) -> bool {
    // No slash: a name must not lead out of its folder.
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if !name.split('.').all(part) {
        return false;
    }
    name.starts_with(OF_NETWORK)
        || OF_IPC.into_iter().any(|known| match known.ends_with('.') {
            true => name.starts_with(known),
            false => name == known,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, expected: Result<(), &str>) {
        let sysctls = Sysctls::from([(name.to_owned(), value.to_owned())]);
        let said = validate_sysctls(&sysctls).map_err(|error| error.to_string());
        match expected {
            Ok(()) => assert_eq!(said, Ok(()), "{name}={value}"),
            Err(why) => assert!(said.as_ref().is_err_and(|said| said.contains(why)), "{name}: {said:?}"),
        }
    }

    #[test]
    fn only_what_is_the_pods_own() {
        check("net.core.somaxconn", "4096", Ok(()));
        check("net.ipv4.tcp_rmem", "4096\t87380\t6291456", Ok(()));
        check("net.ipv4.conf.eth0.rp_filter", "0", Ok(()));
        check("kernel.shm_rmid_forced", "1", Ok(()));
        check("kernel.sem", "250 32000 32 128", Ok(()));
        check("fs.mqueue.msg_max", "20", Ok(()));
        for others in ["vm.swappiness", "kernel.panic", "kernel.semaphore", "fs.file-max", "fs.mqueue", "net"]
        {
            check(others, "1", Err("is not one of a pod's own"));
        }
        for astray in ["net.ipv4/../../kernel.panic", "net..x", "net.core.", "net/core/somaxconn", ""] {
            check(astray, "1", Err("is not one of a pod's own"));
        }
        check("net.core.somaxconn", "", Err("is empty"));
        check("net.core.somaxconn", "1\n2", Err("control character"));
        let many = (0..65).map(|n| (format!("net.core.x{n}"), "1".to_owned())).collect();
        assert_eq!(validate_sysctls(&many), Err(InvalidSysctl::TooMany(65)));
    }
}
