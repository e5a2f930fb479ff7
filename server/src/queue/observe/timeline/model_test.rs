//! Test of timelines against a model of a store, which knows the events of everything that it was told to do.

use jobqueue_shared::{
    proto::v1::timeline_event::Kind,
    state::{FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, AttemptRecord, History, Progress};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    kind,
    tests::{BEGIN, attempt, history, job, kinds},
    timeline,
};

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
}
