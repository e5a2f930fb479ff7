//! CountJobs: the number of jobs that a filter selects.

use jobqueue_shared::proto::v1;
use jobqueue_store::JobCounts;

use crate::queue::{error::Result, filter, handle::Queue, validate::Violations};

impl Queue {
    pub async fn count(&self, request: v1::CountJobsRequest) -> Result<JobCounts> {
        let mut violations = Violations::default();
        let filter = filter::filter(request.filter, &mut violations);
        violations.finish()?;
        Ok(self.context.store.count(&filter, request.by_status).await?)
    }
}
