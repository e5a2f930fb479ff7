//! Timeouts: an attempt past its timeout is ended, even if its session lives.

use jobqueue_shared::{
    retry::RetryPolicy,
    state::{FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, NewJob, SettleAnswer, StopReason, Stopped};

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job},
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

async fn an_attempt_past_its_time_is_taken_from_a_session_that_lives(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let id = fixture.submit(NewJob { retry: Some(policy), ..timed(50) }).await;
    let session = fixture.session("w").await;
    let leased = session.acquire_one().await;
    let deadline_ms = leased.deadline_ms.unwrap();
    assert_eq!(deadline_ms, leased.job.started_at_ms.unwrap() + 50);
    let rescued = fixture.rescue_until(0, 1).await;
    assert_eq!((rescued.sessions, rescued.worker_ids), (0, vec!["w".to_owned()]));
    assert_eq!(rescued.stopped, [session.id]);
    assert!(fixture.now_ms().await > deadline_ms);

    let job = fixture.get(id).await;
    assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 1, 1));
    assert!(job.run_at_ms > fixture.now_ms().await + HOUR_MS / 2, "it waits as its policy says");
    assert_eq!(fixture.outcomes(id).await, [(1, AttemptOutcome::TimedOut)]);
    assert_ne!(job.last_error, "");
    let alive = session.beat().await.expect("the session lives on");
    assert_eq!(alive.stop, [Stopped { lease: leased.lease, reason: StopReason::TimedOut }]);
    assert_eq!(fixture.store.stops(session.id).await.unwrap(), alive.stop);
    assert_eq!(session.complete(leased.lease).await, SettleAnswer::Stale);
    assert_eq!(fixture.state(id).await, State::Pending);
}

async fn each_job_of_an_answer_has_its_own_time(fixture: &StoreFixture) {
    use State::{Pending, Running};
    let ids = fixture.submit_all(vec![timed(HOUR_MS), timed(30), job("w"), timed(30), timed(2 * HOUR_MS)]).await;
    let session = fixture.session("w").await;
    assert_eq!(session.acquire(10).await.len(), 5);
    fixture.rescue_until(0, 2).await;
    assert_eq!(fixture.states(&ids).await, [Running, Pending, Running, Pending, Running]);
    fixture.rescue_until(0, 0).await;
    assert_eq!(fixture.tally("w").await, [2, 3, 0, 0, 0]);
}

async fn a_job_whose_last_attempt_times_out_is_a_dead_letter(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 2, ..timed(20) }).await;
    let session = fixture.session("w").await;
    for _ in 0..2 {
        session.acquire_when_due().await;
        fixture.rescue_until(0, 1).await;
    }
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.failure), (State::Failed, Some(FailureReason::TimedOut)));
    assert_eq!(job.attempts_used, 2);
    assert_eq!(fixture.outcomes(id).await, [(2, AttemptOutcome::TimedOut), (1, AttemptOutcome::TimedOut)]);
}

async fn an_attempt_that_ends_in_time_does_not_time_out_later(fixture: &StoreFixture) {
    // Both jobs are in one claim: the remaining one must not time out by the deadline of the finished one.
    let ids = fixture.submit_all(vec![timed(1_000), job("w")]).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(2).await;
    if session.complete(leased[0].lease).await == SettleAnswer::Stale {
        return; // The machine stalled for a second.
    }
    fixture.pass(leased[0].deadline_ms.unwrap()).await;
    fixture.rescue_until(0, 0).await;
    assert_eq!(fixture.states(&ids).await, [State::Done, State::Running]);
}

async fn every_attempt_has_its_full_time(fixture: &StoreFixture) {
    let id = fixture.submit(timed(HOUR_MS)).await;
    let session = fixture.session("w").await;
    let first = session.acquire_one().await;
    fixture.pass(first.job.started_at_ms.unwrap() + 20).await;
    session.fail(first.lease, "no").await;
    let second = session.acquire_when_due().await;
    assert_eq!(second.job.id, id);
    assert_eq!(second.deadline_ms, Some(second.job.started_at_ms.unwrap() + HOUR_MS));
    assert!(second.deadline_ms > first.deadline_ms);
}
