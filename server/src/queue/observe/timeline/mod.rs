//! GetTimeline: the events of a job, reconstructed from the rows that are kept of it. A plain success has no rows in
//! `attempts`: the submission time is in the job's id, and its start and end are in its `done` row.
//!
//! `inferred` has the events without a row of their own, and `order` sorts all.

pub(in crate::queue) mod event;
mod inferred;
#[cfg(test)]
mod model_test;
mod order;

use jobqueue_shared::proto::v1::{GetTimelineRequest, timeline_event::Kind};
use jobqueue_store::{AttemptOutcome, History};

use self::{
    event::{Event, event},
    inferred::{death_before, present},
    order::in_order,
};
use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::job_id,
};

impl Queue {
    pub async fn timeline(&self, request: &GetTimelineRequest) -> Result<Vec<Event>> {
        let id = job_id(&request.job_id)?;
        self.context.store.history(id).await?.map(timeline).ok_or(Error::NoJob(id))
    }
}

/// Builds the events, oldest first. Events of one millisecond are ordered by run_no, and then by [`order::rank`].
fn timeline(history: History) -> Vec<Event> {
    let History { job, attempts, progress, host } = history;
    let mut events = vec![event(Kind::Submitted, job.created_at_ms, 0)];
    for attempt in &attempts {
        if let Some(started_at_ms) = attempt.started_at_ms {
            events.push(Event {
                session_id: attempt.session_id,
                host: attempt.host.clone(),
                ..event(Kind::Acquired, started_at_ms, attempt.run_no)
            });
        }
        events.push(Event {
            session_id: attempt.session_id,
            host: attempt.host.clone(),
            text: attempt.error.clone(),
            ..event(kind(attempt.outcome), attempt.ended_at_ms, attempt.run_no)
        });
    }
    for retried in attempts.iter().filter(|it| it.outcome == AttemptOutcome::Retried) {
        events.extend(death_before(retried, &attempts));
    }
    events.extend(present(&job, &host, &attempts));
    if let Some((run_no, progress)) = progress {
        events.push(Event {
            text: progress.message,
            fraction: progress.fraction,
            ..event(Kind::Progress, progress.at_ms, run_no)
        });
    }
    in_order(events)
}

fn kind(outcome: AttemptOutcome) -> Kind {
    match outcome {
        AttemptOutcome::Failed => Kind::AttemptFailed,
        AttemptOutcome::TimedOut => Kind::AttemptTimedOut,
        AttemptOutcome::Lost => Kind::Rescued,
        AttemptOutcome::Released => Kind::Released,
        AttemptOutcome::NoHandler => Kind::NoHandler,
        AttemptOutcome::Snoozed => Kind::Snoozed,
        AttemptOutcome::Cancelled => Kind::Cancelled,
        AttemptOutcome::Refused => Kind::Refused,
        AttemptOutcome::Retried => Kind::Retried,
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::state::State;
    use jobqueue_store::{AttemptRecord, JobRecord, Progress};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{order::rank, *};

    pub(super) const BEGIN: i64 = 1_700_000_000_000;

    pub(super) fn job() -> JobRecord {
        JobRecord::sample(BEGIN)
    }

    pub(super) fn history(job: JobRecord, attempts: Vec<AttemptRecord>) -> History {
        History { job, attempts, progress: None, host: "host".into() }
    }

    pub(super) fn attempt(
        run_no: u32,
        outcome: AttemptOutcome,
        started_at_ms: Option<i64>,
        ended_at_ms: i64,
    ) -> AttemptRecord {
        AttemptRecord {
            run_no,
            outcome,
            error: format!("{outcome:?} {run_no}"),
            session_id: started_at_ms.map(|_| Uuid::from_u128(run_no.into())),
            host: started_at_ms.map(|_| format!("host-{run_no}")).unwrap_or_default(),
            started_at_ms,
            ended_at_ms,
        }
    }

    pub(super) fn kinds(events: &[Event]) -> Vec<(Kind, u32)> {
        events.iter().map(|it| (it.kind, it.run_no)).collect()
    }

    #[test]
    fn a_plain_success_is_told_from_where_the_job_stands() {
        let session_id = Some(Uuid::from_u128(9));
        let job = JobRecord {
            state: State::Done,
            run_no: 1,
            started_at_ms: Some(BEGIN + 5),
            finished_at_ms: Some(BEGIN + 9),
            session_id,
            note: "result dropped".into(),
            ..job()
        };
        let events = timeline(history(job, vec![]));
        assert_eq!(kinds(&events), [(Kind::Submitted, 0), (Kind::Acquired, 1), (Kind::Completed, 1)]);
        let times: Vec<_> = events.iter().map(|it| it.at_ms - BEGIN).collect();
        assert_eq!(times, [0, 5, 9]);
        assert_eq!((events[1].session_id, events[1].host.as_str()), (session_id, "host"));
        assert_eq!((events[2].session_id, events[2].text.as_str()), (session_id, "result dropped"));
    }

    #[test]
    fn ties_are_told_as_one_follows_from_the_other() {
        let attempts = vec![
            attempt(1, AttemptOutcome::Refused, None, BEGIN),
            attempt(1, AttemptOutcome::Retried, None, BEGIN),
            attempt(1, AttemptOutcome::Failed, Some(BEGIN), BEGIN),
        ];
        let job = JobRecord { state: State::Running, run_no: 2, started_at_ms: Some(BEGIN), ..job() };
        let progress = Some((2, Progress { fraction: 0.5, message: "half".into(), at_ms: BEGIN }));
        let events = timeline(History { progress, ..history(job, attempts) });
        let expected = [
            (Kind::Submitted, 0),
            (Kind::Acquired, 1),
            (Kind::AttemptFailed, 1),
            (Kind::DeadLetter, 1),
            (Kind::Refused, 1),
            (Kind::Retried, 1),
            (Kind::Acquired, 2),
            (Kind::Progress, 2),
        ];
        assert_eq!(kinds(&events), expected);
        assert_eq!((events[7].fraction, events[7].text.as_str(), events[7].host.as_str()), (0.5, "half", "host"));
    }

    #[test]
    fn an_end_is_not_told_before_its_beginning() {
        let attempts = vec![attempt(1, AttemptOutcome::Released, Some(BEGIN + 3), BEGIN + 2)];
        let events = timeline(history(JobRecord { run_no: 1, ..job() }, attempts));
        assert_eq!(kinds(&events), [(Kind::Submitted, 0), (Kind::Acquired, 1), (Kind::Released, 1)]);
        assert_eq!(events[2].at_ms, BEGIN + 3);
    }

    proptest! {
        #[test]
        fn events_are_sorted_whatever_is_stored(
            rows in proptest::collection::vec((1_u32..5, 1_i16..=9, -50_i64..50, -50_i64..50), 0..20),
            finished in proptest::option::of(-50_i64..50),
        ) {
            use AttemptOutcome as O;
            let outcomes =
                [O::Failed, O::TimedOut, O::Lost, O::Released, O::NoHandler, O::Snoozed, O::Cancelled, O::Refused, O::Retried];
            let attempts = rows
                .into_iter()
                .map(|(run_no, outcome, started, ended)| {
                    let outcome = outcomes[outcome as usize - 1];
                    let has_started = !matches!(outcome, O::Refused | O::Retried);
                    attempt(run_no, outcome, has_started.then_some(BEGIN + started), BEGIN + ended)
                })
                .collect();
            let state = if finished.is_some() { State::Done } else { State::Running };
            let job = JobRecord {
                state,
                run_no: 5,
                started_at_ms: Some(BEGIN),
                finished_at_ms: finished.map(|it| BEGIN + it),
                ..job()
            };
            let events = timeline(history(job, attempts));
            prop_assert_eq!((events[0].kind, events[0].at_ms), (Kind::Submitted, BEGIN));
            prop_assert!(events.is_sorted_by_key(|it| (it.at_ms, it.run_no, rank(it.kind))));
        }
    }
}
