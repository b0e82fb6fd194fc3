//! The objects that operations print, and the previous result that CHECK is given.

use crate::object::Object;
use crate::version::SpecVersion;
use berth_model::{AddressGrant, Cidr};
use serde::{Deserialize, Deserializer, Serialize};
use std::net::IpAddr;

/// The abbreviated success object of a plugin for addresses: without `interfaces`.
#[derive(Debug, Serialize)]
pub(crate) struct Success {
    #[serde(rename = "cniVersion")]
    version: SpecVersion,
    ips: Vec<Ip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Serialize)]
struct Ip {
    /// Only before 1.0.0.
    #[serde(rename = "version", skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

#[derive(Debug, Serialize)]
struct Route {
    dst: &'static str,
}

/// Empty: `berthd` writes the pod's resolv.conf itself.
#[derive(Debug, Serialize)]
struct Dns {}

impl Success {
    /// The result of an ADD that was granted `grants`.
    pub(crate) fn new(version: SpecVersion, grants: &[AddressGrant]) -> Self {
        Self {
            version,
            ips: grants.iter().map(|grant| Ip::new(version, grant)).collect(),
            // The main plugin sends them through the gateways above.
            routes: grants.iter().filter(|grant| grant.gateway.is_some()).map(default_route).collect(),
            dns: Dns {},
        }
    }
}

impl Ip {
    fn new(version: SpecVersion, grant: &AddressGrant) -> Self {
        let family = match grant.address.address() {
            IpAddr::V4(_) => "4",
            IpAddr::V6(_) => "6",
        };
        let family = match version {
            SpecVersion::V0_3_0 | SpecVersion::V0_3_1 | SpecVersion::V0_4_0 => Some(family),
            SpecVersion::V1_0_0 | SpecVersion::V1_1_0 => None,
        };
        Self { family, address: grant.address.to_string(), gateway: grant.gateway }
    }
}

fn default_route(grant: &AddressGrant) -> Route {
    match grant.address.address() {
        IpAddr::V4(_) => Route { dst: "0.0.0.0/0" },
        IpAddr::V6(_) => Route { dst: "::/0" },
    }
}

/// The success object of VERSION.
#[derive(Debug, Serialize)]
pub(crate) struct Versions<'a> {
    #[serde(rename = "cniVersion")]
    asked: &'a str,
    #[serde(rename = "supportedVersions")]
    supported: [SpecVersion; 5],
}

impl<'a> Versions<'a> {
    /// The answer to a question in version `asked`, which need not be a supported one.
    pub(crate) fn new(asked: &'a str) -> Self {
        Self { asked, supported: SpecVersion::ALL }
    }
}

/// The result of a container's ADD, after all plugins of the chain have added to it.
#[derive(Debug, Deserialize)]
pub(crate) struct PreviousResult {
    #[serde(default)]
    ips: Vec<Object<PreviousIp>>,
}

#[derive(Debug, Deserialize)]
struct PreviousIp {
    #[serde(deserialize_with = "from_text")]
    address: Cidr,
    gateway: Option<IpAddr>,
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl PreviousResult {
    /// What is wrong with it if `grants` are what holds, for people. Addresses that other plugins added are theirs.
    pub(crate) fn contradiction(&self, grants: &[AddressGrant]) -> Option<String> {
        grants.iter().find_map(|grant| self.contradicts(grant))
    }

    fn contradicts(&self, grant: &AddressGrant) -> Option<String> {
        let Some(ours) = self.ips.iter().map(|Object(ip)| ip).find(|ip| ip.address == grant.address) else {
            let found: Vec<String> = self.ips.iter().map(|Object(ip)| ip.address.to_string()).collect();
            return Some(format!("granted is {}, prevResult has [{}]", grant.address, found.join(", ")));
        };
        // A main plugin that acts as gateway itself fills one in where the grant has none.
        let granted = grant.gateway?;
        (ours.gateway != Some(granted)).then(|| {
            let found = ours.gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string());
            format!("{} is granted with gateway {granted}, prevResult has {found}", grant.address)
        })
    }
}

/// One of our own objects as text.
pub(crate) fn to_json(object: &impl Serialize) -> String {
    let mut text = serde_json::to_string(object).expect("objects of texts and numbers have no way to fail");
    text.push('\n');
    text
}
