//! Checks of the spec of an operation.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{Change, JobFilter};
use uuid::Uuid;
use v1::operation_spec::Kind;

use super::selection::states_of;
use crate::queue::{
    filter,
    validate::{Violations, storable},
};

const A_YEAR: &str = "at most 1 year ahead";

/// Checks a spec and brings it into its stored form. `latest_ms` is the latest time for a reschedule. A dry run needs no
/// reason.
pub(super) fn check(
    mut spec: v1::OperationSpec,
    dry_run: bool,
    latest_ms: i64,
    violations: &mut Violations,
) -> v1::OperationSpec {
    violations.within("spec.".into());
    let kind = Kind::try_from(spec.kind).unwrap_or(Kind::Unspecified);
    if kind == Kind::Unspecified {
        violations.add("kind", "must be one of retry, cancel, delete, set_priority, reschedule");
    }
    spec.filter = Some(check_filter(spec.filter.take().unwrap_or_default(), kind, spec.all, violations));
    match (kind, spec.priority) {
        (Kind::SetPriority, None) => violations.add("priority", "must be given: 0 to 9"),
        (Kind::SetPriority, Some(priority)) => {
            violations.integer("priority", priority, 0..=limits::PRIORITY_LOWEST.into());
        }
        (_, Some(_)) => violations.add("priority", "is only for set_priority"),
        (_, None) => {}
    }
    match (kind, spec.run_at) {
        (Kind::Reschedule, None) => violations.add("run_at", "must be given"),
        (Kind::Reschedule, Some(run_at)) => {
            violations.timestamp_ms("run_at", run_at, latest_ms, A_YEAR);
        }
        (_, Some(_)) => violations.add("run_at", "is only for reschedule"),
        (_, None) => {}
    }
    violations.integer("rate", spec.rate, 0..=limits::OPERATION_RATE);
    violations.integer("canary", spec.canary, 0..=limits::OPERATION_CANARY);
    if spec.canary != 0 && kind != Kind::Retry {
        violations.add("canary", "is only for retry");
    }
    for (name, percent) in [("canary_stop_percent", spec.canary_stop_percent), ("stop_percent", spec.stop_percent)] {
        let Some(percent) = percent else { continue };
        violations.number(name, percent, 0.0..=100.0);
        if kind != Kind::Retry {
            violations.add(name, "is only for retry");
        }
    }
    if spec.canary == 0 && spec.canary_stop_percent.is_some() {
        violations.add("canary_stop_percent", "needs a canary");
    }
    if spec.reason.trim().is_empty() && !dry_run {
        violations.add("reason", format!("must not be empty; it is 1 to {} bytes", limits::NOTE));
    }
    violations.length("reason", &spec.reason, limits::NOTE);
    spec.reason = storable(spec.reason, limits::NOTE);
    violations.within(String::new());
    spec
}

fn check_filter(given: v1::JobFilter, kind: Kind, all: bool, violations: &mut Violations) -> v1::JobFilter {
    let narrows = v1::JobFilter { statuses: Vec::new(), ..given.clone() } != v1::JobFilter::default();
    let filter = filter::with_ids(Some(given.clone()), limits::OPERATION_IDS, violations);
    let takes = states_of(kind);
    if !filter.states.is_empty() && !takes.is_empty() && !filter.states.iter().any(|it| takes.contains(&it.state())) {
        let takes: Vec<_> = takes.iter().map(|state| state.word()).collect();
        violations.add("filter.statuses", format!("must have one that the kind takes: {}", takes.join(", ")));
    }
    if !narrows && !all {
        violations.add("all", "must be true, because the filter matches every job that the kind takes");
    }
    let mut given = given;
    jobqueue_shared::filter::normalise(&mut given);
    given
}

/// The store's filter of a checked spec.
pub(super) fn jobs(spec: &v1::OperationSpec) -> JobFilter {
    filter::with_ids(spec.filter.clone(), limits::OPERATION_IDS, &mut Violations::default())
}

/// Change that a checked spec makes to each job.
pub(super) fn change(spec: &v1::OperationSpec, operation_id: Uuid, of_all: bool) -> Option<Change> {
    Some(match spec.kind() {
        Kind::Unspecified => return None,
        Kind::Retry => Change::Retry { text: format!("by operation {operation_id}") },
        Kind::Cancel => Change::Cancel { reason: spec.reason.clone(), of_all },
        Kind::Delete => Change::Delete,
        Kind::SetPriority => Change::SetPriority(spec.priority().try_into().unwrap_or(limits::PRIORITY_LOWEST)),
        Kind::Reschedule => {
            let run_at_ms = spec.run_at.as_ref().map_or(0, jobqueue_shared::time::timestamp_ms).max(0);
            Change::Reschedule { run_at_ms }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Error;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn wrong(spec: v1::OperationSpec) -> Vec<String> {
        let mut violations = Violations::default();
        check(spec, false, NOW_MS, &mut violations);
        match violations.finish() {
            Err(Error::Invalid(found)) => found.into_iter().map(|it| it.field).collect(),
            _ => Vec::new(),
        }
    }

    fn retry() -> v1::OperationSpec {
        let filter = Some(v1::JobFilter { worker_ids: vec!["w".into()], ..v1::JobFilter::default() });
        v1::OperationSpec { kind: Kind::Retry.into(), filter, reason: "fixed".into(), ..Default::default() }
    }

    #[test]
    fn every_wrong_field_of_a_spec_is_named() {
        assert_eq!(wrong(retry()), Vec::<String>::new());
        assert_eq!(wrong(v1::OperationSpec::default()), ["spec.kind", "spec.all", "spec.reason"]);
        let ids = vec!["x".into(), Uuid::nil().to_string()];
        let filter = v1::JobFilter { tasks: vec!["a\n".into()], ids, statuses: vec![99], ..Default::default() };
        let spec = v1::OperationSpec {
            filter: Some(filter),
            priority: Some(3),
            rate: -1,
            canary: 1_001,
            stop_percent: Some(f64::NAN),
            reason: "x".repeat(1_025),
            ..retry()
        };
        let expected = [
            "filter.tasks[0]",
            "filter.statuses[0]",
            "filter.ids[0]",
            "priority",
            "rate",
            "canary",
            "stop_percent",
            "reason",
        ];
        assert_eq!(wrong(spec), expected.map(|field| format!("spec.{field}")));
    }

    #[test]
    fn what_a_kind_needs_must_be_given_and_what_it_does_not_know_must_not() {
        let of = |kind: Kind| v1::OperationSpec { kind: kind.into(), ..retry() };
        assert_eq!(wrong(of(Kind::SetPriority)), ["spec.priority"]);
        assert_eq!(wrong(v1::OperationSpec { priority: Some(10), ..of(Kind::SetPriority) }), ["spec.priority"]);
        assert_eq!(wrong(of(Kind::Reschedule)), ["spec.run_at"]);
        let late = prost_types::Timestamp { seconds: NOW_MS / 1_000 + 1, nanos: 0 };
        assert_eq!(wrong(v1::OperationSpec { run_at: Some(late), ..of(Kind::Reschedule) }), ["spec.run_at"]);
        let canary = v1::OperationSpec { canary: 5, stop_percent: Some(1.0), ..of(Kind::Delete) };
        assert_eq!(wrong(canary), ["spec.canary", "spec.stop_percent"]);
        assert_eq!(
            wrong(v1::OperationSpec { canary_stop_percent: Some(5.0), ..retry() }),
            ["spec.canary_stop_percent"]
        );
    }

    #[test]
    fn a_filter_that_matches_everything_has_to_be_confirmed() {
        let failed = v1::job_filter::Status::Failed.into();
        let every = |statuses: Vec<i32>| v1::OperationSpec {
            filter: Some(v1::JobFilter { statuses, ..Default::default() }),
            ..retry()
        };
        assert_eq!(wrong(every(vec![])), ["spec.all"]);
        assert_eq!(wrong(every(vec![failed])), ["spec.all"], "a status alone does not narrow");
        assert_eq!(wrong(v1::OperationSpec { filter: None, ..retry() }), ["spec.all"]);
        assert_eq!(wrong(v1::OperationSpec { all: true, ..every(vec![failed]) }), Vec::<String>::new());
        let done = v1::job_filter::Status::Done.into();
        assert_eq!(wrong(v1::OperationSpec { all: true, ..every(vec![done]) }), ["spec.filter.statuses"]);
    }

    #[test]
    fn an_id_that_is_named_twice_is_taken_once() {
        let id = "018F4C1E-0000-7000-8000-000000000001";
        let filter = v1::JobFilter { ids: vec![id.into(), id.to_lowercase()], ..Default::default() };
        let spec = v1::OperationSpec { filter: Some(filter), ..retry() };
        let mut violations = Violations::default();
        let spec = check(spec, false, NOW_MS, &mut violations);
        assert!(violations.is_empty());
        assert_eq!(spec.filter.unwrap().ids, [id.to_lowercase()]);
    }
}
