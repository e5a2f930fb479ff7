//! Filter of jobs, and the test whether a job passes it.

use jobqueue_shared::{
    filter::payload_matches,
    state::{FailureReason, State},
    sub_state::SubState,
};
use serde::Serialize;
use uuid::Uuid;

use super::{error_group::ErrorGroupId, job::JobRecord};

/// Conditions that jobs have to meet, all of them. An empty list, an open range and `None` are met by every job; of a
/// list, one value is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobFilter {
    pub worker_ids: Vec<String>,
    /// "" stands for jobs without a task.
    pub tasks: Vec<String>,
    pub states: Vec<SubState>,
    pub created: Span,
    /// Jobs that have not finished are in no span but the open one.
    pub finished: Span,
    pub run_at: Span,
    pub priority: Bounds,
    /// Number of attempts used.
    pub attempts: Bounds,
    pub failure_reasons: Vec<FailureReason>,
    /// Only dead letters have one.
    pub error_group: Option<ErrorGroupId>,
    /// Text that the last error contains, in upper or lower case; "" = any.
    pub error_contains: String,
    pub session_id: Option<Uuid>,
    /// Job that jobs are copies of.
    pub origin: Option<Uuid>,
    pub ids: Vec<Uuid>,
    /// Path and value; all of them must hold.
    pub payload: Vec<(String, String)>,
}

/// Times in milliseconds, from inclusive, before exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    pub from_ms: Option<i64>,
    pub before_ms: Option<i64>,
}

impl Span {
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    pub fn contains(&self, time_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| from <= time_ms) && self.before_ms.is_none_or(|before| time_ms < before)
    }
}

/// Numbers, both ends inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bounds {
    pub min: Option<u32>,
    pub max: Option<u32>,
}

impl Bounds {
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    pub fn contains(&self, number: u32) -> bool {
        self.min.is_none_or(|min| min <= number) && self.max.is_none_or(|max| number <= max)
    }
}

fn has<T: PartialEq<U>, U: ?Sized>(list: &[T], value: &U) -> bool {
    list.is_empty() || list.iter().any(|it| it == value)
}

impl JobFilter {
    /// Filter by the three conditions that lists had from the start; `None` is met by every job.
    pub fn of(worker_id: Option<&str>, state: Option<State>, task: Option<&str>) -> Self {
        Self {
            worker_ids: worker_id.map(str::to_owned).into_iter().collect(),
            states: state.map(SubState::of).unwrap_or_default(),
            tasks: task.map(str::to_owned).into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a job passes the filter at the time `now_ms`, which tells ready jobs from scheduled ones.
    pub fn matches(&self, job: &JobRecord, now_ms: i64) -> bool {
        self.matches_but_payload(job, now_ms) && payload_matches(&job.payload, &self.payload)
    }

    /// As [`Self::matches`], for a job that was read without its payload.
    pub fn matches_but_payload(&self, job: &JobRecord, now_ms: i64) -> bool {
        has(&self.worker_ids, job.worker_id.as_str())
            && has(&self.tasks, job.task.as_str())
            && has(&self.states, &job.sub_state(now_ms))
            && self.created.contains(job.created_at_ms)
            && (self.finished.is_open() || job.finished_at_ms.is_some_and(|at| self.finished.contains(at)))
            && self.run_at.contains(job.run_at_ms)
            && self.priority.contains(job.priority.into())
            && self.attempts.contains(job.attempts_used)
            && (self.failure_reasons.is_empty() || job.failure.is_some_and(|it| self.failure_reasons.contains(&it)))
            && (self.error_group.is_none() || job.error_group == self.error_group)
            && contains(&job.last_error, &self.error_contains)
            && (self.session_id.is_none() || job.session_id == self.session_id)
            && (self.origin.is_none() || job.origin == self.origin)
            && has(&self.ids, &job.id)
    }

    /// The state whose jobs alone can pass; `None` if there are several.
    pub fn state(&self) -> Option<State> {
        if self.error_group.is_some() && (self.states.is_empty() || self.states.contains(&SubState::Failed)) {
            return Some(State::Failed);
        }
        let first = self.states.first()?.state();
        self.states.iter().all(|it| it.state() == first).then_some(first)
    }

    /// The only worker_id whose jobs can pass.
    pub fn worker_id(&self) -> Option<&str> {
        match self.worker_ids.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether worker_ids and states alone decide which jobs pass.
    pub fn is_counted(&self) -> bool {
        *self == Self { worker_ids: self.worker_ids.clone(), states: self.states.clone(), ..Self::default() }
    }
}

/// Whether `text` contains `part`, in upper or lower case.
fn contains(text: &str, part: &str) -> bool {
    part.is_empty() || text.contains(part) || text.to_lowercase().contains(&part.to_lowercase())
}

impl JobRecord {
    /// State at the time `now_ms`.
    pub fn sub_state(&self, now_ms: i64) -> SubState {
        match self.state {
            State::Pending => SubState::of_pending(self.waits_for_handler, self.attempts_used, self.run_at_ms, now_ms),
            State::Running => SubState::Running,
            State::Done => SubState::Done,
            State::Failed => SubState::Failed,
            State::Cancelled => SubState::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn job() -> JobRecord {
        JobRecord {
            id: Uuid::from_u128(1),
            worker_id: "mail".into(),
            task: "email".into(),
            priority: 3,
            payload: r#"{"n": 1}"#.into(),
            state: State::Failed,
            attempts_used: 2,
            last_error: "SMTP Timed Out".into(),
            run_at_ms: 10,
            created_at_ms: 10,
            finished_at_ms: Some(20),
            session_id: Some(Uuid::from_u128(2)),
            origin: Some(Uuid::from_u128(4)),
            failure: Some(FailureReason::Permanent),
            ..JobRecord::sample(10)
        }
    }

    fn span(from: i64, before: i64) -> Span {
        Span { from_ms: Some(from), before_ms: Some(before) }
    }

    fn bounds(min: u32, max: u32) -> Bounds {
        Bounds { min: Some(min), max: Some(max) }
    }

    #[test]
    fn each_condition_decides() {
        let any = JobFilter::default;
        for (yes, no) in [
            (
                JobFilter { worker_ids: vec!["x".into(), "mail".into()], ..any() },
                JobFilter { worker_ids: vec!["x".into()], ..any() },
            ),
            (JobFilter { tasks: vec!["email".into()], ..any() }, JobFilter { tasks: vec![String::new()], ..any() }),
            (
                JobFilter { states: vec![SubState::Failed], ..any() },
                JobFilter { states: vec![SubState::Ready], ..any() },
            ),
            (JobFilter { created: span(10, 11), ..any() }, JobFilter { created: span(9, 10), ..any() }),
            (JobFilter { finished: span(20, 21), ..any() }, JobFilter { finished: span(21, 30), ..any() }),
            (JobFilter { run_at: span(10, 11), ..any() }, JobFilter { run_at: span(11, 12), ..any() }),
            (JobFilter { priority: bounds(3, 3), ..any() }, JobFilter { priority: bounds(4, 9), ..any() }),
            (JobFilter { attempts: bounds(0, 2), ..any() }, JobFilter { attempts: bounds(0, 1), ..any() }),
            (
                JobFilter { failure_reasons: vec![FailureReason::Permanent], ..any() },
                JobFilter { failure_reasons: vec![FailureReason::TimedOut], ..any() },
            ),
            (
                JobFilter { error_contains: "timed oUt".into(), ..any() },
                JobFilter { error_contains: "timeout".into(), ..any() },
            ),
            (
                JobFilter { session_id: Some(Uuid::from_u128(2)), ..any() },
                JobFilter { session_id: Some(Uuid::from_u128(3)), ..any() },
            ),
            (
                JobFilter { origin: Some(Uuid::from_u128(4)), ..any() },
                JobFilter { origin: Some(Uuid::from_u128(3)), ..any() },
            ),
            (JobFilter { ids: vec![Uuid::from_u128(1)], ..any() }, JobFilter { ids: vec![Uuid::nil()], ..any() }),
            (
                JobFilter { payload: vec![("n".into(), "1".into())], ..any() },
                JobFilter { payload: vec![("n".into(), "2".into())], ..any() },
            ),
        ] {
            assert!(yes.matches(&job(), NOW), "{yes:?}");
            assert!(!no.matches(&job(), NOW), "{no:?}");
        }
        let waiting = JobRecord { finished_at_ms: None, failure: None, session_id: None, ..job() };
        assert!(!JobFilter { finished: span(0, NOW), ..any() }.matches(&waiting, NOW), "it has not finished");
        assert!(JobFilter::default().matches(&waiting, NOW));
    }

    #[test]
    fn one_state_is_found_among_its_kinds() {
        let of = |states: &[SubState]| JobFilter { states: states.to_vec(), ..JobFilter::default() }.state();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&SubState::PENDING), Some(State::Pending));
        assert_eq!(of(&[SubState::Retrying]), Some(State::Pending));
        assert_eq!(of(&[SubState::Retrying, SubState::Done]), None);
        assert!(JobFilter::of(Some("w"), Some(State::Done), None).is_counted());
        assert!(!JobFilter::of(None, None, Some("t")).is_counted());
    }
}
