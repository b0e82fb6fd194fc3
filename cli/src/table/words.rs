//! The wire's values in words.

use super::{Field, Mood};
use berth_model::Bytes;
use berth_proto::v1;

/// `namespace/name`.
pub(crate) fn identity(pod: Option<&v1::PodRef>) -> String {
    pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)).unwrap_or_default()
}

/// A pod's state as the control plane sees it.
pub(crate) fn pod_state(state: i32) -> &'static str {
    match v1::PodState::try_from(state) {
        Ok(v1::PodState::Placed) => "Placed",
        Ok(v1::PodState::Running) => "Running",
        Ok(v1::PodState::Stopping) => "Stopping",
        Ok(v1::PodState::Stopped) => "Stopped",
        Ok(v1::PodState::Evicting) => "Evicting",
        Ok(v1::PodState::Evicted) => "Evicted",
        Ok(v1::PodState::Failed) => "Failed",
        Ok(v1::PodState::Unspecified) | Err(_) => "?",
    }
}

pub(super) fn pod_state_field(state: i32) -> Field {
    let text = pod_state(state);
    match v1::PodState::try_from(state) {
        Ok(v1::PodState::Running) => Field::mood(text, Mood::Good),
        Ok(v1::PodState::Placed | v1::PodState::Stopping | v1::PodState::Evicting) => {
            Field::mood(text, Mood::Wait)
        }
        Ok(v1::PodState::Failed) => Field::mood(text, Mood::Bad),
        Ok(v1::PodState::Stopped | v1::PodState::Evicted | v1::PodState::Unspecified) | Err(_) => text.into(),
    }
}

pub(super) fn pod_phase(phase: i32) -> Field {
    match v1::PodPhase::try_from(phase) {
        Ok(v1::PodPhase::Pending) => Field::mood("Pending", Mood::Wait),
        Ok(v1::PodPhase::Running) => Field::mood("Running", Mood::Good),
        Ok(v1::PodPhase::Degraded) => Field::mood("Degraded", Mood::Bad),
        Ok(v1::PodPhase::Stopped) => "Stopped".into(),
        Ok(v1::PodPhase::Evicting) => Field::mood("Evicting", Mood::Wait),
        Ok(v1::PodPhase::Gone) => "Gone".into(),
        Ok(v1::PodPhase::Held) => Field::mood("Held", Mood::Wait),
        Ok(v1::PodPhase::Unknown) => Field::mood("Unknown", Mood::Bad),
        Ok(v1::PodPhase::Unspecified) | Err(_) => "?".into(),
    }
}

pub(super) fn node_state(state: i32) -> Field {
    match v1::NodeState::try_from(state) {
        Ok(v1::NodeState::Joined) => Field::mood("Joined", Mood::Wait),
        Ok(v1::NodeState::Ready) => Field::mood("Ready", Mood::Good),
        Ok(v1::NodeState::Silent) => Field::mood("Silent", Mood::Bad),
        Ok(v1::NodeState::Dead) => Field::mood("Dead", Mood::Bad),
        Ok(v1::NodeState::Unspecified) | Err(_) => "?".into(),
    }
}

pub(super) fn class(class: i32) -> &'static str {
    match v1::AppClass::try_from(class) {
        Ok(v1::AppClass::LatencyCritical) => "latency-critical",
        Ok(v1::AppClass::Standard | v1::AppClass::Unspecified) => "standard",
        Ok(v1::AppClass::Batch) => "batch",
        Ok(v1::AppClass::BestEffort) => "best-effort",
        Err(_) => "?",
    }
}

pub(super) fn run_state(state: i32) -> &'static str {
    match v1::RunState::try_from(state) {
        Ok(v1::RunState::Running) => "Running",
        Ok(v1::RunState::Stopped) => "Stopped",
        Ok(v1::RunState::Unspecified) | Err(_) => "?",
    }
}

/// What CPUs a pod was given.
pub(super) fn binding(cpu: Option<&v1::CpuBinding>) -> String {
    use v1::cpu_binding::Binding;
    match cpu.and_then(|cpu| cpu.binding.as_ref()) {
        Some(Binding::Exclusive(exclusive)) => {
            format!("{} exclusive, memory nodes {}", exclusive.cpus, exclusive.mems)
        }
        Some(Binding::Shared(shared)) => format!("pool {}", shared.pool),
        None => String::new(),
    }
}

/// The same, short.
pub(super) fn binding_short(cpu: Option<&v1::CpuBinding>) -> String {
    use v1::cpu_binding::Binding;
    match cpu.and_then(|cpu| cpu.binding.as_ref()) {
        Some(Binding::Exclusive(exclusive)) => exclusive.cpus.clone(),
        Some(Binding::Shared(shared)) => shared.pool.clone(),
        None => String::new(),
    }
}

pub(super) fn container_phase(phase: Option<&v1::ContainerPhase>) -> Field {
    use v1::container_phase::Phase;
    match phase.and_then(|phase| phase.phase.as_ref()) {
        Some(Phase::Absent(_)) => Field::mood("Absent", Mood::Wait),
        Some(Phase::Created(_)) => Field::mood("Created", Mood::Wait),
        Some(Phase::Running(running)) => Field::mood(format!("Running, pid {}", running.pid), Mood::Good),
        Some(Phase::Exited(exited)) if exited.reason.is_empty() => {
            Field::mood(format!("Exited with {}", exited.code), Mood::Bad)
        }
        Some(Phase::Exited(exited)) => {
            Field::mood(format!("Exited with {} ({})", exited.code, exited.reason), Mood::Bad)
        }
        Some(Phase::Unknown(_)) => Field::mood("Unknown", Mood::Bad),
        None => "?".into(),
    }
}

/// What an order tells whom to do: verb and target.
pub(super) fn verb(order: Option<&v1::Order>) -> (&'static str, String) {
    use v1::node_order::Verb as Node;
    use v1::order::Target;
    use v1::pod_order::Verb;
    match order.and_then(|order| order.target.as_ref()) {
        Some(Target::Pod(pod)) => {
            let verb = match &pod.verb {
                Some(Verb::Run(_)) => "Run",
                Some(Verb::Stop(_)) => "Stop",
                Some(Verb::Start(_)) => "Start",
                Some(Verb::Evict(evict)) if evict.release => "Evict+Release",
                Some(Verb::Evict(_)) => "Evict",
                Some(Verb::Release(_)) => "Release",
                Some(Verb::Restart(_)) => "Restart",
                Some(Verb::Upgrade(_)) => "Upgrade",
                Some(Verb::Resize(_)) => "Resize",
                None => "?",
            };
            (verb, identity(pod.pod.as_ref()))
        }
        Some(Target::NodeOrder(node)) => match &node.verb {
            Some(Node::SetSharedCpus(set)) => ("SetSharedCpus", format!("{}={}", set.pool, set.cpus)),
            Some(Node::PullImage(pull)) => ("PullImage", pull.image.clone()),
            Some(Node::Inspect(_)) => ("Inspect", String::new()),
            Some(Node::OfferDisks(offer)) => ("OfferDisks", identity(offer.pod.as_ref())),
            Some(Node::WithdrawDisks(withdraw)) => ("WithdrawDisks", identity(withdraw.pod.as_ref())),
            Some(Node::FetchDisk(fetch)) => {
                ("FetchDisk", format!("{}:{}", identity(fetch.pod.as_ref()), fetch.disk))
            }
            None => ("?", String::new()),
        },
        None => ("?", String::new()),
    }
}

/// How an order ended, and why if not well.
pub(crate) fn outcome(outcome: Option<&v1::Outcome>) -> Option<(&'static str, String)> {
    use v1::outcome::Outcome;
    let why = |reason: &v1::Reason| format!("{}: {}", reason.code, reason.message);
    match outcome?.outcome.as_ref()? {
        Outcome::Done(_) => Some(("done", String::new())),
        Outcome::Failed(reason) => Some(("failed", why(reason))),
        Outcome::RolledBack(reason) => Some(("rolled back", why(reason))),
        Outcome::Refused(reason) => Some(("refused", why(reason))),
    }
}

pub(super) fn order_state(state: &str) -> Field {
    match state {
        "done" => Field::mood(state, Mood::Good),
        "failed" | "rolled back" | "refused" => Field::mood(state, Mood::Bad),
        _ => Field::mood(state, Mood::Wait),
    }
}

/// How long ago, in the largest unit that says enough: `5s`, `12m`, `3h`, `9d`. Empty for never.
pub(super) fn age(at_ms: u64, now_ms: u64) -> String {
    if at_ms == 0 {
        return String::new();
    }
    // A node's clock may be ahead of ours.
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// How long until then; `expired` when it has passed.
pub(super) fn until(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        Some(left) if left > 0 => format!("in {}", age(1, left.saturating_add(1))),
        Some(_) | None => "expired".to_owned(),
    }
}

/// Bytes to three digits: `1.9Gi`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut scaled = bytes;
    let mut unit = None;
    // The last division is kept in tenths, so that no floating point is needed.
    let mut tenths = 0;
    for name in UNITS {
        if scaled < 1_024 {
            break;
        }
        tenths = (scaled % 1_024) * 10 / 1_024;
        scaled /= 1_024;
        unit = Some(name);
    }
    match unit {
        None => bytes.to_string(),
        Some(_) if Bytes(bytes).to_string().len() <= 6 => Bytes(bytes).to_string(),
        Some(unit) if scaled >= 100 => format!("{scaled}{unit}"),
        Some(unit) => format!("{scaled}.{tenths}{unit}"),
    }
}

/// The addresses of a pod, IPv4 before IPv6.
pub(super) fn addresses(grants: &[v1::AddressGrant]) -> String {
    grants.iter().map(|grant| grant.address.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = 10 * 86_400_000;
        for (at, expected) in [
            (0, ""),
            (now, "0s"),
            (now + 5_000, "0s"),
            (now - 119_000, "119s"),
            (now - 120_000, "2m"),
            (now - 7_200_000, "2h"),
            (now - 9 * 86_400_000, "9d"),
        ] {
            assert_eq!(age(at, now), expected, "{at}");
        }
        assert_eq!(until(now + 600_000, now), "in 10m");
        assert_eq!(until(now, now), "expired");
        assert_eq!(until(now - 1, now), "expired");
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0"),
            (1_023, "1023"),
            (2 << 20, "2Mi"),
            (2_041_000_000, "1.9Gi"),
            (512 << 20, "512Mi"),
            (123_456_789, "117Mi"),
            (u64::MAX, "16383Pi"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
