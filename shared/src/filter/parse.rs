//! Parser of the text form.

use uuid::Uuid;

use super::{
    check::{ERROR_GROUP, check, is_error_group},
    error::ParseError,
    key::{KEYS, Key},
    normalise, range,
    range::Towards,
    term::{Term, Value, terms},
};
use crate::{
    limits,
    proto::v1::{JobFilter, PayloadMatch, TimeRange, dead_letter::Reason, job_filter::Status},
    sub_state::SubState,
};

/// Parses a filter's text. `now_ms` is the time from which ages and lengths of time are counted.
///
/// # Errors
/// The first place that is not understood, or where a limit is broken.
pub fn parse(text: &str, now_ms: i64) -> Result<JobFilter, ParseError> {
    if text.len() > limits::FILTER_FORM {
        let message = format!("the filter is {} bytes; the limit is {}", text.len(), limits::FILTER_FORM);
        return Err(ParseError::new(text, 0, message));
    }
    parse_terms(text, &terms(text)?, now_ms)
}

/// Parses terms of `text`.
///
/// # Errors
/// As [`parse`].
pub fn parse_terms(text: &str, terms: &[Term], now_ms: i64) -> Result<JobFilter, ParseError> {
    let mut filter = JobFilter::default();
    for term in terms {
        let reader = Reader { text, term, now_ms };
        reader.add(&mut filter)?;
        // A broken limit is reported at the term that broke it.
        if let Some(violation) = check(&filter, limits::FILTER_IDS).into_iter().next() {
            return Err(ParseError::new(text, term.span.start, violation.description));
        }
    }
    normalise(&mut filter);
    Ok(filter)
}

struct Reader<'a> {
    text: &'a str,
    term: &'a Term,
    now_ms: i64,
}

impl Reader<'_> {
    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.text, at, message))
    }

    fn add(&self, filter: &mut JobFilter) -> Result<(), ParseError> {
        let Some(word) = &self.term.key else { return self.bare(filter) };
        let Some(key) = Key::find(word) else {
            let keys: Vec<_> = KEYS.iter().map(|it| it.word).collect();
            return self.error(self.term.span.start, format!("\"{word}\" is no key; keys are {}", keys.join(" ")));
        };
        if let Some(empty) = self.term.values.iter().find(|it| it.text.is_empty() && !it.quoted) {
            let example = key.help().example;
            return self.error(empty.at, format!("expected a value, as in {example}"));
        }
        match key {
            Key::Task => filter.tasks.extend(self.texts()),
            Key::Worker => filter.worker_ids.extend(self.texts()),
            Key::Status => {
                for value in &self.term.values {
                    filter.statuses.extend(self.statuses(value)?);
                }
            }
            Key::Reason => {
                for value in &self.term.values {
                    filter.failure_reasons.push(self.reason(value)?);
                }
            }
            Key::Id => {
                for value in &self.term.values {
                    filter.ids.push(self.uuid(value)?);
                }
            }
            Key::Session => {
                let value = self.one()?;
                self.once(filter.session_id.is_empty())?;
                filter.session_id = self.uuid(value)?;
            }
            Key::Group => {
                let value = self.one()?;
                self.once(filter.error_group.is_empty())?;
                if !is_error_group(&value.text) {
                    return self.error(value.at, format!("\"{}\" {}", value.text, ERROR_GROUP));
                }
                filter.error_group.clone_from(&value.text);
            }
            Key::Origin => {
                let value = self.one()?;
                self.once(filter.origin.is_empty())?;
                filter.origin = self.uuid(value)?;
            }
            Key::Error => {
                let value = self.one()?;
                self.once(filter.error_contains.is_empty())?;
                if value.text.is_empty() {
                    return self.error(value.at, "expected a text that the error contains");
                }
                filter.error_contains.clone_from(&value.text);
            }
            Key::Payload => {
                let path = self.term.path.clone().unwrap_or_default();
                filter.payload.push(PayloadMatch { path, value: self.one()?.text.clone() });
            }
            Key::Attempts | Key::Priority => {
                let slot = if key == Key::Attempts { &mut filter.attempts } else { &mut filter.priority };
                self.once(slot.is_none())?;
                let value = self.one()?;
                *slot = Some(range::numbers(&value.text).or_else(|wrong| self.error(value.at, wrong))?);
            }
            Key::Age | Key::Created | Key::Finished | Key::RunAt => {
                let slot = match key {
                    Key::Finished => &mut filter.finished,
                    Key::RunAt => &mut filter.run_at,
                    _ => &mut filter.created,
                };
                self.once(slot.is_none())?;
                *slot = Some(self.times(key)?);
            }
        }
        Ok(())
    }

    fn bare(&self, filter: &mut JobFilter) -> Result<(), ParseError> {
        for value in &self.term.values {
            let Ok(id) = Uuid::try_parse(&value.text) else {
                let shown = super::print::quoted(&value.text);
                let message =
                    format!("{shown} is no job id; to search errors, write error:{shown}, for a task task:{shown}");
                return self.error(value.at, message);
            };
            filter.ids.push(id.to_string());
        }
        Ok(())
    }

    fn times(&self, key: Key) -> Result<TimeRange, ParseError> {
        let value = self.one()?;
        let towards = if key == Key::RunAt { Towards::Future } else { Towards::Past };
        let found = if key == Key::Age {
            range::lengths(&value.text, towards, self.now_ms).ok_or(range::AGE)
        } else {
            range::times(&value.text, towards, self.now_ms)
        };
        found.or_else(|wrong| self.error(value.at, wrong))
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        self.term.values.iter().map(|it| it.text.clone())
    }

    /// The only value of a key that takes one.
    fn one(&self) -> Result<&Value, ParseError> {
        match self.term.values.as_slice() {
            [value] => Ok(value),
            [_, second, ..] => {
                self.error(second.at - 1, "expected one value here; a value with a comma must be in quotes")
            }
            [] => self.error(self.term.span.start, "expected a value"),
        }
    }

    fn once(&self, first: bool) -> Result<(), ParseError> {
        if first {
            return Ok(());
        }
        let key = self.term.key.as_deref().unwrap_or_default();
        self.error(self.term.span.start, format!("this condition is given twice; {key}: can stand once"))
    }

    fn statuses(&self, value: &Value) -> Result<Vec<i32>, ParseError> {
        let number = |it: SubState| i32::from(Status::from(it));
        if value.text == "pending" {
            return Ok(SubState::PENDING.into_iter().map(number).collect());
        }
        if let Some(found) = SubState::ALL.into_iter().find(|it| it.word() == value.text) {
            return Ok(vec![number(found)]);
        }
        let words: Vec<_> = SubState::ALL.into_iter().map(SubState::word).collect();
        self.error(value.at, format!("expected a status: pending, {}", words.join(", ")))
    }

    fn reason(&self, value: &Value) -> Result<i32, ParseError> {
        match Reason::from_str_name(&value.text).filter(|it| *it != Reason::Unspecified) {
            Some(reason) => Ok(reason.into()),
            None => self.error(value.at, "expected a reason: attempts_exhausted, permanent, worker_lost or timed_out"),
        }
    }

    fn uuid(&self, value: &Value) -> Result<String, ParseError> {
        match Uuid::try_parse(&value.text) {
            Ok(id) => Ok(id.to_string()),
            Err(_) => self.error(value.at, "expected a whole id, such as 01996a3c-0000-7000-8000-000000000001"),
        }
    }
}
