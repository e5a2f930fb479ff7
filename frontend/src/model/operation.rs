//! Operations as the pages show them: their states, their progress, and what became of a canary, in words.

use std::fmt::Write as _;

use jobqueue_shared::{
    proto::v1::{
        GetOperationResponse, ListOperationsResponse, Operation, OperationOutcomes, OperationRefusal, OperationSpec,
        operation::State, operation_refusal::Reason, operation_spec::Kind,
    },
    time::timestamp_ms,
};

use super::{
    number::{count, plural},
    property::{self, Property},
    status::{Look, look},
};

/// Address of an operation's page.
pub fn page(id: &str) -> String {
    format!("/operations/{id}")
}

/// Look of a state.
pub fn state(state: State) -> Look {
    match state {
        State::Unspecified => look("circle", "unknown", "cancelled"),
        State::Running => look("play", "running", "running"),
        State::CanaryWaiting => look("clock", "waits for its canary", "scheduled"),
        State::Paused => look("pause", "paused", "retrying"),
        State::Stopped => look("prohibit", "stopped", "cancelled"),
        State::Done => look("check", "done", "done"),
        State::Failed => look("cross", "failed", "failed"),
    }
}

/// Verb of a kind, as a button says it.
pub fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "Change",
        Kind::Retry => "Retry",
        Kind::Cancel => "Cancel",
        Kind::Delete => "Delete",
        Kind::SetPriority => "Set priority",
        Kind::Reschedule => "Reschedule",
    }
}

/// Whether a kind destroys something.
pub fn destroys(kind: Kind) -> bool {
    matches!(kind, Kind::Cancel | Kind::Delete)
}

/// An operation in a list, and the head of its page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationRow {
    pub id: String,
    pub kind: Kind,
    pub state: State,
    /// Text form of its filter; "" = all jobs.
    pub filter: String,
    pub reason: String,
    pub started: Option<i64>,
    pub changed: i32,
    pub refused: i32,
    /// Jobs dealt with, and all jobs, as far as they were counted.
    pub done: i32,
    pub of: Option<i32>,
    /// Progress in words.
    pub counts: String,
}

impl OperationRow {
    /// `print` gives the text form of a filter.
    pub fn of(it: &Operation) -> Self {
        let spec = it.spec.clone().unwrap_or_default();
        let ended = matches!(it.state(), State::Done);
        Self {
            id: it.id.clone(),
            kind: spec.kind(),
            state: it.state(),
            filter: spec.filter.as_ref().map(jobqueue_shared::filter::print).unwrap_or_default(),
            reason: spec.reason,
            started: it.started_at.as_ref().map(timestamp_ms),
            changed: it.changed,
            refused: it.refused,
            done: it.matched,
            // At its end it has dealt with all there was.
            of: if ended { Some(it.matched) } else { it.total.map(|total| total.max(it.matched)) },
            counts: counts(it),
        }
    }

    pub fn all(answer: &ListOperationsResponse) -> Vec<Self> {
        answer.operations.iter().map(Self::of).collect()
    }

    pub fn can_pause(&self) -> bool {
        matches!(self.state, State::Running | State::CanaryWaiting)
    }

    pub fn can_resume(&self) -> bool {
        self.state == State::Paused
    }

    pub fn can_stop(&self) -> bool {
        self.can_pause() || self.can_resume()
    }
}

/// Text such as "340 of 1,204 changed, 2 refused".
fn counts(it: &Operation) -> String {
    let mut text = match (it.state(), it.total) {
        (State::Done, _) | (_, None) => format!("{} changed", count(it.changed)),
        (_, Some(total)) => {
            let more = if it.total_is_floor { "more than " } else { "" };
            format!("{} of {more}{} changed", count(it.changed), count(total.max(it.matched)))
        }
    };
    if it.refused > 0 {
        let _ = write!(text, ", {} refused", count(it.refused));
    }
    text
}

/// The page of one operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationPage {
    pub row: OperationRow,
    pub note: String,
    /// Verdict on the canary, and on the sample; "" = there is none.
    pub canary: String,
    pub sample: String,
    pub properties: Vec<Property>,
}

impl OperationPage {
    pub fn of(answer: &GetOperationResponse) -> Option<Self> {
        let it = answer.operation.as_ref()?;
        let spec = it.spec.clone().unwrap_or_default();
        let row = OperationRow::of(it);
        let rate = if spec.rate == 0 { "no limit".into() } else { format!("{} jobs/s", count(spec.rate)) };
        let becomes = match spec.kind() {
            Kind::SetPriority => format!("priority {}", spec.priority()),
            Kind::Reschedule => "run_at as below".into(),
            Kind::Retry => "pending, with no attempt used".into(),
            Kind::Cancel => "cancelled".into(),
            Kind::Delete => "gone".into(),
            Kind::Unspecified => String::new(),
        };
        let mut properties = vec![
            property::text("Jobs become", becomes),
            property::text("Rate", rate),
            property::time("Started", row.started),
            property::time("Last change", it.updated_at.as_ref().map(timestamp_ms)),
            property::time("Ended", it.finished_at.as_ref().map(timestamp_ms)),
            Property { name: "Started from", value: property::Value::Code(it.caller.clone()) },
        ];
        match spec.kind() {
            Kind::Reschedule => properties.push(property::time("New run_at", spec.run_at.as_ref().map(timestamp_ms))),
            Kind::Retry => {
                properties.push(property::text("Canary", canary_rule(&spec)));
                let stops = spec.stop_percent.map(|percent| format!("above {percent} % failing again"));
                properties.push(property::text("Stops", stops.unwrap_or_else(|| "by no rule".into())));
            }
            _ => {}
        }
        Some(Self {
            note: it.note.clone(),
            canary: it.canary.map(|canary| verdict(it, canary, spec.canary)).unwrap_or_default(),
            sample: it.sample.filter(|sample| sample.jobs > 0).map(sampled).unwrap_or_default(),
            properties,
            row,
        })
    }
}

/// Text such as "5 jobs, stops above 20 % failing again".
fn canary_rule(spec: &OperationSpec) -> String {
    if spec.canary == 0 {
        return "none".into();
    }
    format!("{}, stops above {} % failing again", plural(spec.canary, "job", "jobs"), spec.canary_stop_percent())
}

/// Verdict on a canary of `size` jobs.
fn verdict(it: &Operation, canary: OperationOutcomes, size: i32) -> String {
    let jobs = plural(size, "canary job", "canary jobs");
    if it.canary_passed {
        return format!("The {jobs} passed: {}.", outcomes(canary));
    }
    match it.state() {
        State::CanaryWaiting | State::Paused if canary.jobs > 0 => {
            format!("{jobs} were retried; the rest waits for their outcome: {}.", outcomes(canary))
        }
        State::Stopped | State::Failed if canary.jobs > 0 => {
            format!("The {jobs} did not pass: {}.", outcomes(canary))
        }
        State::Done => format!("There were no more jobs than the {jobs}, so nothing waited for their outcome."),
        _ => format!("{jobs} are retried first."),
    }
}

fn sampled(sample: OperationOutcomes) -> String {
    format!("Of a sample of {}: {}.", plural(sample.jobs, "retried job", "retried jobs"), outcomes(sample))
}

/// Text such as "8 done, 1 failed again, 1 not known yet".
fn outcomes(it: OperationOutcomes) -> String {
    let open = it.jobs - it.succeeded - it.failed_again;
    let mut text = format!("{} done, {} failed again", count(it.succeeded), count(it.failed_again));
    if open > 0 {
        let _ = write!(text, ", {} without an outcome", count(open));
    }
    text
}

/// A job that an operation refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalRow {
    pub job_id: String,
    pub why: String,
}

impl RefusalRow {
    pub fn all(answer: &GetOperationResponse) -> Vec<Self> {
        answer.refusals.iter().map(|it| Self { job_id: it.job_id.clone(), why: why(it) }).collect()
    }
}

fn why(it: &OperationRefusal) -> String {
    let status = it.status().as_str_name();
    match it.reason() {
        Reason::Unspecified => String::new(),
        Reason::Gone => "It did not exist any more.".into(),
        Reason::WrongStatus => format!("It was {status} by then."),
        Reason::ChangedSince => format!("It became {status} after the operation had started."),
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::job::Status;

    use super::*;

    fn operation(state: State) -> Operation {
        let spec = OperationSpec { kind: Kind::Retry.into(), canary: 10, ..OperationSpec::default() };
        Operation { state: state.into(), spec: Some(spec), total: Some(1_200), ..Operation::default() }
    }

    #[test]
    fn progress_counts_what_was_done_and_what_there_was() {
        let it = Operation { changed: 340, refused: 2, matched: 342, ..operation(State::Running) };
        assert_eq!(counts(&it), "340 of 1,200 changed, 2 refused");
        assert_eq!(
            counts(&Operation { total_is_floor: true, ..it.clone() }),
            "340 of more than 1,200 changed, 2 refused"
        );
        let more = Operation { changed: 1_300, matched: 1_300, ..operation(State::Running) };
        assert_eq!(OperationRow::of(&more).of, Some(1_300), "a floor is no end");
        let done = Operation { changed: 7, matched: 7, ..operation(State::Done) };
        assert_eq!((counts(&done).as_str(), OperationRow::of(&done).of), ("7 changed", Some(7)));
    }

    #[test]
    fn a_canary_is_judged_in_words() {
        let told = |state, jobs, succeeded, failed_again, canary_passed| {
            let canary = OperationOutcomes { jobs, succeeded, failed_again };
            let it = Operation { canary: Some(canary), canary_passed, ..operation(state) };
            OperationPage::of(&GetOperationResponse { operation: Some(it), refusals: vec![] }).unwrap().canary
        };
        assert_eq!(told(State::Running, 0, 0, 0, false), "10 canary jobs are retried first.");
        assert_eq!(
            told(State::CanaryWaiting, 10, 7, 1, false),
            "10 canary jobs were retried; the rest waits for their outcome: 7 done, 1 failed again, 2 without an outcome."
        );
        assert_eq!(told(State::Running, 10, 10, 0, true), "The 10 canary jobs passed: 10 done, 0 failed again.");
        assert!(told(State::Stopped, 10, 0, 10, false).starts_with("The 10 canary jobs did not pass"));
        assert!(told(State::Done, 0, 0, 0, false).starts_with("There were no more jobs"));
    }

    #[test]
    fn a_refusal_says_what_had_become_of_the_job() {
        let refusal = |reason: Reason, status: Status| OperationRefusal {
            job_id: "x".into(),
            reason: reason.into(),
            status: status.into(),
        };
        assert_eq!(why(&refusal(Reason::WrongStatus, Status::Running)), "It was running by then.");
        assert!(why(&refusal(Reason::Gone, Status::Unspecified)).contains("exist"));
        assert!(why(&refusal(Reason::ChangedSince, Status::Failed)).contains("became failed after"));
    }

    #[test]
    fn buttons_follow_the_state() {
        let row = |state| OperationRow::of(&operation(state));
        assert!(row(State::Running).can_pause() && row(State::CanaryWaiting).can_stop());
        assert!(row(State::Paused).can_resume() && !row(State::Paused).can_pause());
        for state in [State::Stopped, State::Done, State::Failed] {
            assert!(!row(state).can_stop() && !row(state).can_resume());
        }
    }
}
