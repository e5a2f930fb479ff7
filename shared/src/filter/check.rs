//! Checks a filter against the limits of the API.

use prost_types::Timestamp;
use uuid::Uuid;

use crate::{
    limits,
    proto::v1::{IntRange, JobFilter, PayloadMatch, TimeRange, dead_letter::Reason, job_filter::Status},
};

/// Complaint about a field of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the filter, such as `tasks[3]`.
    pub field: String,
    /// Continues a sentence that begins with the field: "is 101 bytes; the limit is 100".
    pub description: String,
}

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    fn number(&mut self, field: &str, number: usize, max: usize) {
        if number > max {
            self.add(field, format!("has {number} values; the limit is {max}"));
        }
    }

    fn length(&mut self, field: impl Into<String>, text: &str, max: usize) {
        if text.len() > max {
            self.add(field, format!("is {} bytes; the limit is {max}", text.len()));
        }
    }

    fn name(&mut self, field: String, text: &str, max: usize) {
        self.length(&field, text, max);
        if text.chars().any(char::is_control) {
            self.add(field, "has control characters");
        }
    }

    fn uuid(&mut self, field: impl Into<String>, text: &str) {
        if Uuid::try_parse(text).is_err() {
            self.add(field, "is no UUID");
        }
    }

    fn times(&mut self, field: &str, range: Option<&TimeRange>) {
        let Some(TimeRange { from, before }) = range else { return };
        let mut sound = true;
        for (end, time) in [("from", from), ("before", before)] {
            if time.is_some_and(|it| !is_time(&it)) {
                self.add(format!("{field}.{end}"), "is no time of the years 1 to 9999");
                sound = false;
            }
        }
        match (from, before) {
            (None, None) => self.add(field, "must have from or before"),
            (Some(from), Some(before)) if sound && (from.seconds, from.nanos) >= (before.seconds, before.nanos) => {
                self.add(field, "is empty: from is not before its end");
            }
            _ => {}
        }
    }

    fn integers(&mut self, field: &str, range: Option<&IntRange>) {
        let Some(IntRange { min, max }) = range else { return };
        for (end, number) in [("min", min), ("max", max)] {
            if let Some(number) = number.filter(|it| *it < 0) {
                self.add(format!("{field}.{end}"), format!("is {number}; it must be 0 or more"));
            }
        }
        match (min, max) {
            (None, None) => self.add(field, "must have min or max"),
            (Some(min), Some(max)) if min > max => self.add(field, format!("is empty: {min} is more than {max}")),
            _ => {}
        }
    }
}

/// A google.protobuf.Timestamp is of the years 1 to 9999, and its nanoseconds count forwards.
fn is_time(time: &Timestamp) -> bool {
    (0..1_000_000_000).contains(&time.nanos) && (-62_135_596_800..=253_402_300_799).contains(&time.seconds)
}

/// Description of a text that is no id of an error group.
pub(super) const ERROR_GROUP: &str = "is no error group; it is 16 lower-case hexadecimal digits";

pub(super) fn is_error_group(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a filter; returns every wrong field. `max_ids` is the limit of `ids`.
pub fn check(filter: &JobFilter, max_ids: usize) -> Vec<Violation> {
    let mut found = Violations::default();
    let JobFilter {
        worker_ids,
        tasks,
        statuses,
        created,
        finished,
        run_at,
        priority,
        attempts,
        failure_reasons,
        error_group,
        error_contains,
        session_id,
        origin,
        ids,
        payload,
    } = filter;
    found.number("worker_ids", worker_ids.len(), limits::FILTER_VALUES);
    for (n, worker_id) in worker_ids.iter().enumerate().take(limits::FILTER_VALUES) {
        let field = format!("worker_ids[{n}]");
        if worker_id.is_empty() {
            found.add(&field, format!("must not be empty; it is 1 to {} bytes", limits::WORKER_ID));
        }
        found.name(field, worker_id, limits::WORKER_ID);
    }
    found.number("tasks", tasks.len(), limits::FILTER_VALUES);
    for (n, task) in tasks.iter().enumerate().take(limits::FILTER_VALUES) {
        found.name(format!("tasks[{n}]"), task, limits::TASK);
    }
    found.number("statuses", statuses.len(), limits::FILTER_VALUES);
    for (n, &status) in statuses.iter().enumerate().take(limits::FILTER_VALUES) {
        if Status::try_from(status).map_or(true, |it| it == Status::Unspecified) {
            found.add(format!("statuses[{n}]"), format!("is {status}, which is no status"));
        }
    }
    for (field, range) in [("created", created), ("finished", finished), ("run_at", run_at)] {
        found.times(field, range.as_ref());
    }
    for (field, range) in [("priority", priority), ("attempts", attempts)] {
        found.integers(field, range.as_ref());
    }
    found.number("failure_reasons", failure_reasons.len(), limits::FILTER_VALUES);
    for (n, &reason) in failure_reasons.iter().enumerate().take(limits::FILTER_VALUES) {
        if Reason::try_from(reason).map_or(true, |it| it == Reason::Unspecified) {
            found.add(format!("failure_reasons[{n}]"), format!("is {reason}, which is no reason"));
        }
    }
    if !error_group.is_empty() && !is_error_group(error_group) {
        found.add("error_group", ERROR_GROUP);
    }
    found.length("error_contains", error_contains, limits::FILTER_TEXT);
    if !session_id.is_empty() {
        found.uuid("session_id", session_id);
    }
    if !origin.is_empty() {
        found.uuid("origin", origin);
    }
    found.number("ids", ids.len(), max_ids);
    for (n, id) in ids.iter().enumerate().take(max_ids) {
        found.uuid(format!("ids[{n}]"), id);
    }
    found.number("payload", payload.len(), limits::FILTER_PAYLOAD);
    for (n, PayloadMatch { path, value }) in payload.iter().enumerate().take(limits::FILTER_PAYLOAD) {
        let field = format!("payload[{n}].path");
        if path.is_empty() {
            found.add(&field, format!("must not be empty; it is 1 to {} bytes", limits::FILTER_PATH));
        }
        found.length(field, path, limits::FILTER_PATH);
        found.length(format!("payload[{n}].value"), value, limits::FILTER_TEXT);
    }
    found.0
}
