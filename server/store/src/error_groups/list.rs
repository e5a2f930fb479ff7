//! Pages of error groups. There are at most [`limits::ERROR_GROUPS`] groups, so that the few numbers by which a list is
//! filtered and ordered are read of all of them, whatever was folded; the rest is read of the groups of the page.

use std::cmp::Reverse;

use jobqueue_shared::limits;
use sqlx::FromRow;

use super::state::Decision;
use crate::types::{ErrorGroupCursor, ErrorGroupPage, ErrorGroupQuery, ErrorGroupState, ErrorOrder};

/// Numbers of a group, folded or not.
#[derive(Clone, Debug, FromRow)]
pub struct GroupRow {
    pub fingerprint: i64,
    pub first_seen: i64,
    pub last_seen: i64,
    pub attempts: i64,
    /// Of the query's worker_id, if it has one.
    pub dead_letters: i64,
    /// Failed attempts in the window, if the list is ordered by them.
    pub in_window: i64,
    pub state: i16,
    pub state_attempts: i64,
    pub ignore_until: Option<i64>,
    pub ignore_attempts: Option<i64>,
}

impl GroupRow {
    pub fn decision(&self) -> Decision {
        Decision {
            state: self.state,
            state_attempts: self.state_attempts,
            ignore_until: self.ignore_until,
            ignore_attempts: self.ignore_attempts,
        }
    }

    pub fn state(&self, now_ms: i64) -> ErrorGroupState {
        self.decision().state(self.attempts, now_ms)
    }

    fn key(&self, order: ErrorOrder) -> i64 {
        match order {
            ErrorOrder::LastSeen => self.last_seen,
            ErrorOrder::Attempts => self.in_window,
            ErrorOrder::DeadLetters => self.dead_letters,
        }
    }
}

/// Chooses the groups of a page. Returns their rows in order, and the page without its groups.
pub fn choose(mut rows: Vec<GroupRow>, query: &ErrorGroupQuery, now_ms: i64) -> (Vec<GroupRow>, ErrorGroupPage) {
    rows.retain(|row| query.states.is_empty() || query.states.contains(&row.state(now_ms)));
    let total = rows.len() as u64;
    let place = |row: &GroupRow| (Reverse(row.key(query.order)), row.fingerprint);
    if let Some(after) = query.after {
        rows.retain(|row| place(row) > (Reverse(after.key), after.id));
    }
    rows.sort_unstable_by_key(place);
    let more = rows.len() > query.page_size as usize;
    rows.truncate(query.page_size as usize);
    let next = rows.last().filter(|_| more);
    let next = next.map(|row| ErrorGroupCursor { key: row.key(query.order), id: row.fingerprint });
    (rows, ErrorGroupPage { groups: Vec::new(), total, next, now_ms })
}

/// Number of names that a driver reads of a group: one more than are shown tells that there are more.
pub const NAMES_READ: i64 = limits::ERROR_GROUP_NAMES as i64 + 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::ErrorWindow;

    fn row(fingerprint: i64, last_seen: i64) -> GroupRow {
        GroupRow {
            fingerprint,
            first_seen: 0,
            last_seen,
            attempts: 1,
            dead_letters: 0,
            in_window: 0,
            state: ErrorGroupState::Open.into(),
            state_attempts: 0,
            ignore_until: None,
            ignore_attempts: None,
        }
    }

    #[test]
    fn states_are_those_of_now() {
        let mut resolved = row(2, 5);
        resolved.state = ErrorGroupState::Resolved.into();
        let query = ErrorGroupQuery {
            states: vec![ErrorGroupState::Regressed],
            page_size: 10,
            window: ErrorWindow::Hour,
            ..ErrorGroupQuery::default()
        };
        let (rows, page) = choose(vec![row(1, 1), resolved], &query, 0);
        assert_eq!((rows.len(), rows[0].fingerprint, page.total, page.next), (1, 2, 1, None));
    }

    proptest! {
        #[test]
        fn pages_are_the_whole_list_in_order(seen in prop::collection::vec(0_i64..5, 0..30), page_size in 1_u32..7) {
            let rows: Vec<_> = seen.iter().enumerate().map(|(n, seen)| row(n as i64 - 3, *seen)).collect();
            let mut query = ErrorGroupQuery { page_size, ..ErrorGroupQuery::default() };
            let mut found = Vec::new();
            loop {
                let (page, rest) = choose(rows.clone(), &query, 0);
                prop_assert_eq!(rest.total, rows.len() as u64);
                found.extend(page.iter().map(|row| (row.last_seen, row.fingerprint)));
                match rest.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            let mut expected: Vec<_> = rows.iter().map(|row| (row.last_seen, row.fingerprint)).collect();
            expected.sort_unstable_by_key(|(seen, id)| (Reverse(*seen), *id));
            prop_assert_eq!(found, expected);
        }
    }
}
