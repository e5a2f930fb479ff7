//! AcquireJobs: a long poll. It tries to acquire, parks until a notification or the next due time, and tries again. A
//! parked poll also ends at once when a lease of its session is ended by a cancel or a timeout.
//!
//! `batcher` runs the acquires of concurrent calls in few transactions. `parked_polls` hands new jobs to waiting calls, and
//! `notify` tells them of runnable jobs and of leases to stop. `empty_looks` saves a try that would find nothing.
//!
//! A call may be dropped at any time: jobs that it leased stay claimed for (session, acquire_no), and the worker gets
//! them by repeating the call with the same number.

pub(super) mod batcher;
mod empty_looks;
pub(super) mod notify;
pub(super) mod parked_polls;
pub(super) mod tasks;

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use jobqueue_shared::{limits, proto::v1::AcquireJobsRequest};
use jobqueue_store::{Acquire, Acquired, Leased, Stopped};
use tokio::{sync::futures::Notified, time::Instant};
use uuid::Uuid;

use self::{
    notify::{Listener, StopListener},
    tasks::Tasks,
};
use super::{
    error::{Error, Result},
    handle::Queue,
    validate::Violations,
};

/// Maximum time that a poll is parked without trying again. Once a second `background/find_runnable.rs` finds jobs that no
/// notification announced. Varied by a quarter, so that polls do not try at the same time.
const MAX_PARKED: Duration = Duration::from_mins(1);
/// Time before the caller's own deadline at which the answer is sent.
const MARGIN: Duration = Duration::from_millis(100);
/// Time after which a poll that parked without a try, because its session found nothing a moment before, makes its
/// first. The try also finds that the session has ended, and the jobs of an answer that was lost.
const FIRST_TRY: Duration = Duration::from_millis(200);
/// Time to the next try when a job is due but another transaction has its row locked.
const CONTENDED: Duration = Duration::from_millis(50);

/// Answer of an acquire.
#[derive(Debug, Default)]
pub struct AcquireResult {
    pub jobs: Vec<Leased>,
    /// Leases of the session that others ended. Read only if the session was notified while the call was parked.
    pub stop: Vec<Stopped>,
}

impl Queue {
    /// Leases jobs to the session. Without jobs it answers when `wait` or the caller's `deadline` has run out, or when
    /// the session has to stop a lease.
    pub async fn acquire(&self, request: AcquireJobsRequest, deadline: Option<Instant>) -> Result<AcquireResult> {
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

        let mut listener = acquire.worker_id.as_ref().map(|worker_id| self.context.notifier.listen(worker_id));
        let mut stops = self.context.notifier.listen_for_stops(acquire.session_id);
        let mut may_park_first = true;
        loop {
            let worker_id = {
                let mut called = pin!(listener.as_ref().map(Listener::notified));
                // Enabled before the try, so that no notification between the try and the wait is missed.
                if let Some(called) = called.as_mut().as_pin_mut() {
                    called.enable();
                }
                let known = if may_park_first { self.known_empty(&acquire, until) } else { None };
                may_park_first = false;
                let has_tried = known.is_none();
                let (worker_id, next_try) = match known {
                    Some((worker_id, next_run_at_ms)) => (worker_id, self.poll_after(next_run_at_ms).min(FIRST_TRY)),
                    None => match self.try_acquire(&acquire).await? {
                        Try::Found(jobs) => {
                            let stop = if stops.is_told() { self.stops(session_id).await } else { Vec::new() };
                            return Ok(AcquireResult { jobs, stop });
                        }
                        Try::Nothing { worker_id, next_run_at_ms } => (worker_id, self.poll_after(next_run_at_ms)),
                    },
                };
                let now = Instant::now();
                if now >= until {
                    return Ok(AcquireResult::default());
                }
                if let Some(called) = called.as_pin_mut() {
                    let next_try = (now + next_try).min(until);
                    let mut result = self.park(&worker_id, &acquire, &tasks, called, &mut stops, next_try).await;
                    if result.jobs.is_empty() {
                        if !has_tried && self.draining.is_cancelled() {
                            return Err(Error::Draining);
                        }
                        // A call that repeats another must not be answered without the jobs of the answer that was lost.
                        if !result.stop.is_empty()
                            && let Try::Found(jobs) = self.try_acquire(&acquire).await?
                        {
                            result.jobs = jobs;
                        }
                    }
                    if !result.jobs.is_empty() || !result.stop.is_empty() || self.draining.is_cancelled() {
                        return Ok(result);
                    }
                    continue;
                }
                worker_id
            };
            // The worker_id was not known, so nothing was listened to: tries once more with a listener.
            tasks = self
                .sessions
                .known(&*self.context.store, acquire.session_id)
                .await
                .map(|known| known.tasks)
                .unwrap_or_default();
            listener = Some(self.context.notifier.listen(&worker_id));
            acquire.worker_id = Some(worker_id);
        }
    }

    /// Parks a poll until jobs are handed to it, a notification comes, a lease of its session is ended by others, the
    /// server drains, or `next_try`.
    async fn park(
        &self,
        worker_id: &str,
        acquire: &Acquire,
        tasks: &Tasks,
        called: Pin<&mut Notified<'_>>,
        stops: &mut StopListener,
        next_try: Instant,
    ) -> AcquireResult {
        let mut parked = self.context.parked_polls.park(worker_id, acquire, tasks);
        let (mut jobs, mut told) = (Vec::new(), false);
        tokio::select! {
            biased;
            handed = parked.handed() => jobs = handed,
            () = stops.told() => told = true,
            () = called => {}
            () = self.draining.cancelled() => {}
            () = tokio::time::sleep_until(next_try) => {}
        }
        jobs.extend(parked.leave().await);
        self.context.meters.acquired(&jobs);
        let stop = if told || stops.is_told() { self.stops(acquire.session_id).await } else { Vec::new() };
        AcquireResult { jobs, stop }
    }

    /// worker_ids that have a parked poll. A poll whose acquire is under way is not parked.
    pub fn waited_for(&self) -> Vec<String> {
        self.context.parked_polls.worker_ids()
    }

    /// Reads the leases that the session has to stop. An error counts as none: the next heartbeat repeats them, and
    /// jobs that were leased must reach their worker.
    async fn stops(&self, session_id: Uuid) -> Vec<Stopped> {
        self.context.store.stops(session_id).await.unwrap_or_default()
    }

    /// The worker_id and the due time of its next job, if the call can park without a try.
    fn known_empty(&self, acquire: &Acquire, until: Instant) -> Option<(String, Option<i64>)> {
        let worker_id = acquire.worker_id.as_ref()?;
        if Instant::now() + FIRST_TRY >= until {
            return None;
        }
        let now_ms = self.context.clock.now_ms();
        let look = self.context.notifier.empty_looks.get(worker_id, acquire.session_id, now_ms)?;
        Some((worker_id.clone(), look.next_run_at_ms))
    }

    async fn try_acquire(&self, acquire: &Acquire) -> Result<Try> {
        let looks = &self.context.notifier.empty_looks;
        let look = acquire.worker_id.as_ref().map(|worker_id| looks.begin(worker_id));
        let acquired = self.acquires.call(acquire.clone()).await;
        let found_nothing = matches!(&acquired, Ok(Acquired::Jobs { jobs, .. }) if jobs.is_empty());
        if let Some(worker_id) = acquire.worker_id.as_ref().filter(|_| !found_nothing) {
            // Others may have found nothing because this transaction had locked the jobs.
            looks.notified(worker_id);
        }
        match acquired? {
            Acquired::NoSession => {
                self.sessions.forget(acquire.session_id);
                Err(Error::SessionEnded(acquire.session_id))
            }
            Acquired::SessionFull => Err(Error::SessionFull),
            Acquired::Jobs { worker_id, jobs, next_run_at_ms } if jobs.is_empty() => {
                if let Some(look) = look {
                    looks.found_nothing(&worker_id, acquire.session_id, &look, next_run_at_ms);
                }
                Ok(Try::Nothing { worker_id, next_run_at_ms })
            }
            Acquired::Jobs { worker_id, jobs, .. } => {
                if jobs.len() >= acquire.max_jobs as usize {
                    self.context.notifier.wake_here(&worker_id, 1);
                }
                self.context.meters.acquired(&jobs);
                Ok(Try::Found(jobs))
            }
        }
    }

    fn poll_after(&self, next_run_at_ms: Option<i64>) -> Duration {
        let longest = MAX_PARKED.mul_f64(rand::random_range(0.75..1.25));
        let Some(next) = next_run_at_ms else { return longest };
        let due = next.saturating_sub(self.context.clock.now_ms());
        let due = if due <= 0 { CONTENDED } else { Duration::from_millis(due.unsigned_abs()) };
        due.min(longest)
    }
}

enum Try {
    Found(Vec<Leased>),
    Nothing { worker_id: String, next_run_at_ms: Option<i64> },
}

/// Time at which a long poll ends: after `wait`, or early enough for the answer to reach a caller with a deadline.
pub(super) fn wait_until(begun: Instant, wait: Duration, deadline: Option<Instant>) -> Instant {
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
