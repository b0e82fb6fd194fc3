//! The lab's two networks: `lab0` for ssh, registry and control plane, `pods0` for the pods of all guests.

use crate::command::succeed;
use anyhow::Result;
use std::process::Command;

/// The lab's own address on the management network.
pub const GATEWAY: &str = "10.88.0.1";
/// The image registry, as guests and the lab's own processes name it.
pub const REGISTRY: &str = "10.88.0.1:5000";
/// The lab's own address on the pods' network.
pub const POD_GATEWAY: &str = "10.89.0.1";
/// The pods' network: one layer-2 domain over all guests.
pub const POD_NETWORK: &str = "10.89.0.0/16";

/// The management address of guest `number` (1 is the first).
pub fn guest_address(number: u8) -> String {
    format!("10.88.0.{}", 10 + u16::from(number))
}

/// The taps of guest `number`: management, pods.
pub(crate) fn taps(number: u8) -> [String; 2] {
    [format!("tap{number}"), format!("ptap{number}")]
}

/// Makes bridges and taps in the namespace that we are in.
pub(crate) fn set_up(nodes: u8) -> Result<()> {
    ip("link set lo up")?;
    for (bridge, address) in [("lab0", format!("{GATEWAY}/24")), ("pods0", format!("{POD_GATEWAY}/16"))] {
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {address} dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
    }
    for number in 1..=nodes {
        for (tap, bridge) in taps(number).iter().zip(["lab0", "pods0"]) {
            ip(&format!("tuntap add {tap} mode tap"))?;
            ip(&format!("link set {tap} master {bridge} up"))?;
        }
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    succeed(Command::new("ip").args(arguments.split(' '))).map(drop)
}
