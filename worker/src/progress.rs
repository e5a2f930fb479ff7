//! Progress reports of handlers: the newest report of each job is sent at most once a second.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jobqueue_shared::limits;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Code;

use crate::{handler::clean, proto::ReportProgressRequest, runner::Core, session::Session};

const PAUSE: Duration = Duration::from_secs(1);

/// Newest report of each job that has not been sent, shared with the handlers.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    newest: Mutex<HashMap<String, (f64, String)>>,
    arrived: Notify,
}

impl Progress {
    pub(crate) fn report(&self, lease_id: &str, fraction: f64, message: String) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let report = (fraction, clean(message, limits::NOTE));
        self.0.newest.lock().insert(lease_id.to_owned(), report);
        self.0.arrived.notify_one();
    }

    /// Drops the report of a job that has ended.
    pub(crate) fn forget(&self, lease_id: &str) {
        self.0.newest.lock().remove(lease_id);
    }

    async fn take(&self) -> HashMap<String, (f64, String)> {
        loop {
            let arrived = self.0.arrived.notified();
            let newest = std::mem::take(&mut *self.0.newest.lock());
            if !newest.is_empty() {
                return newest;
            }
            arrived.await;
        }
    }
}

/// Sends the reports of a session until it is dropped.
pub(crate) async fn run(core: Arc<Core>, session: Arc<Session>) {
    loop {
        for (lease_id, (fraction, message)) in session.progress.take().await {
            let report =
                ReportProgressRequest { session_id: session.id.clone(), lease_id: lease_id.clone(), fraction, message };
            // A report that cannot be sent is dropped: sending it later would be of no use.
            if let Err(status) = core.report_progress(report).await
                && status.code() == Code::FailedPrecondition
            {
                session.suspect(lease_id);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_report_of_a_job_is_kept() {
        let progress = Progress::default();
        progress.report("a", 0.1, "one".to_owned());
        progress.report("a", f64::NAN, "two".to_owned());
        progress.report("b", 7.0, "x".repeat(2_000));
        let taken = progress.take().await;
        assert_eq!(taken["a"], (0.0, "two".to_owned()));
        assert_eq!((taken["b"].0, taken["b"].1.len()), (1.0, limits::NOTE));
        progress.report("a", 0.5, String::new());
        progress.forget("a");
        progress.report("b", 0.5, String::new());
        assert_eq!(progress.take().await.into_keys().collect::<Vec<_>>(), ["b"]);
    }
}
