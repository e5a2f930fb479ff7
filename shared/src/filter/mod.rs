//! Filters of jobs: their text form, their limits, and the values in payloads that they compare.
//!
//! A filter in text is a list of terms, `task:email,sms status:failed age:<2h`, as people type it into the dashboard
//! and as it stands in its URLs. [`parse`] makes the API's message of it, [`print()`] the opposite, and [`check`] says
//! what is wrong with a message.

mod check;
mod error;
mod key;
mod parse;
mod payload;
mod print;
mod range;
mod term;
#[cfg(test)]
mod tests;
mod time_text;

pub use self::{
    check::{Violation, check},
    error::ParseError,
    key::{KEYS, Key, KeyHelp},
    parse::{parse, parse_terms},
    payload::matches as payload_matches,
    print::{print, quoted},
    term::{Term, terms},
};

use crate::proto::v1::JobFilter;

/// Brings a valid filter into its only form: lists sorted, each value once, ids as the API prints them.
pub fn normalise(filter: &mut JobFilter) {
    for ids in [&mut filter.ids, &mut filter.worker_ids, &mut filter.tasks] {
        ids.sort_unstable();
        ids.dedup();
    }
    for id in filter.ids.iter_mut().chain([&mut filter.session_id, &mut filter.origin]) {
        if let Ok(uuid) = uuid::Uuid::try_parse(id) {
            *id = uuid.to_string();
        }
    }
    filter.ids.sort_unstable();
    filter.ids.dedup();
    for numbers in [&mut filter.statuses, &mut filter.failure_reasons] {
        numbers.sort_unstable();
        numbers.dedup();
    }
    filter.payload.sort_unstable_by(|a, b| (&a.path, &a.value).cmp(&(&b.path, &b.value)));
    filter.payload.dedup();
}
