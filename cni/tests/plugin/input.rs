//! Malformed input: a clear error, a code of the specification, nothing asked of `berthd`.

use crate::call::{Call, VERSIONS, WEB_UID};
use crate::fake::FakeDaemon;
use berth_cni::{STDIN_LIMIT_BYTES, answer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

fn add() -> Call {
    Call::new("ADD", Path::new("/absent/cni.sock"))
}

#[test]
fn environment() {
    let missing = |name: &str| {
        let text = format!("{name} missing or empty");
        add().without(name).fails(4, &text);
        add().env(name, "").fails(4, &text);
    };
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        missing(name);
    }
    add().without("CNI_IFNAME").without("CNI_NETNS").fails(4, "CNI_IFNAME, CNI_NETNS missing");
    Call::new("DEL", Path::new("/absent")).without("CNI_IFNAME").fails(4, "CNI_IFNAME missing");

    Call::new("GC", Path::new("/absent"))
        .config("cniVersion", json!("1.1.0"))
        .without("CNI_ARGS")
        .fails(7, "cni.dev");
    let wrong = |name: &str, value: &str, text: &str| add().env(name, value).fails(4, text);
    for command in ["gc", "add", "ADD ", "UPDATE"] {
        wrong("CNI_COMMAND", command, "is not supported");
    }
    for id in ["-a", ".", "a/b", "a b", "a\n", "é", &"a".repeat(254)] {
        wrong("CNI_CONTAINERID", id, "CNI_CONTAINERID");
    }
    for name in [".", "..", "eth/0", "eth:0", "eth 0", "eth\t0", "abcdefghijklmnop"] {
        wrong("CNI_IFNAME", name, "CNI_IFNAME");
    }
    for path in ["netns", "../netns", &format!("/{}", "a".repeat(4095))] {
        wrong("CNI_NETNS", path, "is no absolute path");
    }
    wrong("CNI_ARGS", "", "without a value for K8S_POD_NAMESPACE");
    wrong("CNI_ARGS", "K8S_POD_NAMESPACE=Shop;K8S_POD_NAME=web", "is no DNS label");
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        add().env(name, OsStr::from_bytes(b"/\xff")).fails(4, &format!("{name} "));
    }
}

#[test]
fn configuration() {
    let whole = |stdin: &str, code: u64, text: &str| add().stdin(stdin).fails(code, text);
    whole("", 6, "cannot decode the configuration");
    whole("{", 6, "cannot decode the configuration");
    whole("[]", 6, "cannot decode the configuration");
    whole(r#"["1.0.0", "berth", {"type": "berth-ipam"}]"#, 6, "expected an object");
    whole("null", 6, "cannot decode the configuration");
    whole("\u{0}", 6, "cannot decode the configuration");
    whole(&"[".repeat(100_000), 6, "cannot decode the configuration");
    whole(r#"{"cniVersion": 1}"#, 6, "cannot decode the configuration");
    whole(r#"{"cniVersion": "1.0.0", "cniVersion": "1.1.0"}"#, 6, "duplicate field");
    add().stdin(b"\xff{}".as_slice()).fails(6, "cannot decode the configuration");
    whole("{}", 1, "0.1.0");

    let key = |key: &str, value: Value, code: u64, text: &str| add().config(key, value).fails(code, text);
    for version in ["", "0.2.0", "0.3.2", "1.0", "1.2.0", "v1.0.0"] {
        key("cniVersion", version.into(), 1, "berth-ipam speaks 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    }
    key("name", Value::Null, 7, "network name");
    key("name", json!("a/b"), 7, "network name");
    key("ipam", Value::Null, 7, "ipam is no object");
    key("ipam", json!("berth-ipam"), 7, "ipam is no object");
    key("ipam", json!({}), 7, "ipam.type is missing");
    key("ipam", json!({"type": "host-local"}), 7, "host-local");
    key("ipam", json!({"type": "berth-ipam", "sokcet": "/x"}), 2, "ipam.sokcet is \\\"/x\\\"");
    for socket in
        [json!(5), json!(""), json!("cni.sock"), json!("/a\0b"), json!(format!("/{}", "a".repeat(107)))]
    {
        key("ipam", json!({"type": "berth-ipam", "socket": socket}), 7, "ipam.socket");
    }
}

#[test]
fn an_endless_configuration_is_not_read_to_its_end() {
    let length = usize::try_from(STDIN_LIMIT_BYTES).unwrap() + 1;
    add().stdin(vec![b' '; 4 * length]).fails(6, "longer than 1048576 bytes");
    let daemon = FakeDaemon::start();
    daemon.state().grant("shop/web", WEB_UID, "10.0.0.7/24", None);
    let padding = json!("x".repeat(length - 1024));
    assert!(Call::new("ADD", &daemon.socket()).config("padding", padding).run().succeeded);
}

#[test]
fn errors_are_told_in_the_version_that_was_spoken() {
    for version in VERSIONS {
        let outcome = add().config("cniVersion", version.into()).run();
        assert_eq!(outcome.json()["cniVersion"], version);
    }
    assert_eq!(add().config("cniVersion", json!("0.2.0")).run().json()["cniVersion"], "1.1.0");
    assert_eq!(add().stdin("{").run().json()["cniVersion"], "1.1.0");
}

#[test]
fn what_went_wrong_is_on_stderr_too() {
    let outcome = add().run();
    assert!(outcome.stderr.starts_with("berth-ipam: cannot attach shop/web: "), "{}", outcome.stderr);
}

/// Bytes that come near to being a variable's value.
fn value() -> impl Strategy<Value = Option<OsString>> {
    let near = prop::sample::select(vec![
        "ADD",
        "DEL",
        "CHECK",
        "STATUS",
        "VERSION",
        "GC",
        "abc",
        "eth0",
        "/proc/1/ns/net",
        "/",
        "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
        "IgnoreUnknown=1;;=;K8S_POD_NAME",
        "=",
    ]);
    prop_oneof![
        1 => Just(None),
        6 => near.prop_map(|text| Some(text.into())),
        1 => prop::collection::vec(1u8.., 0..40).prop_map(|bytes| Some(OsString::from_vec(bytes))),
    ]
}

/// Bytes that come near to being a configuration.
fn stdin() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        r#""cniVersion":"1.1.0""#,
        r#""cniVersion":"0.4.0""#,
        r#""cniVersion":1"#,
        r#""name":"n""#,
        r#""name":{}"#,
        r#""ipam":{"type":"berth-ipam","socket":"/absent/cni.sock"}"#,
        r#""ipam":{"type":"berth-ipam","socket":""}"#,
        r#""ipam":[]"#,
        r#""prevResult":{"ips":[{"address":"10.0.0.7/24"}]}"#,
        r#""prevResult":{"ips":{}}"#,
    ]);
    let near = prop::collection::vec(piece, 0..6)
        .prop_map(|pieces| format!("{{{}}}", pieces.join(",")).into_bytes());
    prop_oneof![4 => near, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(values in prop::collection::vec(value(), 5), stdin in stdin()) {
        let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
        let lookup = |name: &str| {
            let index = names.iter().position(|known| *known == name)?;
            values[index].clone()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(answer(&lookup, &stdin));
        if !answer.stdout.is_empty() {
            let object: Value = serde_json::from_str(&answer.stdout).unwrap();
            prop_assert_eq!(object.get("code").is_none(), answer.succeeded);
        }
        prop_assert!(answer.succeeded || !answer.stdout.is_empty());
    }
}
