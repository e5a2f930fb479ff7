//! An attempt past its time is taken away, even from a session that lives.

use jobqueue_server::store::{AttemptOutcome, NewJob, SettleAnswer, StopReason, Stopped};
use jobqueue_shared::{
    retry::RetryPolicy,
    state::{FailureReason, State},
};

use crate::{
    bed::{Bed, HOUR_MS, job},
    scenarios,
};

scenarios!(
    an_attempt_past_its_time_is_taken_from_a_session_that_lives,
    each_job_of_an_answer_has_its_own_time,
    a_job_whose_last_attempt_times_out_is_a_dead_letter,
    an_attempt_that_ends_in_time_does_not_time_out_later,
    every_attempt_has_its_full_time,
);

fn timed(timeout_ms: i64) -> NewJob {
    NewJob { attempt_timeout_ms: Some(timeout_ms), ..job("w") }
}

async fn an_attempt_past_its_time_is_taken_from_a_session_that_lives(bed: &Bed) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let id = bed.submit(NewJob { retry: Some(policy), ..timed(50) }).await;
    let session = bed.session("w").await;
    let leased = session.acquire_one().await;
    let deadline_ms = leased.deadline_ms.unwrap();
    assert_eq!(deadline_ms, leased.job.started_at_ms.unwrap() + 50);
    let rescued = bed.rescue_until(0, 1).await;
    assert_eq!((rescued.sessions, rescued.worker_ids), (0, vec!["w".to_owned()]));
    assert_eq!(rescued.stopped, [session.id]);
    assert!(bed.now_ms().await > deadline_ms);

    let job = bed.get(id).await;
    assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 1, 1));
    assert!(job.run_at_ms > bed.now_ms().await + HOUR_MS / 2, "it waits as its policy says");
    assert_eq!(bed.outcomes(id).await, [(1, AttemptOutcome::TimedOut)]);
    assert_ne!(job.last_error, "");
    let alive = session.beat().await.expect("the session lives on");
    assert_eq!(alive.stop, [Stopped { lease: leased.lease, reason: StopReason::TimedOut }]);
    assert_eq!(bed.store.stops(session.id).await.unwrap(), alive.stop);
    assert_eq!(session.complete(leased.lease).await, SettleAnswer::Stale);
    assert_eq!(bed.state(id).await, State::Pending);
}

async fn each_job_of_an_answer_has_its_own_time(bed: &Bed) {
    use State::{Pending, Running};
    let ids = bed.submit_all(vec![timed(HOUR_MS), timed(30), job("w"), timed(30), timed(2 * HOUR_MS)]).await;
    let session = bed.session("w").await;
    assert_eq!(session.acquire(10).await.len(), 5);
    bed.rescue_until(0, 2).await;
    assert_eq!(bed.states(&ids).await, [Running, Pending, Running, Pending, Running]);
    bed.rescue_until(0, 0).await;
    assert_eq!(bed.tally("w").await, [2, 3, 0, 0, 0]);
}

async fn a_job_whose_last_attempt_times_out_is_a_dead_letter(bed: &Bed) {
    let id = bed.submit(NewJob { max_retries: 2, ..timed(20) }).await;
    let session = bed.session("w").await;
    for _ in 0..2 {
        session.acquire_when_due().await;
        bed.rescue_until(0, 1).await;
    }
    let job = bed.get(id).await;
    assert_eq!((job.state, job.failure), (State::Failed, Some(FailureReason::TimedOut)));
    assert_eq!(job.attempts_used, 2);
    assert_eq!(bed.outcomes(id).await, [(2, AttemptOutcome::TimedOut), (1, AttemptOutcome::TimedOut)]);
}

async fn an_attempt_that_ends_in_time_does_not_time_out_later(bed: &Bed) {
    // Both are in one row: what is left of it must not be taken by the time of what has gone.
    let ids = bed.submit_all(vec![timed(1_000), job("w")]).await;
    let session = bed.session("w").await;
    let leased = session.acquire(2).await;
    if session.complete(leased[0].lease).await == SettleAnswer::Stale {
        return; // Nobody came round for a second.
    }
    bed.pass(leased[0].deadline_ms.unwrap()).await;
    bed.rescue_until(0, 0).await;
    assert_eq!(bed.states(&ids).await, [State::Done, State::Running]);
}

async fn every_attempt_has_its_full_time(bed: &Bed) {
    let id = bed.submit(timed(HOUR_MS)).await;
    let session = bed.session("w").await;
    let first = session.acquire_one().await;
    bed.pass(first.job.started_at_ms.unwrap() + 20).await;
    session.fail(first.lease, "no").await;
    let second = session.acquire_when_due().await;
    assert_eq!(second.job.id, id);
    assert_eq!(second.deadline_ms, Some(second.job.started_at_ms.unwrap() + HOUR_MS));
    assert!(second.deadline_ms > first.deadline_ms);
}
