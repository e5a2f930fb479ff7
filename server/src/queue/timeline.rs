//! GetTimeline: the events of a job, reconstructed from the rows that are kept of it. A plain success has no rows in
//! `attempts`: the submission time is in the job's id, and its start and end are in its `done` row.

use jobqueue_shared::{
    proto::v1::{GetTimelineRequest, timeline_event::Kind},
    state::{FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, AttemptRecord, History, JobRecord};
use uuid::Uuid;

use super::{
    Queue,
    error::{Error, Result},
    submit::job_id,
};

/// An event of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: Kind,
    pub at_ms: i64,
    /// The job's run_no at that time; 0 = none.
    pub run_no: u32,
    pub session_id: Option<Uuid>,
    pub host: String,
    pub text: String,
    pub fraction: f64,
}

impl Queue {
    pub async fn timeline(&self, request: &GetTimelineRequest) -> Result<Vec<Event>> {
        let id = job_id(&request.job_id)?;
        self.context.store.history(id).await?.map(timeline).ok_or(Error::NoJob(id))
    }
}

/// Builds the events, oldest first. Events of one millisecond are ordered by run_no, and then by [`rank`].
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

fn event(kind: Kind, at_ms: i64, run_no: u32) -> Event {
    Event { kind, at_ms, run_no, session_id: None, host: String::new(), text: String::new(), fraction: 0.0 }
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

/// The dead-letter event before a retry. A retried job was a dead letter or cancelled, and the row of its dead letter
/// is gone: without an earlier cancellation, its last failed attempt had made it a dead letter.
fn death_before(retried: &AttemptRecord, attempts: &[AttemptRecord]) -> Option<Event> {
    use AttemptOutcome as O;
    let mut before = attempts.iter().filter(|it| it.run_no == retried.run_no && it.ended_at_ms <= retried.ended_at_ms);
    if before.clone().any(|it| it.outcome == O::Cancelled) {
        return None;
    }
    let last = before.find(|it| matches!(it.outcome, O::Failed | O::TimedOut | O::Lost))?;
    let text = match last.outcome {
        O::TimedOut => reason_words(FailureReason::TimedOut),
        O::Lost => reason_words(FailureReason::WorkerLost),
        // The failure may have been permanent.
        _ => "",
    };
    Some(Event { text: text.to_owned(), ..event(Kind::DeadLetter, last.ended_at_ms, last.run_no) })
}

/// Events that follow from the job's present state and have no row in `attempts`.
fn present(job: &JobRecord, host: &str, attempts: &[AttemptRecord]) -> Vec<Event> {
    let mut events = Vec::new();
    let of_session =
        |kind, at_ms| Event { session_id: job.session_id, host: host.to_owned(), ..event(kind, at_ms, job.run_no) };
    // The acquire of an attempt in `attempts` is among the events already.
    let told = |outcomes: &[AttemptOutcome]| {
        attempts
            .iter()
            .any(|it| it.run_no == job.run_no && outcomes.contains(&it.outcome) && it.started_at_ms.is_some())
    };
    let ends = [AttemptOutcome::Failed, AttemptOutcome::TimedOut, AttemptOutcome::Lost, AttemptOutcome::Cancelled];
    if let Some(started_at_ms) = job.started_at_ms
        && !told(&ends)
    {
        events.push(of_session(Kind::Acquired, started_at_ms));
    }
    let Some(finished_at_ms) = job.finished_at_ms else { return events };
    match job.state {
        State::Done => events.push(Event { text: job.note.clone(), ..of_session(Kind::Completed, finished_at_ms) }),
        State::Failed => {
            let text = job.failure.map_or("", reason_words).to_owned();
            events.push(Event { text, ..event(Kind::DeadLetter, finished_at_ms, job.run_no) });
        }
        State::Cancelled => {
            let by_attempt = attempts.iter().any(|it| {
                (it.run_no, it.outcome, it.ended_at_ms) == (job.run_no, AttemptOutcome::Cancelled, finished_at_ms)
            });
            if !by_attempt {
                events.push(Event { text: job.note.clone(), ..event(Kind::Cancelled, finished_at_ms, job.run_no) });
            }
        }
        State::Pending | State::Running => {}
    }
    events
}

fn reason_words(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::AttemptsExhausted => "no attempt is left",
        FailureReason::Permanent => "its handler said that trying again is useless",
        FailureReason::WorkerLost => "no attempt is left; the last worker was lost",
        FailureReason::TimedOut => "no attempt is left; the last one timed out",
    }
}

/// Sorts events and corrects their times. Servers know the database's clock a few milliseconds late, so that an end can
/// have an earlier time than the start that the database wrote; it then gets the time of the start. The first event is
/// the submission.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    let submitted_at_ms = events.first().map_or(0, |it| it.at_ms);
    let begun = |events: &[Event], run_no: u32| {
        events.iter().find(|it| it.kind == Kind::Acquired && it.run_no == run_no).cloned()
    };
    for index in 0..events.len() {
        let acquired = begun(&events, events[index].run_no);
        let it = &mut events[index];
        it.at_ms = it.at_ms.max(submitted_at_ms);
        let Some(acquired) = acquired else { continue };
        it.at_ms = it.at_ms.max(acquired.at_ms);
        if it.kind == Kind::Progress {
            (it.session_id, it.host) = (acquired.session_id, acquired.host);
        }
    }
    events.sort_by_key(|it| (it.at_ms, it.run_no, rank(it.kind)));
    events
}

/// Order of events of one run_no at the same time.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Unspecified | Kind::Submitted => 0,
        Kind::Acquired => 1,
        Kind::Progress => 2,
        Kind::Completed
        | Kind::AttemptFailed
        | Kind::AttemptTimedOut
        | Kind::Rescued
        | Kind::Released
        | Kind::NoHandler
        | Kind::Snoozed => 3,
        Kind::DeadLetter => 4,
        Kind::Cancelled => 5,
        Kind::Refused => 6,
        Kind::Retried => 7,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use jobqueue_store::Progress;

    const BEGIN: i64 = 1_700_000_000_000;

    fn job() -> JobRecord {
        JobRecord::sample(BEGIN)
    }

    fn history(job: JobRecord, attempts: Vec<AttemptRecord>) -> History {
        History { job, attempts, progress: None, host: "host".into() }
    }

    fn attempt(run_no: u32, outcome: AttemptOutcome, started_at_ms: Option<i64>, ended_at_ms: i64) -> AttemptRecord {
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

    fn kinds(events: &[Event]) -> Vec<(Kind, u32)> {
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

    /// A step in the life of a job, as a store records it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Acquire,
        Report,
        End(AttemptOutcome),
        Complete,
        Refuse,
        Cancel,
        Retry,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        use AttemptOutcome as O;
        let end = prop_oneof![
            Just(O::Failed),
            Just(O::TimedOut),
            Just(O::Lost),
            Just(O::Released),
            Just(O::Snoozed),
            Just(O::Cancelled)
        ];
        let step = prop_oneof![
            5 => Just(Step::Acquire),
            1 => Just(Step::Report),
            5 => end.prop_map(Step::End),
            1 => Just(Step::Complete),
            1 => Just(Step::Refuse),
            1 => Just(Step::Cancel),
            3 => Just(Step::Retry),
        ];
        proptest::collection::vec(step, 0..40)
    }

    /// A model of a store, and the events that its timeline should have.
    struct Told {
        history: History,
        expected: Vec<(Kind, u32)>,
        now: i64,
    }

    impl Told {
        fn new() -> Self {
            Self { history: history(job(), vec![]), expected: vec![(Kind::Submitted, 0)], now: BEGIN }
        }

        fn keep(&mut self, outcome: AttemptOutcome, started_at_ms: Option<i64>) {
            let run_no = self.history.job.run_no;
            // As in the tables: one row for each outcome of a run_no, and the first stays.
            if !self.history.attempts.iter().any(|it| (it.run_no, it.outcome) == (run_no, outcome)) {
                self.history.attempts.insert(0, attempt(run_no, outcome, started_at_ms, self.now));
                self.expected.push((kind(outcome), run_no));
            }
        }

        fn finish(&mut self, state: State) {
            self.history.job.state = state;
            self.history.job.finished_at_ms = Some(self.now);
        }

        fn step(&mut self, step: Step) {
            use AttemptOutcome as O;
            self.now += 10;
            let (now, state, was_cancelled) = (self.now, self.history.job.state, self.has(O::Cancelled));
            let job = &mut self.history.job;
            match step {
                Step::Acquire if state == State::Pending => {
                    job.state = State::Running;
                    job.run_no += 1;
                    job.attempts_used += 1;
                    job.started_at_ms = Some(now);
                    job.session_id = Some(Uuid::from_u128(job.run_no.into()));
                    self.expected.push((Kind::Acquired, job.run_no));
                }
                Step::Report if state == State::Running => {
                    let run_no = job.run_no;
                    self.expected.retain(|it| it.0 != Kind::Progress);
                    self.history.progress = Some((run_no, Progress { fraction: 1.0, message: "m".into(), at_ms: now }));
                    self.expected.push((Kind::Progress, run_no));
                }
                Step::Complete if state == State::Running => {
                    let run_no = job.run_no;
                    self.finish(State::Done);
                    self.expected.push((Kind::Completed, run_no));
                }
                Step::End(outcome) if state == State::Running => {
                    let (run_no, started, used) = (job.run_no, job.started_at_ms, job.attempts_used);
                    self.keep(outcome, started);
                    match outcome {
                        O::Cancelled => self.finish(State::Cancelled),
                        O::Failed | O::TimedOut | O::Lost if used >= 3 => {
                            self.history.job.failure = Some(FailureReason::AttemptsExhausted);
                            self.finish(State::Failed);
                            self.expected.push((Kind::DeadLetter, run_no));
                        }
                        _ => {
                            let job = &mut self.history.job;
                            job.state = State::Pending;
                            (job.started_at_ms, job.session_id) = (None, None);
                        }
                    }
                }
                Step::Refuse if job.run_no > 0 => self.keep(O::Refused, None),
                // A second cancellation, without a run in between, is lost when the job is retried.
                Step::Cancel if state == State::Pending && !was_cancelled => {
                    let run_no = self.history.job.run_no;
                    self.finish(State::Cancelled);
                    self.expected.push((Kind::Cancelled, run_no));
                }
                Step::Retry if state == State::Failed || state == State::Cancelled => {
                    if state == State::Cancelled && job.session_id.is_none() {
                        let cancelled = AttemptRecord {
                            ended_at_ms: job.finished_at_ms.unwrap_or_default(),
                            ..attempt(job.run_no, O::Cancelled, None, 0)
                        };
                        self.history.attempts.insert(0, cancelled);
                    }
                    self.keep(O::Retried, None);
                    let job = &mut self.history.job;
                    job.state = State::Pending;
                    job.attempts_used = 0;
                    (job.started_at_ms, job.finished_at_ms, job.session_id, job.failure) = (None, None, None, None);
                }
                _ => {}
            }
        }

        fn has(&self, outcome: AttemptOutcome) -> bool {
            let run_no = self.history.job.run_no;
            self.history.attempts.iter().any(|it| (it.run_no, it.outcome) == (run_no, outcome))
        }
    }

    proptest! {
        #[test]
        fn whatever_a_job_goes_through_is_told_once_and_in_order(steps in steps()) {
            let mut told = Told::new();
            for step in steps {
                told.step(step);
            }
            let events = timeline(told.history.clone());
            prop_assert!(events.is_sorted_by_key(|it| it.at_ms));
            prop_assert_eq!(kinds(&events), told.expected);
        }

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
