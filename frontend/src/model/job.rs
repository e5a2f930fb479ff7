//! Jobs as the lists and a job's page show them.

use jobqueue_shared::{
    proto::v1::{Job, RetryPolicy, dead_letter::Reason, job::Status},
    state::State,
    status::state,
    time::{duration_ms, timestamp_ms},
};

use super::{
    filter::Filter,
    property::{Property, Value, text, time},
    span,
    status::{self, JobStatus},
};

/// Row of the list of jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobRow {
    pub id: String,
    pub status: JobStatus,
    pub task: String,
    pub worker_id: String,
    pub attempts: String,
    pub pace: Pace,
    pub changed: Option<i64>,
    pub error: String,
}

/// Times from which a list tells how long a job waits, runs, or ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    status: Status,
    /// Time from which the job may run, not before its submit.
    due: i64,
    started: Option<i64>,
    finished: Option<i64>,
}

impl Pace {
    fn of(job: &Job) -> Self {
        let ms = |time: &Option<prost_types::Timestamp>| time.as_ref().map(timestamp_ms);
        let due = ms(&job.run_at).max(ms(&job.created_at)).unwrap_or_default();
        Self { status: job.status(), due, started: ms(&job.started_at), finished: ms(&job.finished_at) }
    }

    /// How long the job waits, runs, or ran, at the time `now`; "" for a job that never ran.
    pub fn words(self, now: i64) -> String {
        let coarse = |ms: i64| span::coarse(ms.max(0));
        match (self.status, self.started, self.finished) {
            (Status::Pending, ..) if self.due > now => format!("due in {}", coarse(self.due - now)),
            (Status::Pending, ..) => format!("waits {}", coarse(now - self.due)),
            (Status::Running, Some(started), _) => format!("runs {}", coarse(now - started)),
            (_, Some(started), Some(finished)) => format!("ran {}", coarse(finished - started)),
            _ => String::new(),
        }
    }
}

impl JobRow {
    pub fn of(job: &Job) -> Self {
        Self {
            id: job.id.clone(),
            status: JobStatus::of(job),
            task: job.task.clone(),
            worker_id: job.worker_id.clone(),
            attempts: status::attempts(job),
            pace: Pace::of(job),
            changed: job.updated_at.as_ref().map(timestamp_ms),
            error: job.last_error.clone(),
        }
    }

    pub fn all(jobs: &[Job]) -> Vec<Self> {
        jobs.iter().map(Self::of).collect()
    }
}

/// Row of a list of dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LetterRow {
    pub id: String,
    pub task: String,
    pub worker_id: String,
    pub reason: &'static str,
    pub error: String,
    pub attempts: String,
    pub failed: Option<i64>,
}

impl LetterRow {
    pub fn of(job: &Job) -> Self {
        Self {
            id: job.id.clone(),
            task: job.task.clone(),
            worker_id: job.worker_id.clone(),
            reason: status::reason(job.failure_reason()),
            error: job.last_error.clone(),
            attempts: status::attempts(job),
            failed: job.finished_at.as_ref().map(timestamp_ms),
        }
    }

    pub fn all(jobs: &[Job]) -> Vec<Self> {
        jobs.iter().map(Self::of).collect()
    }
}

/// Page of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPage {
    pub id: String,
    pub status: JobStatus,
    pub task: String,
    pub worker_id: String,
    /// Present if the job is a dead letter.
    pub letter: Option<Letter>,
    pub note: String,
    /// Present while the job runs and has reported progress.
    pub progress: Option<Progress>,
    /// True while the job waits to be run, and the server can explain why.
    pub waits: bool,
    pub actions: Actions,
    pub properties: Vec<Property>,
    pub payload: String,
    pub result: String,
}

/// Reason why a job is a dead letter, and its last error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    pub reason: &'static str,
    pub error: String,
    /// Id of its error group; "" = none.
    pub group: String,
}

/// Progress that a running attempt reported last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Whole number from 0 to 100.
    pub percent: f64,
    pub message: String,
    pub at: Option<i64>,
}

/// Operator actions that a job's state allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    pub retry: bool,
    pub cancel: bool,
    pub delete: bool,
}

impl JobPage {
    pub fn of(job: &Job) -> Self {
        let at = state(job.status());
        let allows = |test: fn(State) -> bool| at.is_some_and(test);
        let is_letter = job.failure_reason() != Reason::Unspecified || job.status() == Status::Failed;
        let progress = job.progress.as_ref().filter(|_| job.status() == Status::Running);
        Self {
            id: job.id.clone(),
            status: JobStatus::of(job),
            task: job.task.clone(),
            worker_id: job.worker_id.clone(),
            letter: is_letter.then(|| Letter {
                reason: status::reason(job.failure_reason()),
                error: job.last_error.clone(),
                group: job.error_group.clone(),
            }),
            note: job.note.clone(),
            progress: progress.map(|it| Progress {
                percent: status::whole_percent(it.fraction),
                message: it.message.clone(),
                at: it.at.as_ref().map(timestamp_ms),
            }),
            waits: job.status() == Status::Pending,
            actions: Actions {
                retry: allows(State::can_retry),
                cancel: allows(State::can_cancel),
                delete: allows(State::is_finished),
            },
            properties: properties(job),
            payload: job.payload_json.clone(),
            result: job.result_json.clone(),
        }
    }

    /// Address of the list of jobs with the same task.
    pub fn same_task(&self) -> String {
        Filter::of_task(&self.task).url("/jobs")
    }

    /// Address of the list of jobs with the same worker_id.
    pub fn same_worker_id(&self) -> String {
        Filter::of_worker_id(&self.worker_id).url("/jobs")
    }
}

fn properties(job: &Job) -> Vec<Property> {
    let ms = |at: &Option<_>| at.as_ref().map(timestamp_ms);
    vec![
        text("Attempts", status::attempts(job)),
        text("Priority", job.priority.to_string()),
        text("Retry policy", job.retry_policy.as_ref().map_or_else(String::new, policy)),
        text(
            "Attempt timeout",
            job.attempt_timeout.as_ref().map_or_else(|| "none".into(), |it| span::exact(duration_ms(it))),
        ),
        Property { name: "Idempotency key", value: Value::Code(job.idempotency_key.clone()) },
        Property { name: "Session", value: Value::Session(job.session_id.clone()) },
        time("Created", ms(&job.created_at)),
        time("Run at", ms(&job.run_at)),
        time("Started", ms(&job.started_at)),
        time("Finished", ms(&job.finished_at)),
        time("Changed", ms(&job.updated_at)),
        text("Hand-overs", job.run_no.to_string()),
    ]
}

/// Text of a retry policy, such as "5 s × 2, at most 1 h, ± 20 %".
fn policy(policy: &RetryPolicy) -> String {
    let time = |it: &Option<_>| it.as_ref().map_or(0, duration_ms);
    format!(
        "{} × {}, at most {}, ± {} %",
        span::exact(time(&policy.initial)),
        policy.factor(),
        span::exact(time(&policy.max)),
        (policy.jitter() * 100.0).round()
    )
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::{
        proto::v1,
        time::{duration, timestamp},
    };

    use super::*;

    fn job(status: Status) -> Job {
        let mut job = Job {
            id: "0192f5a6-1000-7000-8000-0000003f2a91".into(),
            worker_id: "mail & more".into(),
            task: "email".into(),
            attempt_count: 2,
            max_retries: 3,
            run_at: Some(timestamp(5_000)),
            updated_at: Some(timestamp(9_000)),
            ..Job::default()
        };
        job.set_status(status);
        job
    }

    fn value(properties: &[Property], name: &str) -> Value {
        properties.iter().find(|property| property.name == name).unwrap().value.clone()
    }

    #[test]
    fn a_row_tells_how_long_the_job_waits_runs_or_ran() {
        let waits = job(Status::Pending);
        let row = JobRow::of(&waits);
        assert_eq!((row.changed, row.attempts.as_str()), (Some(9_000), "2 of 3"));
        assert_eq!(row.status.look(1_000).word, "retrying");
        assert_eq!((row.pace.words(1_000), row.pace.words(65_000)), ("due in 4 s".into(), "waits 1 min".into()));
        let runs = Job { started_at: Some(timestamp(7_000)), ..job(Status::Running) };
        assert_eq!(JobRow::of(&runs).pace.words(9_000), "runs 2 s");
        let done =
            Job { finished_at: Some(timestamp(10_000)), started_at: Some(timestamp(7_000)), ..job(Status::Done) };
        assert_eq!(JobRow::of(&done).pace.words(99_000), "ran 3 s");
        let never = Job { started_at: None, ..job(Status::Cancelled) };
        assert_eq!(JobRow::of(&never).pace.words(99_000), "");
    }

    #[test]
    fn a_row_of_dead_letters_says_why_and_when() {
        let mut failed = job(Status::Failed);
        failed.set_failure_reason(Reason::WorkerLost);
        failed.last_error = "boom".into();
        failed.finished_at = Some(timestamp(8_000));
        let row = LetterRow::of(&failed);
        assert_eq!((row.reason, row.error.as_str(), row.failed), ("worker lost", "boom", Some(8_000)));
    }

    #[test]
    fn a_state_allows_its_own_actions() {
        let all = |retry, cancel, delete| Actions { retry, cancel, delete };
        for (status, actions) in [
            (Status::Unspecified, all(false, false, false)),
            (Status::Pending, all(false, true, false)),
            (Status::Running, all(false, true, false)),
            (Status::Done, all(false, false, true)),
            (Status::Failed, all(true, false, true)),
            (Status::Cancelled, all(true, false, true)),
        ] {
            assert_eq!(JobPage::of(&job(status)).actions, actions, "{status:?}");
        }
    }

    #[test]
    fn only_a_dead_letter_has_a_reason_and_only_a_running_job_has_progress() {
        let mut it = job(Status::Running);
        it.last_error = "an earlier attempt".into();
        it.progress = Some(v1::Progress { fraction: 0.454, message: "half".into(), at: Some(timestamp(6_000)) });
        let page = JobPage::of(&it);
        assert_eq!((page.letter, page.waits), (None, false));
        assert_eq!(page.progress, Some(Progress { percent: 45.0, message: "half".into(), at: Some(6_000) }));

        it.set_status(Status::Failed);
        it.set_failure_reason(Reason::Permanent);
        it.error_group = "00ff00ff00ff00ff".into();
        let page = JobPage::of(&it);
        let letter = page.letter.unwrap();
        assert_eq!((letter.reason, letter.error.as_str()), ("permanent failure", "an earlier attempt"));
        assert_eq!(letter.group, "00ff00ff00ff00ff");
        assert_eq!(page.progress, None);
        assert!(JobPage::of(&job(Status::Pending)).waits);
    }

    #[test]
    fn links_lead_to_jobs_of_the_same_kind() {
        let page = JobPage::of(&job(Status::Done));
        assert_eq!(page.same_task(), "/jobs?task=email");
        assert_eq!(page.same_worker_id(), "/jobs?worker_id=mail%20%26%20more");
    }

    #[test]
    fn properties_are_told_in_words() {
        let mut it = job(Status::Pending);
        let before = JobPage::of(&it).properties;
        assert_eq!(value(&before, "Retry policy"), Value::Text(String::new()));
        assert_eq!(value(&before, "Attempt timeout"), Value::Text("none".into()));
        assert_eq!(value(&before, "Started"), Value::Time(None));
        it.retry_policy = Some(RetryPolicy {
            initial: Some(duration(5_000)),
            factor: Some(2.0),
            max: Some(duration(3_600_000)),
            jitter: Some(0.2),
        });
        it.attempt_timeout = Some(duration(90_000));
        it.session_id = "s".into();
        let after = JobPage::of(&it).properties;
        assert_eq!(value(&after, "Retry policy"), Value::Text("5 s × 2, at most 1 h, ± 20 %".into()));
        assert_eq!(value(&after, "Attempt timeout"), Value::Text("1 min 30 s".into()));
        assert_eq!(value(&after, "Session"), Value::Session("s".into()));
        let kinds = |properties: &[Property]| -> Vec<_> {
            properties.iter().map(|it| (it.name, std::mem::discriminant(&it.value))).collect()
        };
        assert_eq!(kinds(&before), kinds(&after), "a property keeps its place and kind");
    }
}
