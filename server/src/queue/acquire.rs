//! AcquireJobs: a long poll that looks, waits for a wake-up call or the next due time, and looks again. One that waits
//! also hears at once of leases that others ended; all else that a worker has to stop its heartbeat says.
//!
//! A call that is dropped leaves nothing stranded: what it leased stays claimed for (session, acquire_no) and comes
//! again when the worker repeats the call with the same number.

use std::{pin::pin, time::Duration};

use jobqueue_shared::{limits, proto::v1::AcquireJobsRequest};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Queue,
    error::{Error, Result},
    tasks::Tasks,
    validate::Violations,
    wake::Listener,
};
use crate::store::{Acquire, Acquired, Leased, Stopped};

/// How long a waiting call goes without looking, should nobody wake it: what comes unheard the server finds for all
/// that wait, every second. Varied by a quarter, so that callers spread.
const UNTOLD: Duration = Duration::from_mins(1);
/// The answer leaves this long before the caller's own deadline.
const MARGIN: Duration = Duration::from_millis(100);
/// When a job is due already but somebody else has its row locked.
const CONTENDED: Duration = Duration::from_millis(50);

/// What an acquire brings.
#[derive(Debug, Default)]
pub struct Handed {
    pub jobs: Vec<Leased>,
    /// Leases of the session that somebody else ended; looked for only when one was, while the call waited.
    pub stop: Vec<Stopped>,
}

impl Queue {
    /// Jobs for the session, or none when `wait`, or the caller's `deadline`, has run out, or when it has to stop
    /// something.
    pub async fn acquire(&self, request: AcquireJobsRequest, deadline: Option<Instant>) -> Result<Handed> {
        let begun = Instant::now();
        let mut violations = Violations::default();
        let session_id = violations.uuid("session_id", &request.session_id);
        let mut acquire = Acquire {
            session_id,
            worker_id: None,
            max_jobs: violations.integer("max_jobs", request.max_jobs, 1..=limits::JOBS_PER_ACQUIRE),
            acquire_no: violations.integer("acquire_no", request.acquire_no, 1..=i32::MAX as u32),
        };
        let mut tasks = Tasks::default();
        if let Some(known) = self.sessions.get(session_id) {
            acquire.worker_id = Some(known.worker_id);
            tasks = known.tasks;
        }
        let wait_ms = request
            .wait
            .map_or(0, |wait| violations.duration_ms("wait", wait, 0..=limits::ACQUIRE_WAIT_MS, "0 to 60 s"));
        violations.finish()?;
        if self.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let until = wait_until(begun, Duration::from_millis(wait_ms.unsigned_abs()), deadline);

        let mut listener = acquire.worker_id.as_ref().map(|worker_id| self.wakes.listen(worker_id));
        let mut stops = self.wakes.listen_for_stops(acquire.session_id);
        loop {
            let worker_id = {
                let mut called = pin!(listener.as_ref().map(Listener::notified));
                // From before the look on, so that no call between the look and the wait is missed.
                if let Some(called) = called.as_mut().as_pin_mut() {
                    called.enable();
                }
                let (worker_id, next_run_at_ms) = match self.look(&acquire).await? {
                    Look::Found(jobs) => {
                        let stop = if stops.is_told() { self.stops(session_id).await } else { Vec::new() };
                        return Ok(Handed { jobs, stop });
                    }
                    Look::Nothing { worker_id, next_run_at_ms } => (worker_id, next_run_at_ms),
                };
                let now = Instant::now();
                if now >= until {
                    return Ok(Handed::default());
                }
                if let Some(called) = called.as_pin_mut() {
                    let mut place = self.waiting.wait(&worker_id, &acquire, &tasks);
                    let (mut jobs, mut told) = (Vec::new(), false);
                    tokio::select! {
                        biased;
                        handed = place.handed() => jobs = handed,
                        () = stops.told() => told = true,
                        () = called => {}
                        () = self.draining.cancelled() => {}
                        () = tokio::time::sleep_until((now + self.poll_after(next_run_at_ms)).min(until)) => {}
                    }
                    jobs.extend(place.leave().await);
                    self.meters.acquired(&jobs);
                    let stop = if told || stops.is_told() { self.stops(session_id).await } else { Vec::new() };
                    if !jobs.is_empty() || !stop.is_empty() || self.draining.is_cancelled() {
                        return Ok(Handed { jobs, stop });
                    }
                    continue;
                }
                worker_id
            };
            // Looks once more, now that it would hear of what comes.
            tasks = self.tasks_of(acquire.session_id).await;
            self.sessions.put(acquire.session_id, &worker_id, tasks.clone());
            listener = Some(self.wakes.listen(&worker_id));
            acquire.worker_id = Some(worker_id);
        }
    }

    /// The worker_ids of calls that wait for jobs. Those that look just now are not among them.
    pub fn waited_for(&self) -> Vec<String> {
        self.waiting.worker_ids()
    }

    /// Nothing when that fails: the heartbeat says it again, and jobs that were found must reach their worker.
    async fn stops(&self, session_id: Uuid) -> Vec<Stopped> {
        self.store.stops(session_id).await.unwrap_or_default()
    }

    /// Those of a session that registered with another server, or before this one started.
    async fn tasks_of(&self, session_id: Uuid) -> Tasks {
        let found = self.store.session(session_id).await.ok().flatten();
        found.map(|found| Tasks::of(&found.session.tasks)).unwrap_or_default()
    }

    async fn look(&self, acquire: &Acquire) -> Result<Look> {
        match self.looks.call(acquire.clone()).await? {
            Acquired::NoSession => {
                self.sessions.forget(acquire.session_id);
                Err(Error::NoSession(acquire.session_id))
            }
            Acquired::SessionFull => Err(Error::SessionFull),
            Acquired::Jobs { worker_id, jobs, next_run_at_ms } if jobs.is_empty() => {
                Ok(Look::Nothing { worker_id, next_run_at_ms })
            }
            Acquired::Jobs { worker_id, jobs, .. } => {
                if jobs.len() >= acquire.max_jobs as usize {
                    self.wakes.wake_here(&worker_id, 1);
                }
                self.meters.acquired(&jobs);
                Ok(Look::Found(jobs))
            }
        }
    }

    fn poll_after(&self, next_run_at_ms: Option<i64>) -> Duration {
        let untold = UNTOLD.mul_f64(rand::random_range(0.75..1.25));
        let Some(next) = next_run_at_ms else { return untold };
        let due = next.saturating_sub(self.clock.now_ms());
        let due = if due <= 0 { CONTENDED } else { Duration::from_millis(due.unsigned_abs()) };
        due.min(untold)
    }
}

enum Look {
    Found(Vec<Leased>),
    Nothing { worker_id: String, next_run_at_ms: Option<i64> },
}

/// When to stop waiting: after `wait`, or in time for the answer to reach a caller who has a deadline.
fn wait_until(begun: Instant, wait: Duration, deadline: Option<Instant>) -> Instant {
    let until = begun + wait;
    deadline.map_or(until, |deadline| {
        let left = deadline.saturating_duration_since(begun);
        until.min(begun + left.saturating_sub(MARGIN.min(left / 4)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_leaves_before_the_callers_deadline() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(wait_until(now, ms(500), None), now + ms(500));
        assert_eq!(wait_until(now, ms(500), Some(now + ms(10_000))), now + ms(500));
        assert_eq!(wait_until(now, ms(20_000), Some(now + ms(10_000))), now + ms(9_900));
        assert_eq!(wait_until(now, ms(20_000), Some(now + ms(40))), now + ms(30));
        assert_eq!(wait_until(now, ms(20_000), Some(now)), now);
    }
}
