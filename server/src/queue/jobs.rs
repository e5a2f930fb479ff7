//! GetJob, the lists, and operator actions: cancel, retry, delete.

use jobqueue_shared::{limits, proto::v1, state::State, status};
use jobqueue_store::{ActionAnswer, AttemptRecord, JobRecord, View};
use uuid::Uuid;

use super::{
    Queue,
    error::{Error, Result},
    page::Filter,
    submit::job_id,
    validate::{Violations, storable},
};

/// Maximum size of a page in bytes, errors and notes included. The store ends pages by payloads and results only, and
/// clients refuse messages of more than 4 MiB.
const MESSAGE_BYTES: usize = limits::REPLY_BYTES + 512 * 1024;
/// Bytes of a job in a reply besides its texts.
const JOB_BYTES: usize = 512;

/// A page of jobs, and the token of the next page.
#[derive(Debug, Default)]
pub struct JobPage {
    pub jobs: Vec<JobRecord>,
    /// "" = this was the last page.
    pub next_page_token: String,
}

impl Queue {
    pub async fn get(&self, request: &v1::GetJobRequest) -> Result<(JobRecord, Vec<AttemptRecord>)> {
        let id = job_id(&request.job_id)?;
        let job = self.job(id).await?;
        Ok((job, self.context.store.attempts(id).await?))
    }

    pub(super) async fn job(&self, id: Uuid) -> Result<JobRecord> {
        self.context.store.get(&[id]).await?.into_iter().next().flatten().ok_or(Error::NoJob(id))
    }

    pub async fn list(&self, request: v1::ListJobsRequest) -> Result<JobPage> {
        let mut violations = Violations::default();
        let status = v1::job::Status::try_from(request.status);
        if status.is_err() {
            violations.add("status", format!("is {}, which is no status", request.status));
        }
        let state = status.ok().and_then(status::state);
        let view = view(request.view, &mut violations);
        let v1::ListJobsRequest { worker_id, task, page_size, page_token, .. } = request;
        self.page((worker_id, task), state, view, page_size, &page_token, violations).await
    }

    pub async fn list_failed(&self, request: v1::ListFailedJobsRequest) -> Result<JobPage> {
        let mut violations = Violations::default();
        let view = view(request.view, &mut violations);
        let v1::ListFailedJobsRequest { worker_id, page_size, page_token, task, .. } = request;
        self.page((worker_id, task), Some(State::Failed), view, page_size, &page_token, violations).await
    }

    async fn page(
        &self,
        (worker_id, task): (String, String),
        state: Option<State>,
        view: View,
        page_size: i32,
        page_token: &str,
        mut violations: Violations,
    ) -> Result<JobPage> {
        violations.name("worker_id", &worker_id, limits::WORKER_ID);
        violations.name("task", &task, limits::TASK);
        let wanted = match violations.integer("page_size", page_size, 0..=limits::PAGE_MAX) {
            0 => limits::PAGE_DEFAULT,
            size => size,
        };
        let given = |text: String| (!text.is_empty()).then_some(text);
        let filter = Filter { worker_id: given(worker_id), state, task: given(task), view };
        let after = if page_token.is_empty() {
            None
        } else {
            filter.cursor(page_token).map_err(|wrong| violations.add("page_token", wrong)).ok()
        };
        violations.finish()?;

        let page = self.context.store.list(&filter.query(wanted, after.clone())).await?;
        // A page has at least one job, or the list could never go on.
        let fits = fitting(&page.jobs, MESSAGE_BYTES).max(1);
        let page = if fits < page.jobs.len() {
            // Only the store knows the order of its lists, so it is asked again for the shorter page, which has the
            // cursor of its end.
            self.context.store.list(&filter.query(fits as u32, after)).await?
        } else {
            page
        };
        let next_page_token = page.next.map_or_else(String::new, |next| filter.token(next));
        Ok(JobPage { jobs: page.jobs, next_page_token })
    }

    pub async fn cancel(&self, request: v1::CancelJobRequest) -> Result<JobRecord> {
        let mut violations = Violations::default();
        let id = violations.uuid("job_id", &request.job_id);
        violations.length("reason", &request.reason, limits::NOTE);
        violations.finish()?;
        let reason = storable(request.reason, limits::NOTE);
        let (_, stopped) = moved(id, "cancelled", self.context.store.cancel(&[id], &reason).await?)?;
        if let Some(session_id) = stopped {
            self.context.notifier.stop(session_id);
        }
        self.job(id).await
    }

    pub async fn retry(&self, request: &v1::RetryJobRequest) -> Result<JobRecord> {
        let id = job_id(&request.job_id)?;
        let (worker_id, _) = moved(id, "retried", self.context.store.retry(&[id]).await?)?;
        self.context.notifier.wake(&worker_id, 1);
        self.job(id).await
    }

    pub async fn delete(&self, request: &v1::DeleteJobRequest) -> Result<()> {
        let id = job_id(&request.job_id)?;
        moved(id, "deleted", self.context.store.delete(&[id]).await?).map(|_| ())
    }
}

/// View of jobs that a list request asks for.
fn view(given: i32, violations: &mut Violations) -> View {
    match v1::JobView::try_from(given) {
        Ok(v1::JobView::Full) => View::Full,
        Ok(v1::JobView::Basic) => View::Basic,
        Err(_) => {
            violations.add("view", format!("is {given}, which is no view; it can be 0 (full) or 1 (basic)"));
            View::Full
        }
    }
}

/// Result of an action on one job: its worker_id, and the session that it was taken from.
fn moved(id: Uuid, verb: &'static str, answers: Vec<ActionAnswer>) -> Result<(String, Option<Uuid>)> {
    match answers.into_iter().next() {
        Some(ActionAnswer::Done { worker_id, stopped }) => Ok((worker_id, stopped)),
        Some(ActionAnswer::Refused(state)) => Err(Error::WrongState { id, state, verb }),
        Some(ActionAnswer::NotFound) | None => Err(Error::NoJob(id)),
    }
}

fn job_bytes(job: &JobRecord) -> usize {
    JOB_BYTES
        + job.payload.len()
        + job.result.as_ref().map_or(0, String::len)
        + job.last_error.len()
        + job.note.len()
        + job.progress.as_ref().map_or(0, |it| it.message.len())
}

/// Number of jobs, from the first on, that fit into `bytes`.
fn fitting(jobs: &[JobRecord], bytes: usize) -> usize {
    let mut left = bytes;
    jobs.iter()
        .take_while(|job| {
            let fits = job_bytes(job) <= left;
            left = left.saturating_sub(job_bytes(job));
            fits
        })
        .count()
}
