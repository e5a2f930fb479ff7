//! Parsers of durations, each with its bounds.

use std::{ops::RangeInclusive, time::Duration};

pub(super) const DAY: Duration = Duration::from_hours(24);

pub(super) fn retention(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1)..=DAY * 36_500)
}

pub(super) fn peer_time(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(100)..=DAY * 365)
}

pub(super) fn rescue_interval(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(10)..=Duration::from_mins(1))
}

fn within(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [from, to] = [range.start(), range.end()].map(|it| humantime::format_duration(*it).to_string());
    Err(format!("it must be from {from} to {to}"))
}
