//! Ulimits in an OCI runtime specification: what CRI cannot say. Pure.

use berth_model::Ulimit;
use serde_json::{Value, json};

/// Whether the specification carries all of these.
pub(super) fn are_in(spec: &Value, ulimits: &[Ulimit]) -> bool {
    let rlimits = spec.pointer("/process/rlimits").and_then(Value::as_array);
    ulimits.iter().all(|ulimit| rlimits.is_some_and(|rlimits| rlimits.contains(&to_json(ulimit))))
}

/// Writes them into the specification, each in place of what it had for the same resource.
pub(super) fn put_in(spec: &mut Value, ulimits: &[Ulimit]) -> Result<(), &'static str> {
    let process = spec.get_mut("process").and_then(Value::as_object_mut);
    let process = process.ok_or("the specification has no process")?;
    let rlimits = process.entry("rlimits").or_insert_with(|| json!([]));
    if rlimits.is_null() {
        *rlimits = json!([]);
    }
    let rlimits = rlimits.as_array_mut().ok_or("process.rlimits is no list")?;
    for ulimit in ulimits {
        let name = ulimit.rlimit.oci_name();
        rlimits.retain(|known| known["type"] != name.as_str());
        rlimits.push(to_json(ulimit));
    }
    Ok(())
}

fn to_json(ulimit: &Ulimit) -> Value {
    json!({ "type": ulimit.rlimit.oci_name(), "soft": ulimit.soft, "hard": ulimit.hard })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Rlimit;

    fn nofile(soft: u64) -> Ulimit {
        Ulimit { rlimit: Rlimit::Nofile, soft, hard: Ulimit::UNLIMITED }
    }

    #[test]
    fn what_was_put_in_is_in() {
        let bare = json!({ "process": {} });
        let null = json!({ "process": { "rlimits": null } });
        let other = json!({ "process": { "rlimits": [
            { "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        ] } });
        for mut spec in [bare, null, other] {
            assert!(!are_in(&spec, &[nofile(12_345)]));
            put_in(&mut spec, &[nofile(12_345)]).unwrap();
            assert!(are_in(&spec, &[nofile(12_345)]), "{spec}");
            let text: Value = serde_json::from_str(&spec.to_string()).unwrap();
            assert!(are_in(&text, &[nofile(12_345)]), "{text}");
        }
    }

    #[test]
    fn other_resources_stay() {
        let mut spec = json!({ "process": { "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }] } });
        put_in(&mut spec, &[nofile(1)]).unwrap();
        assert_eq!(spec.pointer("/process/rlimits").unwrap().as_array().unwrap().len(), 2);
    }

    #[test]
    fn nothing_ordered_is_always_in() {
        assert!(are_in(&json!({}), &[]));
        assert!(put_in(&mut json!({}), &[nofile(1)]).is_err());
    }
}
