//! Wording of an explanation.

use jobqueue_shared::{
    limits,
    proto::v1::explain_job_response::Reason,
    state::{self, State},
    time::timestamp,
};
use jobqueue_store::{ExplainInputs, JobRecord};

/// Sentence that states the reason with its numbers.
pub(super) fn sentence(job: &JobRecord, inputs: &ExplainInputs, reason: Reason) -> String {
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
