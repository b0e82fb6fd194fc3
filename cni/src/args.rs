//! `CNI_ARGS`: by these the container runtime says whose sandbox it is.

use crate::environment::invalid;
use crate::error::CniError;
use berth_model::PodId;
use std::collections::BTreeMap;

const NAMESPACE: &str = "K8S_POD_NAMESPACE";
const NAME: &str = "K8S_POD_NAME";
const UID: &str = "K8S_POD_UID";
const SANDBOX: &str = "K8S_POD_INFRA_CONTAINER_ID";
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";
const KNOWN: [&str; 5] = [NAMESPACE, NAME, UID, SANDBOX, IGNORE_UNKNOWN];

/// Longest uid, in bytes; a UUID has 36.
const UID_MAX_BYTES: usize = 63;

/// A pod, as the container runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodArgs {
    /// Its identity.
    pub(crate) pod: PodId,
    /// Derived from identity and incarnation. Runtimes before containerd 1.5.3 do not pass it on.
    pub(crate) uid: Option<String>,
}

impl PodArgs {
    /// Parses `KEY=value;KEY=value`. The sandbox that it names, if any, must be the one asked about.
    pub(crate) fn parse(args: &str, sandbox_id: &str) -> Result<Self, CniError> {
        let mut pairs = split(args)?;
        check_unknown(&pairs)?;
        let mut take = |key| pairs.remove(key).filter(|value| !value.is_empty());
        let mut required =
            |key| take(key).ok_or_else(|| invalid(format!("CNI_ARGS {args:?} without a value for {key}")));
        let (namespace, name) = (required(NAMESPACE)?, required(NAME)?);
        let pod = PodId::new(namespace, name)
            .map_err(|error| invalid(format!("CNI_ARGS {NAMESPACE} and {NAME}: {error}")))?;
        if let Some(other) = take(SANDBOX).filter(|named| *named != sandbox_id) {
            let what = format!("CNI_ARGS {SANDBOX} {other:?} is not CNI_CONTAINERID {sandbox_id:?}");
            return Err(invalid(what));
        }
        let uid = take(UID).map(check_uid).transpose()?;
        Ok(Self { pod, uid })
    }
}

fn split(args: &str) -> Result<BTreeMap<&str, &str>, CniError> {
    let mut pairs = BTreeMap::new();
    // A separator at the end is common in hand-written arguments and changes nothing.
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid(format!("CNI_ARGS {pair:?} is not of the form KEY=value")))?;
        if pairs.insert(key, value).is_some() {
            return Err(invalid(format!("CNI_ARGS {key} is given twice")));
        }
    }
    Ok(pairs)
}

fn check_unknown(pairs: &BTreeMap<&str, &str>) -> Result<(), CniError> {
    let ignored = match pairs.get(IGNORE_UNKNOWN).copied().unwrap_or("false") {
        "1" | "true" | "True" | "TRUE" => true,
        "0" | "false" | "False" | "FALSE" => false,
        other => {
            return Err(invalid(format!("CNI_ARGS {IGNORE_UNKNOWN} {other:?} is neither true nor false")));
        }
    };
    match pairs.keys().find(|key| !KNOWN.contains(key)) {
        Some(unknown) if !ignored => {
            Err(invalid(format!("CNI_ARGS {unknown} is unknown, and {IGNORE_UNKNOWN} is not set")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_uid(uid: &str) -> Result<String, CniError> {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match uid.len() <= UID_MAX_BYTES && uid.bytes().all(byte) {
        true => Ok(uid.to_owned()),
        false => {
            Err(invalid(format!("CNI_ARGS {UID} {uid:?} is not up to {UID_MAX_BYTES} letters, digits and -")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str, expected: Result<(&str, Option<&str>), &str>) {
        let found = PodArgs::parse(args, "abc");
        let found = found.map(|args| (args.pod.to_string(), args.uid)).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok((pod, uid)), Ok(wanted)) => assert_eq!((pod.as_str(), uid.as_deref()), wanted, "{args:?}"),
            (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{args:?}: {found}"),
            (found, expected) => panic!("{args:?}: {found:?} instead of {expected:?}"),
        }
    }

    const WEB: &str = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";

    #[test]
    fn accepted() {
        check(WEB, Ok(("shop/web", None)));
        check(&format!("{WEB};"), Ok(("shop/web", None)));
        check(&format!("{WEB};K8S_POD_UID="), Ok(("shop/web", None)));
        check(&format!("{WEB};K8S_POD_UID=0a-1"), Ok(("shop/web", Some("0a-1"))));
        check(&format!("{WEB};K8S_POD_INFRA_CONTAINER_ID=abc"), Ok(("shop/web", None)));
        check(&format!("IgnoreUnknown=1;IP=10.0.0.9;{WEB}"), Ok(("shop/web", None)));
    }

    #[test]
    fn refused() {
        check("", Err("without a value for K8S_POD_NAMESPACE"));
        check("K8S_POD_NAMESPACE=shop", Err("without a value for K8S_POD_NAME"));
        check("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=", Err("without a value for K8S_POD_NAME"));
        check("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=We_b", Err("\"We_b\" is no DNS label"));
        check("K8S_POD_NAMESPACE=../x;K8S_POD_NAME=web", Err("is no DNS label"));
        check(&format!("{WEB};K8S_POD_NAME=other"), Err("K8S_POD_NAME is given twice"));
        check(&format!("{WEB};oops"), Err("\"oops\" is not of the form KEY=value"));
        check(&format!("{WEB};IP=10.0.0.9"), Err("IP is unknown"));
        check(&format!("{WEB};IP=10.0.0.9;IgnoreUnknown=0"), Err("IP is unknown"));
        check(&format!("{WEB};IgnoreUnknown=maybe"), Err("neither true nor false"));
        check(&format!("{WEB};K8S_POD_UID=a/b"), Err("K8S_POD_UID \"a/b\""));
        check(&format!("{WEB};K8S_POD_INFRA_CONTAINER_ID=xyz"), Err("is not CNI_CONTAINERID \"abc\""));
    }
}
