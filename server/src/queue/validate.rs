//! Field checks. All violations of a request are collected, so that the caller gets them in one answer.

use std::ops::RangeInclusive;

use jobqueue_shared::limits;
use prost_types::{Duration, Timestamp};
use uuid::Uuid;

use super::error::{Error, Result, Violation};

/// Maximum number of violations in an answer: they travel in HTTP headers, for which some clients allow only 8 KiB.
const NAMED: usize = 20;
/// Maximum length of a violation's description, in bytes.
const DESCRIPTION: usize = 200;
const YEAR: &str = "0 to 1 year";

/// Violations of one request.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<Violation>,
    more: usize,
    prefix: String,
}

impl Violations {
    /// Sets the prefix of the fields that are added from here on, for example `jobs[3].`.
    pub(crate) fn within(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    pub(crate) fn add(&mut self, field: &str, description: impl Into<String>) {
        if self.found.len() == NAMED {
            self.more += 1;
            return;
        }
        let mut description = description.into();
        description.truncate(limits::cut(&description, DESCRIPTION).len());
        self.found.push(Violation { field: format!("{}{field}", self.prefix), description });
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the error, if there were violations.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            let description = format!("{} more fields are wrong", self.more);
            self.found.push(Violation { field: String::new(), description });
        }
        Err(Error::Invalid(self.found))
    }

    pub(crate) fn uuid(&mut self, field: &str, text: &str) -> Uuid {
        Uuid::try_parse(text).unwrap_or_else(|_| {
            self.add(field, if text.is_empty() { "must be given" } else { "is no UUID" });
            Uuid::nil()
        })
    }

    /// Checks a worker_id: 1 to `limits::WORKER_ID` bytes without control characters.
    pub(crate) fn worker_id(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            self.add(field, format!("must not be empty; it is 1 to {} bytes", limits::WORKER_ID));
        }
        self.name(field, text, limits::WORKER_ID);
    }

    /// Checks a name: at most `max` bytes without control characters; may be empty.
    pub(crate) fn name(&mut self, field: &str, text: &str, max: usize) {
        self.length(field, text, max);
        if text.chars().any(char::is_control) {
            self.add(field, "has control characters");
        }
    }

    pub(crate) fn length(&mut self, field: &str, text: &str, max: usize) {
        if text.len() > max {
            self.add(field, format!("is {} bytes; the limit is {max}", text.len()));
        }
    }

    /// Checks a number. Returns the range's start if `value` is outside of `range`.
    pub(crate) fn integer(&mut self, field: &str, value: i32, range: RangeInclusive<u32>) -> u32 {
        match u32::try_from(value) {
            Ok(value) if range.contains(&value) => value,
            _ => {
                self.add(field, format!("is {value}; it must be from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    pub(crate) fn number(&mut self, field: &str, value: f64, range: RangeInclusive<f64>) -> f64 {
        if range.contains(&value) {
            return value;
        }
        self.add(field, format!("is {value}; it must be from {} to {}", range.start(), range.end()));
        *range.start()
    }

    /// Checks a delay of 0 to 1 year; in milliseconds.
    pub(crate) fn delay_ms(&mut self, field: &str, value: Duration) -> i64 {
        self.duration_ms(field, value, 0..=limits::DELAY_MS, YEAR)
    }

    /// Checks a length of time; in milliseconds. `allowed` describes `range` in the error.
    pub(crate) fn duration_ms(
        &mut self,
        field: &str,
        value: Duration,
        range: RangeInclusive<i64>,
        allowed: &str,
    ) -> i64 {
        let Duration { seconds, nanos } = value;
        // Rules of google.protobuf.Duration: nanoseconds are less than a second, and of the same sign as the seconds.
        let well_formed =
            nanos.unsigned_abs() < 1_000_000_000 && (seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0));
        if !well_formed {
            self.add(field, format!("is no duration: {seconds} s and {nanos} ns"));
            return *range.start();
        }
        // Compared in nanoseconds: truncated to milliseconds, a value just outside of the range would seem to be
        // inside.
        let exact = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let within = i128::from(*range.start()) * 1_000_000..=i128::from(*range.end()) * 1_000_000;
        if within.contains(&exact) {
            return (exact / 1_000_000) as i64;
        }
        self.add(field, format!("is {}; it must be {allowed}", seconds_text(exact)));
        *range.start()
    }

    /// Checks a time; in milliseconds since 1970. A time after `latest_ms` is a violation, one before 1970 counts as
    /// 1970.
    pub(crate) fn timestamp_ms(&mut self, field: &str, value: Timestamp, latest_ms: i64, allowed: &str) -> i64 {
        let Timestamp { seconds, nanos } = value;
        // A google.protobuf.Timestamp is of the years 1 to 9999, and its nanoseconds count forwards.
        if !(0..1_000_000_000).contains(&nanos) || !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
            self.add(field, format!("is no time: {seconds} s and {nanos} ns since 1970"));
            return 0;
        }
        let ms = jobqueue_shared::time::timestamp_ms(&value);
        if ms > latest_ms {
            self.add(field, format!("is too far ahead; it must be {allowed}"));
        }
        ms.max(0)
    }
}

fn seconds_text(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds} s");
    }
    format!("{sign}{seconds}.{} s", format!("{rest:09}").trim_end_matches('0'))
}

/// Parses the job_id of a request that has no other field to check.
pub(crate) fn job_id(text: &str) -> Result<Uuid> {
    only_uuid("job_id", text)
}

/// Parses the session_id of a request that has no other field to check.
pub(crate) fn session_id(text: &str) -> Result<Uuid> {
    only_uuid("session_id", text)
}

/// Parses the operation_id of a request that has no other field to check.
pub(crate) fn operation_id(text: &str) -> Result<Uuid> {
    only_uuid("operation_id", text)
}

fn only_uuid(field: &str, text: &str) -> Result<Uuid> {
    let mut violations = Violations::default();
    let id = violations.uuid(field, text);
    violations.finish().map(|()| id)
}

/// Makes a text storable in every database: U+0000, which PostgreSQL's text cannot hold, becomes U+FFFD; then truncates
/// it to `max` bytes.
pub(crate) fn storable(text: String, max: usize) -> String {
    let mut text = if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text };
    text.truncate(limits::cut(&text, max).len());
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(violations: Violations) -> Vec<String> {
        match violations.finish() {
            Err(Error::Invalid(found)) => found.into_iter().map(|it| it.field).collect(),
            Ok(()) => Vec::new(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_wrong_field_is_named_with_its_place() {
        let mut violations = Violations::default();
        violations.within("jobs[3].".into());
        violations.worker_id("worker_id", "");
        violations.name("task", "a\nb", 100);
        violations.integer("priority", 10, 0..=9);
        violations.number("retry_policy.factor", f64::NAN, 1.0..=100.0);
        assert_eq!(
            fields(violations),
            ["jobs[3].worker_id", "jobs[3].task", "jobs[3].priority", "jobs[3].retry_policy.factor"]
        );
    }

    #[test]
    fn the_answer_stays_small_however_much_is_wrong() {
        let mut violations = Violations::default();
        for _ in 0..5_000 {
            violations.add("jobs[1].payload_json", "x".repeat(10_000));
        }
        let Err(Error::Invalid(found)) = violations.finish() else { panic!() };
        assert_eq!(found.len(), NAMED + 1);
        assert_eq!(found[NAMED].description, "4980 more fields are wrong");
        assert!(found.iter().map(|it| it.field.len() + it.description.len()).sum::<usize>() < 5_000);
    }

    #[test]
    fn durations_that_protobuf_forbids_are_refused() {
        for (seconds, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (0, i32::MIN), (i64::MAX, -5)] {
            let mut violations = Violations::default();
            violations.delay_ms("delay", Duration { seconds, nanos });
            assert_eq!(fields(violations), ["delay"], "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_duration_just_outside_is_outside() {
        let mut violations = Violations::default();
        violations.delay_ms("below", Duration { seconds: 0, nanos: -1 });
        violations.delay_ms("above", Duration { seconds: limits::DELAY_MS / 1_000, nanos: 1 });
        violations.delay_ms("at the end", Duration { seconds: limits::DELAY_MS / 1_000, nanos: 0 });
        assert_eq!(fields(violations), ["below", "above"]);
    }

    #[test]
    fn what_is_stored_has_no_nul_and_ends_between_characters() {
        assert_eq!(storable("a\0b".into(), 10), "a\u{FFFD}b");
        assert_eq!(storable("äää".into(), 3), "ä");
        assert_eq!(storable("\0".into(), 2), "");
    }

    proptest! {
        #[test]
        fn no_duration_panics_or_passes_the_bounds(seconds: i64, nanos: i32) {
            let mut violations = Violations::default();
            let ms = violations.delay_ms("delay", Duration { seconds, nanos });
            prop_assert!((0..=limits::DELAY_MS).contains(&ms));
        }

        #[test]
        fn no_timestamp_panics_or_is_negative(seconds: i64, nanos: i32, latest in 0_i64..4_000_000_000_000) {
            let mut violations = Violations::default();
            let ms = violations.timestamp_ms("run_at", Timestamp { seconds, nanos }, latest, "soon");
            prop_assert!(ms >= 0);
            prop_assert!(ms <= latest || !violations.is_empty());
        }

        #[test]
        fn storable_text_fits(text: String, max in 0_usize..100) {
            let stored = storable(text, max);
            prop_assert!(stored.len() <= max && !stored.contains('\0'));
        }
    }
}
