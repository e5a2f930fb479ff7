//! Asks for as many jobs as there is room for, and starts them.

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

/// How long the server holds a call that finds no job. Each new call is a transaction; proxies usually give up a call
/// that has been silent for a minute.
const WAIT: Duration = Duration::from_secs(50);

/// Room for fewer jobs is not worth one more call.
const MANY: usize = 100;

/// Until the session has ended or the worker is stopped. By three calls at once when many jobs can be had: while one
/// batch is on its way, the next are made ready.
pub(crate) async fn run(core: &Core, session: &Session, jobs: &Arc<Jobs>) {
    let numbers = AtomicI32::new(1);
    let fill = |least| fill(core, session, jobs, &numbers, least);
    tokio::join!(fill(1), fill(MANY), fill(2 * MANY));
}

async fn fill(core: &Core, session: &Session, jobs: &Arc<Jobs>, numbers: &AtomicI32, least: usize) {
    // A server that is shutting down answers at once with nothing.
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
        // What has to stop ends the wait early, and is no reason to slow down.
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

/// The answer to call number `acquire_no`, which is repeated under that number until it has been received: the server
/// may have handed out jobs whose leases got lost on the way. `None` when there is nothing more to do.
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
                // The call just dropped may have been answered. Asking again shows what it got, and it goes back now
                // instead of when the session ends. If it got nothing this finds at most one job.
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
