//! Explanation why a job does not run, and help for it.

use jobqueue_shared::proto::v1::{ExplainJobResponse, explain_job_response::Reason};

use super::filter::Filter;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    None,
    /// Link: its words and its address.
    Link(&'static str, String),
    /// Button that resumes the worker_id.
    Resume,
}

/// Explanation for a job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub reason: Reason,
    pub sentence: String,
}

impl Explanation {
    /// Explanation in the server's answer; `None` when the job does not wait, and its status says everything.
    pub fn of(answer: &ExplainJobResponse) -> Option<Self> {
        is_waiting(answer.reason()).then(|| Self { reason: answer.reason(), sentence: answer.sentence.clone() })
    }
}

/// True while the job waits for something.
fn is_waiting(reason: Reason) -> bool {
    !matches!(reason, Reason::Unspecified | Reason::Finished | Reason::Running)
}

/// True when the job does not start before somebody does something.
pub fn is_stuck(reason: Reason) -> bool {
    matches!(reason, Reason::Paused | Reason::NoSession | Reason::NoHandler)
}

pub fn help(reason: Reason, worker_id: &str) -> Help {
    let workers = || Filter::of_worker_id(worker_id).url("/workers");
    match reason {
        Reason::Paused => Help::Resume,
        Reason::NoSession => Help::Link("How to start a worker", workers()),
        Reason::NoHandler => Help::Link("See which tasks its workers handle", workers()),
        Reason::SlotsBusy => Help::Link("See its workers", workers()),
        Reason::Unspecified
        | Reason::Finished
        | Reason::Running
        | Reason::Scheduled
        | Reason::Retrying
        | Reason::Next => Help::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_stuck_is_helped() {
        for reason in [Reason::Paused, Reason::NoSession, Reason::NoHandler] {
            assert!(is_stuck(reason) && is_waiting(reason));
            assert_ne!(help(reason, "mail"), Help::None);
        }
        assert_eq!(help(Reason::SlotsBusy, "a&b"), Help::Link("See its workers", "/workers?worker_id=a%26b".into()));
        assert_eq!(help(Reason::Next, "mail"), Help::None);
    }

    #[test]
    fn what_runs_or_is_over_waits_for_nothing() {
        for reason in [Reason::Unspecified, Reason::Finished, Reason::Running] {
            assert!(!is_waiting(reason));
            assert_eq!(Explanation::of(&answer(reason)), None);
        }
    }

    #[test]
    fn a_waiting_job_is_explained_in_the_servers_words() {
        let told = Explanation::of(&answer(Reason::Paused)).unwrap();
        assert_eq!((told.reason, told.sentence.as_str()), (Reason::Paused, "mail is paused."));
    }

    fn answer(reason: Reason) -> ExplainJobResponse {
        let mut answer = ExplainJobResponse { sentence: "mail is paused.".into(), ..Default::default() };
        answer.set_reason(reason);
        answer
    }
}
