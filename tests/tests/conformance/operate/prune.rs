//! Pruning removes finished jobs after their retention, and nothing else.

use std::time::Duration;

use jobqueue_server::background::prune::{HOLD, Pruner};
use jobqueue_shared::state::State;
use jobqueue_store::{NewJob, Retention, Start};
use jobqueue_tests::poll::eventually;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, KEEP_NOTHING, StoreFixture, job, jobs, keyed},
};

scenarios!(
    nothing_goes_before_its_time,
    each_kind_goes_by_its_own_time,
    unfinished_jobs_never_go,
    a_key_outlives_its_finished_job_for_its_own_time,
    the_key_of_an_unfinished_job_never_goes,
    what_is_pruned_leaves_nothing_behind,
    pruning_comes_in_batches,
    a_dead_letter_that_is_retried_is_kept,
    nothing_is_pruned_for_a_while_after_the_clock_has_jumped,
);

const FOR_EVER: Retention = Retention {
    done_ms: HOUR_MS,
    cancelled_ms: HOUR_MS,
    dead_letters_ms: HOUR_MS,
    keys_ms: HOUR_MS,
    operations_ms: HOUR_MS,
};

/// Prunes until the job is gone.
async fn prune_away(fixture: &StoreFixture, retention: &Retention, id: uuid::Uuid) {
    eventually("the job is pruned", async || {
        fixture.store.prune(retention, 100).await.unwrap();
        fixture.find(id).await.is_none().then_some(())
    })
    .await;
}

async fn nothing_goes_before_its_time(fixture: &StoreFixture) {
    for state in State::ALL {
        fixture.job_in(state, keyed(state.word(), "k", 1)).await;
    }
    assert_eq!(fixture.store.prune(&FOR_EVER, 100).await.unwrap(), 0);
    for state in State::ALL {
        let mut expected = [0; 5];
        expected[state as usize] = 1;
        assert_eq!(fixture.tally(state.word()).await, expected);
    }
}

async fn each_kind_goes_by_its_own_time(fixture: &StoreFixture) {
    let mut ids = Vec::new();
    for state in State::ALL {
        ids.push(fixture.job_in(state, job(state.word())).await);
    }
    let (done, failed, cancelled) = (ids[2], ids[3], ids[4]);
    prune_away(fixture, &Retention { done_ms: 0, ..FOR_EVER }, done).await;
    assert_eq!(fixture.states(&[failed, cancelled]).await, [State::Failed, State::Cancelled]);
    prune_away(fixture, &Retention { dead_letters_ms: 0, ..FOR_EVER }, failed).await;
    assert_eq!(fixture.state(cancelled).await, State::Cancelled);
    prune_away(fixture, &Retention { cancelled_ms: 0, ..FOR_EVER }, cancelled).await;
    assert_eq!(fixture.states(&ids[..2]).await, [State::Pending, State::Running]);
}

async fn unfinished_jobs_never_go(fixture: &StoreFixture) {
    use State::{Pending, Running};
    let session = fixture.session("w").await;
    let ids = fixture.submit_all(jobs("w", 4)).await;
    let leased = session.acquire(3).await;
    session.fail(leased[0].lease, "no").await;
    session.snooze(leased[1].lease, HOUR_MS).await;
    let later = fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") }).await;
    let done = fixture.job_in(State::Done, job("done")).await;
    prune_away(fixture, &KEEP_NOTHING, done).await;
    assert_eq!(fixture.states(&ids).await, [Pending, Pending, Running, Pending]);
    assert_eq!(fixture.state(later).await, Pending);
    assert_eq!(fixture.attempts(ids[0]).await.len(), 1);
    assert_eq!(session.complete(leased[2].lease).await, jobqueue_store::SettleAnswer::Accepted(State::Done));
}

async fn a_key_outlives_its_finished_job_for_its_own_time(fixture: &StoreFixture) {
    for state in [State::Done, State::Failed, State::Cancelled] {
        let worker_id = state.word();
        let id = fixture.job_in(state, keyed(worker_id, "k", 1)).await;
        prune_away(fixture, &Retention { keys_ms: HOUR_MS, ..KEEP_NOTHING }, id).await;
        // A client that repeats its submit within the published time does not make a second job.
        let stored = fixture.submit_or_known(keyed(worker_id, "k", 1)).await;
        assert_eq!((stored.id, stored.deduplicated), (id, true), "{worker_id}");
    }
    eventually("the keys are free", async || {
        fixture.store.prune(&KEEP_NOTHING, 100).await.unwrap();
        let stored = fixture.submit_or_known(keyed("done", "k", 1)).await;
        (!stored.deduplicated).then_some(())
    })
    .await;
}

async fn the_key_of_an_unfinished_job_never_goes(fixture: &StoreFixture) {
    let pending = fixture.submit(keyed("pending", "k", 1)).await;
    let running = fixture.job_in(State::Running, keyed("running", "k", 1)).await;
    let done = fixture.job_in(State::Done, keyed("done", "k", 1)).await;
    eventually("the key of the finished job is free", async || {
        fixture.store.prune(&Retention { keys_ms: 0, ..FOR_EVER }, 100).await.unwrap();
        (fixture.submit_or_known(keyed("done", "k", 1)).await.id != done).then_some(())
    })
    .await;
    assert_eq!(fixture.submit_or_known(keyed("pending", "k", 1)).await.id, pending);
    assert_eq!(fixture.submit_or_known(keyed("running", "k", 1)).await.id, running);
    assert_eq!(fixture.state(done).await, State::Done, "the job itself is kept");
}

async fn what_is_pruned_leaves_nothing_behind(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    let ids = fixture.submit_all(vec![NewJob { max_retries: 2, ..job("w") }; 30]).await;
    for _ in 0..2 {
        let leased = session.acquire(30).await;
        for leased in leased {
            session.fail(leased.lease, "no").await;
        }
    }
    let done = fixture.submit_all(jobs("w", 10)).await;
    for leased in session.acquire(10).await {
        session.complete_with(leased.lease, "{\"sent\":true}").await;
    }
    fixture.pass(fixture.now_ms().await).await;
    while fixture.store.prune(&KEEP_NOTHING, 1_000).await.unwrap() > 0 {}
    assert_eq!(fixture.tally("w").await, [0; 5]);
    for id in ids.iter().chain(&done) {
        assert_eq!(fixture.find(*id).await, None);
        assert_eq!(fixture.attempts(*id).await, []);
    }
}

async fn pruning_comes_in_batches(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 300)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(300).await;
    let settlements: Vec<_> = leased
        .iter()
        .map(|leased| session.settlement(leased.lease, jobqueue_shared::state::Ending::Complete))
        .collect();
    fixture.store.settle(&settlements).await.unwrap();
    fixture.pass(fixture.now_ms().await).await;
    let mut left = 300;
    while left > 0 {
        let removed = fixture.store.prune(&KEEP_NOTHING, 50).await.unwrap();
        assert!(removed > 0, "{left} are left");
        fixture.check().await;
        let now_left = fixture.tally("w").await[State::Done as usize];
        // A batch may exceed its limit, because the last `done` row holds several jobs.
        assert!(now_left + 200 >= left, "{} went at once", left - now_left);
        left = now_left;
    }
    assert_eq!(fixture.store.prune(&KEEP_NOTHING, 50).await.unwrap(), 0);
}

async fn a_dead_letter_that_is_retried_is_kept(fixture: &StoreFixture) {
    let id = fixture.job_in(State::Failed, job("w")).await;
    let marker = fixture.job_in(State::Done, job("marker")).await;
    fixture.store.retry(&[id]).await.unwrap();
    prune_away(fixture, &KEEP_NOTHING, marker).await;
    let found = fixture.get(id).await;
    assert_eq!((found.state, found.attempts_used), (State::Pending, 0));
    assert_eq!(fixture.attempts(id).await.len(), 2, "its history is kept");
    let session = fixture.session("w").await;
    session.complete(session.acquire_one().await.lease).await;
    assert_eq!(fixture.state(id).await, State::Done);
}

/// Stored state of a server whose last pruning was 40 days ago by its clock, as after a start with a wrong clock.
async fn nothing_is_pruned_for_a_while_after_the_clock_has_jumped(fixture: &StoreFixture) {
    const JUMP: &str = "UPDATE pruning SET confirmed_at = confirmed_at - 3456000000";
    let id = fixture.job_in(State::Failed, job("w")).await;
    fixture.pass(fixture.now_ms().await).await;
    fixture.sql(JUMP, JUMP).await;
    let confirmed = async || fixture.store.pruning_time().await.unwrap().confirmed_ms;
    let before = confirmed().await;
    // A restart does not prove that the clock is right.
    for _ in 0..2 {
        let pruner = Pruner::new(HOLD);
        for _ in 0..2 {
            pruner.run_once(&*fixture.store, &KEEP_NOTHING).await.unwrap();
        }
    }
    assert_eq!((fixture.state(id).await, confirmed().await), (State::Failed, before));

    let pruner = Pruner::new(Duration::ZERO);
    pruner.run_once(&*fixture.store, &KEEP_NOTHING).await.unwrap();
    assert_eq!(fixture.state(id).await, State::Failed, "one look is not enough, however short the wait");
    pruner.run_once(&*fixture.store, &KEEP_NOTHING).await.unwrap();
    assert!(fixture.find(id).await.is_none() && fixture.earliest_ms().await - confirmed().await < HOUR_MS);
}
