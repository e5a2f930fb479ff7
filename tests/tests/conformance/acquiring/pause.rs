//! Pauses: a paused worker_id keeps its jobs, and all other calls work as before.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use jobqueue_shared::state::State;
use jobqueue_store::{Acquired, NewJob, NewSession, Pause, SettleAnswer};

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, session},
};

scenarios!(
    a_paused_worker_id_hands_out_nothing_until_it_is_resumed,
    what_runs_ends_while_its_worker_id_is_paused,
    rescue_and_retry_go_on_while_a_worker_id_is_paused,
    a_repeated_acquire_gets_its_jobs_from_a_paused_worker_id,
    once_a_pause_has_answered_no_job_is_handed_out,
    a_pause_is_counted_with_its_worker_id,
);

async fn a_paused_worker_id_hands_out_nothing_until_it_is_resumed(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    fixture.submit(job("another")).await;
    let (paused, free) = (fixture.session("w").await, fixture.session("another").await);
    fixture.store.pause("w", "its mail server is down").await.unwrap();
    fixture.store.pause("nobody's", "").await.unwrap();
    for store in [&fixture.store, &fixture.second_store().await] {
        match paused.on(store).acquire_any(10).await {
            Acquired::Jobs { worker_id, jobs, .. } => assert_eq!((worker_id.as_str(), jobs.len()), ("w", 0)),
            other => panic!("{other:?}"),
        }
    }
    assert!(fixture.session("w").await.acquire(10).await.is_empty(), "a session that came later");
    assert_eq!(free.acquire(10).await.len(), 1);
    // Submits are accepted during a pause.
    let last = fixture.submit(NewJob { priority: 0, ..job("w") }).await;
    assert!(paused.acquire(10).await.is_empty());
    assert_eq!(fixture.tally("w").await, [4, 0, 0, 0, 0]);
    fixture.store.resume("w").await.unwrap();
    let taken: Vec<_> = paused.acquire(10).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(taken, [&[last], &ids[..]].concat());
    // Resuming a worker_id that is not paused is no error.
    fixture.store.resume("w").await.unwrap();
    fixture.store.resume("never heard of").await.unwrap();
}

async fn what_runs_ends_while_its_worker_id_is_paused(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 4)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(4).await;
    fixture.store.pause("w", "").await.unwrap();
    assert_eq!(session.complete(leased[0].lease).await, SettleAnswer::Accepted(State::Done));
    assert_eq!(session.fail(leased[1].lease, "no").await, SettleAnswer::Accepted(State::Pending));
    assert_eq!(session.release(leased[2].lease).await, SettleAnswer::Accepted(State::Pending));
    fixture.store.cancel(&[ids[3]], "").await.unwrap();
    assert_eq!(session.beat().await.unwrap().stop.len(), 1);
    assert!(session.acquire(10).await.is_empty());
    fixture.store.resume("w").await.unwrap();
    assert_eq!(session.acquire(10).await.len(), 2);
}

async fn rescue_and_retry_go_on_while_a_worker_id_is_paused(fixture: &StoreFixture) {
    let ids = fixture.submit_all(vec![NewJob { max_retries: 1, ..job("w") }; 2]).await;
    let (_, leased) = fixture.expiring_session(NewSession { slots: 1, ..session("w") }, 2).await;
    assert_eq!(leased.len(), 2);
    fixture.store.pause("w", "").await.unwrap();
    fixture.rescue_until(2, 0).await;
    assert_eq!(fixture.states(&ids).await, [State::Failed, State::Pending]);
    fixture.store.retry(&ids[..1]).await.unwrap();
    assert!(fixture.session("w").await.acquire(10).await.is_empty());
    assert_eq!(fixture.tally("w").await, [2, 0, 0, 0, 0]);
}

async fn a_repeated_acquire_gets_its_jobs_from_a_paused_worker_id(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 5)).await;
    let session = fixture.session("w").await;
    let first = match session.acquire_numbered(1, 3).await {
        Acquired::Jobs { jobs, .. } => jobs,
        other => panic!("{other:?}"),
    };
    fixture.store.pause("w", "").await.unwrap();
    let Acquired::Jobs { jobs, .. } = session.acquire_numbered(1, 3).await else { panic!() };
    let leases = |jobs: &[jobqueue_store::Leased]| jobs.iter().map(|it| it.lease).collect::<Vec<_>>();
    let (mut again, mut before) = (leases(&jobs), leases(&first));
    again.sort();
    before.sort();
    assert_eq!(again, before);
    let Acquired::Jobs { jobs, .. } = session.acquire_numbered(2, 3).await else { panic!() };
    assert!(jobs.is_empty());
}

async fn once_a_pause_has_answered_no_job_is_handed_out(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 1_000)).await;
    let store = fixture.second_store().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for n in 0..4 {
        let session = fixture.register(NewSession { lease_ms: HOUR_MS, ..session("w") }).await;
        let session = if n % 2 == 0 { session.on(&store) } else { session };
        let stop = Arc::clone(&stop);
        workers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                session.acquire(1).await;
            }
        }));
    }
    jobqueue_tests::poll::eventually("some jobs run", async || (fixture.tally("w").await[1] >= 20).then_some(())).await;
    fixture.store.pause("w", "").await.unwrap();
    let at_the_pause = fixture.tally("w").await;
    assert!(at_the_pause[0] > 0, "nothing is left that could be handed out: {at_the_pause:?}");
    let after = fixture.now_ms().await;
    fixture.pass(after + 100).await;
    assert_eq!(fixture.tally("w").await, at_the_pause);
    stop.store(true, Ordering::Relaxed);
    for worker in join_all(workers).await {
        worker.unwrap();
    }
}

async fn a_pause_is_counted_with_its_worker_id(fixture: &StoreFixture) {
    fixture.submit(job("w")).await;
    let before = fixture.now_ms().await;
    fixture.store.pause("w", "first \"€\"").await.unwrap();
    fixture.store.pause("nobody's", "").await.unwrap();
    let counts = fixture.counts("w").await;
    let Pause { at_ms, reason } = counts.paused.clone().unwrap();
    assert!((before..=fixture.now_ms().await).contains(&at_ms));
    assert_eq!((reason.as_str(), counts.pending), ("first \"€\"", 1));
    // A paused worker_id without jobs or workers is listed, so that an operator can find and resume it.
    assert_eq!(fixture.counts("nobody's").await.paused.map(|it| it.reason), Some(String::new()));
    // A new reason does not change the time of the pause.
    fixture.pass(at_ms).await;
    fixture.store.pause("w", "second").await.unwrap();
    assert_eq!(fixture.counts("w").await.paused, Some(Pause { at_ms, reason: "second".to_owned() }));
    fixture.store.resume("w").await.unwrap();
    fixture.store.resume("nobody's").await.unwrap();
    let counts = fixture.store.counts().await.unwrap();
    assert_eq!(counts.iter().map(|it| (it.worker_id.as_str(), &it.paused)).collect::<Vec<_>>(), [("w", &None)]);
}
