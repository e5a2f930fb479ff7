//! ExplainJob: decides from a few counts why a job is not running, and says it in one sentence.

mod reason;
mod sentence;

use jobqueue_shared::{
    proto::v1::{ExplainJobRequest, explain_job_response::Reason},
    state::State,
};
use jobqueue_store::{ExplainInputs, JobRecord};

use crate::queue::{error::Result, handle::Queue, validate::job_id};

/// An explanation, and the inputs that it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub reason: Reason,
    pub sentence: String,
    /// Due time of a scheduled or retrying job.
    pub run_at_ms: Option<i64>,
    pub inputs: ExplainInputs,
}

impl Queue {
    pub async fn explain(&self, request: &ExplainJobRequest) -> Result<Explanation> {
        let job = self.job(job_id(&request.job_id)?).await?;
        let inputs = match job.state {
            State::Pending => self.context.store.explain_inputs(&job).await?,
            _ => ExplainInputs { now_ms: self.context.clock.now_ms(), ..ExplainInputs::default() },
        };
        Ok(explain(&job, inputs))
    }
}

fn explain(job: &JobRecord, inputs: ExplainInputs) -> Explanation {
    let reason = reason::reason(job, &inputs);
    let run_at_ms = matches!(reason, Reason::Scheduled | Reason::Retrying).then_some(job.run_at_ms);
    Explanation { reason, sentence: sentence::sentence(job, &inputs, reason), run_at_ms, inputs }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use jobqueue_store::Pause;

    const NOW: i64 = 1_700_000_000_000;

    fn job(state: State) -> JobRecord {
        JobRecord {
            worker_id: "mailer".into(),
            task: "email".into(),
            state,
            run_at_ms: NOW,
            ..JobRecord::sample(NOW - 60_000)
        }
    }

    fn around() -> ExplainInputs {
        ExplainInputs {
            now_ms: NOW,
            sessions: 2,
            handling: 2,
            slots: 4,
            held: 4,
            ahead: 17,
            ..ExplainInputs::default()
        }
    }

    fn says(job: &JobRecord, inputs: ExplainInputs) -> (Reason, String) {
        let Explanation { reason, sentence, .. } = explain(job, inputs);
        (reason, sentence)
    }

    #[track_caller]
    fn expect(job: &JobRecord, inputs: ExplainInputs, reason: Reason, sentence: &str) {
        assert_eq!(says(job, inputs), (reason, sentence.to_owned()));
    }

    #[test]
    fn each_reason_has_its_sentence_with_the_numbers() {
        let pending = || job(State::Pending);
        let running = JobRecord { started_at_ms: Some(NOW - 12_345), attempts_used: 2, ..job(State::Running) };
        expect(&running, around(), Reason::Running, "It has been running for 12 s: attempt 2 of 3.");
        let done = JobRecord { finished_at_ms: Some(NOW - 999), ..job(State::Done) };
        expect(&done, around(), Reason::Finished, "It was done less than 1 s ago.");
        let dead = JobRecord { finished_at_ms: Some(NOW - 7_200_000), attempts_used: 3, ..job(State::Failed) };
        expect(&dead, around(), Reason::Finished, "It failed for good 2 h ago: attempt 3 of 3.");
        let cancelled = JobRecord { finished_at_ms: Some(NOW - 3 * 86_400_000), ..job(State::Cancelled) };
        expect(&cancelled, around(), Reason::Finished, "It was cancelled 3 days ago.");

        let paused = |reason: &str| ExplainInputs {
            paused: Some(Pause { at_ms: NOW - 180_000, reason: reason.into() }),
            ..around()
        };
        expect(&pending(), paused(""), Reason::Paused, "\"mailer\" has been paused for 3 min.");
        expect(&pending(), paused("a new key."), Reason::Paused, "\"mailer\" has been paused for 3 min: a new key.");

        let later = JobRecord { run_at_ms: NOW + 180_000, ..pending() };
        expect(&later, around(), Reason::Scheduled, "Scheduled: it starts at 2023-11-14T22:16:20Z (in 3 min).");
        let again = JobRecord { attempts_used: 1, ..later };
        let sentence = "Retrying: attempt 2 of 3 starts at 2023-11-14T22:16:20Z (in 3 min).";
        expect(&again, around(), Reason::Retrying, sentence);

        let nobody =
            |last_seen_ms, draining| ExplainInputs { now_ms: NOW, last_seen_ms, draining, ..Default::default() };
        let sentence = "No worker for \"mailer\" is connected; the last one was seen 3 min ago.";
        expect(&pending(), nobody(Some(NOW - 180_000), 0), Reason::NoSession, sentence);
        let sentence = "No worker for \"mailer\" is connected, and none was seen lately.";
        expect(&pending(), nobody(None, 0), Reason::NoSession, sentence);
        let sentence = "No worker for \"mailer\" takes jobs: 1 worker is stopping.";
        expect(&pending(), nobody(Some(NOW), 1), Reason::NoSession, sentence);

        let none = |sessions| ExplainInputs { sessions, handling: 0, slots: 0, held: 0, ..around() };
        let sentence = "The live worker for \"mailer\" does not handle the task \"email\".";
        expect(&pending(), none(1), Reason::NoHandler, sentence);
        let untold = JobRecord { task: String::new(), ..pending() };
        let sentence = "None of the 3 live workers for \"mailer\" handles jobs without a task.";
        expect(&untold, none(3), Reason::NoHandler, sentence);

        let sentence = "All 4 slots of the 2 live workers for \"mailer\" are busy; 17 jobs are ahead of it.";
        expect(&pending(), around(), Reason::SlotsBusy, sentence);
        let one = ExplainInputs { sessions: 2, handling: 1, slots: 1, held: 1, ahead: 1, ..around() };
        let sentence =
            "The only slot of the live worker for \"mailer\" that handles \"email\" is busy; 1 job is ahead of it.";
        expect(&pending(), one, Reason::SlotsBusy, sentence);
        let many = ExplainInputs { ahead: 1_000, held: 9, ..around() };
        let sentence = "All 4 slots of the 2 live workers for \"mailer\" are busy; 1000 jobs or more are ahead of it.";
        expect(&pending(), many, Reason::SlotsBusy, sentence);

        let free = ExplainInputs { held: 3, ahead: 0, ..around() };
        let sentence = "Nothing is in its way: 1 of 4 slots is free, and no job is ahead of it.";
        expect(&pending(), free, Reason::Next, sentence);
    }

    #[test]
    fn what_nobody_handles_is_not_called_scheduled() {
        let given_back = JobRecord { run_at_ms: NOW + 1_000, waits_for_handler: true, ..job(State::Pending) };
        let none = ExplainInputs { handling: 0, slots: 0, held: 0, ..around() };
        assert_eq!(says(&given_back, none).0, Reason::NoHandler);
        let nobody = ExplainInputs { now_ms: NOW, ..ExplainInputs::default() };
        assert_eq!(says(&given_back, nobody).0, Reason::NoSession);
        // A session that lists the task has given it back: it waits for its time.
        assert_eq!(says(&given_back, around()).0, Reason::Scheduled);
        // Another one has, and a session that lists the task leases it before.
        let kept = JobRecord { kept_for_task: true, ..given_back };
        assert_eq!(says(&kept, around()).0, Reason::SlotsBusy);
        assert_eq!(says(&kept, ExplainInputs { held: 3, ..around() }).0, Reason::Next);
    }

    fn jobs() -> impl Strategy<Value = JobRecord> {
        (0..State::ALL.len(), -1_000_000_000_i64..1_000_000_000, 0_u32..5, any::<(bool, bool)>(), "[a-z]{0,3}")
            .prop_map(|(state, wait, attempts_used, (waits_for_handler, kept_for_task), task)| JobRecord {
                run_at_ms: NOW + wait,
                started_at_ms: Some(NOW - wait),
                finished_at_ms: Some(NOW - wait),
                attempts_used,
                waits_for_handler,
                kept_for_task,
                task,
                ..job(State::ALL[state])
            })
    }

    fn explain_inputs() -> impl Strategy<Value = ExplainInputs> {
        (proptest::option::of(0_i64..=NOW), 0_u64..4, 0_u64..4, 0_u64..4, 0_u64..9, 0_u64..9, 0_u64..=1_000).prop_map(
            |(paused, sessions, draining, handling, slots, held, ahead)| {
                let handling = handling.min(sessions);
                ExplainInputs {
                    now_ms: NOW,
                    paused: paused.map(|at_ms| Pause { at_ms, reason: "x".into() }),
                    sessions,
                    draining,
                    handling,
                    slots: if handling == 0 { 0 } else { handling.max(slots) },
                    held: if handling == 0 { 0 } else { held },
                    last_seen_ms: Some(NOW - 1),
                    ahead,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_job_gets_one_reason_that_is_true(job in jobs(), inputs in explain_inputs()) {
            let Explanation { reason, sentence, run_at_ms, inputs } = explain(&job, inputs);
            let kept = job.waits_for_handler && (job.kept_for_task || inputs.handling == 0);
            let due = job.run_at_ms <= NOW || kept;
            let pending = job.state == State::Pending;
            let holds = match reason {
                Reason::Unspecified => false,
                Reason::Finished => job.state.is_finished(),
                Reason::Running => job.state == State::Running,
                Reason::Paused => pending && inputs.paused.is_some(),
                Reason::Scheduled => pending && !due && job.attempts_used == 0,
                Reason::Retrying => pending && !due && job.attempts_used > 0,
                Reason::NoSession => pending && due && inputs.sessions == 0,
                Reason::NoHandler => pending && inputs.sessions > 0 && inputs.handling == 0,
                Reason::SlotsBusy => pending && due && inputs.handling > 0 && inputs.held >= inputs.slots,
                Reason::Next => pending && due && inputs.handling > 0 && inputs.held < inputs.slots,
            };
            prop_assert!(holds, "{reason:?}: {sentence}");
            prop_assert_eq!(inputs.paused.is_some() && pending, reason == Reason::Paused);
            prop_assert_eq!(run_at_ms.is_some(), matches!(reason, Reason::Scheduled | Reason::Retrying));
        }

        #[test]
        fn every_sentence_is_one(job in jobs(), inputs in explain_inputs()) {
            let sentence = explain(&job, inputs).sentence;
            prop_assert!(sentence.ends_with('.') && !sentence.contains(". "), "{sentence}");
            prop_assert!(!sentence.contains(" 1 jobs") && !sentence.contains(" 1 slots are"), "{sentence}");
            prop_assert!(!sentence.contains('-') || sentence.contains('T'), "a negative number: {sentence}");
        }
    }
}
