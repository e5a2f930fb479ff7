//! A filter lists and counts exactly the jobs that match it, whatever its conditions are.

use std::collections::BTreeSet;

use jobqueue_shared::{
    limits,
    state::{Ending, FailureReason, State},
    sub_state::SubState,
};
use jobqueue_store::{Bounds, Count, JobFilter, JobRecord, ListQuery, NewJob, Span, Start};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs},
};

scenarios!(
    any_filter_lists_exactly_the_jobs_that_match_it,
    any_filter_counts_the_jobs_that_match_it,
    counts_by_worker_id_and_state_are_exact,
    a_count_of_many_jobs_by_other_fields_is_a_lower_bound,
    an_old_range_of_time_is_found_behind_many_newer_jobs,
    scheduled_jobs_are_found_behind_many_ready_ones,
    jobs_without_a_handler_are_found_among_many,
    payloads_larger_than_a_page_are_searched,
);

const WORKER_IDS: [&str; 3] = ["a", "B", "c d"];
const TASKS: [&str; 3] = ["email", "report", ""];

/// Jobs of three worker_ids in all states and kinds of pending.
async fn fill(fixture: &StoreFixture) -> Vec<JobRecord> {
    let mut all = Vec::new();
    for worker_id in WORKER_IDS {
        let new: Vec<_> = (0..50)
            .map(|n: usize| NewJob {
                task: TASKS[n % 3].to_owned(),
                priority: (n % 4) as u8,
                payload: format!(r#"{{"customer": {{"id": {}}}, "odd": {}}}"#, n % 5, n % 2 == 1),
                max_retries: 1 + (n % 2) as u32,
                start: if n % 10 == 9 { Start::After { delay_ms: HOUR_MS } } else { Start::Now },
                ..job(worker_id)
            })
            .collect();
        all.extend(fixture.submit_all(new).await);
        let session = fixture.session(worker_id).await;
        for (n, leased) in session.acquire(32).await.into_iter().enumerate() {
            let (lease, id) = (leased.lease, leased.job.id);
            let later = Ending::Fail { permanent: false, retry_after_ms: Some(HOUR_MS) };
            match n % 8 {
                0 => drop(session.complete(lease).await),
                1 => drop(session.fail_for_good(lease, "SMTP 550: no such user").await),
                2 => drop(session.end_saying(lease, later, "Timed out").await),
                3 => drop(fixture.store.cancel(&[id], "not needed").await.unwrap()),
                4 => drop(session.end(lease, Ending::Release { no_handler: true }).await),
                5 => drop(session.snooze(lease, HOUR_MS).await),
                6 => drop(session.complete_with(lease, "[1]").await),
                _ => {}
            }
        }
    }
    fixture.store.get(&all).await.unwrap().into_iter().map(Option::unwrap).collect()
}

/// Ranges that begin and end at, before or after one of `times`.
fn spans(times: &[i64]) -> impl Strategy<Value = Span> + use<> {
    let end = || option::of((select(times.to_vec()), -1_i64..=1).prop_map(|(time, off)| time + off));
    (end(), end()).prop_map(|(from_ms, before_ms)| Span { from_ms, before_ms })
}

fn bounds(max: u32) -> impl Strategy<Value = Bounds> {
    (option::of(0..=max), option::of(0..=max)).prop_map(|(min, max)| Bounds { min, max })
}

fn texts(of: &[&str]) -> impl Strategy<Value = Vec<String>> {
    let all: Vec<String> = of.iter().map(|it| (*it).to_owned()).chain(["nobody".to_owned()]).collect();
    // A request's lists are sorted.
    subsequence(all, 1..=3).prop_map(|mut it| {
        it.sort();
        it
    })
}

/// Filters of which each condition holds for some jobs of `all`. Most have few conditions.
fn filters(all: &[JobRecord]) -> impl Strategy<Value = JobFilter> {
    fn rarely<T: Clone + Default + std::fmt::Debug + 'static>(
        it: impl Strategy<Value = T> + 'static,
    ) -> impl Strategy<Value = T> {
        prop_oneof![5 => Just(T::default()), 1 => it]
    }
    let often = |it: BoxedStrategy<Vec<String>>| prop_oneof![1 => Just(Vec::new()), 1 => it];
    let created: Vec<i64> = all.iter().map(|it| it.created_at_ms).collect();
    let finished: Vec<i64> = all.iter().filter_map(|it| it.finished_at_ms).collect();
    let run_at: Vec<i64> = all.iter().map(|it| it.run_at_ms).collect();
    let sessions: Vec<_> = all.iter().filter_map(|it| it.session_id).map(Some).collect();
    let ids: Vec<Uuid> = all.iter().map(|it| it.id).chain([Uuid::from_u128(7)]).collect();
    let groups: Vec<_> = all.iter().filter_map(|it| it.error_group).map(Some).collect();
    let reasons = vec![FailureReason::Permanent, FailureReason::TimedOut];
    let errors = ["smtp 550", "Timed", "no such error"].map(str::to_owned).to_vec();
    let payload = [("customer.id", "3"), ("odd", "true"), ("customer.name", "x")];
    let payload = payload.map(|(path, value)| (path.to_owned(), value.to_owned())).to_vec();
    let states = prop_oneof![
        3 => Just(Vec::new()),
        2 => select(State::ALL.to_vec()).prop_map(SubState::of),
        2 => select(SubState::ALL.to_vec()).prop_map(|it| vec![it]),
        2 => subsequence(SubState::ALL.to_vec(), 1..=5),
    ];
    (
        (often(texts(&WORKER_IDS).boxed()), often(texts(&TASKS).boxed()), states),
        (rarely(spans(&created)), rarely(spans(&finished)), rarely(spans(&run_at))),
        (rarely(bounds(4)), rarely(bounds(2)), rarely(subsequence(reasons, 1..=2))),
        (rarely(select(errors)), rarely(select(sessions)), rarely(subsequence(ids, 1..=40)), rarely(select(groups))),
        rarely(vec(select(payload), 1..=2)),
    )
        .prop_map(
            |(
                (worker_ids, tasks, states),
                (created, finished, run_at),
                (priority, attempts, reasons),
                rest,
                payload,
            )| {
                let (error_contains, session_id, ids, error_group) = rest;
                JobFilter {
                    worker_ids,
                    tasks,
                    states,
                    created,
                    finished,
                    run_at,
                    priority,
                    attempts,
                    failure_reasons: reasons,
                    error_group,
                    error_contains,
                    session_id,
                    origin: None,
                    ids,
                    payload,
                }
            },
        )
}

/// Filters that are equal in each run.
fn generated(all: &[JobRecord], number: usize) -> Vec<JobFilter> {
    let (mut runner, filters) = (TestRunner::deterministic(), filters(all));
    (0..number).map(|_| filters.new_tree(&mut runner).unwrap().current()).collect()
}

/// Whether jobs are in the order of the list of `state`.
fn is_in_order(state: Option<State>, jobs: &[JobRecord]) -> bool {
    use std::cmp::Reverse;
    match state {
        None => jobs.is_sorted_by_key(|it| Reverse(it.id)),
        Some(State::Running) => jobs.is_sorted_by_key(|it| Reverse(it.started_at_ms)),
        Some(State::Done | State::Failed | State::Cancelled) => {
            jobs.is_sorted_by_key(|it| Reverse((it.finished_at_ms, it.id)))
        }
        // The database orders the worker_ids.
        Some(State::Pending) => jobs
            .chunk_by(|a, b| a.worker_id == b.worker_id)
            .all(|of_one| of_one.is_sorted_by_key(|it| (it.priority, it.run_at_ms, it.id))),
    }
}

async fn any_filter_lists_exactly_the_jobs_that_match_it(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    let now_ms = fixture.now_ms().await;
    let (mut found_some, mut found_none) = (0, 0);
    for (n, filter) in generated(&all, 250).into_iter().enumerate() {
        let query = ListQuery { filter: filter.clone(), page_size: [1, 3, 10, 50][n % 4], ..ListQuery::default() };
        let listed = fixture.list_all(&query).await;
        let ids: BTreeSet<_> = listed.iter().map(|it| it.id).collect();
        let expected: BTreeSet<_> = all.iter().filter(|it| filter.matches(it, now_ms)).map(|it| it.id).collect();
        assert_eq!(ids, expected, "{filter:?}");
        assert_eq!(listed.len(), ids.len(), "a job came twice: {filter:?}");
        assert!(is_in_order(filter.state(), &listed), "{filter:?}");
        *(if ids.is_empty() { &mut found_none } else { &mut found_some }) += 1;
    }
    assert!(found_some > 80 && found_none > 20, "the filters say little: {found_some} {found_none}");
}

/// Checks a count against a recount. Returns whether it claims to be exact.
fn check(count: Count, expected: usize, filter: &JobFilter) -> bool {
    let number = count.number as usize;
    assert!(if count.at_least { number <= expected } else { number == expected }, "{count:?} {expected} {filter:?}");
    !count.at_least
}

async fn any_filter_counts_the_jobs_that_match_it(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    let now_ms = fixture.now_ms().await;
    let mut exact = 0;
    for filter in generated(&all, 250) {
        let number = |filter: &JobFilter| all.iter().filter(|it| filter.matches(it, now_ms)).count();
        let alone = fixture.store.count(&filter, false).await.unwrap();
        assert!(alone.by_state.is_empty());
        let counts = fixture.store.count(&filter, true).await.unwrap();
        for count in [alone.count, counts.count] {
            exact += usize::from(check(count, number(&filter), &filter));
        }
        let states: Vec<_> = counts.by_state.iter().map(|(state, _)| *state).collect();
        assert_eq!(states, SubState::ALL);
        for (state, count) in counts.by_state {
            let of_state = JobFilter { states: vec![state], ..filter.clone() };
            check(count, number(&of_state), &of_state);
        }
    }
    assert!(exact > 250, "{exact} of 500 counts were exact");
}

async fn counts_by_worker_id_and_state_are_exact(fixture: &StoreFixture) {
    let all = fill(fixture).await;
    let now_ms = fixture.now_ms().await;
    for worker_ids in [vec![], vec!["a"], vec!["B", "c d"], vec!["nobody"]] {
        for states in [vec![], SubState::PENDING.to_vec(), vec![SubState::NoHandler, SubState::Done]]
            .into_iter()
            .chain(SubState::ALL.map(|it| vec![it]))
        {
            let worker_ids = worker_ids.iter().map(|it| (*it).to_owned()).collect();
            let filter = JobFilter { worker_ids, states, ..JobFilter::default() };
            let expected = all.iter().filter(|it| filter.matches(it, now_ms)).count();
            let counts = fixture.store.count(&filter, true).await.unwrap();
            assert!(check(counts.count, expected, &filter), "{filter:?}");
            assert!(counts.by_state.iter().all(|(_, count)| !count.at_least));
        }
    }
}

async fn a_count_of_many_jobs_by_other_fields_is_a_lower_bound(fixture: &StoreFixture) {
    let rare = NewJob { task: "rare".to_owned(), ..job("w") };
    fixture.submit(rare).await;
    fixture.submit_all(jobs("w", limits::PAGE_SCAN as usize + 500)).await;
    let of = |task| JobFilter::of(None, None, Some(task));
    let rare = fixture.store.count(&of("rare"), false).await.unwrap().count;
    assert_eq!(rare, Count { number: 0, at_least: true }, "the oldest job was not looked at");
    let common = fixture.store.count(&of("email"), false).await.unwrap().count;
    assert!(common.at_least && common.number >= 500 && common.number <= limits::PAGE_SCAN.into(), "{common:?}");
    let all = fixture.store.count(&JobFilter::default(), false).await.unwrap().count;
    assert_eq!(all, Count { number: u64::from(limits::PAGE_SCAN) + 501, at_least: false });
}

async fn an_old_range_of_time_is_found_behind_many_newer_jobs(fixture: &StoreFixture) {
    let old = fixture.submit_all(jobs("w", 2)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(2).await;
    session.fail_for_good(leased[0].lease, "no").await;
    let failed_at = fixture.get(leased[0].job.id).await.finished_at_ms.unwrap();
    fixture.pass(failed_at).await;
    let middle = Span { from_ms: None, before_ms: Some(failed_at + 1) };
    // Ids are made by the server, whose clock may be ahead of the database's by a little.
    let newest_old = old.iter().map(|id| jobqueue_shared::lease::created_at_ms(*id)).max().unwrap();
    let created = Span { from_ms: None, before_ms: Some(newest_old + 1) };
    fixture.pass(newest_old + 1).await;
    fixture.submit_all(jobs("w", limits::PAGE_SCAN as usize + 100)).await;
    let first_page = async |filter| {
        let page = fixture.store.list(&ListQuery { filter, page_size: 10, ..ListQuery::default() }).await.unwrap();
        (page.jobs.iter().map(|it| it.id).collect::<Vec<_>>(), page.next.is_some())
    };
    let (found, _) = first_page(JobFilter { created, ..JobFilter::default() }).await;
    assert!(old.iter().all(|id| found.contains(id)), "the scan began at the newest job");
    let newer = Span { from_ms: Some(newest_old + 1), before_ms: None };
    let failed = JobFilter { finished: middle, ..JobFilter::of(None, Some(State::Failed), None) };
    assert_eq!(first_page(failed).await, (vec![leased[0].job.id], false));
    let failed = JobFilter { created: newer, ..JobFilter::of(None, Some(State::Failed), None) };
    let count = fixture.store.count(&failed, false).await.unwrap().count;
    assert_eq!(count, Count { number: 0, at_least: false }, "the scan of dead letters ended at the range");
}

async fn scheduled_jobs_are_found_behind_many_ready_ones(fixture: &StoreFixture) {
    let later = NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") };
    let scheduled = fixture.submit(NewJob { priority: 9, ..later.clone() }).await;
    let of_other = fixture.submit(NewJob { worker_id: "x".to_owned(), ..later }).await;
    let ready = (0..limits::PAGE_SCAN as usize + 1_000).map(|n| NewJob { priority: (n % 10) as u8, ..job("w") });
    fixture.submit_all(ready.collect()).await;
    let filter = JobFilter { states: vec![SubState::Scheduled], ..JobFilter::default() };
    let list = ListQuery { filter, page_size: 10, ..ListQuery::default() };
    assert_eq!(fixture.list_all(&list).await.iter().map(|it| it.id).collect::<Vec<_>>(), [scheduled, of_other]);
}

async fn jobs_without_a_handler_are_found_among_many(fixture: &StoreFixture) {
    let lost = fixture.submit(NewJob { task: "unknown".to_owned(), priority: 9, ..job("w") }).await;
    let session = fixture.session("w").await;
    session.end(session.acquire_one().await.lease, Ending::Release { no_handler: true }).await;
    fixture.submit_all(jobs("w", limits::PAGE_SCAN as usize + 500)).await;
    let filter = JobFilter { states: vec![SubState::NoHandler], ..JobFilter::default() };
    let page = fixture.store.list(&ListQuery { filter, page_size: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!((page.jobs.iter().map(|it| it.id).collect::<Vec<_>>(), page.next), (vec![lost], None));
}

async fn payloads_larger_than_a_page_are_searched(fixture: &StoreFixture) {
    let large =
        |n: usize| NewJob { payload: format!(r#"{{"n": {n}, "text": "{}"}}"#, "x".repeat(900_000)), ..job("w") };
    let ids = fixture.submit_all((0..12).map(large).collect()).await;
    let filter = JobFilter { payload: vec![("n".into(), "0".into())], ..JobFilter::default() };
    let listed = fixture.list_all(&ListQuery { filter, page_size: 50, ..ListQuery::default() }).await;
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [ids[0]]);
}
