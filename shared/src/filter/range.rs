//! Ranges of numbers and times in text.

use prost_types::Timestamp;

use super::time_text::{Moment, length_ms, moment};
use crate::{
    proto::v1::{IntRange, TimeRange},
    time::timestamp,
};

/// A comparison, or the ends of a range, in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    Below(&'a str),
    UpTo(&'a str),
    Above(&'a str),
    From(&'a str),
    /// One end can be empty.
    Between(&'a str, &'a str),
    Exactly(&'a str),
}

fn form(text: &str) -> Form<'_> {
    if let Some(rest) = text.strip_prefix("<=") {
        Form::UpTo(rest)
    } else if let Some(rest) = text.strip_prefix(">=") {
        Form::From(rest)
    } else if let Some(rest) = text.strip_prefix('<') {
        Form::Below(rest)
    } else if let Some(rest) = text.strip_prefix('>') {
        Form::Above(rest)
    } else if let Some((from, to)) = text.split_once("..") {
        Form::Between(from, to)
    } else {
        Form::Exactly(text)
    }
}

pub(super) const NUMBERS: &str = "expected a number or a range, such as 3, >=2 or 0..3";

/// Parses a range of numbers; the error says what was expected.
pub(super) fn numbers(text: &str) -> Result<IntRange, &'static str> {
    let number = |text: &str| -> Result<i32, &'static str> {
        if !text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(NUMBERS);
        }
        text.parse().map_err(|_| NUMBERS)
    };
    let end = |text: &str| if text.is_empty() { Ok(None) } else { number(text).map(Some) };
    let (min, max) = match form(text) {
        Form::Below(text) => match number(text)? {
            0 => return Err("nothing is below 0"),
            n => (None, Some(n - 1)),
        },
        Form::UpTo(text) => (None, Some(number(text)?)),
        Form::Above(text) => (Some(number(text)?.checked_add(1).ok_or(NUMBERS)?), None),
        Form::From(text) => (Some(number(text)?), None),
        Form::Between("", "") => return Err(NUMBERS),
        Form::Between(min, max) => (end(min)?, end(max)?),
        Form::Exactly(text) => (Some(number(text)?), Some(number(text)?)),
    };
    Ok(IntRange { min, max })
}

/// Direction in which lengths of time are counted from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    /// `<2h` is a time less than two hours ago.
    Past,
    /// `<2h` is a time that comes before two hours have passed.
    Future,
}

pub(super) const TIMES: &str =
    "expected a length of time or a date, such as <2h, >1d, 2026-11-29, >=2026-11-29T08:30Z or 2026-11-29..2026-11-30";
pub(super) const AGE: &str = "expected an age, such as <2h, >1d or 1h..2h";

/// Parses a range of times.
pub(super) fn times(text: &str, towards: Towards, now_ms: i64) -> Result<TimeRange, &'static str> {
    if let Some(range) = lengths(text, towards, now_ms) {
        return Ok(range);
    }
    let at = |text: &str| moment(text).ok_or(TIMES);
    let (from, before) = match form(text) {
        Form::Below(text) => (None, Some(at(text)?.start())),
        Form::UpTo(text) => (None, Some(at(text)?.end())),
        Form::Above(text) => (Some(at(text)?.end()), None),
        Form::From(text) => (Some(at(text)?.start()), None),
        Form::Between("", "") => return Err(TIMES),
        Form::Between(from, to) => {
            let from = if from.is_empty() { None } else { Some(at(from)?.start()) };
            let before = match to {
                "" => None,
                // A day at the end is part of the range, a time is its exact end.
                to => match at(to)? {
                    it @ Moment::Date(_) => Some(it.end()),
                    it @ Moment::Time(_) => Some(it.start()),
                },
            };
            (from, before)
        }
        Form::Exactly(text) => match at(text)? {
            it @ Moment::Date(_) => (Some(it.start()), Some(it.end())),
            Moment::Time(_) => {
                return Err("a time alone selects nothing; expected a range, such as >=2026-11-29T08:30Z");
            }
        },
    };
    Ok(TimeRange { from, before })
}

/// Parses a range of times by their distance from now; `None` if `text` has no lengths.
pub(super) fn lengths(text: &str, towards: Towards, now_ms: i64) -> Option<TimeRange> {
    let (near, far) = match form(text) {
        Form::Below(text) | Form::UpTo(text) => (None, Some(length_ms(text)?)),
        Form::Above(text) | Form::From(text) => (Some(length_ms(text)?), None),
        Form::Between(near, far) => (Some(length_ms(near)?), Some(length_ms(far)?)),
        Form::Exactly(_) => return None,
    };
    let ends: [Option<Timestamp>; 2] = match towards {
        Towards::Past => [far.map(|it| timestamp(now_ms - it)), near.map(|it| timestamp(now_ms - it))],
        Towards::Future => [near.map(|it| timestamp(now_ms + it)), far.map(|it| timestamp(now_ms + it))],
    };
    let [from, before] = ends;
    Some(TimeRange { from, before })
}
