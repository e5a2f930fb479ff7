//! Decision why a job is not running.

use jobqueue_shared::{proto::v1::explain_job_response::Reason, state::State};
use jobqueue_store::{ExplainInputs, JobRecord};

/// First reason that applies to the job.
pub(super) fn reason(job: &JobRecord, inputs: &ExplainInputs) -> Reason {
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
