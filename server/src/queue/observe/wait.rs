//! WaitJob: a long poll that answers when a job has finished.
//!
//! Settlements and cancels of this server end the wait at once. What another server or a background task has
//! done is found by reading the job, at pauses that grow with the time waited.

use std::time::Duration;

use jobqueue_shared::{limits, proto::v1, state::State};
use jobqueue_store::JobRecord;
use tokio::time::Instant;

use crate::queue::{
    acquire::wait_until,
    error::{Error, Result},
    handle::Queue,
    validate::Violations,
};

/// Shortest and longest pause between two reads of the job.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Part of the time waited so far that a pause lasts.
const PAUSE_SHARE: f64 = 0.25;

impl Queue {
    /// Waits until the job has finished, or `wait` or the caller's `deadline` has run out. Returns the job as it is then.
    pub async fn wait(&self, request: &v1::WaitJobRequest, deadline: Option<Instant>) -> Result<JobRecord> {
        let begun = Instant::now();
        let mut violations = Violations::default();
        let id = violations.uuid("job_id", &request.job_id);
        let wait_ms =
            request.wait.map_or(0, |wait| violations.duration_ms("wait", wait, 0..=limits::WAIT_MS, "0 to 60 s"));
        violations.finish()?;
        let until = wait_until(begun, Duration::from_millis(wait_ms.unsigned_abs()), deadline);

        // Begun before the job is read, so that its end between the read and the pause is not missed.
        let mut wait = self.context.finished.wait(id);
        loop {
            let job = self.job(id).await?;
            let now = Instant::now();
            if !matches!(job.state, State::Pending | State::Running) || now >= until {
                return Ok(job);
            }
            tokio::select! {
                () = wait.told() => {}
                () = self.draining.cancelled() => return Err(Error::Draining),
                () = tokio::time::sleep_until(until.min(now + pause(now - begun))) => {}
            }
        }
    }
}

/// Time until the next read, varied by a quarter so that calls do not read at the same time.
fn pause(waited: Duration) -> Duration {
    waited.mul_f64(PAUSE_SHARE).clamp(PAUSES.0, PAUSES.1).mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use jobqueue_store::options::ConnectOptions;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};
    use v1::settlement::{Complete, Fail, Outcome};

    use super::*;
    use crate::queue::Options;

    const WORKER_ID: &str = "w";

    async fn queue(folder: &std::path::Path) -> Queue {
        let url = format!("sqlite://{}", folder.join("q.db").display());
        let store = crate::database::connect(&ConnectOptions::new(url)).await.unwrap();
        let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
        Queue::new(store, Options { payload_bytes: 1_024, acquires: 1, draining, closing }, &TaskTracker::new())
    }

    async fn submit(queue: &Queue) -> uuid::Uuid {
        let job = v1::SubmitJobRequest { worker_id: WORKER_ID.into(), payload_json: "{}".into(), ..Default::default() };
        queue.submit(job).await.unwrap().id
    }

    /// Without this, calls would learn of an end only by reading the job, up to seconds later.
    #[tokio::test]
    async fn who_waits_is_told_by_what_ends_the_job_and_by_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue(folder.path()).await;
        let register = v1::RegisterSessionRequest { worker_id: WORKER_ID.into(), slots: 1, ..Default::default() };
        let session_id = queue.register(register).await.unwrap().session_id.to_string();
        for (acquire_no, outcome, ends) in [
            (1, Outcome::Complete(Complete::default()), true),
            (2, Outcome::Fail(Fail { permanent: true, ..Fail::default() }), true),
            (3, Outcome::Fail(Fail::default()), false),
        ] {
            let id = submit(&queue).await;
            let mut wait = queue.context.finished.wait(id);
            let acquire =
                v1::AcquireJobsRequest { session_id: session_id.clone(), max_jobs: 1, acquire_no, wait: None };
            let leased = queue.acquire(acquire, None).await.unwrap().jobs.remove(0);
            assert_eq!(leased.lease.job_id, id);
            assert!(wait.told().now_or_never().is_none());
            let settlement = v1::Settlement { lease_id: leased.lease.to_string(), outcome: Some(outcome.clone()) };
            let settle = v1::SettleJobsRequest { session_id: session_id.clone(), settlements: vec![settlement] };
            queue.settle(settle).await.unwrap();
            assert_eq!(wait.told().now_or_never().is_some(), ends, "{outcome:?}");
        }
        let id = submit(&queue).await;
        let mut wait = queue.context.finished.wait(id);
        queue.cancel(v1::CancelJobRequest { job_id: id.to_string(), reason: String::new() }).await.unwrap();
        assert!(wait.told().now_or_never().is_some());
    }

    #[test]
    fn pauses_grow_with_the_time_waited_up_to_a_limit() {
        for (waited_s, from_ms, to_ms) in [(0, 75, 125), (4, 750, 1_250), (60, 1_500, 2_500)] {
            let pause = pause(Duration::from_secs(waited_s)).as_millis();
            assert!((from_ms..=to_ms).contains(&pause), "{waited_s} s: {pause}");
        }
    }
}
