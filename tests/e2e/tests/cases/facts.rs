//! What a node says of its host, against what the kernel shows.

use crate::fleet;
use serde_json::Value;
use std::collections::BTreeSet;

/// Of every interface that a device on the PCI bus is behind: the device's address, and the interface's name.
const ADAPTERS: &str = "for i in /sys/class/net/*/device; do \
    d=$(readlink -f $i); while [ ! -e $d/vendor ] || [ ! -e $d/config ]; do d=${d%/*}; [ -n \"$d\" ] || break; done; \
    i=${i%/device}; echo \"${d##*/} ${i##*/}\"; done";

#[test]
fn a_node_tells_what_is_on_its_bus() {
    let guest = fleet().lab().guest(0);
    let local: Value =
        serde_json::from_str(&guest.run_ok("berthctl facts -o json").expect("berthctl facts")).expect("JSON");
    let upstream = fleet().berth_json(&["nodes", "node-1"]).expect("berth nodes")["facts"].clone();
    assert_eq!(local["devices"], upstream["devices"]);
    let told: BTreeSet<String> = local["devices"]
        .as_array()
        .expect("the host has devices")
        .iter()
        .filter(|device| device["class"] == "Nic")
        .flat_map(|device| {
            let names = device["names"].as_array().cloned().unwrap_or_default();
            names.into_iter().map(move |name| {
                format!("{} {}", device["address"].as_str().unwrap_or("-"), name.as_str().unwrap_or("-"))
            })
        })
        .collect();
    let said = guest.run_ok(ADAPTERS).expect("ask the kernel");
    let adapters: BTreeSet<String> = said.lines().map(str::to_owned).collect();
    assert!(!adapters.is_empty(), "the guest has no network adapter on its bus");
    assert_eq!(told, adapters);
    let driven = |device: &Value| device["class"] == "Nic" && device["driver"] == "virtio-pci";
    assert!(local["devices"].as_array().is_some_and(|all| all.iter().any(driven)), "{:#}", local["devices"]);
}
