//! Batched acquires: each session gets the jobs that it would get alone.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::join_all;
use jobqueue_shared::limits;
use jobqueue_store::{Acquire, Acquired, Leased, NewJob, Start, Store};
use jobqueue_tests::{database::Driver, poll::eventually};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs},
};

scenarios!(
    each_gets_the_first_jobs_of_its_own_worker_id,
    who_gets_nothing_takes_nothing_from_the_others,
    a_lost_answer_comes_again,
    those_of_one_worker_id_share_its_jobs,
    large_payloads_are_shared_out_and_each_gets_at_least_one,
    groups_that_race_give_each_job_once,
    once_a_pause_has_answered_only_the_others_of_a_group_get_jobs,
);

fn asks(session: &Session, worker_id: &str, acquire_no: u32, max_jobs: u32) -> Acquire {
    Acquire { session_id: session.id, worker_id: Some(worker_id.to_owned()), acquire_no, max_jobs }
}

/// Batched acquire with one answer for each request; a request without an answer is made alone.
async fn together(store: &dyn Store, requests: &[Acquire]) -> Vec<Acquired> {
    let answers = store.acquire_all(requests).await.unwrap();
    assert_eq!(answers.len(), requests.len());
    let mut all = Vec::new();
    for (request, answer) in requests.iter().zip(answers) {
        all.push(match answer {
            Some(answer) => answer,
            None => store.acquire(request).await.unwrap(),
        });
    }
    all
}

fn leased(answer: &Acquired) -> (&str, &[Leased], Option<i64>) {
    match answer {
        Acquired::Jobs { worker_id, jobs, next_run_at_ms } => (worker_id, jobs, *next_run_at_ms),
        other => panic!("{other:?}"),
    }
}

fn ids(jobs: &[Leased]) -> Vec<Uuid> {
    jobs.iter().map(|leased| leased.job.id).collect()
}

async fn each_gets_the_first_jobs_of_its_own_worker_id(fixture: &StoreFixture) {
    let large = format!("\"{}\"", "x".repeat(10_000));
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for n in 0..12_u8 {
        let worker_id = format!("w{n}");
        let mut new = Vec::new();
        for priority in [9, n % 10, 0] {
            new.extend(vec![NewJob { priority, ..job(&worker_id) }; 30]);
            new.push(NewJob { priority, payload: large.clone(), ..job(&worker_id) });
        }
        new.push(NewJob { start: Start::After { delay_ms: HOUR_MS }, priority: 0, ..job(&worker_id) });
        let all = fixture.submit_all(new.clone()).await;
        let mut due: Vec<_> = all.into_iter().zip(&new).filter(|(_, new)| new.start == Start::Now).collect();
        due.sort_by_key(|(id, new)| (new.priority, *id));
        let max_jobs = u32::from(n) * 8 + 1;
        expected.push(due.into_iter().map(|(id, _)| id).take(max_jobs as usize).collect::<Vec<_>>());
        let session = fixture.session(&worker_id).await;
        requests.push(asks(&session, &worker_id, 1, max_jobs));
    }
    // The second round uses the scan cursors and the session quotas that the first one has made known.
    let mut seen = HashSet::new();
    for acquire_no in [1, 2] {
        let requests: Vec<_> = requests.iter().map(|request| Acquire { acquire_no, ..request.clone() }).collect();
        for ((request, answer), expected) in
            requests.iter().zip(together(&*fixture.store, &requests).await).zip(&expected)
        {
            let (worker_id, jobs, _) = leased(&answer);
            assert_eq!(Some(worker_id), request.worker_id.as_deref());
            for leased in jobs {
                assert_eq!((leased.job.session_id, leased.job.attempts_used), (Some(request.session_id), 1));
                assert_eq!(leased.job.worker_id, worker_id);
                assert!(seen.insert(leased.job.id));
                assert_eq!(fixture.get(leased.job.id).await, leased.job);
            }
            if acquire_no == 1 {
                assert_eq!(&ids(jobs), expected);
            }
        }
    }
}

async fn who_gets_nothing_takes_nothing_from_the_others(fixture: &StoreFixture) {
    let mut requests = HashMap::new();
    for worker_id in ["empty", "ended", "first", "full", "later", "last", "paused", "repeats", "unknown"] {
        fixture.submit_all(jobs(worker_id, if worker_id == "empty" || worker_id == "later" { 0 } else { 3 })).await;
        let session = fixture.session(worker_id).await;
        requests.insert(worker_id, (asks(&session, worker_id, 99, 10), session));
    }
    let later = fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("later") }).await;
    fixture.store.pause("paused", "").await.unwrap();
    fixture.store.end_session(requests["ended"].0.session_id).await.unwrap();
    requests.get_mut("unknown").unwrap().0.session_id = Uuid::from_u128(7);
    let before = fixture.store.acquire(&requests["repeats"].0).await.unwrap();
    fixture.submit_all(jobs("full", limits::JOBS_PER_SESSION as usize)).await;
    let full = &requests["full"].1;
    while let Acquired::Jobs { .. } = full.acquire_any(1_000).await {}

    let mut names: Vec<_> = requests.keys().copied().collect();
    names.sort_unstable();
    let all: Vec<_> = names.iter().map(|name| requests[name].0.clone()).collect();
    let answers: HashMap<_, _> = names.iter().copied().zip(together(&*fixture.store, &all).await).collect();
    for name in ["first", "last"] {
        assert_eq!(leased(&answers[name]).1.len(), 3, "{name}");
    }
    for name in ["empty", "paused"] {
        let (worker_id, jobs, next_run_at_ms) = leased(&answers[name]);
        assert_eq!((worker_id, jobs.len(), next_run_at_ms), (name, 0, None));
    }
    assert_eq!(leased(&answers["later"]).2, Some(fixture.get(later).await.run_at_ms));
    assert_eq!(ids(leased(&answers["repeats"]).1), ids(leased(&before).1));
    assert!(matches!(answers["full"], Acquired::SessionFull));
    for name in ["ended", "unknown"] {
        assert!(matches!(answers[name], Acquired::NoSession), "{name}");
        assert_eq!(fixture.tally(name).await, [3, 0, 0, 0, 0]);
    }
}

async fn a_lost_answer_comes_again(fixture: &StoreFixture) {
    let mut requests = Vec::new();
    for worker_id in ["a", "b", "c"] {
        fixture.submit_all(jobs(worker_id, 100)).await;
        requests.push(asks(&fixture.session(worker_id).await, worker_id, 1, 70));
    }
    let leases = |answers: &[Acquired]| -> Vec<_> {
        answers.iter().flat_map(|answer| leased(answer).1).map(|leased| leased.lease).collect()
    };
    let first = leases(&together(&*fixture.store, &requests).await);
    assert_eq!(first.len(), 210);
    let second = fixture.second_store().await;
    assert_eq!(leases(&together(&*second, &requests).await), first);
    assert_eq!(leases(&together(&*fixture.store, &requests).await), first);
    assert_eq!(fixture.tally("b").await, [30, 70, 0, 0, 0]);
}

async fn those_of_one_worker_id_share_its_jobs(fixture: &StoreFixture) {
    let all = fixture.submit_all(jobs("w", 100)).await;
    let (one, other) = (fixture.session("w").await, fixture.session("w").await);
    let unknown = Acquire { worker_id: None, ..asks(&other, "w", 8, 15) };
    let requests = [asks(&one, "w", 1, 10), asks(&other, "w", 1, 20), asks(&one, "w", 2, 30), unknown];
    let answers = together(&*fixture.store, &requests).await;
    let mut taken = Vec::new();
    for (answer, request) in answers.iter().zip(&requests) {
        let (_, jobs, _) = leased(answer);
        assert_eq!(jobs.len(), request.max_jobs as usize);
        taken.extend(ids(jobs));
    }
    taken.sort_unstable();
    assert_eq!(taken, all[..75]);
}

async fn large_payloads_are_shared_out_and_each_gets_at_least_one(fixture: &StoreFixture) {
    let large = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    let mut requests = Vec::new();
    for n in 0..6 {
        let worker_id = format!("w{n}");
        fixture.submit_all(vec![NewJob { payload: large.clone(), ..job(&worker_id) }; 3]).await;
        requests.push(asks(&fixture.session(&worker_id).await, &worker_id, 1, 10));
    }
    for acquire_no in 1..=3 {
        let requests: Vec<_> = requests.iter().map(|request| Acquire { acquire_no, ..request.clone() }).collect();
        for answer in fixture.store.acquire_all(&requests).await.unwrap() {
            assert_eq!(leased(&answer.unwrap()).1.len(), 1);
        }
    }
}

async fn groups_that_race_give_each_job_once(fixture: &StoreFixture) {
    let stores = [fixture.store.clone(), fixture.second_store().await];
    let worker_ids: Vec<_> = (0..10).map(|n| format!("w{n}")).collect();
    let mut all = HashSet::new();
    for worker_id in &worker_ids {
        all.extend(fixture.submit_all(jobs(worker_id, 60)).await);
    }
    let mut groups = Vec::new();
    for n in 0..6 {
        let mut requests = Vec::new();
        for worker_id in &worker_ids {
            requests.push(asks(&fixture.session(worker_id).await, worker_id, 0, 7));
        }
        // Each group lists the worker_ids in another order.
        requests.rotate_left(n);
        let store = stores[n % 2].clone();
        groups.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for acquire_no in 1..=30 {
                let requests: Vec<_> = requests.iter().map(|it| Acquire { acquire_no, ..it.clone() }).collect();
                for (answer, request) in together(&*store, &requests).await.iter().zip(&requests) {
                    let (worker_id, jobs, _) = leased(answer);
                    assert!(jobs.len() <= 7 && Some(worker_id) == request.worker_id.as_deref());
                    taken.extend(ids(jobs));
                }
            }
            taken
        }));
    }
    let mut taken = Vec::new();
    for group in join_all(groups).await {
        taken.extend(group.unwrap());
    }
    let count = taken.len();
    assert_eq!((count, taken.into_iter().collect::<HashSet<_>>()), (all.len(), all));
}

async fn once_a_pause_has_answered_only_the_others_of_a_group_get_jobs(fixture: &StoreFixture) {
    let stores = [fixture.store.clone(), fixture.second_store().await];
    fixture.submit_all(jobs("paused", 1_000)).await;
    fixture.submit_all(jobs("other", 3_000)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for n in 0..4 {
        let (store, stop) = (stores[n % 2].clone(), Arc::clone(&stop));
        let sessions = [("paused", fixture.session("paused").await), ("other", fixture.session("other").await)];
        workers.push(tokio::spawn(async move {
            let mut acquire_no = 0;
            while !stop.load(Ordering::Relaxed) {
                acquire_no += 1;
                let requests: Vec<_> =
                    sessions.iter().map(|(worker_id, session)| asks(session, worker_id, acquire_no, 1)).collect();
                together(&*store, &requests).await;
            }
        }));
    }
    let running = async |worker_id: &str, least: u64| {
        eventually("jobs run", async || (fixture.tally(worker_id).await[1] >= least).then_some(())).await;
    };
    running("paused", 20).await;
    fixture.store.pause("paused", "").await.unwrap();
    let at_the_pause = fixture.tally("paused").await;
    assert!(at_the_pause[0] > 0, "nothing is left that could be handed out: {at_the_pause:?}");
    running("other", fixture.tally("other").await[1] + 20).await;
    assert_eq!(fixture.tally("paused").await, at_the_pause);
    stop.store(true, Ordering::Relaxed);
    for worker in join_all(workers).await {
        worker.unwrap();
    }
}

/// The session is locked as by rescue, a pause or a slow call under the same number.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_locked_does_not_hold_up_those_that_ask_with_it() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    let mut asked = Vec::new();
    for worker_id in ["free", "locked"] {
        fixture.submit_all(jobs(worker_id, 30)).await;
        let session_id = fixture.session(worker_id).await.id;
        asked.push(Acquire { session_id, worker_id: Some(worker_id.to_owned()), acquire_no: 0, max_jobs: 1 });
    }
    let key = asked[1].session_id.as_u64_pair().0.cast_signed();
    let locks = [
        format!("SELECT id FROM sessions WHERE id = '{}' FOR UPDATE", asked[1].session_id),
        format!("SELECT pg_advisory_xact_lock({key})"),
        format!("SELECT pg_advisory_xact_lock({}, 3)", key as i32),
    ];
    let mut holder = PgConnection::connect(fixture.database.url()).await.unwrap();
    for (lock, acquire_no) in locks.into_iter().zip(1..) {
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {lock}"))).execute(&mut holder).await.unwrap();
        let requests: Vec<_> = asked.iter().map(|it| Acquire { acquire_no, ..it.clone() }).collect();
        let answers = fixture.store.acquire_all(&requests).await.unwrap();
        let [Some(Acquired::Jobs { jobs, .. }), None] = &answers[..] else { panic!("{lock}: {answers:?}") };
        assert_eq!(jobs.len(), 1, "{lock}");
        sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
        let Acquired::Jobs { jobs, .. } = fixture.store.acquire(&requests[1]).await.unwrap() else { panic!() };
        assert_eq!(jobs.len(), 1, "{lock}");
    }
    holder.close().await.unwrap();
    fixture.check().await;
    fixture.close().await;
}
