//! What a container runtime hands to the CNI plugin: lines `NAME=value` of the environment, an empty line, and stdin.

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Reads a request, and asks nobody.
pub fn cni(data: &[u8]) {
    let (environment, stdin) = split(data);
    let lookup = |name: &str| environment.get(name.as_bytes()).map(|value| OsString::from_vec(value.clone()));
    let first = berth_cni::read(&lookup, stdin);
    match &first {
        Ok(request) => {
            // The same configuration in other words is the same request.
            if let Ok(config) = serde_json::from_slice::<Value>(stdin) {
                let again = berth_cni::read(&lookup, config.to_string().as_bytes());
                let again = again.unwrap_or_else(|answer| panic!("refused when said again: {answer:?}"));
                assert_eq!(format!("{request:?}"), format!("{again:?}"));
            }
        }
        Err(answer) => is_a_refusal(answer),
    }
}

/// An error object of the specification, in a version that exists.
fn is_a_refusal(answer: &berth_cni::Answer) {
    assert!(!answer.succeeded && answer.note.as_ref().is_some_and(|note| !note.is_empty()));
    let object: Value = serde_json::from_str(&answer.stdout).expect("an error is printed as JSON");
    assert!(object["code"].as_u64().is_some_and(|code| code > 0), "{object}");
    assert!(object["msg"].as_str().is_some_and(|text| !text.is_empty()), "{object}");
    assert!(object["cniVersion"].is_string(), "{object}");
}

fn split(data: &[u8]) -> (BTreeMap<&[u8], Vec<u8>>, &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (lines, stdin) = at.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let pairs = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((&line[..at], line[at + 1..].to_vec()))
    });
    (pairs.collect(), stdin)
}
