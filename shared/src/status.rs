//! Conversion between the API's enums and the internal states, whose names are equal.

use crate::{
    proto::v1::{dead_letter::Reason, job::Status},
    state::{FailureReason, State},
};

impl From<State> for Status {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Done => Self::Done,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// Converts a status; `None` for `unspecified`.
pub fn state(status: Status) -> Option<State> {
    State::ALL.into_iter().find(|&state| Status::from(state) == status)
}

impl From<FailureReason> for Reason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::AttemptsExhausted => Self::AttemptsExhausted,
            FailureReason::Permanent => Self::Permanent,
            FailureReason::WorkerLost => Self::WorkerLost,
            FailureReason::TimedOut => Self::TimedOut,
        }
    }
}

/// Converts a reason; `None` for `unspecified`.
pub fn failure_reason(reason: Reason) -> Option<FailureReason> {
    match reason {
        Reason::Unspecified => None,
        Reason::AttemptsExhausted => Some(FailureReason::AttemptsExhausted),
        Reason::Permanent => Some(FailureReason::Permanent),
        Reason::WorkerLost => Some(FailureReason::WorkerLost),
        Reason::TimedOut => Some(FailureReason::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_api_are_the_words_of_the_states() {
        for it in State::ALL {
            assert_eq!(Status::from(it).as_str_name(), it.word());
            assert_eq!(state(Status::from(it)), Some(it));
        }
        assert_eq!(state(Status::Unspecified), None);
        for number in 0..=4 {
            let reason = Reason::try_from(number).unwrap();
            assert_eq!(failure_reason(reason).map_or(Reason::Unspecified, Reason::from), reason);
        }
    }
}
