//! ExplainJob: decides from a few counts why a job is not running, and says it in one sentence.

use jobqueue_shared::{
    limits,
    proto::v1::{ExplainJobRequest, explain_job_response::Reason},
    state::{self, State},
    time::timestamp,
};
use jobqueue_store::{ExplainInputs, JobRecord};

use super::{Queue, error::Result, submit::job_id};

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
    let reason = reason(job, &inputs);
    let run_at_ms = matches!(reason, Reason::Scheduled | Reason::Retrying).then_some(job.run_at_ms);
    Explanation { reason, sentence: sentence(job, &inputs, reason), run_at_ms, inputs }
}

/// The first reason that applies.
fn reason(job: &JobRecord, inputs: &ExplainInputs) -> Reason {
    if job.state.is_finished() {
        return Reason::Finished;
    }
    if job.state == State::Running {
        return Reason::Running;
    }
    if inputs.paused.is_some() {
        return Reason::Paused;
    }
    let none_handles = inputs.sessions > 0 && inputs.handling == 0;
    // Without a handler its time does not matter; and a job that is kept for its task is leased before it is due.
    let waits_for_handler = job.waits_for_handler && (inputs.handling == 0 || job.kept_for_task);
    if job.run_at_ms > inputs.now_ms && !waits_for_handler {
        return if job.attempts_used == 0 { Reason::Scheduled } else { Reason::Retrying };
    }
    if inputs.sessions == 0 {
        Reason::NoSession
    } else if none_handles {
        Reason::NoHandler
    } else if inputs.held >= inputs.slots {
        Reason::SlotsBusy
    } else {
        Reason::Next
    }
}

fn sentence(job: &JobRecord, inputs: &ExplainInputs, reason: Reason) -> String {
    let now = inputs.now_ms;
    let worker_id = &job.worker_id;
    match reason {
        Reason::Unspecified => String::new(),
        Reason::Finished => finished(job, now),
        Reason::Running => {
            let since = job.started_at_ms.map(|at| format!(" for {}", span(now - at))).unwrap_or_default();
            format!("It has been running{since}: {}.", attempt(job, job.attempts_used))
        }
        Reason::Paused => {
            let pause = inputs.paused.as_ref();
            let since = pause.map(|it| format!(" for {}", span(now - it.at_ms))).unwrap_or_default();
            let why = pause.map(|it| it.reason.trim()).filter(|it| !it.is_empty());
            let why = why.map(|it| format!(": {it}")).unwrap_or_default();
            ended(format!("\"{worker_id}\" has been paused{since}{why}"))
        }
        Reason::Scheduled => format!("Scheduled: it starts {}.", due(job, now)),
        Reason::Retrying => format!("Retrying: {} starts {}.", attempt(job, job.attempts_used + 1), due(job, now)),
        Reason::NoSession => no_session(worker_id, inputs),
        Reason::NoHandler => {
            let task = if job.task.is_empty() {
                "jobs without a task".to_owned()
            } else {
                format!("the task \"{}\"", job.task)
            };
            match inputs.sessions {
                1 => format!("The live worker for \"{worker_id}\" does not handle {task}."),
                2 => format!("Neither of the 2 live workers for \"{worker_id}\" handles {task}."),
                n => format!("None of the {n} live workers for \"{worker_id}\" handles {task}."),
            }
        }
        Reason::SlotsBusy => format!("{} busy; {}.", all_slots(job, inputs), ahead(inputs.ahead)),
        Reason::Next => {
            let free = inputs.slots - inputs.held;
            format!(
                "Nothing is in its way: {} of {} {} free, and {}.",
                free,
                counted(inputs.slots, "slot"),
                is(free),
                ahead(inputs.ahead)
            )
        }
    }
}

fn finished(job: &JobRecord, now: i64) -> String {
    let ago = job.finished_at_ms.map(|at| format!(" {} ago", span(now - at))).unwrap_or_default();
    match job.state {
        State::Failed => format!("It failed for good{ago}: {}.", attempt(job, job.attempts_used)),
        State::Cancelled => format!("It was cancelled{ago}."),
        _ => format!("It was done{ago}."),
    }
}

fn no_session(worker_id: &str, inputs: &ExplainInputs) -> String {
    if inputs.draining > 0 {
        let (workers, are) = (counted(inputs.draining, "worker"), is(inputs.draining));
        return format!("No worker for \"{worker_id}\" takes jobs: {workers} {are} stopping.");
    }
    match inputs.last_seen_ms {
        Some(at) => {
            let ago = span(inputs.now_ms - at);
            format!("No worker for \"{worker_id}\" is connected; the last one was seen {ago} ago.")
        }
        None => format!("No worker for \"{worker_id}\" is connected, and none was seen lately."),
    }
}

fn all_slots(job: &JobRecord, inputs: &ExplainInputs) -> String {
    let slots = match inputs.slots {
        1 => "The only slot".to_owned(),
        2 => "Both slots".to_owned(),
        n => format!("All {n} slots"),
    };
    let workers = match inputs.handling {
        1 => "the live worker".to_owned(),
        n => format!("the {n} live workers"),
    };
    let that_handle = if inputs.handling == inputs.sessions {
        String::new()
    } else {
        let handle = if inputs.handling == 1 { "handles" } else { "handle" };
        match job.task.as_str() {
            "" => format!(" that {handle} jobs without a task"),
            task => format!(" that {handle} \"{task}\""),
        }
    };
    format!("{slots} of {workers} for \"{}\"{that_handle} {}", job.worker_id, is(inputs.slots))
}

fn ahead(jobs: u64) -> String {
    match jobs {
        0 => "no job is ahead of it".to_owned(),
        n if n >= u64::from(limits::AHEAD) => format!("{} jobs or more are ahead of it", limits::AHEAD),
        n => format!("{} {} ahead of it", counted(n, "job"), is(n)),
    }
}

fn attempt(job: &JobRecord, number: u32) -> String {
    format!("attempt {number} of {}", state::attempts_allowed(job.max_retries))
}

fn due(job: &JobRecord, now: i64) -> String {
    format!("at {} (in {})", timestamp(job.run_at_ms), span(job.run_at_ms - now))
}

fn counted(n: u64, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

fn is(n: u64) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// Adds a full stop, unless the text, which may end with an operator's reason, has one.
fn ended(mut sentence: String) -> String {
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// A length of time in its largest unit, rounded down; less than a second is not shown as 0.
fn span(ms: i64) -> String {
    match ms / 1_000 {
        ..=0 => "less than 1 s".to_owned(),
        s @ 1..=59 => format!("{s} s"),
        s @ 60..=3_599 => format!("{} min", s / 60),
        s @ 3_600..=172_799 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
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
