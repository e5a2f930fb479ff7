//! Lists of jobs: the filter that selects them, and a page of the answer.

use jobqueue_shared::proto::v1::{Job, ListJobsRequest, job::Status};

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
}
