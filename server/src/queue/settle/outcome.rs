//! Answers to settlements.

use jobqueue_shared::state::State;

/// Result of one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub lease_id: String,
    pub verdict: SettleVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleVerdict {
    Accepted(State),
    Stale,
    /// The settlement is not stored, and cannot be; the text says why.
    Malformed(String),
}
