//! Jobs that are copies of others: their origin, and the copies of a job.

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{HandOff, JobFilter, ListQuery, NewJob, Unit, UnitAnswer};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{KEEP_NOTHING, StoreFixture, job, jobs, keyed},
};

scenarios!(
    a_copy_names_its_origin_and_the_original_its_copies,
    copies_come_newest_first_up_to_the_limit,
    copies_are_stored_beside_jobs_that_are_none,
    a_copy_can_be_handed_over,
    a_repeated_copy_is_stored_once,
    a_copy_that_is_refused_leaves_no_origin,
    the_copies_of_a_job_are_listed_and_counted_by_their_origin,
    a_copy_outlives_its_original,
    an_origin_goes_with_its_copy,
    the_audit_finds_origins_of_jobs_that_do_not_exist,
);

fn copy_of(origin: Uuid) -> NewJob {
    NewJob { origin: Some(origin), ..job("w") }
}

async fn copies(fixture: &StoreFixture, origin: Uuid) -> Vec<Uuid> {
    let found = fixture.store.copies(origin, limits::COPIES_SHOWN).await.unwrap();
    assert!(found.iter().all(|copy| copy.origin == Some(origin) && copy.payload.is_empty()), "{found:?}");
    found.iter().map(|copy| copy.id).collect()
}

async fn origins(fixture: &StoreFixture) -> i64 {
    fixture.number("SELECT count(*) FROM origins").await
}

async fn a_copy_names_its_origin_and_the_original_its_copies(fixture: &StoreFixture) {
    for state in State::ALL {
        let original = fixture.job_in(state, job(state.word())).await;
        let before = fixture.get(original).await;
        let copy = fixture.submit(NewJob { origin: Some(original), ..job("copies") }).await;
        let of_copy = fixture.submit(NewJob { origin: Some(copy), ..job("copies") }).await;
        let found = fixture.get(copy).await;
        assert_eq!((found.state, found.origin, found.run_no), (State::Pending, Some(original), 0));
        assert_eq!(copies(fixture, original).await, [copy]);
        assert_eq!(copies(fixture, copy).await, [of_copy]);
        assert!(copies(fixture, of_copy).await.is_empty());
        assert_eq!(fixture.get(original).await, before, "the original stays as it was");
        assert_eq!(before.origin, None);
    }
    // A list tells it, too.
    let query = jobqueue_store::ListQuery { page_size: 100, ..jobqueue_store::ListQuery::default() };
    let listed = fixture.list_all(&query).await;
    assert_eq!(listed.iter().filter(|job| job.origin.is_some()).count(), 2 * State::ALL.len());
}

async fn copies_come_newest_first_up_to_the_limit(fixture: &StoreFixture) {
    let [one, two] = fixture.submit_all(jobs("w", 2)).await[..] else { panic!() };
    let mut of_one = Vec::new();
    for _ in 0..5 {
        of_one.push(fixture.submit(copy_of(one)).await);
    }
    fixture.submit(copy_of(two)).await;
    of_one.reverse();
    assert_eq!(copies(fixture, one).await, of_one);
    let newest = fixture.store.copies(one, 2).await.unwrap();
    assert_eq!(newest.iter().map(|copy| copy.id).collect::<Vec<_>>(), of_one[..2]);
}

/// Units of one group; on SQLite the rows of 700 copies take several statements.
async fn copies_are_stored_beside_jobs_that_are_none(fixture: &StoreFixture) {
    let original = fixture.submit(job("w")).await;
    let units = [
        Unit { jobs: jobs("w", 3) },
        Unit { jobs: vec![copy_of(original); 700] },
        Unit { jobs: vec![keyed("w", "k", 1)] },
    ];
    let inserted = fixture.store.insert(&units, &[]).await.unwrap();
    let ids: Vec<Vec<Uuid>> = inserted
        .answers
        .iter()
        .map(|answer| match answer {
            UnitAnswer::Stored(stored) => stored.iter().map(|stored| stored.id).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(origins(fixture).await, 700);
    let mut newest = ids[1].clone();
    newest.reverse();
    newest.truncate(limits::COPIES_SHOWN as usize);
    assert_eq!(copies(fixture, original).await, newest);
    for id in [ids[0][0], ids[2][0]] {
        assert_eq!(fixture.get(id).await.origin, None);
    }
}

async fn a_copy_can_be_handed_over(fixture: &StoreFixture) {
    let original = fixture.job_in(State::Done, job("other")).await;
    let session = fixture.session("w").await;
    assert!(session.acquire(1).await.is_empty());
    let offer = HandOff { session_id: session.id, worker_id: "w".into(), acquire_no: 2, jobs: vec![(0, 0)] };
    let units = [Unit { jobs: vec![copy_of(original), job("w")] }];
    let inserted = fixture.store.insert(&units, &[offer]).await.unwrap();
    let [leased] = &inserted.handed[0][..] else { panic!("{inserted:?}") };
    let found = fixture.get(leased.job.id).await;
    assert_eq!((found.state, found.origin), (State::Running, Some(original)));
    session.complete(leased.lease).await;
    let found = fixture.get(leased.job.id).await;
    assert_eq!((found.state, found.origin), (State::Done, Some(original)));
}

async fn a_repeated_copy_is_stored_once(fixture: &StoreFixture) {
    let original = fixture.submit(job("w")).await;
    let copy = NewJob { origin: Some(original), ..keyed("w", "k", 1) };
    let first = fixture.submit(copy.clone()).await;
    let again = fixture.submit_or_known(copy).await;
    assert_eq!((again.id, again.deduplicated), (first, true));
    assert_eq!(copies(fixture, original).await, [first]);
}

async fn a_copy_that_is_refused_leaves_no_origin(fixture: &StoreFixture) {
    let existing = fixture.submit(keyed("w", "k", 1)).await;
    let copy = NewJob { origin: Some(existing), ..keyed("w", "k", 2) };
    let answer = fixture.insert(vec![copy_of(existing), copy]).await;
    assert_eq!(answer, UnitAnswer::KeyConflict { index: 1, existing });
    assert_eq!(origins(fixture).await, 0);
}

async fn the_copies_of_a_job_are_listed_and_counted_by_their_origin(fixture: &StoreFixture) {
    // The second job has more copies than are looked up by their ids.
    let [few, many] = fixture.submit_all(jobs("w", 2)).await[..] else { panic!() };
    let mut of_few = fixture.submit_all((0..5).map(|n| NewJob { priority: n, ..copy_of(few) }).collect()).await;
    of_few.push(fixture.submit(NewJob { origin: Some(few), ..job("other") }).await);
    let mut of_many = fixture.submit_all(vec![copy_of(many); 1_001]).await;
    of_few.reverse();
    of_many.reverse();
    let listed = async |filter: &JobFilter| {
        let query = ListQuery { filter: filter.clone(), page_size: 4, ..ListQuery::default() };
        fixture.list_all(&query).await.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let of = |origin| JobFilter { origin: Some(origin), ..JobFilter::default() };
    assert_eq!(listed(&of(few)).await, of_few);
    assert_eq!(listed(&of(of_few[0])).await, [] as [Uuid; 0]);
    let query = ListQuery { filter: of(many), page_size: 500, ..ListQuery::default() };
    assert_eq!(fixture.list_all(&query).await.iter().map(|job| job.id).collect::<Vec<_>>(), of_many);
    // Pending jobs of one worker_id are listed in the order in which they are leased.
    let pending = JobFilter { origin: Some(few), ..JobFilter::of(Some("w"), Some(State::Pending), None) };
    assert_eq!(listed(&pending).await, of_few[1..].iter().rev().copied().collect::<Vec<_>>());
    for (filter, number) in [(of(few), 6), (pending, 5)] {
        let counted = fixture.store.count(&filter, false).await.unwrap();
        assert_eq!((counted.count.number, counted.count.at_least), (number, false), "{filter:?}");
    }
}

async fn a_copy_outlives_its_original(fixture: &StoreFixture) {
    let original = fixture.job_in(State::Failed, job("w")).await;
    let copy = fixture.submit(copy_of(original)).await;
    fixture.store.delete(&[original]).await.unwrap();
    assert_eq!(fixture.get(copy).await.origin, Some(original));
    assert_eq!(copies(fixture, original).await, [copy]);
}

async fn an_origin_goes_with_its_copy(fixture: &StoreFixture) {
    let original = fixture.submit(job("original")).await;
    for state in [State::Done, State::Failed, State::Cancelled] {
        let new = |worker_id: &str| NewJob { origin: Some(original), ..job(worker_id) };
        let deleted = fixture.job_in(state, new(&format!("{} deleted", state.word()))).await;
        fixture.store.delete(&[deleted]).await.unwrap();
        assert_eq!(origins(fixture).await, 0, "{}", state.word());
        let pruned = fixture.job_in(state, new(&format!("{} pruned", state.word()))).await;
        jobqueue_tests::poll::eventually("the copy is pruned", async || {
            fixture.store.prune(&KEEP_NOTHING, 100).await.unwrap();
            fixture.find(pruned).await.is_none().then_some(())
        })
        .await;
        assert_eq!(origins(fixture).await, 0, "{}", state.word());
    }
    assert!(copies(fixture, original).await.is_empty());
}

async fn the_audit_finds_origins_of_jobs_that_do_not_exist(fixture: &StoreFixture) {
    let original = fixture.submit(job("w")).await;
    fixture.submit(copy_of(original)).await;
    fixture
        .sql(
            "INSERT INTO origins SELECT randomblob(16), id FROM jobs LIMIT 1",
            "INSERT INTO origins SELECT gen_random_uuid(), id FROM jobs LIMIT 1",
        )
        .await;
    assert_eq!(fixture.store.audit().await.unwrap(), ["1 origins belong to no job"]);
    let remove = "DELETE FROM origins WHERE id NOT IN (SELECT id FROM jobs)";
    fixture.sql(remove, remove).await;
}
