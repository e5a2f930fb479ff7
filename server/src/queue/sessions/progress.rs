//! ReportProgress: what a session says of an attempt while it runs.

use jobqueue_shared::{
    lease::{LeaseId, MalformedLease},
    limits,
    proto::v1,
};
use jobqueue_store::ProgressReport;
use tracing::warn;
use uuid::Uuid;

use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::{Violations, storable},
};

impl Queue {
    pub async fn report_progress(&self, request: v1::ReportProgressRequest) -> Result<()> {
        let mut violations = Violations::default();
        let session_id = violations.uuid("session_id", &request.session_id);
        let lease = request.lease_id.parse().unwrap_or_else(|error: MalformedLease| {
            violations.add("lease_id", error.to_string());
            LeaseId { claim_id: Uuid::nil(), job_id: Uuid::nil() }
        });
        let fraction = violations.number("fraction", request.fraction, 0.0..=1.0);
        violations.length("message", &request.message, limits::NOTE);
        violations.finish()?;
        let message = storable(request.message, limits::NOTE);
        let report = ProgressReport { session_id, lease, fraction, message };
        if self.context.store.report_progress(&report).await? {
            return Ok(());
        }
        self.context.meters.refused_progress();
        warn!(%session_id, job_id = %lease.job_id, "progress for a lease that is no longer valid was refused");
        Err(Error::StaleLease)
    }
}
