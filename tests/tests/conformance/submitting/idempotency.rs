//! One key, one request, one job, whatever races, rolls back or has finished.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use jobqueue_shared::state::State;
use jobqueue_store::{NewJob, Unit, UnitAnswer};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{StoreFixture, insert_on, job, keyed},
};

scenarios!(
    the_same_key_and_request_give_the_same_job,
    the_same_key_with_another_request_names_the_job_that_has_it,
    the_first_conflict_of_a_batch_is_named_by_its_index,
    keys_of_different_worker_ids_are_independent,
    one_key_twice_in_a_batch_is_one_job,
    one_key_with_two_requests_in_a_batch_stores_nothing,
    units_of_one_group_see_each_others_keys,
    the_keys_of_a_unit_that_was_refused_are_free_again,
    of_fifty_concurrent_submits_of_one_key_one_makes_the_job,
    of_many_requests_that_race_for_one_key_one_wins,
    batches_that_share_keys_in_opposite_order_do_not_block_each_other,
    a_key_holds_in_every_state_of_its_job,
    a_job_with_a_key_does_not_conflict_with_itself,
    keys_are_told_apart_byte_for_byte,
);

fn ids(answer: &UnitAnswer) -> Vec<(Uuid, bool)> {
    match answer {
        UnitAnswer::Stored(stored) => stored.iter().map(|stored| (stored.id, stored.deduplicated)).collect(),
        _ => panic!("{answer:?}"),
    }
}

async fn the_same_key_and_request_give_the_same_job(fixture: &StoreFixture) {
    let id = fixture.submit(keyed("w", "k", 1)).await;
    for _ in 0..3 {
        let stored = fixture.submit_or_known(keyed("w", "k", 1)).await;
        assert_eq!((stored.id, stored.deduplicated), (id, true));
    }
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
}

async fn the_same_key_with_another_request_names_the_job_that_has_it(fixture: &StoreFixture) {
    let existing = fixture.submit(keyed("w", "k", 1)).await;
    assert_eq!(fixture.insert(vec![keyed("w", "k", 2)]).await, UnitAnswer::KeyConflict { index: 0, existing });
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
}

async fn the_first_conflict_of_a_batch_is_named_by_its_index(fixture: &StoreFixture) {
    let mut batch: Vec<_> = (0..20).map(|n| keyed("w", &format!("new {n}"), 1)).collect();
    let existing = fixture.submit(keyed("w", "old", 1)).await;
    let other = fixture.submit(keyed("w", "a", 1)).await;
    batch[17] = keyed("w", "old", 2);
    assert_eq!(fixture.insert(batch.clone()).await, UnitAnswer::KeyConflict { index: 17, existing });
    // "a" sorts before every other key, and the conflict still names the first one of the request.
    batch[18] = keyed("w", "a", 2);
    assert_eq!(fixture.insert(batch.clone()).await, UnitAnswer::KeyConflict { index: 17, existing });
    batch[3] = keyed("w", "a", 2);
    assert_eq!(fixture.insert(batch).await, UnitAnswer::KeyConflict { index: 3, existing: other });
    assert_eq!(fixture.tally("w").await, [2, 0, 0, 0, 0]);
}

async fn keys_of_different_worker_ids_are_independent(fixture: &StoreFixture) {
    let a = fixture.submit(keyed("a", "k", 1)).await;
    let b = fixture.submit(keyed("b", "k", 2)).await;
    assert_ne!(a, b);
    assert_eq!(fixture.submit_or_known(keyed("a", "k", 1)).await.id, a);
    assert_eq!(fixture.submit_or_known(keyed("b", "k", 2)).await.id, b);
}

async fn one_key_twice_in_a_batch_is_one_job(fixture: &StoreFixture) {
    let answer = fixture.insert(vec![keyed("w", "k", 1), job("w"), keyed("w", "k", 1), keyed("w", "l", 1)]).await;
    let ids = ids(&answer);
    let flags: Vec<_> = ids.iter().map(|&(_, deduplicated)| deduplicated).collect();
    assert_eq!(flags, [false, false, true, false]);
    assert_eq!(ids[2].0, ids[0].0);
    assert_eq!(fixture.tally("w").await, [3, 0, 0, 0, 0]);
}

async fn one_key_with_two_requests_in_a_batch_stores_nothing(fixture: &StoreFixture) {
    let answer = fixture.insert(vec![keyed("w", "k", 1), job("w"), keyed("w", "k", 2)]).await;
    assert!(matches!(answer, UnitAnswer::KeyConflict { index: 2, .. }), "{answer:?}");
    assert_eq!(fixture.tally("w").await, [0; 5]);
    fixture.submit(keyed("w", "k", 3)).await;
}

async fn units_of_one_group_see_each_others_keys(fixture: &StoreFixture) {
    let unit = |request| Unit { jobs: vec![keyed("w", "k", request)] };
    let answers = fixture.store.insert(&[unit(1), unit(1), unit(2), unit(1)], &[]).await.unwrap().answers;
    let first = ids(&answers[0]);
    assert!(!first[0].1);
    assert_eq!(ids(&answers[1]), [(first[0].0, true)]);
    assert_eq!(answers[2], UnitAnswer::KeyConflict { index: 0, existing: first[0].0 });
    assert_eq!(ids(&answers[3]), [(first[0].0, true)]);
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
}

async fn the_keys_of_a_unit_that_was_refused_are_free_again(fixture: &StoreFixture) {
    let existing = fixture.submit(keyed("w", "taken", 1)).await;
    let refused = Unit { jobs: vec![keyed("w", "a", 1), keyed("w", "taken", 2), keyed("w", "b", 1)] };
    // A neighbour in the same group uses a key of the refused unit.
    let neighbour = Unit { jobs: vec![keyed("w", "a", 9)] };
    let answers = fixture.store.insert(&[refused.clone(), neighbour], &[]).await.unwrap().answers;
    assert_eq!(answers[0], UnitAnswer::KeyConflict { index: 1, existing });
    assert!(!ids(&answers[1])[0].1);
    // A later call uses another one.
    assert!(!fixture.submit_or_known(keyed("w", "b", 9)).await.deduplicated);
    assert_eq!(fixture.tally("w").await, [3, 0, 0, 0, 0]);
}

async fn of_fifty_concurrent_submits_of_one_key_one_makes_the_job(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let submits = (0..50).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &fixture.store } else { &second });
            let new = keyed("w", &key, 1);
            tokio::spawn(async move { insert_on(&*store, vec![new]).await })
        });
        let answers: Vec<_> = join_all(submits).await.into_iter().map(|answer| ids(&answer.unwrap())[0]).collect();
        assert_eq!(answers.iter().filter(|(_, deduplicated)| !deduplicated).count(), 1);
        assert_eq!(answers.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(fixture.state(answers[0].0).await, State::Pending);
    }
    assert_eq!(fixture.tally("w").await, [5, 0, 0, 0, 0]);
}

async fn of_many_requests_that_race_for_one_key_one_wins(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let submits = (0..30).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &fixture.store } else { &second });
            // A private key beside the common one shows whether a loser left something behind.
            let new = vec![keyed("w", &format!("{key} of {n}"), 1), keyed("w", &key, n)];
            tokio::spawn(async move { insert_on(&*store, new).await })
        });
        let answers: Vec<_> = join_all(submits).await.into_iter().map(Result::unwrap).collect();
        let stored: Vec<_> = answers.iter().filter(|answer| matches!(answer, UnitAnswer::Stored(_))).collect();
        assert_eq!(stored.len(), 1, "{answers:?}");
        let winner = ids(stored[0])[1].0;
        for answer in &answers {
            assert!(
                matches!(answer, UnitAnswer::Stored(_))
                    || *answer == UnitAnswer::KeyConflict { index: 1, existing: winner },
                "{answer:?}"
            );
        }
        assert_eq!(fixture.tally("w").await, [2 * (round + 1), 0, 0, 0, 0]);
    }
}

async fn batches_that_share_keys_in_opposite_order_do_not_block_each_other(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..5 {
        let submits = (0..16).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &fixture.store } else { &second });
            let mut new: Vec<_> = (0..40).map(|key| keyed("w", &format!("{round}/{key}"), 1)).collect();
            if n % 4 < 2 {
                new.reverse();
            }
            tokio::spawn(async move { insert_on(&*store, new).await })
        });
        let answers = join_all(submits).await;
        let new = answers.iter().flat_map(|answer| ids(answer.as_ref().unwrap())).filter(|(_, known)| !known).count();
        assert_eq!(new, 40);
    }
    assert_eq!(fixture.tally("w").await, [200, 0, 0, 0, 0]);
}

async fn a_key_holds_in_every_state_of_its_job(fixture: &StoreFixture) {
    for state in State::ALL {
        let worker_id = state.word();
        let id = fixture.job_in(state, keyed(worker_id, "k", 1)).await;
        let stored = fixture.submit_or_known(keyed(worker_id, "k", 1)).await;
        assert_eq!((stored.id, stored.deduplicated), (id, true), "{worker_id}");
        let other = fixture.insert(vec![keyed(worker_id, "k", 2)]).await;
        assert_eq!(other, UnitAnswer::KeyConflict { index: 0, existing: id }, "{worker_id}");
        assert_eq!(fixture.state(id).await, state);
    }
}

async fn a_job_with_a_key_does_not_conflict_with_itself(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 2, ..keyed("w", "k", 1) }).await;
    let session = fixture.session("w").await;
    for _ in 0..2 {
        let leased = session.acquire_when_due().await;
        session.fail(leased.lease, "no").await;
    }
    assert_eq!(fixture.state(id).await, State::Failed);
    fixture.store.retry(&[id]).await.unwrap();
    let leased = session.acquire_one().await;
    assert_eq!(leased.job.idempotency_key.as_deref(), Some("k"));
    session.complete(leased.lease).await;
    assert_eq!(fixture.state(id).await, State::Done);
    assert_eq!(fixture.submit_or_known(keyed("w", "k", 1)).await.id, id);
}

async fn keys_are_told_apart_byte_for_byte(fixture: &StoreFixture) {
    let keys = ["k", "K", "k ", " k", "ｋ", "é", "e\u{301}", "k\u{200b}", &"k".repeat(255)];
    let mut ids = HashSet::new();
    for key in keys {
        ids.insert(fixture.submit(keyed("w", key, 1)).await);
    }
    for key in keys {
        let stored = fixture.submit_or_known(keyed("w", key, 1)).await;
        assert!(stored.deduplicated && ids.remove(&stored.id), "{key}");
    }
}
