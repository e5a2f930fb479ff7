//! Filters of requests: checks them and turns them into the store's.

use jobqueue_shared::{
    filter as text, limits,
    proto::v1::{self, job_filter::Status},
    state::State,
    status,
    sub_state::SubState,
};
use jobqueue_store::{Bounds, JobFilter, Span};
use prost_types::Timestamp;
use uuid::Uuid;

use super::validate::Violations;

/// Checks the filter of a request's field `filter`, and converts it. With violations the result is of no use.
pub(crate) fn filter(given: Option<v1::JobFilter>, violations: &mut Violations) -> JobFilter {
    with_ids(given, limits::FILTER_IDS, violations)
}

/// As [`filter`], for a filter that may name so many ids.
pub(crate) fn with_ids(given: Option<v1::JobFilter>, max_ids: usize, violations: &mut Violations) -> JobFilter {
    let Some(mut given) = given else { return JobFilter::default() };
    let wrong = text::check(&given, max_ids);
    for it in &wrong {
        violations.add(&format!("filter.{}", it.field), it.description.as_str());
    }
    if !wrong.is_empty() {
        return JobFilter::default();
    }
    text::normalise(&mut given);
    JobFilter {
        states: given.statuses().filter_map(SubState::from_status).collect(),
        failure_reasons: given.failure_reasons().filter_map(status::failure_reason).collect(),
        worker_ids: given.worker_ids,
        tasks: given.tasks,
        created: span(given.created),
        finished: span(given.finished),
        run_at: span(given.run_at),
        priority: bounds(given.priority),
        attempts: bounds(given.attempts),
        error_group: given.error_group.parse().ok(),
        error_contains: given.error_contains,
        session_id: Uuid::try_parse(&given.session_id).ok(),
        origin: Uuid::try_parse(&given.origin).ok(),
        ids: given.ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect(),
        payload: given.payload.into_iter().map(|it| (it.path, it.value)).collect(),
    }
}

/// Conditions that list requests have beside their filter: worker_id, status and task.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub worker_id: String,
    pub state: Option<State>,
    pub task: String,
}

/// Adds the conditions beside a filter to it. One that both have must be the same.
pub(crate) fn with(mut filter: JobFilter, beside: Beside, violations: &mut Violations) -> JobFilter {
    violations.name("worker_id", &beside.worker_id, limits::WORKER_ID);
    violations.name("task", &beside.task, limits::TASK);
    let mut add = |field, list_field: &str, value: String, list: &mut Vec<String>| {
        if value.is_empty() {
            return;
        }
        if list.is_empty() {
            list.push(value);
        } else if *list != [value] {
            violations.add(field, format!("and filter.{list_field} differ; set one of them"));
        }
    };
    add("worker_id", "worker_ids", beside.worker_id, &mut filter.worker_ids);
    add("task", "tasks", beside.task, &mut filter.tasks);
    if let Some(state) = beside.state {
        let states = SubState::of(state);
        if filter.states.is_empty() {
            filter.states = states;
        } else if filter.states != states {
            violations.add("status", "and filter.statuses differ; set one of them");
        }
    }
    filter
}

/// Adds the condition that jobs are dead letters. Other statuses in the filter are a violation.
pub(crate) fn only_failed(mut filter: JobFilter, violations: &mut Violations) -> JobFilter {
    if filter.states.iter().any(|it| *it != SubState::Failed) {
        let failed = Status::Failed.as_str_name();
        violations.add("filter.statuses", format!("can only be {failed} here; ListJobs lists the others"));
    }
    filter.states = vec![SubState::Failed];
    filter
}

/// Milliseconds of a time, rounded up: the same jobs are at or after it.
fn ms(time: &Timestamp) -> i64 {
    let more = i64::from(time.nanos % 1_000_000 > 0);
    jobqueue_shared::time::timestamp_ms(time) + more
}

fn span(range: Option<v1::TimeRange>) -> Span {
    range.map_or_else(Span::default, |it| Span {
        from_ms: it.from.as_ref().map(ms),
        before_ms: it.before.as_ref().map(ms),
    })
}

fn bounds(range: Option<v1::IntRange>) -> Bounds {
    let number = |it: Option<i32>| it.and_then(|it| u32::try_from(it).ok());
    range.map_or_else(Bounds::default, |it| Bounds { min: number(it.min), max: number(it.max) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::error::Error;

    fn fields(violations: Violations) -> Vec<String> {
        match violations.finish() {
            Err(Error::Invalid(found)) => found.into_iter().map(|it| it.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_filter_becomes_that_of_the_store() {
        let mut violations = Violations::default();
        let given = v1::JobFilter {
            worker_ids: vec!["b".into(), "a".into(), "b".into()],
            statuses: vec![Status::Failed.into(), Status::Ready.into()],
            created: Some(v1::TimeRange { from: Some(Timestamp { seconds: 1, nanos: 1 }), before: None }),
            attempts: Some(v1::IntRange { min: Some(2), max: None }),
            failure_reasons: vec![v1::dead_letter::Reason::TimedOut.into()],
            ..v1::JobFilter::default()
        };
        let found = filter(Some(given), &mut violations);
        assert!(violations.is_empty());
        assert_eq!(found.worker_ids, ["a", "b"]);
        assert_eq!(found.states, [SubState::Ready, SubState::Failed]);
        assert_eq!(found.created.from_ms, Some(1_001), "no job of millisecond 1000 is that late");
        assert_eq!((found.attempts.min, found.attempts.max), (Some(2), None));
        assert_eq!(found.failure_reasons, [jobqueue_shared::state::FailureReason::TimedOut]);
        assert_eq!(filter(None, &mut violations), JobFilter::default());
    }

    #[test]
    fn a_wrong_field_is_named_in_its_filter() {
        let mut violations = Violations::default();
        let tasks = vec![String::new(), "a".into(), "b".into(), "x".repeat(101)];
        filter(Some(v1::JobFilter { tasks, ..v1::JobFilter::default() }), &mut violations);
        assert_eq!(fields(violations), ["filter.tasks[3]"]);
    }

    #[test]
    fn a_condition_beside_the_filter_must_agree_with_it() {
        let beside = || Beside { worker_id: "w".into(), state: Some(State::Pending), task: "t".into() };
        let mut violations = Violations::default();
        let alone = with(JobFilter::default(), beside(), &mut violations);
        assert_eq!(alone, JobFilter::of(Some("w"), Some(State::Pending), Some("t")));
        assert_eq!(with(alone.clone(), beside(), &mut violations), alone, "twice the same");
        assert!(violations.is_empty());
        let other = JobFilter { states: vec![SubState::Ready], ..JobFilter::of(Some("v"), None, Some("u")) };
        with(other.clone(), beside(), &mut violations);
        assert_eq!(fields(violations), ["worker_id", "task", "status"]);
        let mut violations = Violations::default();
        only_failed(other, &mut violations);
        assert_eq!(fields(violations), ["filter.statuses"]);
    }
}
