//! Acquire loops: long polls that ask for as many jobs as the worker has room for, and start them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    execute::Jobs,
    new_job::duration,
    proto::{AcquireJobsRequest, AcquireJobsResponse},
    runner::Core,
    session::{self, Session},
};

/// Time for which the server parks an acquire call that finds no job. Each new call is a transaction, so longer is
/// cheaper; but proxies usually close a call that has been silent for a minute.
const WAIT: Duration = Duration::from_secs(50);

/// Minimum room, in jobs, for which a second acquire call is made beside the first; a third one needs twice as much.
/// For fewer jobs one more call does not pay off.
const MANY: usize = 100;

/// Runs the acquire loops until the session has ended or the worker is stopped. Up to three calls are under way at once
/// when there is room for many jobs: while one batch is on its way, the server prepares the next.
pub(crate) async fn run(core: &Core, session: &Session, jobs: &Arc<Jobs>) {
    let numbers = AtomicI32::new(1);
    let fill = |least| fill(core, session, jobs, &numbers, least);
    tokio::join!(fill(1), fill(MANY), fill(2 * MANY));
}

async fn fill(core: &Core, session: &Session, jobs: &Arc<Jobs>, numbers: &AtomicI32, least: usize) {
    // A server that is shutting down answers at once and without jobs: the pauses keep this loop from spinning.
    let mut pauses = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let room = tokio::select! {
            biased;
            () = session.ended.cancelled() => return,
            () = core.stopping.cancelled() => return,
            room = core.slots.room(least) => room,
        };
        let acquire_no = numbers.fetch_add(1, Ordering::Relaxed);
        let asked_at = Instant::now();
        let Some(reply) = ask(core, session, jobs, acquire_no, room.places()).await else { return };
        room.answered(reply.jobs.len());
        session.stop_each(&reply.stop);
        // Leases to stop end the long poll early as well, and are no reason to slow down.
        if !reply.jobs.is_empty() || !reply.stop.is_empty() || asked_at.elapsed() >= WAIT / 2 {
            pauses.reset();
            jobs.start(room, reply.jobs);
        } else {
            drop(room);
            tokio::select! {
                () = core.stopping.cancelled() => return,
                () = tokio::time::sleep(pauses.next()) => {}
            }
        }
    }
}

/// Sends acquire call number `acquire_no`, and repeats it under that number until an answer has been received: the
/// server may have leased jobs in an answer that got lost. `None` when the session has ended or the worker is stopped.
async fn ask(
    core: &Core,
    session: &Session,
    jobs: &Arc<Jobs>,
    acquire_no: i32,
    free: usize,
) -> Option<AcquireJobsResponse> {
    let mut pauses = Backoff::for_lease(session.lease_time);
    let request = |max_jobs: usize, wait| AcquireJobsRequest {
        session_id: session.id.clone(),
        max_jobs: max_jobs.try_into().unwrap_or(i32::MAX),
        acquire_no,
        wait: Some(duration(wait)),
    };
    loop {
        let answer = tokio::select! {
            biased;
            () = session.ended.cancelled() => return None,
            () = core.stopping.cancelled() => {
                // The call that was just dropped may have been given jobs. Repeating it returns them, and they are
                // released now instead of when the session ends. If it was given none, the repetition acquires at most
                // one job.
                if let Ok(reply) = core.acquire_jobs(request(1, Duration::ZERO), Duration::from_secs(2)).await {
                    for job in reply.jobs {
                        jobs.give_back(job.lease_id);
                    }
                }
                return None;
            }
            answer = core.acquire_jobs(request(free, WAIT), WAIT + Duration::from_secs(10)) => answer,
        };
        match answer {
            Ok(reply) => return Some(reply),
            Err(status) if session::is_over(&status) => {
                session.ended.cancel();
                return None;
            }
            Err(_) => tokio::select! {
                () = session.ended.cancelled() => {}
                () = core.stopping.cancelled() => {}
                () = tokio::time::sleep(pauses.next()) => {}
            },
        }
    }
}
