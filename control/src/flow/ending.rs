//! How an order ended, as its node said it. A reason keeps its code and text whatever version wrote it.

use berth_model::{Failure, Refusal};
use berth_proto::{InvalidMessage, v1};
use std::collections::BTreeMap;

/// Longest text of a reason that is kept; what a runtime says can be pages.
const MAX_TEXT_BYTES: usize = 4_096;
/// Most details that are kept.
const MAX_DETAILS: usize = 16;

/// Why an order did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub text: String,
    /// For programs.
    pub details: BTreeMap<String, String>,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// What it wanted is so.
    Done,
    /// It was accepted and did not get there.
    Failed(Reason),
    /// It did not get there, and everything is again as it was before.
    RolledBack(Reason),
    /// It was refused and changed nothing.
    Refused(Reason),
}

impl Reason {
    /// Whether this is the refusal of a node that does not have the pod.
    pub fn is_no_such_pod(&self) -> bool {
        self.code == "NoSuchPod"
    }

    /// A step that the control plane could not take itself.
    pub fn of_step(step: &str, why: &str) -> Self {
        let (step, why) = (step.to_owned(), why.to_owned());
        v1::Reason::from(&Failure::Effect { step, why }).into()
    }
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        v1::Reason::from(refusal).into()
    }
}

impl From<v1::Reason> for Reason {
    fn from(wire: v1::Reason) -> Self {
        let short = |mut text: String| {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            text
        };
        let details = wire.details.into_iter().collect::<BTreeMap<_, _>>();
        let details = details.into_iter().take(MAX_DETAILS);
        Self {
            code: short(wire.code),
            text: short(wire.message),
            details: details.map(|(key, value)| (short(key), short(value))).collect(),
        }
    }
}

impl From<&Reason> for v1::Reason {
    fn from(reason: &Reason) -> Self {
        Self {
            code: reason.code.clone(),
            message: reason.text.clone(),
            details: reason.details.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<v1::Outcome> for Ending {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Outcome) -> Result<Self, InvalidMessage> {
        use v1::outcome::Outcome;
        match wire.outcome.ok_or_else(|| InvalidMessage::missing("outcome"))? {
            Outcome::Done(_) => Ok(Self::Done),
            Outcome::Failed(reason) => Ok(Self::Failed(reason.into())),
            Outcome::RolledBack(reason) => Ok(Self::RolledBack(reason.into())),
            Outcome::Refused(reason) => Ok(Self::Refused(reason.into())),
        }
    }
}

impl From<&Ending> for v1::Outcome {
    fn from(ending: &Ending) -> Self {
        use v1::outcome::{Done, Outcome};
        let outcome = match ending {
            Ending::Done => Outcome::Done(Done {}),
            Ending::Failed(reason) => Outcome::Failed(reason.into()),
            Ending::RolledBack(reason) => Outcome::RolledBack(reason.into()),
            Ending::Refused(reason) => Outcome::Refused(reason.into()),
        };
        Self { outcome: Some(outcome) }
    }
}
