//! Error groups: arguments and results.

use std::{fmt, str::FromStr};

use num_enum::{IntoPrimitive, TryFromPrimitive};
use uuid::Uuid;

/// Id of an error group: the fingerprint of its task and normalised error. As text 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ErrorGroupId(pub i64);

impl ErrorGroupId {
    /// Group of the errors for which no group of their own could be made. No fingerprint is 0.
    pub const OTHER: Self = Self(0);
}

impl fmt::Display for ErrorGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.cast_unsigned())
    }
}

impl FromStr for ErrorGroupId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(|it| Self(it.cast_signed())).ok_or("is no error group; it is 16 lower-case hexadecimal digits")
    }
}

/// State of an error group. The numbers of the first three are stored; [`Regressed`](Self::Regressed) follows from the
/// attempts that failed since a person resolved the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoPrimitive, TryFromPrimitive)]
#[repr(i16)]
pub enum ErrorGroupState {
    Open = 1,
    Ignored = 2,
    Resolved = 3,
    Regressed = 4,
}

/// Time in which failed attempts are counted: a number of slots that ends with the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorWindow {
    /// 60 minutes.
    Hour,
    /// 24 hours.
    #[default]
    Day,
    /// 7 days, by hours.
    Week,
}

impl ErrorWindow {
    /// Length of a slot in milliseconds: a minute or an hour.
    pub fn step_ms(self) -> i64 {
        match self {
            Self::Hour => 60_000,
            Self::Day | Self::Week => 3_600_000,
        }
    }

    /// Number of slots.
    pub fn slots(self) -> usize {
        match self {
            Self::Hour => 60,
            Self::Day => 24,
            Self::Week => 7 * 24,
        }
    }

    /// First slot of the window that ends at `now_ms`, in steps since 1970.
    pub fn first_slot(self, now_ms: i64) -> i64 {
        now_ms.div_euclid(self.step_ms()) - self.slots() as i64 + 1
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorOrder {
    /// Newest failure first.
    #[default]
    LastSeen,
    /// Most failed attempts in the window first.
    Attempts,
    /// Most dead letters first.
    DeadLetters,
}

/// Request for a page of error groups.
#[derive(Clone, Debug, Default)]
pub struct ErrorGroupQuery {
    /// Only groups with failed attempts of this worker_id; attempts in the window and dead letters are then those of
    /// this worker_id.
    pub worker_id: Option<String>,
    /// States of the groups wanted; empty = all.
    pub states: Vec<ErrorGroupState>,
    pub order: ErrorOrder,
    pub window: ErrorWindow,
    pub page_size: u32,
    pub after: Option<ErrorGroupCursor>,
}

/// End of a page of error groups: the value that the list is ordered by, and the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorGroupCursor {
    pub key: i64,
    pub id: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorGroupPage {
    pub groups: Vec<ErrorGroup>,
    /// Number of groups on all pages.
    pub total: u64,
    pub next: Option<ErrorGroupCursor>,
    /// Time of the read, which ends the window.
    pub now_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ErrorGroup {
    pub id: ErrorGroupId,
    pub task: String,
    pub title: String,
    pub state: ErrorGroupState,
    pub first_seen_ms: i64,
    pub last_seen_ms: i64,
    /// Number of failed attempts since the group was made.
    pub attempts: u64,
    /// Number of failed attempts in each slot of the window, oldest first.
    pub counts: Vec<u64>,
    pub dead_letters: u64,
    /// The first worker_ids by name, at most `limits::ERROR_GROUP_NAMES`.
    pub worker_ids: Vec<String>,
    pub more_worker_ids: bool,
    pub note: String,
    pub link: String,
    /// Time at which a person set the state last.
    pub changed_at_ms: Option<i64>,
    /// Of an ignored group: the time at which it becomes open.
    pub ignored_until_ms: Option<i64>,
    /// Of an ignored group: the number of failed attempts after which it becomes open.
    pub ignored_attempts: Option<u64>,
}

/// An error group with what its page shows.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorGroupDetails {
    pub group: ErrorGroup,
    /// Number of jobs that became dead letters in each slot of the window, oldest first.
    pub died: Vec<u64>,
    /// worker_ids with most failed attempts first, at most `limits::ERROR_GROUP_WORKER_IDS`.
    pub worker_ids: Vec<ErrorGroupWorkerId>,
    pub sample: ErrorSample,
    /// Number of pending jobs whose last attempt failed with this error.
    pub retrying: u64,
    /// More jobs wait than were examined, so that `retrying` may be too low.
    pub retrying_is_floor: bool,
    /// Time of the read, which ends the window.
    pub now_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorGroupWorkerId {
    pub worker_id: String,
    pub attempts: u64,
    pub dead_letters: u64,
    pub last_seen_ms: i64,
}

/// The newest error of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorSample {
    pub error: String,
    pub job_id: Option<Uuid>,
    pub at_ms: i64,
}

/// A person's change of an error group; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorGroupChange {
    pub state: Option<NewErrorGroupState>,
    pub note: Option<String>,
    pub link: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewErrorGroupState {
    Open,
    Resolved,
    /// Until a time, or until so many attempts more have failed, whichever comes first; without either until a person
    /// changes it.
    Ignored {
        until_ms: Option<i64>,
        attempts: Option<u64>,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_survive_as_text(number: i64) {
            let text = ErrorGroupId(number).to_string();
            prop_assert_eq!(text.len(), 16);
            prop_assert_eq!(text.parse(), Ok(ErrorGroupId(number)));
        }

        #[test]
        fn the_present_slot_is_the_last_of_the_window(now in 0_i64..4_000_000_000_000) {
            for window in [ErrorWindow::Hour, ErrorWindow::Day, ErrorWindow::Week] {
                let last = window.first_slot(now) + window.slots() as i64 - 1;
                prop_assert!((0..window.step_ms()).contains(&(now - last * window.step_ms())));
            }
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in ["", "0", "00000000000000000", "000000000000000G", "ABCDEF0123456789", "+123456789abcdef"] {
            assert!(text.parse::<ErrorGroupId>().is_err(), "{text:?}");
        }
    }
}
