//! ListJobs and ListFailedJobs.

use jobqueue_shared::{lease::created_at_ms, limits, proto::v1, state::State, status};
use jobqueue_store::{Cursor, JobFilter, JobRecord, ListQuery, View};

use super::page_token;
use crate::queue::{
    error::Result,
    filter::{self, Beside},
    handle::Queue,
    validate::Violations,
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
    /// Time of the last row that was read, by which the list is ordered; `None` on the last page, and in a list that no
    /// time orders.
    pub read_to_ms: Option<i64>,
}

impl Queue {
    pub async fn list(&self, request: v1::ListJobsRequest) -> Result<JobPage> {
        let mut violations = Violations::default();
        let status = v1::job::Status::try_from(request.status);
        if status.is_err() {
            violations.add("status", format!("is {}, which is no status", request.status));
        }
        let state = status.ok().and_then(status::state);
        let view = view(request.view, &mut violations);
        let v1::ListJobsRequest { worker_id, task, page_size, page_token, filter, .. } = request;
        let filter = filter::filter(filter, &mut violations);
        let filter = filter::with(filter, Beside { worker_id, state, task }, &mut violations);
        self.page(filter, view, page_size, &page_token, violations).await
    }

    pub async fn list_failed(&self, request: v1::ListFailedJobsRequest) -> Result<JobPage> {
        let mut violations = Violations::default();
        let view = view(request.view, &mut violations);
        let v1::ListFailedJobsRequest { worker_id, page_size, page_token, task, filter, .. } = request;
        let filter = filter::filter(filter, &mut violations);
        let filter = filter::with(filter, Beside { worker_id, state: None, task }, &mut violations);
        let filter = filter::only_failed(filter, &mut violations);
        self.page(filter, view, page_size, &page_token, violations).await
    }

    async fn page(
        &self,
        filter: JobFilter,
        view: View,
        page_size: i32,
        page_token: &str,
        mut violations: Violations,
    ) -> Result<JobPage> {
        let wanted = match violations.integer("page_size", page_size, 0..=limits::PAGE_MAX) {
            0 => limits::PAGE_DEFAULT,
            size => size,
        };
        let after = if page_token.is_empty() {
            None
        } else {
            page_token::job_cursor(&filter, page_token).map_err(|wrong| violations.add("page_token", wrong)).ok()
        };
        violations.finish()?;

        let mut query = ListQuery { filter, page_size: wanted, after, view };
        let page = self.context.store.list(&query).await?;
        // A page has at least one job, or the list could never go on.
        let fits = fitting(&page.jobs, MESSAGE_BYTES).max(1);
        let page = if fits < page.jobs.len() {
            // Only the store knows the order of its lists, so it is asked again for the shorter page, which has the
            // cursor of its end.
            query.page_size = fits as u32;
            self.context.store.list(&query).await?
        } else {
            page
        };
        let read_to_ms = page.next.as_ref().and_then(|next| read_to_ms(query.filter.state(), next));
        let next_page_token = page.next.map_or_else(String::new, |next| page_token::job_token(&query.filter, next));
        Ok(JobPage { jobs: page.jobs, next_page_token, read_to_ms })
    }
}

/// Time at which a page of the list of `state` ends.
fn read_to_ms(state: Option<State>, end: &Cursor) -> Option<i64> {
    match state {
        // The list of all jobs is in the order of their ids, which begin with created_at.
        None => Some(created_at_ms(end.id)),
        Some(State::Pending) => None,
        Some(State::Running | State::Done | State::Failed | State::Cancelled) => Some(end.at_ms),
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
