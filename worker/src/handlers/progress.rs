//! Progress reports that handlers have made and the worker has not sent yet: the newest one of each job.

use std::{collections::HashMap, sync::Arc};

use jobqueue_shared::limits;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fields;

/// Newest report of each job that has not been sent, shared with the handlers.
#[derive(Clone, Default)]
pub(crate) struct ProgressReports(Arc<Shared>);

/// Progress of a job as its handler reported it last.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    /// From 0 to 1.
    pub(crate) fraction: f64,
    pub(crate) message: String,
}

#[derive(Default)]
struct Shared {
    /// By lease id.
    newest: Mutex<HashMap<String, Report>>,
    arrived: Notify,
}

impl ProgressReports {
    /// Keeps the report of a job and drops its earlier one.
    pub(crate) fn report(&self, lease_id: &str, fraction: f64, message: String) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let report = Report { fraction, message: fields::text(message, limits::NOTE) };
        self.0.newest.lock().insert(lease_id.to_owned(), report);
        self.0.arrived.notify_one();
    }

    /// Drops the report of a job that has ended.
    pub(crate) fn forget(&self, lease_id: &str) {
        self.0.newest.lock().remove(lease_id);
    }

    /// Waits for reports, and removes them.
    pub(crate) async fn take(&self) -> HashMap<String, Report> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_report_of_a_job_is_kept() {
        let progress = ProgressReports::default();
        progress.report("a", 0.1, "one".to_owned());
        progress.report("a", f64::NAN, "two".to_owned());
        progress.report("b", 7.0, "x".repeat(2_000));
        let taken = progress.take().await;
        assert_eq!(taken["a"], Report { fraction: 0.0, message: "two".to_owned() });
        assert_eq!((taken["b"].fraction, taken["b"].message.len()), (1.0, limits::NOTE));
        progress.report("a", 0.5, String::new());
        progress.forget("a");
        progress.report("b", 0.5, String::new());
        assert_eq!(progress.take().await.into_keys().collect::<Vec<_>>(), ["b"]);
    }
}
