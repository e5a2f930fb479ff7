//! Submitted jobs are stored completely, and nothing else is stored.

use std::{collections::HashSet, sync::Arc};

use jobqueue_shared::{lease, retry::RetryPolicy, state::State};
use jobqueue_store::{NewJob, Start, Unit, UnitAnswer};

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, keyed},
};

scenarios!(
    a_submitted_job_is_pending_with_all_that_was_said_of_it,
    payloads_come_back_byte_for_byte,
    what_is_left_out_takes_the_defaults,
    ids_increase_within_a_batch_and_tell_when_it_came,
    run_at_is_counted_from_the_clock_of_the_database,
    a_conflicting_unit_does_not_fail_its_neighbours,
    nothing_to_insert_is_fine,
    every_unit_of_a_large_group_is_answered_in_its_place,
    concurrent_submits_are_each_stored_once,
);

async fn a_submitted_job_is_pending_with_all_that_was_said_of_it(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: 1_234, factor: 1.5, max_ms: 98_765, jitter: 0.25 };
    let new = NewJob {
        task: "резюме/1".to_owned(),
        priority: 0,
        start: Start::At { run_at_ms: fixture.now_ms().await + HOUR_MS },
        max_retries: 17,
        retry: Some(policy),
        attempt_timeout_ms: Some(2_500),
        ..keyed("worker-1a", "order 7", 1)
    };
    let Start::At { run_at_ms } = new.start else { unreachable!() };
    let before = fixture.earliest_ms().await;
    let id = fixture.submit(new.clone()).await;
    let after = fixture.now_ms().await;

    let found = fixture.get(id).await;
    assert_eq!((found.id, found.state), (id, State::Pending));
    assert_eq!((found.worker_id, found.task, found.payload), (new.worker_id, new.task, new.payload));
    assert_eq!((found.priority, found.max_retries, found.retry), (0, 17, policy));
    assert_eq!((found.attempt_timeout_ms, found.run_at_ms), (Some(2_500), run_at_ms));
    assert_eq!(found.idempotency_key.as_deref(), Some("order 7"));
    assert!((before..=after).contains(&found.created_at_ms), "{before} {} {after}", found.created_at_ms);
    assert!((before..=after).contains(&found.updated_at_ms), "{before} {} {after}", found.updated_at_ms);
    assert_eq!((found.run_no, found.attempts_used, found.last_error.as_str()), (0, 0, ""));
    assert_eq!((found.started_at_ms, found.finished_at_ms, found.session_id), (None, None, None));
    assert_eq!((found.failure, found.result, found.note.as_str()), (None, None, ""));
    assert_eq!((found.waits_for_handler, found.progress), (false, None));
    assert_eq!(fixture.attempts(id).await, []);
}

async fn payloads_come_back_byte_for_byte(fixture: &StoreFixture) {
    let payloads = [
        "{}".to_owned(),
        "null".to_owned(),
        " \r\n\t{ \"b\" : 1 ,\n \"a\":2 }  \n".to_owned(),
        r#"{"a":1,"a":2,"":3}"#.to_owned(),
        r#"{"n":1e400,"m":-0.0,"big":123456789012345678901234567890.10}"#.to_owned(),
        r#""\u0000\ud83d\ude00\/\\ \"""#.to_owned(),
        "\"ü € 😀 \u{2028} \u{feff} \u{10ffff} e\u{301}\"".to_owned(),
        "\"'; DROP TABLE jobs; -- $1 ? :a\"".to_owned(),
        format!("\"{}\"", "x".repeat(1024 * 1024 - 2)),
        format!("\"{}\"", "€".repeat(300_000)),
    ];
    let new = payloads.iter().map(|payload| NewJob { payload: payload.clone(), ..job("w") }).collect();
    let ids = fixture.submit_all(new).await;
    let found = fixture.store.get(&ids).await.unwrap();
    for (found, payload) in found.iter().zip(&payloads) {
        assert!(found.as_ref().unwrap().payload == *payload, "{payload:.100}");
    }
    let session = fixture.session("w").await;
    let mut leased = Vec::new();
    while leased.len() < payloads.len() {
        let jobs = session.acquire(100).await;
        assert!(!jobs.is_empty(), "{} of {} came", leased.len(), payloads.len());
        leased.extend(jobs);
    }
    for (leased, payload) in leased.iter().zip(&payloads) {
        assert!(leased.job.payload == *payload, "{payload:.100}");
    }
}

async fn what_is_left_out_takes_the_defaults(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { task: String::new(), retry: None, ..job("w") }).await;
    let found = fixture.get(id).await;
    assert_eq!((found.task.as_str(), found.retry), ("", RetryPolicy::default()));
    assert_eq!((found.attempt_timeout_ms, found.idempotency_key), (None, None));
}

async fn ids_increase_within_a_batch_and_tell_when_it_came(fixture: &StoreFixture) {
    let before = fixture.earliest_ms().await;
    let ids = fixture.submit_all(jobs("w", 500)).await;
    let after = fixture.now_ms().await;
    assert!(ids.is_sorted_by(|a, b| a < b));
    for id in &ids {
        assert_eq!(id.get_version_num(), 7);
        assert!((before..=after).contains(&lease::created_at_ms(*id)));
    }
    assert_eq!(fixture.get(ids[0]).await.created_at_ms, lease::created_at_ms(ids[0]));
    // The order of the ids is the order of the batch, in which workers acquire the jobs.
    let session = fixture.session("w").await;
    let leased: Vec<_> = session.acquire(500).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(leased, ids);
}

async fn run_at_is_counted_from_the_clock_of_the_database(fixture: &StoreFixture) {
    let before = fixture.earliest_ms().await;
    let now = fixture.submit(job("w")).await;
    let later = fixture.submit(NewJob { start: Start::After { delay_ms: 60_000 }, ..job("w") }).await;
    let past = fixture.submit(NewJob { start: Start::At { run_at_ms: before - HOUR_MS }, ..job("w") }).await;
    let at_once = fixture.submit(NewJob { start: Start::After { delay_ms: 0 }, ..job("w") }).await;
    let after = fixture.now_ms().await;
    assert!((before..=after).contains(&fixture.get(now).await.run_at_ms));
    assert!((before + 60_000..=after + 60_000).contains(&fixture.get(later).await.run_at_ms));
    assert!(fixture.get(past).await.run_at_ms <= after);
    let leased: HashSet<_> = fixture.session("w").await.acquire(10).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(leased, HashSet::from([now, past, at_once]));
}

async fn a_conflicting_unit_does_not_fail_its_neighbours(fixture: &StoreFixture) {
    let owner = fixture.submit(keyed("w", "taken", 1)).await;
    let mut conflicting = jobs("w", 3);
    conflicting[2] = keyed("w", "taken", 2);
    let units = [
        Unit { jobs: jobs("w", 2) },
        Unit { jobs: conflicting },
        Unit { jobs: vec![keyed("w", "free", 1)] },
        Unit { jobs: vec![keyed("w", "taken", 1)] },
    ];
    let answers = fixture.store.insert(&units, &[]).await.unwrap().answers;
    assert_eq!(answers.len(), 4);
    assert!(matches!(&answers[0], UnitAnswer::Stored(stored) if stored.len() == 2), "{answers:?}");
    assert_eq!(answers[1], UnitAnswer::KeyConflict { index: 2, existing: owner });
    assert!(matches!(&answers[2], UnitAnswer::Stored(stored) if !stored[0].deduplicated), "{answers:?}");
    assert!(matches!(&answers[3], UnitAnswer::Stored(stored) if stored[0].deduplicated), "{answers:?}");
    assert_eq!(fixture.tally("w").await, [4, 0, 0, 0, 0]);
}

async fn nothing_to_insert_is_fine(fixture: &StoreFixture) {
    assert_eq!(fixture.store.insert(&[], &[]).await.unwrap().answers, []);
    assert_eq!(fixture.store.counts().await.unwrap(), []);
}

async fn every_unit_of_a_large_group_is_answered_in_its_place(fixture: &StoreFixture) {
    let units: Vec<_> = (0..120)
        .map(|unit| {
            let jobs = (0..=unit % 7)
                .map(|n| NewJob { payload: format!("[{unit},{n}]"), ..job(["a", "b", "c"][(unit + n) % 3]) });
            Unit { jobs: jobs.collect() }
        })
        .collect();
    let answers = fixture.store.insert(&units, &[]).await.unwrap().answers;
    assert_eq!(answers.len(), units.len());
    for (unit, answer) in units.iter().zip(&answers) {
        let UnitAnswer::Stored(stored) = answer else { panic!("{answer:?}") };
        let ids: Vec<_> = stored.iter().map(|stored| stored.id).collect();
        let found = fixture.store.get(&ids).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|job| job.unwrap()).collect();
        let said = unit.jobs.iter().map(|job| (&job.worker_id, &job.payload));
        assert!(found.iter().map(|job| (&job.worker_id, &job.payload)).eq(said), "{found:?}");
    }
}

async fn concurrent_submits_are_each_stored_once(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let store = if task % 2 == 0 { Arc::clone(&fixture.store) } else { Arc::clone(&second) };
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..10 {
                    let new = NewJob { payload: format!("[{task},{n}]"), ..job(["a", "b"][task % 2]) };
                    let answers = store.insert(&[Unit { jobs: vec![new.clone(), new] }], &[]).await.unwrap().answers;
                    let [UnitAnswer::Stored(stored)] = &answers[..] else { panic!("{answers:?}") };
                    ids.extend(stored.iter().map(|stored| stored.id));
                }
                ids
            })
        })
        .collect();
    let mut ids = HashSet::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    assert_eq!(ids.len(), 640);
    assert_eq!((fixture.tally("a").await, fixture.tally("b").await), ([320, 0, 0, 0, 0], [320, 0, 0, 0, 0]));
}
