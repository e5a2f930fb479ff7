//! Every list has the jobs that its filter names, in its order, each job once, page by page.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{JobFilter, JobRecord, ListQuery, NewJob, Start, Store, View};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs},
};

scenarios!(
    all_jobs_are_listed_newest_first,
    every_list_holds_exactly_the_jobs_of_its_filter,
    pages_of_any_size_give_the_same_list,
    pending_jobs_are_listed_in_the_order_in_which_they_are_taken,
    running_jobs_are_listed_newest_claim_first,
    finished_jobs_are_listed_newest_finish_first,
    a_listed_job_is_the_job_that_one_reads,
    jobs_that_were_there_from_the_start_are_listed_once_while_others_move,
    dead_letters_are_listed_once_while_new_ones_come,
    a_page_ends_at_three_mebibytes,
    a_basic_list_is_the_same_jobs_without_payloads_and_results,
    the_size_of_payloads_cuts_no_page_of_a_basic_list,
    a_rare_task_is_found_among_many,
    an_empty_list_is_one_empty_page,
);

fn query(page_size: u32) -> ListQuery {
    ListQuery { page_size, ..ListQuery::default() }
}

fn ids(jobs: &[JobRecord]) -> Vec<Uuid> {
    jobs.iter().map(|job| job.id).collect()
}

/// Jobs of three `worker_ids` and three tasks in all five states; some pending ones wait, some ran before.
async fn fill(fixture: &StoreFixture) -> Vec<JobRecord> {
    let mut all = Vec::new();
    for worker_id in ["a", "b", "c d"] {
        let new: Vec<_> = (0..60)
            .map(|n| NewJob {
                task: ["email", "report", ""][n % 3].to_owned(),
                priority: (n % 4) as u8,
                ..job(worker_id)
            })
            .collect();
        let submitted = fixture.submit_all(new).await;
        let session = fixture.session(worker_id).await;
        let leased = [session.acquire(20).await, session.acquire(20).await].concat();
        for (n, leased) in leased.iter().enumerate() {
            match n % 5 {
                0 => drop(session.complete(leased.lease).await),
                1 => drop(session.fail_for_good(leased.lease, "no").await),
                2 => drop(session.snooze(leased.lease, HOUR_MS).await),
                3 => drop(fixture.store.cancel(&[leased.job.id], "").await.unwrap()),
                _ => {}
            }
        }
        all.extend(submitted);
    }
    let found = fixture.store.get(&all).await.unwrap();
    found.into_iter().map(Option::unwrap).collect()
}

async fn all_jobs_are_listed_newest_first(fixture: &StoreFixture) {
    let mut expected: Vec<_> = fill(fixture).await.iter().map(|job| job.id).collect();
    expected.sort();
    expected.reverse();
    assert_eq!(ids(&fixture.list_all(&query(50)).await), expected);
}

async fn every_list_holds_exactly_the_jobs_of_its_filter(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    for worker_id in [None, Some("a"), Some("b"), Some("c d"), Some("nobody")] {
        for state in State::ALL.map(Some).into_iter().chain([None]) {
            for task in [None, Some("email"), Some("report"), Some("nothing")] {
                let list =
                    fixture.list_all(&ListQuery { filter: JobFilter::of(worker_id, state, task), ..query(7) }).await;
                let found: BTreeSet<_> = list.iter().map(|job| job.id).collect();
                let expected: BTreeSet<_> = all
                    .iter()
                    .filter(|job| worker_id.is_none_or(|it| it == job.worker_id))
                    .filter(|job| state.is_none_or(|it| it == job.state))
                    .filter(|job| task.is_none_or(|it| it == job.task))
                    .map(|job| job.id)
                    .collect();
                assert_eq!(found, expected, "{worker_id:?} {state:?} {task:?}");
                assert_eq!(list.len(), found.len(), "a job came twice: {worker_id:?} {state:?} {task:?}");
            }
        }
    }
}

async fn pages_of_any_size_give_the_same_list(fixture: &StoreFixture) {
    fill(fixture).await;
    for worker_id in [None, Some("b")] {
        for state in State::ALL.map(Some).into_iter().chain([None]) {
            let list = |page_size| ListQuery { filter: JobFilter::of(worker_id, state, None), ..query(page_size) };
            let whole = ids(&fixture.list_all(&list(500)).await);
            assert!(whole.len() >= 4, "{state:?}");
            for page_size in [1, 3, whole.len() as u32] {
                assert_eq!(ids(&fixture.list_all(&list(page_size)).await), whole, "{state:?}, pages of {page_size}");
            }
        }
    }
}

async fn pending_jobs_are_listed_in_the_order_in_which_they_are_taken(fixture: &StoreFixture) {
    let now = fixture.now_ms().await;
    let new = (0..40).map(|n| NewJob {
        priority: [5, 0, 9, 5][n % 4],
        start: Start::At { run_at_ms: now - [1_000, 5_000, 1_000][n % 3] },
        ..job("w")
    });
    fixture.submit_all(new.collect()).await;
    fixture.submit_all(jobs("another", 5)).await;
    let list = ListQuery { filter: JobFilter::of(Some("w"), Some(State::Pending), None), ..query(11) };
    let listed = ids(&fixture.list_all(&list).await);
    let session = fixture.session("w").await;
    let taken: Vec<_> = session.acquire(100).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(listed, taken);
}

async fn running_jobs_are_listed_newest_claim_first(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 30)).await;
    let session = fixture.session("w").await;
    for _ in 0..3 {
        let leased = session.acquire(10).await;
        // Claims of one millisecond have no order among themselves.
        fixture.pass(leased[0].job.started_at_ms.unwrap()).await;
    }
    for worker_id in [None, Some("w")] {
        let list = fixture
            .list_all(&ListQuery { filter: JobFilter::of(worker_id, Some(State::Running), None), ..query(4) })
            .await;
        assert_eq!(list.len(), 30);
        assert!(list.is_sorted_by_key(|job| std::cmp::Reverse(job.started_at_ms)));
    }
}

async fn finished_jobs_are_listed_newest_finish_first(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 60)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(60).await;
    for (n, leased) in leased.iter().enumerate() {
        match n % 3 {
            0 => drop(session.complete(leased.lease).await),
            1 => drop(session.fail_for_good(leased.lease, "no").await),
            _ => drop(fixture.store.cancel(&[leased.job.id], "").await.unwrap()),
        }
    }
    for state in [State::Done, State::Failed, State::Cancelled] {
        for worker_id in [None, Some("w")] {
            let list =
                fixture.list_all(&ListQuery { filter: JobFilter::of(worker_id, Some(state), None), ..query(7) }).await;
            assert_eq!(list.len(), 20);
            assert!(list.is_sorted_by_key(|job| std::cmp::Reverse(job.finished_at_ms)), "{state:?}");
        }
    }
}

async fn a_listed_job_is_the_job_that_one_reads(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    let read: HashMap<_, _> = all.into_iter().map(|job| (job.id, job)).collect();
    for state in State::ALL.map(Some).into_iter().chain([None]) {
        for job in fixture.list_all(&ListQuery { filter: JobFilter::of(None, state, None), ..query(100) }).await {
            assert_eq!(job, read[&job.id]);
        }
    }
}

/// Reads a list slowly, page by page, without any check of its own.
async fn page_through(store: &dyn Store, mut query: ListQuery) -> Vec<JobRecord> {
    let mut found = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        found.extend(page.jobs);
        let Some(next) = page.next else { return found };
        query.after = Some(next);
    }
}

async fn jobs_that_were_there_from_the_start_are_listed_once_while_others_move(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let there: Vec<_> = fixture.submit_all(vec![NewJob { max_retries: 1_000, ..job("w") }; 200]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut movers = Vec::new();
    for _ in 0..3 {
        let (store, stop, session) = (Arc::clone(&second), Arc::clone(&stop), fixture.session("w").await.on(&second));
        movers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                crate::store_fixture::insert_on(&*store, jobs("w", 2)).await;
                for (n, leased) in session.acquire(9).await.into_iter().enumerate() {
                    match n % 3 {
                        0 => drop(session.complete(leased.lease).await),
                        1 => drop(session.fail(leased.lease, "again").await),
                        _ => {}
                    }
                }
            }
        }));
    }
    for page_size in [13, 40] {
        for worker_id in [None, Some("w")] {
            let list = page_through(
                &*fixture.store,
                ListQuery { filter: JobFilter::of(worker_id, None, None), ..query(page_size) },
            )
            .await;
            let mut seen = HashSet::new();
            assert!(list.iter().all(|job| seen.insert(job.id)), "a job was listed twice");
            assert!(there.iter().all(|id| seen.contains(id)), "a job was not listed");
            assert!(list.is_sorted_by_key(|job| std::cmp::Reverse(job.id)));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for mover in movers {
        mover.await.unwrap();
    }
}

async fn dead_letters_are_listed_once_while_new_ones_come(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 300)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(300).await;
    let (first, later) = leased.split_at(100);
    for leased in first {
        session.fail_for_good(leased.lease, "no").await;
    }
    let there: HashSet<_> = first.iter().map(|leased| leased.job.id).collect();
    let coming = tokio::spawn({
        let (session, later) = (session.clone(), later.to_vec());
        async move {
            for leased in later {
                session.fail_for_good(leased.lease, "no").await;
            }
        }
    });
    while !coming.is_finished() {
        let list = page_through(
            &*fixture.store,
            ListQuery { filter: JobFilter::of(None, Some(State::Failed), None), ..query(9) },
        )
        .await;
        let mut seen = HashSet::new();
        assert!(list.iter().all(|job| seen.insert(job.id)), "a job was listed twice");
        assert!(seen.is_superset(&there), "a job was not listed");
    }
    coming.await.unwrap();
}

async fn a_basic_list_is_the_same_jobs_without_payloads_and_results(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    assert!(all.iter().all(|job| !job.payload.is_empty()));
    for state in State::ALL.into_iter().map(Some).chain([None]) {
        for task in [None, Some("email")] {
            let full = fixture.list_all(&ListQuery { filter: JobFilter::of(None, state, task), ..query(7) }).await;
            let basic = fixture
                .list_all(&ListQuery { filter: JobFilter::of(None, state, task), view: View::Basic, ..query(7) })
                .await;
            let bare = |job: JobRecord| JobRecord { payload: String::new(), result: None, ..job };
            assert!(!basic.is_empty());
            assert_eq!(basic, full.into_iter().map(bare).collect::<Vec<_>>(), "{state:?}");
        }
    }
}

async fn the_size_of_payloads_cuts_no_page_of_a_basic_list(fixture: &StoreFixture) {
    let payload = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    fixture.submit_all((0..40).map(|_| NewJob { payload: payload.clone(), ..job("w") }).collect()).await;
    let session = fixture.session("w").await;
    for leased in session.acquire(5).await {
        session.fail_for_good(leased.lease, "no").await;
    }
    for (state, number) in [(None, 40), (Some(State::Pending), 35), (Some(State::Failed), 5)] {
        let page = fixture
            .store
            .list(&ListQuery { filter: JobFilter::of(None, state, None), view: View::Basic, ..query(100) })
            .await
            .unwrap();
        assert_eq!((page.jobs.len(), page.next), (number, None), "{state:?}");
    }
}

async fn a_page_ends_at_three_mebibytes(fixture: &StoreFixture) {
    let large = NewJob { payload: format!("\"{}\"", "x".repeat(1024 * 1024 - 2)), ..job("w") };
    let mut expected = fixture.submit_all(vec![large; 8]).await;
    let session = fixture.session("w").await;
    for _ in 0..2 {
        session.complete(session.acquire(1).await[0].lease).await;
        session.fail_for_good(session.acquire(1).await[0].lease, "no").await;
    }
    expected.reverse();
    for state in [None, Some(State::Pending), Some(State::Done), Some(State::Failed)] {
        let (mut list, mut listed) = (ListQuery { filter: JobFilter::of(None, state, None), ..query(100) }, Vec::new());
        loop {
            let page = fixture.store.list(&list).await.unwrap();
            let bytes: usize = page.jobs.iter().map(|job| job.payload.len()).sum();
            assert!(bytes <= limits::REPLY_BYTES, "{bytes} bytes on a page");
            listed.extend(ids(&page.jobs));
            let Some(next) = page.next else { break };
            list.after = Some(next);
        }
        match state {
            None => assert_eq!(listed, expected),
            Some(State::Pending) => assert_eq!(listed.len(), 4),
            Some(_) => assert_eq!(listed.len(), 2),
        }
    }
}

async fn a_rare_task_is_found_among_many(fixture: &StoreFixture) {
    let rare = fixture.submit(NewJob { task: "rare".to_owned(), ..job("w") }).await;
    fixture.submit_all(jobs("w", 1_000)).await;
    let first_page = ListQuery { filter: JobFilter::of(None, None, Some("rare")), ..query(50) };
    let page = fixture.store.list(&first_page).await.unwrap();
    assert_eq!(ids(&page.jobs), [rare], "a page is not left empty while few jobs are passed over");
    fixture.submit_all(jobs("w", 5_000)).await;
    for state in [None, Some(State::Pending)] {
        let list = ListQuery { filter: JobFilter::of(None, state, Some("rare")), ..query(50) };
        assert_eq!(ids(&fixture.list_all(&list).await), [rare], "{state:?}");
    }
}

async fn an_empty_list_is_one_empty_page(fixture: &StoreFixture) {
    for state in State::ALL.map(Some).into_iter().chain([None]) {
        let page =
            fixture.store.list(&ListQuery { filter: JobFilter::of(None, state, None), ..query(50) }).await.unwrap();
        assert!(page.jobs.is_empty() && page.next.is_none());
    }
    fixture.submit_all(jobs("w", 3)).await;
    let page = fixture.store.list(&query(3)).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (3, None), "nothing follows");
}
