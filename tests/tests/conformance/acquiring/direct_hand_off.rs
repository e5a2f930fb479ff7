//! Direct hand-offs: new jobs that are leased by the transaction that stores them.

use futures::future::join_all;
use jobqueue_shared::{limits, state::State};
use jobqueue_store::{
    Acquired, HandOff, IdempotencyKey, Inserted, Leased, NewJob, Start, Store, Stored, Unit, UnitAnswer,
};
use jobqueue_tests::database::Driver;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::{
    drivers::postgres::waits_for,
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs},
};

scenarios!(
    what_is_offered_is_leased_as_by_an_acquire,
    what_is_not_offered_is_pending,
    an_offer_to_who_may_not_have_it_is_not_taken,
    an_offer_under_a_number_that_has_jobs_is_not_taken,
    two_offers_under_one_number_are_one,
    nobody_is_offered_more_than_a_session_holds,
    a_job_that_was_offered_times_out_as_any,
    a_job_with_a_key_is_handed_over_by_the_submit_that_wins_it,
    offers_and_acquires_give_each_job_once,
    once_a_pause_has_answered_no_offer_is_taken,
);

fn offer(session: &Session, acquire_no: u32, jobs: impl IntoIterator<Item = (usize, usize)>) -> HandOff {
    HandOff { session_id: session.id, worker_id: "w".into(), acquire_no, jobs: jobs.into_iter().collect() }
}

fn units(jobs: usize) -> [Unit; 1] {
    [Unit { jobs: vec![job("w"); jobs] }]
}

/// Session whose first acquire found no job; the acquire has made its session quota known to the store.
async fn waiting(fixture: &StoreFixture) -> Session {
    let session = fixture.session("w").await;
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

async fn insert(store: &dyn Store, units: &[Unit], offers: &[HandOff]) -> Inserted {
    let inserted = store.insert(units, offers).await.unwrap();
    assert_eq!((inserted.answers.len(), inserted.handed.len()), (units.len(), offers.len()));
    inserted
}

async fn what_is_offered_is_leased_as_by_an_acquire(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let mine = NewJob {
        task: "email".into(),
        payload: "{\"to\":\"you\"}".into(),
        priority: 2,
        attempt_timeout_ms: Some(HOUR_MS),
        ..job("w")
    };
    let units = [Unit { jobs: vec![mine, job("w")] }, Unit { jobs: vec![job("w")] }];
    let before = fixture.earliest_ms().await;
    let inserted = insert(&*fixture.store, &units, &[offer(&session, 2, [(1, 0), (0, 0)])]).await;
    let ids = ids(&inserted);
    let [second, first] = &inserted.handed[0][..] else { panic!("{inserted:?}") };
    assert_eq!((second.job.id, first.job.id), (ids[2], ids[0]));
    for leased in [first, second] {
        let read = fixture.get(leased.job.id).await;
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
    assert_eq!(fixture.tally("w").await, [1, 2, 0, 0, 0]);
    // A repeated acquire under the hand-off's number returns its jobs again, in the same order.
    let Acquired::Jobs { jobs, .. } = session.acquire_numbered(2, 10).await else { panic!() };
    assert_eq!(ids_of(&jobs), [ids[2], ids[0]]);
    assert_eq!(jobs.iter().map(|it| it.lease).collect::<Vec<_>>(), [second.lease, first.lease]);
    session.complete(first.lease).await;
    session.fail_for_good(second.lease, "no").await;
    assert_eq!(fixture.states(&[ids[0], ids[2]]).await, [State::Done, State::Failed]);
    assert_eq!(session.acquire_one().await.job.id, ids[1]);
}

async fn what_is_not_offered_is_pending(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let later = NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") };
    let units = [Unit { jobs: vec![job("another"), later] }, Unit { jobs: jobs("w", 3) }];
    let inserted = insert(&*fixture.store, &units, &[offer(&session, 2, [(1, 1)])]).await;
    let ids = ids(&inserted);
    assert_eq!(ids_of(&inserted.handed[0]), [ids[3]]);
    assert_eq!(
        fixture.states(&ids).await,
        [State::Pending, State::Pending, State::Pending, State::Running, State::Pending]
    );
    assert_eq!(ids_of(&session.jobs_numbered(3, 10).await), [ids[2], ids[4]]);
}

async fn an_offer_to_who_may_not_have_it_is_not_taken(fixture: &StoreFixture) {
    let ended = waiting(fixture).await;
    fixture.store.end_session(ended.id).await.unwrap();
    let expired = waiting(fixture).await;
    let id = expired.id.simple();
    fixture
        .sql(
            &format!("UPDATE sessions SET expires_at = 1 WHERE id = x'{id}'"),
            &format!("UPDATE sessions SET expires_at = 1 WHERE id = '{id}'"),
        )
        .await;
    let of_another = fixture.session("another").await;
    assert!(of_another.acquire(1).await.is_empty());
    let unknown = ended.posing_as(Uuid::new_v4());
    let alive = waiting(fixture).await;
    let offers = [&ended, &expired, &of_another, &unknown, &alive];
    let offers: Vec<_> = offers.iter().enumerate().map(|(at, session)| offer(session, 2, [(0, at)])).collect();
    let inserted = insert(&*fixture.store, &units(5), &offers).await;
    let handed: Vec<_> = inserted.handed.iter().map(Vec::len).collect();
    assert_eq!(handed, [0, 0, 0, 0, 1]);
    assert_eq!(fixture.tally("w").await, [4, 1, 0, 0, 0]);

    fixture.store.pause("w", "").await.unwrap();
    let inserted = insert(&*fixture.store, &units(1), &[offer(&alive, 3, [(0, 0)])]).await;
    assert!(inserted.handed[0].is_empty());
    assert_eq!(fixture.tally("w").await, [5, 1, 0, 0, 0]);
    fixture.store.resume("w").await.unwrap();
    let inserted = insert(&*fixture.store, &units(1), &[offer(&alive, 3, [(0, 0)])]).await;
    assert_eq!(inserted.handed[0].len(), 1);
    assert_eq!(alive.jobs_numbered(4, 10).await.len(), 5);
}

async fn an_offer_under_a_number_that_has_jobs_is_not_taken(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let first = insert(&*fixture.store, &units(1), &[offer(&session, 2, [(0, 0)])]).await;
    let second = insert(&*fixture.store, &units(2), &[offer(&session, 2, [(0, 1)])]).await;
    assert!(second.handed[0].is_empty());
    assert_eq!(fixture.states(&ids(&second)).await, [State::Pending; 2]);
    assert_eq!(ids_of(&session.jobs_numbered(2, 10).await), ids(&first));
    assert_eq!(session.jobs_numbered(3, 10).await.len(), 2);
}

async fn two_offers_under_one_number_are_one(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let offers = [offer(&session, 2, [(0, 0)]), offer(&session, 2, [(0, 1)]), offer(&session, 3, [(0, 2)])];
    let inserted = insert(&*fixture.store, &units(3), &offers).await;
    let mut handed: Vec<_> = inserted.handed.iter().map(Vec::len).collect();
    handed[..2].sort_unstable();
    assert_eq!(handed, [0, 1, 1]);
    assert_eq!(fixture.tally("w").await, [1, 2, 0, 0, 0]);
}

async fn nobody_is_offered_more_than_a_session_holds(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let most = limits::JOBS_PER_SESSION as usize;
    fixture.submit_all(jobs("w", most - 3)).await;
    let mut held = 0;
    while held < most - 3 {
        held += session.acquire(limits::JOBS_PER_ACQUIRE).await.len();
    }
    let too_many = offer(&session, 1_000, (0..4).map(|at| (0, at)));
    assert!(insert(&*fixture.store, &units(4), &[too_many]).await.handed[0].is_empty());
    assert_eq!(session.acquire(2).await.len(), 2);
    // Jobs from hand-offs count against the session quota, too, and two offers of one group to one session together.
    let both = [offer(&session, 1_001, [(0, 0)]), offer(&session, 1_002, [(0, 1)])];
    let handed = insert(&*fixture.store, &units(2), &both).await.handed;
    assert_eq!(handed.iter().map(Vec::len).sum::<usize>(), 1, "{handed:?}");
    for acquire_no in [1_003, 1_004] {
        let inserted = insert(&*fixture.store, &units(1), &[offer(&session, acquire_no, [(0, 0)])]).await;
        assert!(inserted.handed[0].is_empty(), "{acquire_no}");
    }
}

async fn a_job_that_was_offered_times_out_as_any(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let soon = NewJob { attempt_timeout_ms: Some(5), max_retries: 0, ..job("w") };
    let inserted =
        insert(&*fixture.store, &[Unit { jobs: vec![job("w"), soon] }], &[offer(&session, 2, [(0, 0), (0, 1)])]).await;
    let ids = ids(&inserted);
    fixture.pass(inserted.handed[0][1].deadline_ms.unwrap()).await;
    fixture.store.rescue(10).await.unwrap();
    assert_eq!(fixture.states(&ids).await, [State::Running, State::Failed]);
}

async fn a_job_with_a_key_is_handed_over_by_the_submit_that_wins_it(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let keyed = |request| {
        let key = Some(IdempotencyKey { key: "k".into(), request_hash: [request; 32] });
        Unit { jobs: vec![NewJob { key, ..job("w") }] }
    };
    let first = insert(&*fixture.store, &[keyed(1)], &[offer(&session, 2, [(0, 0)])]).await;
    assert_eq!(ids_of(&first.handed[0]), ids(&first));
    assert_eq!(first.handed[0][0].job.idempotency_key.as_deref(), Some("k"));
    assert_eq!(fixture.tally("w").await, [0, 1, 0, 0, 0]);
    // A repeated request, another request under its key, and a job that has nothing to do with either.
    let units = [keyed(1), keyed(2), units(1)[0].clone()];
    let offers = [3, 4, 5].map(|acquire_no| offer(&session, acquire_no, [(acquire_no as usize - 3, 0)]));
    let again = insert(&*fixture.store, &units, &offers).await;
    assert!(matches!(again.answers[1], UnitAnswer::KeyConflict { index: 0, .. }), "{again:?}");
    assert_eq!(again.handed.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(fixture.tally("w").await, [0, 2, 0, 0, 0]);
}

async fn offers_and_acquires_give_each_job_once(fixture: &StoreFixture) {
    const JOBS: usize = 300;
    let second = fixture.second_store().await;
    let workers = [waiting(fixture).await, waiting(fixture).await];
    for session in &workers {
        assert!(session.on(&second).acquire(1).await.is_empty());
    }
    let submit = async |at: usize| {
        let store = if at.is_multiple_of(2) { &fixture.store } else { &second };
        // The number is above those of all acquires here: an acquire under the hand-off's number would return its jobs.
        let offer = offer(&workers[at % 2], 1_000_000 + at as u32, [(0, 0)]);
        let inserted = insert(&**store, &units(3), &[offer]).await;
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
    assert_eq!(fixture.tally("w").await, [0, JOBS as u64, 0, 0, 0]);
}

async fn once_a_pause_has_answered_no_offer_is_taken(fixture: &StoreFixture) {
    let session = waiting(fixture).await;
    let second = fixture.second_store().await;
    let mut running = 0;
    for round in 0..20 {
        let submit = async |at: u32| {
            let inserted =
                insert(&*fixture.store, &units(1), &[offer(&session, 100 + 10 * round + at, [(0, 0)])]).await;
            inserted.handed[0].len() as u64
        };
        let pause = async {
            second.pause("w", "").await.unwrap();
            fixture.tally("w").await[1]
        };
        let (handed, at_the_pause) = tokio::join!(join_all((0..5).map(submit)), pause);
        running += handed.into_iter().sum::<u64>();
        assert_eq!(running, at_the_pause, "handed over after the pause had answered");
        fixture.store.resume("w").await.unwrap();
    }
}

/// The hand-off was checked before the pause began, and its jobs are not stored yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_offers_that_are_under_way() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    let offer = offer(&waiting(&fixture).await, 2, [(0, 0)]);
    let mut other = fixture.postgres().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE claims IN SHARE MODE").execute(&mut other).await.unwrap();
    let (store, mut watcher) = (fixture.store.clone(), fixture.postgres().await);
    let inserting = tokio::spawn(async move { insert(&*store, &units(1), &[offer]).await });
    waits_for(&mut watcher, "relation").await;
    let store = fixture.store.clone();
    let pause = tokio::spawn(async move { store.pause("w", "").await });
    waits_for(&mut watcher, "advisory").await;
    assert!(!pause.is_finished(), "it has answered while an offer was under way");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let inserted = inserting.await.unwrap();
    pause.await.unwrap().unwrap();
    assert!(inserted.handed[0].is_empty(), "the pause was there when the jobs were stored");
    for connection in [other, watcher] {
        connection.close().await.unwrap();
    }
    fixture.check().await;
    fixture.close().await;
}

/// A hand-off waits for no acquire under its number, no pause and no end of its session, because other callers' jobs
/// are in the same group.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_waits_for_nobody() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    let mut other = fixture.postgres().await;
    for lock in ["number", "session", "row", "none"] {
        let session = waiting(&fixture).await;
        let key = session.id.as_u64_pair().0.cast_signed();
        let held = match lock {
            "number" => format!("SELECT pg_advisory_xact_lock({}, 2)", key as i32),
            "session" => format!("SELECT pg_advisory_xact_lock({key})"),
            "row" => format!("SELECT FROM sessions WHERE id = '{}' FOR UPDATE", session.id),
            _ => "SELECT".into(),
        };
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {held}"))).execute(&mut other).await.unwrap();
        let inserted = insert(&*fixture.store, &units(1), &[offer(&session, 2, [(0, 0)])]).await;
        assert_eq!(inserted.handed[0].len(), usize::from(lock == "none"), "{lock}");
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        let pending = session.jobs_numbered(3, 10).await.len();
        assert_eq!(pending, usize::from(lock != "none"), "{lock}");
    }
    other.close().await.unwrap();
    fixture.check().await;
    fixture.close().await;
}
