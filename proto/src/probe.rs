//! Probes.

use crate::error::{At, InvalidMessage, Result};
use crate::v1;
use berth_model::{Probe, ProbeAction, ProbeAnswer};

pub(crate) fn probe_from(wire: v1::Probe) -> Result<Probe> {
    let v1::Probe { exec, period_ms, timeout_ms, http, tcp, grpc } = wire;
    let action = match (exec.as_slice(), http, tcp, grpc) {
        (_, None, None, None) => ProbeAction::Exec(exec),
        ([], Some(http), None, None) => {
            ProbeAction::Http { port: port_from(http.port).at("http.port")?, path: http.path }
        }
        ([], None, Some(tcp), None) => ProbeAction::Tcp { port: port_from(tcp.port).at("tcp.port")? },
        ([], None, None, Some(grpc)) => {
            ProbeAction::Grpc { port: port_from(grpc.port).at("grpc.port")?, service: grpc.service }
        }
        _ => return Err(InvalidMessage::new("", "asks in more than one way")),
    };
    Ok(Probe { action, period_ms, timeout_ms })
}

fn port_from(number: u32) -> Result<u16> {
    u16::try_from(number).map_err(|_| InvalidMessage::new("", format!("{number} is no port")))
}

impl From<&Probe> for v1::Probe {
    fn from(probe: &Probe) -> Self {
        let wire = Self { period_ms: probe.period_ms, timeout_ms: probe.timeout_ms, ..Self::default() };
        match probe.action.clone() {
            ProbeAction::Exec(exec) => Self { exec, ..wire },
            ProbeAction::Http { port, path } => {
                Self { http: Some(v1::HttpProbe { port: port.into(), path }), ..wire }
            }
            ProbeAction::Tcp { port } => Self { tcp: Some(v1::TcpProbe { port: port.into() }), ..wire },
            ProbeAction::Grpc { port, service } => {
                Self { grpc: Some(v1::GrpcProbe { port: port.into(), service }), ..wire }
            }
        }
    }
}

pub(crate) fn answer_from(wire: v1::ProbeAnswer) -> ProbeAnswer {
    if wire.ready { ProbeAnswer::Ready } else { ProbeAnswer::NotReady(wire.why) }
}

impl From<&ProbeAnswer> for v1::ProbeAnswer {
    fn from(answer: &ProbeAnswer) -> Self {
        match answer {
            ProbeAnswer::Ready => Self { ready: true, why: String::new() },
            ProbeAnswer::NotReady(why) => Self { ready: false, why: why.clone() },
        }
    }
}
