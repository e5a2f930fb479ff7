//! Printer of the text form.

use super::time_text;
use crate::{
    proto::v1::{IntRange, JobFilter, TimeRange, dead_letter::Reason, job_filter::Status},
    sub_state::SubState,
};

/// Prints a filter, so that [`parse`](super::parse) makes an equal one of the text. The filter must be valid.
pub fn print(filter: &JobFilter) -> String {
    let mut terms = Vec::new();
    let list = |terms: &mut Vec<String>, key: &str, values: Vec<String>| {
        if !values.is_empty() {
            terms.push(format!("{key}:{}", values.join(",")));
        }
    };
    let texts = |values: &[String]| values.iter().map(|it| quoted(it)).collect();
    list(&mut terms, "status", statuses(&filter.statuses));
    list(&mut terms, "task", texts(&filter.tasks));
    list(&mut terms, "worker", texts(&filter.worker_ids));
    if !filter.error_contains.is_empty() {
        terms.push(format!("error:{}", quoted(&filter.error_contains)));
    }
    let reasons = filter.failure_reasons.iter().filter_map(|it| Reason::try_from(*it).ok());
    list(&mut terms, "reason", reasons.map(|it| it.as_str_name().to_owned()).collect());
    if !filter.error_group.is_empty() {
        terms.push(format!("group:{}", filter.error_group));
    }
    for (key, range) in [("created", &filter.created), ("finished", &filter.finished), ("run_at", &filter.run_at)] {
        terms.extend(range.as_ref().and_then(|it| times(key, it)));
    }
    for (key, range) in [("attempts", &filter.attempts), ("priority", &filter.priority)] {
        terms.extend(range.as_ref().and_then(|it| numbers(key, it)));
    }
    for it in &filter.payload {
        terms.push(format!("payload.{}:{}", path(&it.path), quoted(&it.value)));
    }
    if !filter.session_id.is_empty() {
        terms.push(format!("session:{}", filter.session_id));
    }
    if !filter.origin.is_empty() {
        terms.push(format!("origin:{}", filter.origin));
    }
    list(&mut terms, "id", filter.ids.clone());
    terms.join(" ")
}

fn statuses(numbers: &[i32]) -> Vec<String> {
    let mut states: Vec<_> =
        numbers.iter().filter_map(|it| Status::try_from(*it).ok()).filter_map(SubState::from_status).collect();
    states.sort_unstable();
    states.dedup();
    let mut words = Vec::new();
    if SubState::PENDING.iter().all(|it| states.contains(it)) {
        states.retain(|it| !SubState::PENDING.contains(it));
        words.push("pending".to_owned());
    }
    words.extend(states.into_iter().map(|it| it.word().to_owned()));
    words
}

fn times(key: &str, TimeRange { from, before }: &TimeRange) -> Option<String> {
    let [from, before] = [from, before].map(|it| it.as_ref().map(time_text::print));
    match (from, before) {
        (Some(from), Some(before)) => Some(format!("{key}:{from}..{before}")),
        (Some(from), None) => Some(format!("{key}:>={from}")),
        (None, Some(before)) => Some(format!("{key}:<{before}")),
        (None, None) => None,
    }
}

fn numbers(key: &str, IntRange { min, max }: &IntRange) -> Option<String> {
    match (min, max) {
        (Some(min), Some(max)) if min == max => Some(format!("{key}:{min}")),
        (Some(min), Some(max)) => Some(format!("{key}:{min}..{max}")),
        (Some(min), None) => Some(format!("{key}:>={min}")),
        (None, Some(max)) => Some(format!("{key}:<={max}")),
        (None, None) => None,
    }
}

/// A value of a term, in quotes if it needs them.
pub fn quoted(text: &str) -> String {
    let plain = |it: char| !it.is_whitespace() && !it.is_control() && !matches!(it, ',' | '"');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { in_quotes(text) }
}

fn path(text: &str) -> String {
    let plain = |it: char| !it.is_whitespace() && !it.is_control() && !matches!(it, ':' | '"');
    if text.chars().all(plain) { text.to_owned() } else { in_quotes(text) }
}

fn in_quotes(text: &str) -> String {
    let mut out = String::from('"');
    for it in text.chars() {
        match it {
            '"' | '\\' => out.extend(['\\', it]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            it if it.is_control() => out.extend(["\\u{", &format!("{:x}", u32::from(it)), "}"]),
            it => out.push(it),
        }
    }
    out.push('"');
    out
}
