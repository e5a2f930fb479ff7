//! States of jobs, where pending jobs are told apart by what they wait for.

use serde::Serialize;

use crate::{proto::v1::job_filter::Status, state::State};

/// State of a job at a moment. The first four are kinds of [`State::Pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum SubState {
    /// Due: the next free worker takes it.
    Ready,
    /// Not due yet, no attempt used.
    Scheduled,
    /// Not due yet, attempts used.
    Retrying,
    /// Given back by a worker without a handler for its task.
    NoHandler,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl SubState {
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Scheduled,
        Self::Retrying,
        Self::NoHandler,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];
    /// Kinds of pending jobs.
    pub const PENDING: [Self; 4] = [Self::Ready, Self::Scheduled, Self::Retrying, Self::NoHandler];

    /// Kind of a pending job at the time `now_ms`.
    pub fn of_pending(waits_for_handler: bool, attempts_used: u32, run_at_ms: i64, now_ms: i64) -> Self {
        if waits_for_handler {
            Self::NoHandler
        } else if run_at_ms <= now_ms {
            Self::Ready
        } else if attempts_used == 0 {
            Self::Scheduled
        } else {
            Self::Retrying
        }
    }

    pub fn state(self) -> State {
        match self {
            Self::Ready | Self::Scheduled | Self::Retrying | Self::NoHandler => State::Pending,
            Self::Running => State::Running,
            Self::Done => State::Done,
            Self::Failed => State::Failed,
            Self::Cancelled => State::Cancelled,
        }
    }

    /// Kinds of a state: four of pending, one of every other.
    pub fn of(state: State) -> Vec<Self> {
        Self::ALL.into_iter().filter(|it| it.state() == state).collect()
    }

    /// Name in the API and in the text form of filters.
    pub fn word(self) -> &'static str {
        Status::from(self).as_str_name()
    }

    /// Converts the API's status; `None` for `unspecified`.
    pub fn from_status(status: Status) -> Option<Self> {
        Self::ALL.into_iter().find(|&it| Status::from(it) == status)
    }
}

impl From<SubState> for Status {
    fn from(it: SubState) -> Self {
        match it {
            SubState::Ready => Self::Ready,
            SubState::Scheduled => Self::Scheduled,
            SubState::Retrying => Self::Retrying,
            SubState::NoHandler => Self::NoHandler,
            SubState::Running => Self::Running,
            SubState::Done => Self::Done,
            SubState::Failed => Self::Failed,
            SubState::Cancelled => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pending_job_is_of_one_kind() {
        for (waits_for_handler, attempts_used, run_at_ms, kind) in [
            (false, 0, 10, SubState::Ready),
            (false, 2, 9, SubState::Ready),
            (false, 0, 11, SubState::Scheduled),
            (false, 1, 11, SubState::Retrying),
            (true, 0, 9, SubState::NoHandler),
            (true, 3, 11, SubState::NoHandler),
        ] {
            assert_eq!(SubState::of_pending(waits_for_handler, attempts_used, run_at_ms, 10), kind);
        }
    }

    #[test]
    fn the_words_of_the_api_are_those_of_the_states() {
        for it in SubState::ALL {
            assert_eq!(SubState::from_status(it.into()), Some(it));
            assert!(SubState::of(it.state()).contains(&it));
            if it.state() != State::Pending {
                assert_eq!(it.word(), it.state().word());
            }
        }
        assert_eq!(SubState::of(State::Pending), SubState::PENDING);
        assert_eq!(SubState::from_status(Status::Unspecified), None);
    }
}
