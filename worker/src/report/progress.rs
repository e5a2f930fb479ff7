//! Sending of progress reports, of each job at most one a second.

use std::{sync::Arc, time::Duration};

use jobqueue_shared::proto::v1::ReportProgressRequest;
use tonic::Code;

use crate::{handlers::progress::Report, running_worker::RunningWorker, sessions::session::Session};

const PAUSE: Duration = Duration::from_secs(1);

/// Sends the reports of a session until it is dropped.
pub(crate) async fn run(worker: Arc<RunningWorker>, session: Arc<Session>) {
    loop {
        for (lease_id, Report { fraction, message }) in session.progress.take().await {
            let report =
                ReportProgressRequest { session_id: session.id.clone(), lease_id: lease_id.clone(), fraction, message };
            // A report that cannot be sent is dropped: sending it later would be of no use.
            if let Err(status) = worker.calls.report_progress(report).await
                && status.code() == Code::FailedPrecondition
            {
                session.suspect(lease_id);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
