//! Operator actions: cancel, retry and delete.

use std::sync::Arc;

use futures::future::join_all;
use jobqueue_shared::state::{Ending, FailureReason, State};
use jobqueue_store::{ActionAnswer, AttemptOutcome, NewJob, SettleAnswer, StopReason, Stopped};
use uuid::Uuid;

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, keyed},
};

scenarios!(
    a_pending_job_that_is_cancelled_never_runs,
    a_scheduled_job_can_be_cancelled,
    a_running_job_that_is_cancelled_is_taken_from_its_worker,
    a_finished_job_cannot_be_cancelled,
    a_failed_job_can_be_retried_with_a_fresh_budget_and_its_history,
    a_cancelled_job_can_be_retried,
    a_job_that_waits_is_found_whatever_became_of_its_time_and_however_large_it_is,
    only_what_failed_or_was_cancelled_can_be_retried,
    a_job_that_is_retried_again_and_again_never_repeats_a_run_no,
    a_job_retried_while_an_old_lease_is_around_stays_fenced,
    deleting_a_finished_job_leaves_nothing_of_it,
    only_finished_jobs_can_be_deleted,
    what_does_not_exist_is_not_found,
    many_are_moved_at_once_each_by_itself,
    an_id_that_is_given_twice_is_moved_once,
    of_many_who_cancel_or_take_a_job_at_once_each_sees_one_truth,
    of_many_who_retry_a_job_at_once_one_does,
    of_a_deletion_and_a_retry_that_race_one_wins,
    refusals_beside_a_deletion_leave_nothing_of_the_job,
);

fn yes(worker_id: &str) -> ActionAnswer {
    ActionAnswer::Done { worker_id: worker_id.to_owned(), stopped: None }
}

/// Answer to the cancellation of a job that this session ran.
fn stopped(worker_id: &str, session: &Session) -> ActionAnswer {
    ActionAnswer::Done { worker_id: worker_id.to_owned(), stopped: Some(session.id) }
}

async fn a_pending_job_that_is_cancelled_never_runs(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let before = fixture.earliest_ms().await;
    assert_eq!(fixture.store.cancel(&[id], "not needed: \"€\"").await.unwrap(), [yes("w")]);
    let after = fixture.now_ms().await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.note.as_str()), (State::Cancelled, "not needed: \"€\""));
    assert_eq!((job.run_no, job.attempts_used, job.session_id, job.started_at_ms), (0, 0, None, None));
    assert!((before..=after).contains(&job.finished_at_ms.unwrap()));
    assert_eq!(Some(job.updated_at_ms), job.finished_at_ms);
    assert!(fixture.session("w").await.acquire(10).await.is_empty());
    assert_eq!(fixture.tally("w").await, [0, 0, 0, 0, 1]);
    assert_eq!(fixture.attempts(id).await, []);
}

async fn a_scheduled_job_can_be_cancelled(fixture: &StoreFixture) {
    let start = jobqueue_store::Start::After { delay_ms: HOUR_MS };
    let id = fixture.submit(NewJob { start, ..job("w") }).await;
    assert_eq!(fixture.counts("w").await.scheduled, 1);
    assert_eq!(fixture.store.cancel(&[id], "").await.unwrap(), [yes("w")]);
    let counts = fixture.counts("w").await;
    assert_eq!((counts.pending, counts.scheduled, counts.cancelled), (0, 0, 1));
}

async fn a_running_job_that_is_cancelled_is_taken_from_its_worker(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(3).await;
    let lease = leased[1].lease;
    assert_eq!(fixture.store.cancel(&[ids[1]], "wrong address").await.unwrap(), [stopped("w", &session)]);
    let job = fixture.get(ids[1]).await;
    assert_eq!((job.state, job.note.as_str()), (State::Cancelled, "wrong address"));
    assert_eq!((job.run_no, job.session_id), (1, Some(session.id)));
    assert_eq!(fixture.outcomes(ids[1]).await, [(1, AttemptOutcome::Cancelled)]);
    let alive = session.beat().await.unwrap();
    assert_eq!(alive.stop, [Stopped { lease, reason: StopReason::Cancelled }]);
    assert_eq!(fixture.store.stops(session.id).await.unwrap(), alive.stop);
    assert_eq!(fixture.store.stops(Uuid::new_v4()).await.unwrap(), []);
    assert_eq!(session.complete(lease).await, SettleAnswer::Stale);
    assert_eq!(session.fail(lease, "cancelled").await, SettleAnswer::Stale);
    assert_eq!(fixture.state(ids[1]).await, State::Cancelled);
    // The other jobs of the claim are not touched.
    assert_eq!(session.complete(leased[0].lease).await, SettleAnswer::Accepted(State::Done));
    assert_eq!(session.complete(leased[2].lease).await, SettleAnswer::Accepted(State::Done));
}

async fn a_finished_job_cannot_be_cancelled(fixture: &StoreFixture) {
    for state in [State::Done, State::Failed, State::Cancelled] {
        let id = fixture.job_in(state, job(state.word())).await;
        let before = fixture.get(id).await;
        assert_eq!(fixture.store.cancel(&[id], "too late").await.unwrap(), [ActionAnswer::Refused(state)]);
        assert_eq!(fixture.get(id).await, before);
    }
}

async fn a_failed_job_can_be_retried_with_a_fresh_budget_and_its_history(fixture: &StoreFixture) {
    use AttemptOutcome::{Failed, Retried};
    let payload = " {\"a\":1}";
    let id = fixture.submit(NewJob { max_retries: 2, payload: payload.to_owned(), ..job("w") }).await;
    let session = fixture.session("w").await;
    for n in 1..=2 {
        session.fail(session.acquire_when_due().await.lease, &format!("error {n}")).await;
    }
    assert_eq!(fixture.state(id).await, State::Failed);
    let before = fixture.earliest_ms().await;
    assert_eq!(fixture.store.retry(&[id]).await.unwrap(), [yes("w")]);
    let after = fixture.now_ms().await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 0, 2));
    assert_eq!((job.failure, job.finished_at_ms, job.payload.as_str()), (None, None, payload));
    assert!((before..=after).contains(&job.updated_at_ms) && job.run_at_ms <= after);
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
    let history = fixture.outcomes(id).await;
    assert_eq!(history.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(), [Retried, Failed, Failed]);

    // The retry has restored the whole attempt budget.
    for n in 3..=4 {
        let leased = session.acquire_when_due().await;
        assert_eq!((leased.job.run_no, leased.job.attempts_used), (n, n - 2));
        session.fail(leased.lease, &format!("error {n}")).await;
    }
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.failure), (State::Failed, Some(FailureReason::AttemptsExhausted)));
    assert_eq!((job.attempts_used, job.run_no, job.last_error.as_str()), (2, 4, "error 4"));
    let failures: Vec<_> = fixture
        .attempts(id)
        .await
        .into_iter()
        .filter(|attempt| attempt.outcome == Failed)
        .map(|attempt| (attempt.run_no, attempt.error))
        .collect();
    assert_eq!(failures, [4, 3, 2, 1].map(|n| (n, format!("error {n}"))));
    fixture.store.retry(&[id]).await.unwrap();
    session.complete(session.acquire_one().await.lease).await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.attempts_used, job.run_no), (State::Done, 1, 5));
}

async fn a_cancelled_job_can_be_retried(fixture: &StoreFixture) {
    let (pending, running) = (job("pending"), job("running"));
    let session = fixture.session("running").await;
    let ids = [fixture.submit(pending).await, fixture.submit(running).await];
    let old = session.acquire_one().await;
    fixture.store.cancel(&ids, "for now").await.unwrap();
    assert_eq!(fixture.store.retry(&ids).await.unwrap(), [yes("pending"), yes("running")]);
    for (n, id) in ids.into_iter().enumerate() {
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 0, n as u32));
        assert_eq!((job.finished_at_ms, job.session_id), (None, None));
    }
    let next = session.acquire_one().await;
    assert_eq!((next.job.run_no, next.job.attempts_used), (2, 1));
    assert_ne!(next.lease, old.lease);
    assert_eq!(session.complete(old.lease).await, SettleAnswer::Stale);
    assert_eq!(session.complete(next.lease).await, SettleAnswer::Accepted(State::Done));
    // The history has both cancellations, the one that ended an attempt and the one that found none.
    let told: Vec<_> =
        fixture.attempts(ids[0]).await.into_iter().rev().map(|it| (it.run_no, it.outcome, it.error)).collect();
    let expected = [(AttemptOutcome::Cancelled, "for now"), (AttemptOutcome::Retried, "")];
    assert_eq!(told, expected.map(|(outcome, text)| (0, outcome, text.to_owned())));
    let outcomes = fixture.outcomes(ids[1]).await;
    assert_eq!(outcomes.iter().filter(|it| **it == (1, AttemptOutcome::Cancelled)).count(), 1, "{outcomes:?}");
}

/// A small job that was never moved is found in `ready` by its submitted fields, the others by their ids.
async fn a_job_that_waits_is_found_whatever_became_of_its_time_and_however_large_it_is(fixture: &StoreFixture) {
    let start = jobqueue_store::Start::After { delay_ms: HOUR_MS };
    let payload = format!("\"{}\"", "x".repeat(1_000));
    let ids = fixture
        .submit_all(vec![
            job("w"),
            NewJob { start, priority: 0, ..job("w") },
            NewJob { payload: payload.clone(), ..job("w") },
            NewJob { payload, start, ..job("w") },
        ])
        .await;
    for turn in 0..2 {
        assert_eq!(fixture.states(&ids).await, [State::Pending; 4], "turn {turn}");
        assert_eq!(
            fixture.store.cancel(&ids, "").await.unwrap(),
            [yes("w"), yes("w"), yes("w"), yes("w")],
            "turn {turn}"
        );
        assert_eq!(fixture.states(&ids).await, [State::Cancelled; 4], "turn {turn}");
        assert_eq!(fixture.store.retry(&ids).await.unwrap(), [yes("w"), yes("w"), yes("w"), yes("w")], "turn {turn}");
        for id in &ids {
            let job = fixture.get(*id).await;
            assert!(job.run_at_ms <= fixture.now_ms().await, "turn {turn}: {job:?}");
        }
    }
    assert_eq!(fixture.session("w").await.acquire(10).await.len(), 4);
}

async fn only_what_failed_or_was_cancelled_can_be_retried(fixture: &StoreFixture) {
    for state in [State::Pending, State::Running, State::Done] {
        let id = fixture.job_in(state, job(state.word())).await;
        let before = fixture.get(id).await;
        assert_eq!(fixture.store.retry(&[id]).await.unwrap(), [ActionAnswer::Refused(state)]);
        assert_eq!(fixture.get(id).await, before);
    }
}

async fn a_job_that_is_retried_again_and_again_never_repeats_a_run_no(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
    let session = fixture.session("w").await;
    for run_no in 1..=6 {
        let leased = session.acquire_when_due().await;
        assert_eq!((leased.job.run_no, leased.job.attempts_used), (run_no, 1));
        if run_no % 3 == 0 {
            fixture.store.cancel(&[id], "").await.unwrap();
        } else {
            session.fail(leased.lease, "no").await;
        }
        fixture.store.retry(&[id]).await.unwrap();
    }
    let retried = fixture.outcomes(id).await.iter().filter(|(_, outcome)| *outcome == AttemptOutcome::Retried).count();
    assert_eq!(retried, 6);
}

async fn a_job_retried_while_an_old_lease_is_around_stays_fenced(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 1, ..job("w") }).await;
    let session = fixture.session("w").await;
    let old = session.acquire_one().await.lease;
    session.fail(old, "no").await;
    fixture.store.retry(&[id]).await.unwrap();
    assert_eq!(session.complete(old).await, SettleAnswer::Stale);
    let new = session.acquire_one().await.lease;
    assert_eq!(session.complete(old).await, SettleAnswer::Stale);
    assert_eq!(fixture.state(id).await, State::Running);
    assert_eq!(session.complete(new).await, SettleAnswer::Accepted(State::Done));
}

async fn deleting_a_finished_job_leaves_nothing_of_it(fixture: &StoreFixture) {
    for state in [State::Done, State::Failed, State::Cancelled] {
        let worker_id = state.word();
        let id = fixture.job_in(state, keyed(worker_id, "k", 1)).await;
        assert_eq!(fixture.store.delete(&[id]).await.unwrap(), [yes(worker_id)]);
        assert_eq!(fixture.find(id).await, None);
        assert_eq!(fixture.attempts(id).await, []);
        assert_eq!(fixture.tally(worker_id).await, [0; 5]);
        assert_eq!(fixture.store.delete(&[id]).await.unwrap(), [ActionAnswer::NotFound]);
        assert_eq!(fixture.store.retry(&[id]).await.unwrap(), [ActionAnswer::NotFound]);
        // The job's key is free, for another request too.
        assert_ne!(fixture.submit(keyed(worker_id, "k", 2)).await, id);
    }
}

async fn only_finished_jobs_can_be_deleted(fixture: &StoreFixture) {
    for state in [State::Pending, State::Running] {
        let id = fixture.job_in(state, job(state.word())).await;
        let before = fixture.get(id).await;
        assert_eq!(fixture.store.delete(&[id]).await.unwrap(), [ActionAnswer::Refused(state)]);
        assert_eq!(fixture.get(id).await, before);
    }
}

async fn what_does_not_exist_is_not_found(fixture: &StoreFixture) {
    let ids = [Uuid::nil(), Uuid::max(), Uuid::now_v7()];
    assert_eq!(
        fixture.store.cancel(&ids, "").await.unwrap(),
        [ActionAnswer::NotFound, ActionAnswer::NotFound, ActionAnswer::NotFound]
    );
    assert_eq!(
        fixture.store.retry(&ids).await.unwrap(),
        [ActionAnswer::NotFound, ActionAnswer::NotFound, ActionAnswer::NotFound]
    );
    assert_eq!(
        fixture.store.delete(&ids).await.unwrap(),
        [ActionAnswer::NotFound, ActionAnswer::NotFound, ActionAnswer::NotFound]
    );
    assert_eq!(fixture.store.get(&ids).await.unwrap(), [None, None, None]);
    assert_eq!(fixture.attempts(ids[2]).await, []);
    assert_eq!(fixture.store.cancel(&[], "").await.unwrap(), []);
    assert_eq!(fixture.store.retry(&[]).await.unwrap(), []);
    assert_eq!(fixture.store.delete(&[]).await.unwrap(), []);
    assert_eq!(fixture.store.get(&[]).await.unwrap(), []);
}

async fn many_are_moved_at_once_each_by_itself(fixture: &StoreFixture) {
    use ActionAnswer::{NotFound, Refused};
    use State::{Cancelled, Done, Failed, Pending, Running};
    let mut ids = Vec::new();
    for state in State::ALL {
        ids.push(fixture.job_in(state, job(state.word())).await);
    }
    ids.insert(2, Uuid::now_v7());
    ids.reverse();
    let cancelled = fixture.store.cancel(&ids, "").await.unwrap();
    let holder = fixture.sessions(Some("running")).await[0].session_id;
    let taken = ActionAnswer::Done { worker_id: "running".to_owned(), stopped: Some(holder) };
    assert_eq!(cancelled, [Refused(Cancelled), Refused(Failed), Refused(Done), NotFound, taken, yes("pending")]);
    let retried = fixture.store.retry(&ids).await.unwrap();
    assert_eq!(retried, [yes("cancelled"), yes("failed"), Refused(Done), NotFound, yes("running"), yes("pending")]);
    let deleted = fixture.store.delete(&ids).await.unwrap();
    assert_eq!(
        deleted,
        [Refused(Pending), Refused(Pending), yes("done"), NotFound, Refused(Pending), Refused(Pending)]
    );
    fixture.session("running").await.acquire_one().await;
    assert_eq!(fixture.store.retry(&ids[4..5]).await.unwrap(), [Refused(Running)]);
}

async fn an_id_that_is_given_twice_is_moved_once(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let answers = fixture.store.cancel(&[id, id], "").await.unwrap();
    assert_eq!(answers.len(), 2);
    assert!(answers.contains(&yes("w")), "{answers:?}");
    assert_eq!(fixture.tally("w").await, [0, 0, 0, 0, 1]);
    assert_eq!(fixture.store.retry(&[id, id]).await.unwrap().len(), 2);
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
    fixture.store.cancel(&[id], "").await.unwrap();
    assert_eq!(fixture.store.delete(&[id, id]).await.unwrap().len(), 2);
    assert_eq!(fixture.tally("w").await, [0; 5]);
    let found = fixture.store.get(&[id, id]).await.unwrap();
    assert_eq!(found, [None, None]);
}

async fn of_many_who_cancel_or_take_a_job_at_once_each_sees_one_truth(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let ids = fixture.submit_all(jobs("w", 100)).await;
    let cancels = ids.chunks(10).enumerate().map(|(n, ids)| {
        let (store, ids) = (Arc::clone(if n % 2 == 0 { &fixture.store } else { &second }), ids.to_vec());
        tokio::spawn(async move { store.cancel(&ids, "").await.unwrap() })
    });
    let mut tasks: Vec<_> = cancels.collect();
    let mut workers = Vec::new();
    for n in 0..4 {
        let session = fixture.session("w").await.on(if n % 2 == 0 { &second } else { &fixture.store });
        workers.push(tokio::spawn(async move {
            for leased in session.acquire(25).await {
                let answer = session.complete(leased.lease).await;
                assert!(matches!(answer, SettleAnswer::Accepted(State::Done) | SettleAnswer::Stale));
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let moved: Vec<_> = join_all(tasks.drain(..)).await.into_iter().flat_map(Result::unwrap).collect();
    for (id, moved) in ids.iter().zip(moved) {
        let expected = match moved {
            ActionAnswer::Done { .. } => State::Cancelled,
            ActionAnswer::Refused(State::Done) => State::Done,
            other => panic!("{other:?}"),
        };
        assert_eq!(fixture.state(*id).await, expected);
    }
}

async fn of_many_who_retry_a_job_at_once_one_does(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..5 {
        let id = fixture.job_in(State::Failed, job(&format!("w{round}"))).await;
        let racers = (0..8).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &fixture.store } else { &second });
            tokio::spawn(async move { store.retry(&[id]).await.unwrap().remove(0) })
        });
        let answers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|it| matches!(it, ActionAnswer::Done { .. })).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|it| **it == ActionAnswer::Refused(State::Pending)).count(), 7, "{answers:?}");
    }
}

async fn of_a_deletion_and_a_retry_that_race_one_wins(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..10 {
        let id = fixture.job_in(State::Failed, job(&format!("w{round}"))).await;
        let (one, other) = (Arc::clone(&fixture.store), Arc::clone(&second));
        let delete = tokio::spawn(async move { one.delete(&[id]).await.unwrap().remove(0) });
        let retry = tokio::spawn(async move { other.retry(&[id]).await.unwrap().remove(0) });
        match (delete.await.unwrap(), retry.await.unwrap()) {
            (ActionAnswer::Done { .. }, ActionAnswer::NotFound) => assert_eq!(fixture.find(id).await, None),
            (ActionAnswer::Refused(State::Pending), ActionAnswer::Done { .. }) => {
                assert_eq!(fixture.state(id).await, State::Pending);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The audit at the end of each scenario checks the leftovers, too.
async fn refusals_beside_a_deletion_leave_nothing_of_the_job(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let session = fixture.session("w").await;
    let late = session.on(&second);
    for round in 0..40 {
        let ids = fixture.submit_all(jobs("w", 10)).await;
        let leases: Vec<_> = session.acquire(10).await.into_iter().map(|it| it.lease).collect();
        for lease in &leases {
            session.complete(*lease).await;
        }
        // Other outcomes of the same leases, and progress reports: all are refused, and recorded while the job exists.
        let refused: Vec<_> =
            leases.iter().map(|lease| late.settlement(*lease, Ending::Release { no_handler: false })).collect();
        let (deleter, settler) = (Arc::clone(&fixture.store), Arc::clone(&second));
        let all = ids.clone();
        let delete = tokio::spawn(async move { deleter.delete(&all).await });
        let settle = tokio::spawn(async move { settler.settle(&refused).await });
        let progress = join_all(leases.iter().map(|lease| late.progress(*lease, "late"))).await;
        assert!(progress.iter().all(|accepted| !accepted), "{round}");
        assert!(settle.await.unwrap().unwrap().iter().all(|it| *it == SettleAnswer::Stale), "{round}");
        assert!(delete.await.unwrap().unwrap().iter().all(|it| matches!(it, ActionAnswer::Done { .. })), "{round}");
        assert_eq!(fixture.store.audit().await.unwrap(), Vec::<String>::new(), "{round}");
    }
}
