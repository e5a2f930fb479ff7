//! Acquire loops: long polls that ask for as many jobs as the worker has permits for, and start them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use jobqueue_shared::proto::v1::{AcquireJobsRequest, AcquireJobsResponse};
use tokio::time::Instant;

use crate::{connection::backoff::Backoff, fields, run::execute::SessionJobs, sessions::session};

/// Time for which the server parks an acquire call that finds no job. Each new call is a transaction, so longer is
/// cheaper; but proxies usually close a call that has been silent for a minute.
const LONG_POLL: Duration = Duration::from_secs(50);
/// Time limit of an acquire call: the long poll, and 10 s for the answer to arrive.
const ACQUIRE: Duration = LONG_POLL.saturating_add(Duration::from_secs(10));

/// Minimum number of jobs that a second acquire call beside the first asks for; a third one asks for twice as many. For
/// fewer jobs one more call does not pay off.
const MANY: usize = 100;

/// Acquires jobs until the session has ended or the worker is stopped. Up to three calls are under way at once when the
/// worker has permits for many jobs: while one batch is on its way, the server prepares the next.
pub(crate) async fn run(jobs: &Arc<SessionJobs>) {
    let acquire_numbers = AtomicI32::new(1);
    let acquire = |least| acquire(jobs, &acquire_numbers, least);
    tokio::join!(acquire(1), acquire(MANY), acquire(2 * MANY));
}

/// Makes one acquire call after the other, each for at least `least` jobs, and starts the jobs that come.
async fn acquire(jobs: &Arc<SessionJobs>, acquire_numbers: &AtomicI32, least: usize) {
    let (worker, session) = (&jobs.worker, &jobs.session);
    // A server that is shutting down answers at once and without jobs: the pauses keep this loop from spinning.
    let mut pauses = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let reservation = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            () = worker.stopping.cancelled() => return,
            reservation = jobs.slots.reserve(least) => reservation,
        };
        let acquire_no = acquire_numbers.fetch_add(1, Ordering::Relaxed);
        let asked_at = Instant::now();
        let Some(reply) = ask(jobs, acquire_no, reservation.jobs()).await else { return };
        reservation.record_answer(reply.jobs.len());
        session.stop_each(&reply.stop);
        // Leases to stop end the long poll early as well, and are no reason to slow down.
        if !reply.jobs.is_empty() || !reply.stop.is_empty() || asked_at.elapsed() >= LONG_POLL / 2 {
            pauses.reset();
            jobs.start(reservation, reply.jobs);
        } else {
            drop(reservation);
            tokio::select! {
                () = worker.stopping.cancelled() => return,
                () = tokio::time::sleep(pauses.next()) => {}
            }
        }
    }
}

/// Sends acquire call number `acquire_no`, and repeats it under that number until an answer has been received: the
/// server may have leased jobs in an answer that got lost. `None` when the session has ended or the worker is stopped.
async fn ask(jobs: &SessionJobs, acquire_no: i32, max_jobs: usize) -> Option<AcquireJobsResponse> {
    let (worker, session) = (&jobs.worker, &jobs.session);
    let mut pauses = Backoff::for_lease(session.lease_time);
    let request = |max_jobs: usize, wait| AcquireJobsRequest {
        session_id: session.id.clone(),
        max_jobs: max_jobs.try_into().unwrap_or(i32::MAX),
        acquire_no,
        wait: Some(fields::duration(wait)),
    };
    loop {
        let answer = tokio::select! {
            biased;
            () = session.ended.cancelled() => return None,
            () = worker.stopping.cancelled() => {
                // The call that was just dropped may have been given jobs. Repeating it returns them, and they are
                // released now instead of when the session ends. If it was given none, the repetition acquires at most
                // one job.
                if let Ok(reply) = worker.calls.acquire_jobs(request(1, Duration::ZERO), Duration::from_secs(2)).await {
                    for job in reply.jobs {
                        jobs.release_unstarted(job.lease_id);
                    }
                }
                return None;
            }
            answer = worker.calls.acquire_jobs(request(max_jobs, LONG_POLL), ACQUIRE) => answer,
        };
        match answer {
            Ok(reply) => return Some(reply),
            Err(status) if session::is_over(&status) => {
                session.ended.cancel();
                return None;
            }
            Err(_) => tokio::select! {
                () = session.ended.cancelled() => {}
                () = worker.stopping.cancelled() => {}
                () = tokio::time::sleep(pauses.next()) => {}
            },
        }
    }
}
