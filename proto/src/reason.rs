//! Refusals, failures and outcomes. A reason keeps its stable code and its text whatever version wrote it;
//! failures, which the ledger keeps, also come back as they went.

use crate::v1;
use berth_model::{Failure, OrderId, Outcome, Refusal};
use std::collections::HashMap;

impl From<&Refusal> for v1::Reason {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code().to_owned(), message: refusal.to_string(), details: HashMap::new() }
    }
}

impl From<&Failure> for v1::Reason {
    fn from(failure: &Failure) -> Self {
        let pairs: Vec<(&str, String)> = match failure {
            Failure::DeadlineExceeded { deadline_ms, last } => {
                vec![("deadline_ms", deadline_ms.to_string()), ("last", last.clone())]
            }
            Failure::Image { image, why } => vec![("image", image.clone()), ("why", why.clone())],
            Failure::WrongDigest { image, found, ordered } => {
                vec![("image", image.clone()), ("found", found.clone()), ("ordered", ordered.clone())]
            }
            Failure::Effect { step, why } => vec![("step", step.clone()), ("why", why.clone())],
            Failure::NotReady { container, why } => {
                vec![("container", container.to_string()), ("why", why.clone())]
            }
            Failure::Unhonourable { why } => vec![("why", why.clone())],
            Failure::Superseded { by } => vec![("by", by.to_string())],
        };
        Self {
            code: failure.code().to_owned(),
            message: failure.to_string(),
            details: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// A failure as it was recorded; one of a version unknown to this one keeps its code and text.
pub fn failure_from(reason: &v1::Reason) -> Failure {
    let detail = |key: &str| reason.details.get(key).cloned();
    let known = || {
        Some(match reason.code.as_str() {
            "DeadlineExceeded" => Failure::DeadlineExceeded {
                deadline_ms: detail("deadline_ms")?.parse().ok()?,
                last: detail("last")?,
            },
            "Image" => Failure::Image { image: detail("image")?, why: detail("why")? },
            "WrongDigest" => Failure::WrongDigest {
                image: detail("image")?,
                found: detail("found")?,
                ordered: detail("ordered")?,
            },
            "Effect" => Failure::Effect { step: detail("step")?, why: detail("why")? },
            "NotReady" => {
                Failure::NotReady { container: detail("container")?.parse().ok()?, why: detail("why")? }
            }
            "Unhonourable" => Failure::Unhonourable { why: detail("why")? },
            "Superseded" => Failure::Superseded { by: OrderId::new(detail("by")?).ok()? },
            _ => return None,
        })
    };
    known().unwrap_or_else(|| Failure::Effect { step: reason.code.clone(), why: reason.message.clone() })
}

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use v1::outcome::{Done, Outcome as Wire};
        let wire = match outcome {
            Outcome::Done => Wire::Done(Done {}),
            Outcome::Failed(failure) => Wire::Failed(failure.into()),
            Outcome::RolledBack(failure) => Wire::RolledBack(failure.into()),
            Outcome::Refused(refusal) => Wire::Refused(refusal.into()),
        };
        Self { outcome: Some(wire) }
    }
}
