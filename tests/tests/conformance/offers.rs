//! New jobs that are handed over while they are stored.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use jobqueue_server::store::{
    Acquired, IdempotencyKey, Inserted, Leased, NewJob, NewSession, Offer, Start, Store, Stored, Unit, UnitAnswer,
};
use jobqueue_shared::{limits, state::State};
use uuid::Uuid;

use crate::{
    bed::{Bed, HOUR_MS, job, jobs, session},
    scenarios,
    session::Session,
};

scenarios!(
    what_is_offered_is_leased_as_by_an_acquire,
    what_is_not_offered_is_pending,
    an_offer_to_who_may_not_have_it_is_not_taken,
    an_offer_under_a_number_that_has_jobs_is_not_taken,
    two_offers_under_one_number_are_one,
    nobody_is_offered_more_than_a_session_holds,
    a_group_with_keys_hands_nothing_over,
    offers_and_acquires_give_each_job_once,
    once_a_pause_has_answered_no_offer_is_taken,
);

fn offer(session: &Session, acquire_no: u32, jobs: impl IntoIterator<Item = (usize, usize)>) -> Offer {
    Offer { session_id: session.id, worker_id: "w".into(), acquire_no, jobs: jobs.into_iter().collect() }
}

fn units(jobs: usize) -> [Unit; 1] {
    [Unit { jobs: vec![job("w"); jobs] }]
}

/// A session that has waited in vain, so that what it holds is known.
async fn waiting(bed: &Bed) -> Session {
    let session = bed.session("w").await;
    assert!(session.acquire(1).await.is_empty());
    session
}

fn ids(inserted: &Inserted) -> Vec<Uuid> {
    let stored = inserted.answers.iter().flat_map(|answer| match answer {
        UnitAnswer::Stored(stored) => stored.iter().map(|Stored { id, .. }| *id),
        other => panic!("{other:?}"),
    });
    stored.collect()
}

fn ids_of(handed: &[Leased]) -> Vec<Uuid> {
    handed.iter().map(|leased| leased.job.id).collect()
}

async fn insert(store: &dyn Store, units: &[Unit], offers: &[Offer]) -> Inserted {
    let inserted = store.insert(units, offers).await.unwrap();
    assert_eq!((inserted.answers.len(), inserted.handed.len()), (units.len(), offers.len()));
    inserted
}

async fn what_is_offered_is_leased_as_by_an_acquire(bed: &Bed) {
    let session = waiting(bed).await;
    let mine = NewJob {
        task: "email".into(),
        payload: "{\"to\":\"you\"}".into(),
        priority: 2,
        attempt_timeout_ms: Some(HOUR_MS),
        ..job("w")
    };
    let units = [Unit { jobs: vec![mine, job("w")] }, Unit { jobs: vec![job("w")] }];
    let before = bed.earliest_ms().await;
    let inserted = insert(&*bed.store, &units, &[offer(&session, 2, [(1, 0), (0, 0)])]).await;
    let ids = ids(&inserted);
    let [second, first] = &inserted.handed[0][..] else { panic!("{inserted:?}") };
    assert_eq!((second.job.id, first.job.id), (ids[2], ids[0]));
    for leased in [first, second] {
        let read = bed.get(leased.job.id).await;
        assert_eq!((leased.job.state, leased.job.run_no, leased.job.attempts_used), (State::Running, 1, 1));
        assert_eq!(
            (&read.task, &read.payload, read.priority),
            (&leased.job.task, &leased.job.payload, leased.job.priority)
        );
        assert_eq!((read.state, read.session_id), (State::Running, Some(session.id)));
        assert_eq!((read.started_at_ms, read.run_at_ms), (leased.job.started_at_ms, leased.job.run_at_ms));
        assert!(leased.job.started_at_ms.unwrap() >= before);
    }
    assert_eq!((first.job.task.as_str(), first.job.payload.as_str()), ("email", "{\"to\":\"you\"}"));
    assert_eq!((first.deadline_ms, second.deadline_ms), (first.job.started_at_ms.map(|at| at + HOUR_MS), None));
    assert_eq!(bed.tally("w").await, [1, 2, 0, 0, 0]);
    // Asked again under its number, the call gets the same, in the same order.
    let Acquired::Jobs { jobs, .. } = session.acquire_as(2, 10).await else { panic!() };
    assert_eq!(ids_of(&jobs), [ids[2], ids[0]]);
    assert_eq!(jobs.iter().map(|it| it.lease).collect::<Vec<_>>(), [second.lease, first.lease]);
    session.complete(first.lease).await;
    session.fail_for_good(second.lease, "no").await;
    assert_eq!(bed.states(&[ids[0], ids[2]]).await, [State::Done, State::Failed]);
    assert_eq!(session.acquire_one().await.job.id, ids[1]);
}

async fn what_is_not_offered_is_pending(bed: &Bed) {
    let session = waiting(bed).await;
    let later = NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") };
    let units = [Unit { jobs: vec![job("another"), later] }, Unit { jobs: jobs("w", 3) }];
    let inserted = insert(&*bed.store, &units, &[offer(&session, 2, [(1, 1)])]).await;
    let ids = ids(&inserted);
    assert_eq!(ids_of(&inserted.handed[0]), [ids[3]]);
    assert_eq!(
        bed.states(&ids).await,
        [State::Pending, State::Pending, State::Pending, State::Running, State::Pending]
    );
    assert_eq!(ids_of(&session.acquire_as_many(3, 10).await), [ids[2], ids[4]]);
}

async fn an_offer_to_who_may_not_have_it_is_not_taken(bed: &Bed) {
    let ended = waiting(bed).await;
    bed.store.end_session(ended.id).await.unwrap();
    let expired = bed.register(NewSession { lease_ms: 1, ..session("w") }).await;
    bed.pass(bed.now_ms().await + 5).await;
    let of_another = bed.session("another").await;
    let unknown = ended.posing_as(Uuid::new_v4());
    let alive = waiting(bed).await;
    let offers = [&ended, &expired, &of_another, &unknown, &alive];
    let offers: Vec<_> = offers.iter().enumerate().map(|(at, session)| offer(session, 2, [(0, at)])).collect();
    let inserted = insert(&*bed.store, &units(5), &offers).await;
    let handed: Vec<_> = inserted.handed.iter().map(Vec::len).collect();
    assert_eq!(handed, [0, 0, 0, 0, 1]);
    assert_eq!(bed.tally("w").await, [4, 1, 0, 0, 0]);

    bed.store.pause("w", "").await.unwrap();
    let inserted = insert(&*bed.store, &units(1), &[offer(&alive, 3, [(0, 0)])]).await;
    assert!(inserted.handed[0].is_empty());
    assert_eq!(bed.tally("w").await, [5, 1, 0, 0, 0]);
    bed.store.resume("w").await.unwrap();
    let inserted = insert(&*bed.store, &units(1), &[offer(&alive, 3, [(0, 0)])]).await;
    assert_eq!(inserted.handed[0].len(), 1);
    assert_eq!(alive.acquire_as_many(4, 10).await.len(), 5);
}

async fn an_offer_under_a_number_that_has_jobs_is_not_taken(bed: &Bed) {
    let session = waiting(bed).await;
    let first = insert(&*bed.store, &units(1), &[offer(&session, 2, [(0, 0)])]).await;
    let second = insert(&*bed.store, &units(2), &[offer(&session, 2, [(0, 1)])]).await;
    assert!(second.handed[0].is_empty());
    assert_eq!(bed.states(&ids(&second)).await, [State::Pending; 2]);
    assert_eq!(ids_of(&session.acquire_as_many(2, 10).await), ids(&first));
    assert_eq!(session.acquire_as_many(3, 10).await.len(), 2);
}

async fn two_offers_under_one_number_are_one(bed: &Bed) {
    let session = waiting(bed).await;
    let offers = [offer(&session, 2, [(0, 0)]), offer(&session, 2, [(0, 1)]), offer(&session, 3, [(0, 2)])];
    let inserted = insert(&*bed.store, &units(3), &offers).await;
    let mut handed: Vec<_> = inserted.handed.iter().map(Vec::len).collect();
    handed[..2].sort_unstable();
    assert_eq!(handed, [0, 1, 1]);
    assert_eq!(bed.tally("w").await, [1, 2, 0, 0, 0]);
}

async fn nobody_is_offered_more_than_a_session_holds(bed: &Bed) {
    let session = waiting(bed).await;
    let most = limits::JOBS_PER_SESSION as usize;
    bed.submit_all(jobs("w", most - 2)).await;
    let mut held = 0;
    while held < most - 2 {
        held += session.acquire(limits::JOBS_PER_ACQUIRE).await.len();
    }
    let inserted = insert(&*bed.store, &units(3), &[offer(&session, 1_000, (0..3).map(|at| (0, at)))]).await;
    assert!(inserted.handed[0].is_empty());
    let last = session.acquire_next().await;
    let inserted = insert(&*bed.store, &units(1), &[offer(&session, 1_001, [(0, 0)])]).await;
    assert!(inserted.handed[0].len() <= 1);
    session.complete(last.lease).await;
}

async fn a_group_with_keys_hands_nothing_over(bed: &Bed) {
    let session = waiting(bed).await;
    let key = Some(IdempotencyKey { key: "k".into(), request_hash: [1; 32] });
    let units = [Unit { jobs: vec![job("w")] }, Unit { jobs: vec![NewJob { key, ..job("w") }] }];
    let inserted = insert(&*bed.store, &units, &[offer(&session, 2, [(0, 0)])]).await;
    assert!(inserted.handed[0].is_empty());
    assert_eq!(session.acquire_as_many(2, 10).await.len(), 2);
}

async fn offers_and_acquires_give_each_job_once(bed: &Bed) {
    const JOBS: usize = 300;
    let second = bed.second_store().await;
    let workers = [waiting(bed).await, waiting(bed).await];
    for session in &workers {
        assert!(session.on(&second).acquire(1).await.is_empty());
    }
    let submit = async |at: usize| {
        let store = if at.is_multiple_of(2) { &bed.store } else { &second };
        let offers = workers.each_ref().map(|session| offer(session, 100 + at as u32, [(0, 0)]));
        let inserted = insert(&**store, &units(3), &offers[at % 2..=at % 2]).await;
        inserted.handed.concat()
    };
    let all = std::sync::Mutex::new(Vec::new());
    let take = async |session: &Session| {
        while all.lock().unwrap().len() < JOBS {
            let jobs = session.acquire(5).await;
            all.lock().unwrap().extend(ids_of(&jobs));
        }
    };
    let submits = async {
        for some in 0..JOBS / 3 / 4 {
            for handed in join_all((0..4).map(|at| submit(some * 4 + at))).await {
                all.lock().unwrap().extend(ids_of(&handed));
            }
        }
    };
    tokio::join!(take(&workers[0]), take(&workers[1]), submits);
    let mut all = all.into_inner().unwrap();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), JOBS);
    assert_eq!(bed.tally("w").await, [0, JOBS as u64, 0, 0, 0]);
}

async fn once_a_pause_has_answered_no_offer_is_taken(bed: &Bed) {
    let session = waiting(bed).await;
    let second = bed.second_store().await;
    for round in 0..20 {
        let paused = AtomicBool::new(false);
        let submit = async |at: u32| {
            let after = paused.load(Ordering::SeqCst);
            let inserted = insert(&*bed.store, &units(1), &[offer(&session, 100 + 10 * round + at, [(0, 0)])]).await;
            assert!(!after || inserted.handed[0].is_empty(), "handed over after the pause had answered");
        };
        let submits = async {
            for at in 0..5 {
                submit(at).await;
            }
        };
        let pause = async {
            second.pause("w", "").await.unwrap();
            paused.store(true, Ordering::SeqCst);
        };
        tokio::join!(submits, pause);
        bed.store.resume("w").await.unwrap();
    }
}
