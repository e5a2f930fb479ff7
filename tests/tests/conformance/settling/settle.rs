//! Outcomes of attempts, and the states to which they move jobs.

use jobqueue_shared::{
    limits,
    retry::RetryPolicy,
    state::{Ending, FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, NewJob, SettleAnswer, Settlement, Stored, UnitAnswer};

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, NO_DELAY, StoreFixture, job, jobs},
};

scenarios!(
    a_completed_job_is_done_with_its_result,
    a_failed_attempt_is_kept_and_its_job_waits_as_its_policy_says,
    a_worker_can_say_when_to_retry,
    max_retries_is_the_number_of_attempts,
    a_permanent_failure_uses_no_further_attempt,
    a_dead_letter_keeps_its_payload_and_all_its_errors,
    a_snoozed_job_has_its_attempt_back,
    a_released_job_can_be_taken_again_at_once,
    a_job_without_a_handler_waits_longer_each_time_and_is_recorded_once,
    a_job_goes_through_every_kind_of_ending_with_its_history_kept,
    one_batch_ends_many_attempts_each_its_own_way,
    a_batch_may_span_acquires_and_sessions,
    a_thousand_settlements_in_one_batch_are_answered_in_order,
    only_the_newest_hundred_attempts_are_kept,
    the_last_error_is_that_of_the_newest_failure,
);

const FAIL: Ending = Ending::Fail { permanent: false, retry_after_ms: None };

async fn a_completed_job_is_done_with_its_result(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(3).await;
    let before = fixture.earliest_ms().await;
    let result = r#"{"sent": "€ \u0000", "n": 1e400 }"#;
    assert_eq!(session.complete_with(leased[0].lease, result).await, SettleAnswer::Accepted(State::Done));
    assert_eq!(session.complete(leased[1].lease).await, SettleAnswer::Accepted(State::Done));
    let noted = Settlement {
        note: "the result of 70 KiB was dropped".to_owned(),
        ..session.settlement(leased[2].lease, Ending::Complete)
    };
    assert_eq!(session.settle(noted).await, SettleAnswer::Accepted(State::Done));
    let after = fixture.now_ms().await;
    let results = [(Some(result), ""), (None, ""), (None, "the result of 70 KiB was dropped")];
    for (id, (result, note)) in ids.iter().zip(results) {
        let job = fixture.get(*id).await;
        assert_eq!((job.state, job.result.as_deref(), job.note.as_str()), (State::Done, result, note));
        assert_eq!((job.run_no, job.attempts_used, job.last_error.as_str()), (1, 1, ""));
        assert_eq!((job.session_id, job.started_at_ms), (Some(session.id), leased[0].job.started_at_ms));
        assert!((before..=after).contains(&job.finished_at_ms.unwrap()));
        assert_eq!(Some(job.updated_at_ms), job.finished_at_ms);
        assert_eq!(fixture.attempts(*id).await, []);
    }
    assert_eq!(fixture.tally("w").await, [0, 0, 3, 0, 0]);
}

async fn a_failed_attempt_is_kept_and_its_job_waits_as_its_policy_says(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: 60_000, factor: 3.0, max_ms: HOUR_MS, jitter: 0.5 };
    for (policy, low, high) in [(None, 4_000, 6_000), (Some(policy), 30_000, 90_000)] {
        let id = fixture.submit(NewJob { retry: policy, ..job("w") }).await;
        let session = fixture.session("w").await;
        let leased = session.acquire_one().await;
        let before = fixture.earliest_ms().await;
        assert_eq!(session.fail(leased.lease, "no route to host").await, SettleAnswer::Accepted(State::Pending));
        let after = fixture.now_ms().await;
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.run_no, job.attempts_used), (State::Pending, 1, 1));
        assert_eq!((job.last_error.as_str(), job.failure), ("no route to host", None));
        assert!((before + low..=after + high).contains(&job.run_at_ms), "{} after {before}", job.run_at_ms - before);
        let [attempt] = &fixture.attempts(id).await[..] else { panic!() };
        assert_eq!((attempt.run_no, attempt.outcome), (1, AttemptOutcome::Failed));
        assert_eq!((attempt.error.as_str(), attempt.host.as_str()), ("no route to host", "host-1"));
        assert_eq!((attempt.session_id, attempt.started_at_ms), (Some(session.id), leased.job.started_at_ms));
        assert!((before..=after).contains(&attempt.ended_at_ms));
        let counts = fixture.counts("w").await;
        assert_eq!((counts.retrying, counts.scheduled), (counts.pending, 0));
    }
}

async fn a_worker_can_say_when_to_retry(fixture: &StoreFixture) {
    for delay_ms in [0, 60_000] {
        let id = fixture.submit(job("w")).await;
        let session = fixture.session("w").await;
        let leased = session.acquire_one().await;
        let before = fixture.earliest_ms().await;
        session.end(leased.lease, Ending::Fail { permanent: false, retry_after_ms: Some(delay_ms) }).await;
        let after = fixture.now_ms().await;
        assert!((before + delay_ms..=after + delay_ms).contains(&fixture.get(id).await.run_at_ms));
        if delay_ms == 0 {
            session.complete(session.acquire_one().await.lease).await;
        }
    }
}

async fn max_retries_is_the_number_of_attempts(fixture: &StoreFixture) {
    for (max_retries, attempts) in [(limits::MAX_RETRIES_DEFAULT, 3), (0, 1), (1, 1), (2, 2), (5, 5)] {
        let worker_id = format!("w{max_retries}");
        let id = fixture.submit(NewJob { max_retries, ..job(&worker_id) }).await;
        let session = fixture.session(&worker_id).await;
        for n in 1..=attempts {
            let leased = session.acquire_when_due().await;
            assert_eq!((leased.job.id, leased.job.attempts_used, leased.job.run_no), (id, n, n));
            let next = if n < attempts { State::Pending } else { State::Failed };
            assert_eq!(session.fail(leased.lease, &format!("error {n}")).await, SettleAnswer::Accepted(next));
        }
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.attempts_used, job.max_retries), (State::Failed, attempts, max_retries));
        assert_eq!(
            (job.failure, job.last_error),
            (Some(FailureReason::AttemptsExhausted), format!("error {attempts}"))
        );
        assert!(session.acquire(10).await.is_empty());
        assert_eq!(fixture.tally(&worker_id).await, [0, 0, 0, 1, 0]);
    }
}

async fn a_permanent_failure_uses_no_further_attempt(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 5, ..job("w") }).await;
    let session = fixture.session("w").await;
    let leased = session.acquire_one().await;
    assert_eq!(session.fail_for_good(leased.lease, "no such user").await, SettleAnswer::Accepted(State::Failed));
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.failure), (State::Failed, Some(FailureReason::Permanent)));
    assert_eq!((job.attempts_used, job.last_error.as_str()), (1, "no such user"));
    assert_eq!(fixture.outcomes(id).await, [(1, AttemptOutcome::Failed)]);
}

async fn a_dead_letter_keeps_its_payload_and_all_its_errors(fixture: &StoreFixture) {
    let payload = " {\"a\" : \"€\\u0000\"}\n";
    let new = NewJob {
        payload: payload.to_owned(),
        attempt_timeout_ms: Some(HOUR_MS),
        priority: 8,
        max_retries: 4,
        ..crate::store_fixture::keyed("w", "k", 1)
    };
    let id = fixture.submit(new).await;
    let session = fixture.session("w").await;
    for n in 1..=4 {
        let leased = session.acquire_when_due().await;
        session.fail(leased.lease, &format!("error {n}")).await;
    }
    let job = fixture.get(id).await;
    assert_eq!((job.payload.as_str(), job.task.as_str(), job.priority), (payload, "email", 8));
    assert_eq!((job.attempt_timeout_ms, job.retry, job.max_retries), (Some(HOUR_MS), NO_DELAY, 4));
    assert_eq!(job.idempotency_key.as_deref(), Some("k"));
    assert_eq!(job.session_id, Some(session.id));
    assert!(job.finished_at_ms.is_some() && job.started_at_ms <= job.finished_at_ms);
    let errors: Vec<_> =
        fixture.attempts(id).await.into_iter().map(|attempt| (attempt.run_no, attempt.error)).collect();
    let expected: Vec<_> = (1..=4).rev().map(|n| (n, format!("error {n}"))).collect();
    assert_eq!(errors, expected);
}

async fn a_snoozed_job_has_its_attempt_back(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
    let session = fixture.session("w").await;
    for n in 1..=3 {
        let leased = session.acquire_when_due().await;
        assert_eq!((leased.job.run_no, leased.job.attempts_used), (n, 1));
        let ending = Ending::Snooze { delay_ms: if n < 3 { 0 } else { HOUR_MS } };
        let answer = session.end_saying(leased.lease, ending, "the file is not there yet").await;
        assert_eq!(answer, SettleAnswer::Accepted(State::Pending));
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.run_no, job.attempts_used), (State::Pending, n, 0));
        assert_eq!(job.last_error, "", "a snooze is no error");
    }
    assert!(fixture.get(id).await.run_at_ms > fixture.now_ms().await + HOUR_MS / 2);
    let attempts = fixture.attempts(id).await;
    assert_eq!(
        (attempts[0].outcome, attempts[0].error.as_str()),
        (AttemptOutcome::Snoozed, "the file is not there yet")
    );
    let counts = fixture.counts("w").await;
    assert_eq!((counts.pending, counts.scheduled, counts.retrying), (1, 1, 0), "no attempt is used: scheduled");
}

async fn a_released_job_can_be_taken_again_at_once(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
    let (first, second) = (fixture.session("w").await, fixture.session("w").await);
    let leased = first.acquire_one().await;
    assert_eq!(first.release(leased.lease).await, SettleAnswer::Accepted(State::Pending));
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.run_no, job.attempts_used), (State::Pending, 1, 0));
    assert_eq!((job.waits_for_handler, job.session_id), (false, None));
    let leased = second.acquire_one().await;
    assert_eq!((leased.job.id, leased.job.run_no, leased.job.attempts_used), (id, 2, 1));
    second.complete(leased.lease).await;
    assert_eq!(fixture.state(id).await, State::Done);
}

async fn a_job_without_a_handler_waits_longer_each_time_and_is_recorded_once(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
    let session = fixture.session("w").await;
    let mut waits = Vec::new();
    for n in 1..=3 {
        let leased = session.acquire_when_due().await;
        assert_eq!((leased.job.run_no, leased.job.attempts_used), (n, 1));
        let answer = session.end(leased.lease, Ending::Release { no_handler: true }).await;
        assert_eq!(answer, SettleAnswer::Accepted(State::Pending));
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.attempts_used, job.waits_for_handler), (State::Pending, 0, true));
        waits.push(job.run_at_ms - job.updated_at_ms);
        let recorded = fixture.outcomes(id).await;
        let recorded = recorded.iter().filter(|(_, outcome)| *outcome == AttemptOutcome::NoHandler).count();
        assert_eq!(recorded, 1, "one entry stands for all of them");
    }
    assert!(waits.is_sorted_by(|a, b| a < b), "{waits:?}");
    let leased = session.acquire_when_due().await;
    assert!(!fixture.get(id).await.waits_for_handler, "it runs now");
    session.complete(leased.lease).await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.waits_for_handler), (State::Done, false));
}

async fn a_job_goes_through_every_kind_of_ending_with_its_history_kept(fixture: &StoreFixture) {
    use AttemptOutcome::{Failed, Released, Snoozed};
    let id = fixture.submit(NewJob { max_retries: 3, ..job("w") }).await;
    let session = fixture.session("w").await;
    let endings = [
        (FAIL, 1),
        (Ending::Snooze { delay_ms: 0 }, 2),
        (Ending::Release { no_handler: false }, 2),
        (Ending::Fail { permanent: false, retry_after_ms: Some(0) }, 2),
        (Ending::Snooze { delay_ms: 0 }, 3),
        (FAIL, 3),
    ];
    for (n, (ending, used)) in (1..).zip(endings) {
        let leased = session.acquire_when_due().await;
        assert_eq!((leased.job.run_no, leased.job.attempts_used), (n, used), "{ending:?}");
        session.end(leased.lease, ending).await;
    }
    assert_eq!(fixture.state(id).await, State::Failed);
    let expected = [(6, Failed), (5, Snoozed), (4, Failed), (3, Released), (2, Snoozed), (1, Failed)];
    assert_eq!(fixture.outcomes(id).await, expected);
}

async fn one_batch_ends_many_attempts_each_its_own_way(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 7)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(7).await;
    let endings = [
        (Ending::Complete, State::Done),
        (FAIL, State::Pending),
        (Ending::Snooze { delay_ms: HOUR_MS }, State::Pending),
        (Ending::Fail { permanent: true, retry_after_ms: None }, State::Failed),
        (Ending::Release { no_handler: false }, State::Pending),
        (Ending::Complete, State::Done),
    ];
    let mut batch: Vec<_> =
        leased.iter().zip(endings).map(|(leased, (ending, _))| session.settlement(leased.lease, ending)).collect();
    // A lease that is in the batch twice: the second outcome is a repetition or is refused.
    batch.push(session.settlement(leased[0].lease, Ending::Complete));
    batch.push(session.settlement(leased[0].lease, FAIL));
    let answers = fixture.store.settle(&batch).await.unwrap();
    let mut expected: Vec<_> = endings.iter().map(|&(_, state)| SettleAnswer::Accepted(state)).collect();
    expected.extend([SettleAnswer::Accepted(State::Done), SettleAnswer::Stale]);
    assert_eq!(answers, expected);
    let mut states: Vec<_> = endings.iter().map(|&(_, state)| state).collect();
    states.push(State::Running);
    assert_eq!(fixture.states(&ids).await, states);
    assert_eq!(fixture.tally("w").await, [3, 1, 2, 1, 0]);
}

async fn a_batch_may_span_acquires_and_sessions(fixture: &StoreFixture) {
    let ids = fixture.submit_all([jobs("a", 4), jobs("b", 4)].concat()).await;
    let (a, b) = (fixture.session("a").await, fixture.session("b").await);
    let mut batch = Vec::new();
    for session in [&a, &b] {
        for _ in 0..2 {
            for leased in session.acquire(2).await {
                batch.push(session.settlement(leased.lease, Ending::Complete));
            }
        }
    }
    // The batch has an outcome of one worker for another worker's lease.
    let foreign = batch[7].lease;
    batch.push(a.settlement(foreign, Ending::Complete));
    batch.reverse();
    let answers = fixture.store.settle(&batch).await.unwrap();
    assert_eq!(answers[0], SettleAnswer::Stale);
    assert!(answers[1..].iter().all(|answer| *answer == SettleAnswer::Accepted(State::Done)), "{answers:?}");
    assert_eq!(fixture.states(&ids).await, [State::Done; 8]);
    assert_eq!(fixture.store.settle(&[]).await.unwrap(), []);
}

async fn a_thousand_settlements_in_one_batch_are_answered_in_order(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 1_000)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(1_000).await;
    assert_eq!(leased.len(), 1_000);
    let ends = |n: usize| [Ending::Complete, Ending::Fail { permanent: true, retry_after_ms: None }][n % 2];
    let batch: Vec<_> =
        leased.iter().enumerate().map(|(n, leased)| session.settlement(leased.lease, ends(n))).collect();
    let answers = fixture.store.settle(&batch).await.unwrap();
    let expected: Vec<_> = (0..1_000).map(|n| [State::Done, State::Failed][n % 2]).collect();
    assert!(answers.iter().zip(&expected).all(|(answer, state)| *answer == SettleAnswer::Accepted(*state)));
    assert_eq!(fixture.states(&ids).await, expected);
    assert_eq!(fixture.tally("w").await, [0, 0, 500, 500, 0]);
}

async fn only_the_newest_hundred_attempts_are_kept(fixture: &StoreFixture) {
    let new = NewJob { max_retries: 200, ..job("w") };
    let UnitAnswer::Stored(stored) = fixture.insert(vec![new]).await else { panic!() };
    let [Stored { id, .. }] = stored[..] else { panic!() };
    let session = fixture.session("w").await;
    for n in 1..=105 {
        let leased = session.acquire_when_due().await;
        session.fail(leased.lease, &format!("error {n}")).await;
    }
    let runs: Vec<_> = fixture.attempts(id).await.iter().map(|attempt| attempt.run_no).collect();
    assert_eq!(runs, (6..=105).rev().collect::<Vec<_>>());
    let job = fixture.get(id).await;
    assert_eq!((job.run_no, job.attempts_used, job.last_error.as_str()), (105, 105, "error 105"));
}

async fn the_last_error_is_that_of_the_newest_failure(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 10, ..job("w") }).await;
    let session = fixture.session("w").await;
    session.fail(session.acquire_when_due().await.lease, "first").await;
    assert_eq!(fixture.get(id).await.last_error, "first");
    session.fail(session.acquire_when_due().await.lease, "second").await;
    let leased = session.acquire_when_due().await;
    assert_eq!(fixture.get(id).await.last_error, "second", "while it runs again");
    session.end_saying(leased.lease, Ending::Snooze { delay_ms: 0 }, "not yet").await;
    assert_eq!(fixture.get(id).await.last_error, "second", "a snooze is no failure");
    session.complete(session.acquire_when_due().await.lease).await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.last_error.as_str(), job.attempts_used), (State::Done, "second", 3));
}
