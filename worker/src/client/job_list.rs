//! Lists of jobs: the filter that selects them, and a page of the answer.

use std::time::SystemTime;

use jobqueue_shared::proto::v1::{self as proto, CountJobsRequest, Job, ListJobsRequest, job::Status};

use crate::client::error::Error;

/// Filter of a job list; every job unless narrowed.
#[derive(Clone, Debug, Default)]
pub struct JobFilter(ListJobsRequest);

/// Page of a job list. It may be short, even empty, and still have a next one.
#[derive(Clone, Debug)]
pub struct Page {
    pub jobs: Vec<Job>,
    /// Token for [`JobFilter::page_token`] with the same filter; `None` after the last page.
    pub next_page_token: Option<String>,
}

/// Number of jobs that a filter selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCount {
    pub number: u32,
    /// True when there may be more: too many jobs would have had to be looked at.
    pub at_least: bool,
}

impl JobFilter {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.0.worker_id = worker_id.into();
        self
    }

    pub fn status(mut self, status: Status) -> Self {
        self.0.set_status(status);
        self
    }

    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.0.task = task.into();
        self
    }

    /// Adds conditions in their text form, such as `error:"timed out" attempts:>=2`; ages count from this call.
    /// docs/filters.md of the repository has all of them.
    ///
    /// # Errors
    /// [`Error::Filter`] names the place in the text, and what was expected there.
    pub fn matching(mut self, text: &str) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let filter = jobqueue_shared::filter::parse(text, now.as_millis() as i64);
        self.0.filter = Some(filter.map_err(|error| Error::Filter(error.to_string()))?);
        Ok(self)
    }

    /// Maximum number of jobs on a page, 1 to 500. Default: 50.
    pub fn page_size(mut self, jobs: u32) -> Self {
        self.0.page_size = i32::try_from(jobs).unwrap_or(i32::MAX);
        self
    }

    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.0.page_token = token.into();
        self
    }

    pub(crate) fn into_request(self) -> ListJobsRequest {
        self.0
    }

    /// Equal conditions, to count the jobs that meet them.
    pub(crate) fn into_count(self) -> CountJobsRequest {
        let status = self.0.status();
        let mut filter = self.0.filter.unwrap_or_default();
        filter.worker_ids.extend(Some(self.0.worker_id).filter(|it| !it.is_empty()));
        filter.tasks.extend(Some(self.0.task).filter(|it| !it.is_empty()));
        if let Some(state) = jobqueue_shared::status::state(status) {
            let kinds = jobqueue_shared::sub_state::SubState::of(state);
            filter.statuses.extend(kinds.into_iter().map(|it| i32::from(proto::job_filter::Status::from(it))));
        }
        CountJobsRequest { filter: Some(filter), by_status: false }
    }
}
