//! How a manifest says when a container is ready.

use super::scalar::PortNumber;
use berth_model::{Probe, ProbeAction};
use serde::Deserialize;

/// As Kubernetes has it.
const DEFAULT_PERIOD_MS: u64 = 10_000;
/// Kubernetes has a second, which is too short for a program that starts on a loaded host.
const DEFAULT_TIMEOUT_MS: u64 = 5_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawProbe {
    exec: Option<Vec<String>>,
    http: Option<RawHttp>,
    tcp: Option<RawTcp>,
    grpc: Option<RawGrpc>,
    period_ms: Option<u64>,
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    port: PortNumber,
    #[serde(default = "RawHttp::root")]
    path: String,
}

impl RawHttp {
    fn root() -> String {
        "/".to_owned()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTcp {
    port: PortNumber,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrpc {
    port: PortNumber,
    #[serde(default)]
    service: String,
}

/// One question, and how often it is put.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawProbe")]
pub(super) struct ProbeField(pub(super) Probe);

impl TryFrom<RawProbe> for ProbeField {
    type Error = String;

    fn try_from(raw: RawProbe) -> Result<Self, String> {
        let action = match (raw.exec, raw.http, raw.tcp, raw.grpc) {
            (Some(command), None, None, None) => ProbeAction::Exec(command),
            (None, Some(http), None, None) => ProbeAction::Http { port: http.port.0, path: http.path },
            (None, None, Some(tcp), None) => ProbeAction::Tcp { port: tcp.port.0 },
            (None, None, None, Some(grpc)) => ProbeAction::Grpc { port: grpc.port.0, service: grpc.service },
            _ => return Err("a probe has one of exec, http, tcp and grpc".to_owned()),
        };
        Ok(Self(Probe {
            action,
            period_ms: raw.period_ms.unwrap_or(DEFAULT_PERIOD_MS),
            timeout_ms: raw.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        }))
    }
}
