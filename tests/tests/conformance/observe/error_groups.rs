//! Error groups: failed attempts of one task with the same error, counted exactly.

use std::collections::BTreeMap;

use futures::future::join_all;
use jobqueue_shared::{
    limits,
    retry::RetryPolicy,
    state::{Ending, State},
};
use jobqueue_store::{
    ErrorGroup, ErrorGroupChange, ErrorGroupDetails, ErrorGroupId, ErrorGroupQuery, ErrorGroupState, ErrorOrder,
    ErrorWindow, JobFilter, ListQuery, NewErrorGroupState, NewJob, NewSession, View, error_groups::title::group,
};
use jobqueue_tests::poll::eventually;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, KEEP_NOTHING, StoreFixture, job, jobs, session},
};

scenarios!(
    failed_attempts_are_counted_by_their_error_whatever_was_folded,
    successes_write_nothing_about_errors,
    many_that_fail_at_once_are_all_counted_while_changes_are_folded_and_read,
    a_resolved_group_that_fails_again_is_regressed,
    an_ignored_group_becomes_open_at_its_time_or_count,
    notes_and_links_stay_and_an_unknown_group_is_not_found,
    dead_letters_leave_their_group_when_they_are_retried_deleted_or_pruned,
    attempts_that_time_out_and_workers_that_are_lost_have_groups,
    jobs_that_wait_for_their_next_attempt_are_counted,
    a_list_has_orders_filters_and_pages,
    the_dead_letters_of_a_group_are_listed_in_pages,
    old_slots_and_groups_are_pruned_and_dead_letters_keep_theirs,
    beyond_the_limit_the_oldest_groups_without_dead_letters_go,
    errors_without_room_are_counted_together_until_there_is_room,
);

fn id_of(task: &str, error: &str) -> ErrorGroupId {
    group(task, error).id
}

async fn groups(fixture: &StoreFixture, query: ErrorGroupQuery) -> Vec<ErrorGroup> {
    let query = ErrorGroupQuery { page_size: 100_000, ..query };
    fixture.store.error_groups(&query).await.unwrap().groups
}

async fn details(fixture: &StoreFixture, id: ErrorGroupId) -> ErrorGroupDetails {
    fixture.store.error_group(id, ErrorWindow::Hour).await.unwrap().expect("a group")
}

async fn fold(fixture: &StoreFixture) {
    while fixture.store.fold_errors(7).await.unwrap() > 0 {}
}

/// Submits a job, and fails its only attempt.
async fn fail(fixture: &StoreFixture, worker_id: &str, error: &str) -> uuid::Uuid {
    let id = fixture.submit(NewJob { max_retries: 1, ..job(worker_id) }).await;
    let session = fixture.session(worker_id).await;
    let leased = session.acquire_one().await;
    session.fail(leased.lease, error).await;
    id
}

async fn failed_attempts_are_counted_by_their_error_whatever_was_folded(fixture: &StoreFixture) {
    fixture.submit_all(jobs("a", 3)).await;
    fixture.submit_all(jobs("b", 2)).await;
    let (a, b) = (fixture.session("a").await, fixture.session("b").await);
    let before = fixture.earliest_ms().await;
    let of_a = a.acquire(3).await;
    a.fail(of_a[0].lease, "mail 17 to 'x' refused").await;
    a.fail_for_good(of_a[1].lease, "mail 4 to 'yy' refused\nat main").await;
    a.fail(of_a[2].lease, "no route").await;
    let of_b = b.acquire(2).await;
    b.fail_for_good(of_b[0].lease, "mail 2 to 'z' refused").await;
    b.complete(of_b[1].lease).await;
    let refused = id_of("email", "mail 1 to '' refused");
    for _ in 0..2 {
        let found = groups(fixture, ErrorGroupQuery::default()).await;
        let counted: BTreeMap<_, _> = found.iter().map(|it| (it.id, (it.attempts, it.dead_letters))).collect();
        assert_eq!(counted, BTreeMap::from([(refused, (3, 2)), (id_of("email", "no route"), (1, 0))]));
        assert_eq!(found[0].id, refused, "it was seen last");
        let it = details(fixture, refused).await;
        assert_eq!((it.group.task.as_str(), it.group.title.as_str()), ("email", "mail # to '…' refused"));
        assert_eq!(
            (it.group.state, it.group.worker_ids),
            (ErrorGroupState::Open, vec!["a".to_owned(), "b".to_owned()])
        );
        assert!(!it.group.more_worker_ids);
        assert_eq!(
            (it.group.counts.len(), it.group.counts.iter().sum::<u64>(), it.died.iter().sum::<u64>()),
            (60, 3, 2)
        );
        assert_eq!(it.sample.error, "mail 2 to 'z' refused");
        assert_eq!(it.sample.job_id, Some(of_b[0].job.id));
        let worker_ids: Vec<_> =
            it.worker_ids.iter().map(|w| (w.worker_id.as_str(), w.attempts, w.dead_letters)).collect();
        assert_eq!(worker_ids, [("a", 2, 1), ("b", 1, 1)]);
        let after = fixture.now_ms().await;
        assert!(before <= it.group.first_seen_ms && it.group.first_seen_ms <= it.group.last_seen_ms);
        assert!(it.group.last_seen_ms <= after && it.sample.at_ms == it.group.last_seen_ms);
        assert_eq!(fixture.get(of_a[1].job.id).await.error_group, Some(refused));
        let week = fixture.store.error_group(refused, ErrorWindow::Week).await.unwrap().unwrap();
        assert_eq!((week.group.counts.len(), week.group.counts.iter().sum::<u64>()), (168, 3));
        fold(fixture).await;
    }
}

async fn successes_write_nothing_about_errors(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 5)).await;
    let session = fixture.session("w").await;
    for leased in session.acquire(3).await {
        session.complete(leased.lease).await;
    }
    let rest = session.acquire(2).await;
    session.release(rest[0].lease).await;
    session.snooze(rest[1].lease, HOUR_MS).await;
    assert_eq!(fixture.store.fold_errors(100).await.unwrap(), 0);
    assert_eq!(groups(fixture, ErrorGroupQuery::default()).await, []);
    assert_eq!(fixture.number("SELECT count(*) FROM error_series").await, 0);
}

async fn many_that_fail_at_once_are_all_counted_while_changes_are_folded_and_read(fixture: &StoreFixture) {
    const WORKERS: usize = 6;
    const ROUNDS: usize = 15;
    let second = fixture.second_store().await;
    let error = |n: usize| format!("error of kind {}", ["x", "y", "z"][n % 3]);
    let work = async |n: usize| {
        let worker_id = format!("w{}", n % 2);
        let session = fixture.session(&worker_id).await;
        let session = if n.is_multiple_of(2) { session } else { session.on(&second) };
        for round in 0..ROUNDS {
            let leased = session.acquire(4).await;
            for (k, leased) in leased.iter().enumerate() {
                session.fail(leased.lease, &error(round + k)).await;
            }
        }
    };
    let plenty = NewJob { max_retries: 100, ..job("w0") };
    fixture.submit_all(vec![plenty.clone(); WORKERS * 4]).await;
    fixture.submit_all(vec![NewJob { worker_id: "w1".to_owned(), ..plenty }; WORKERS * 4]).await;
    let finished = std::sync::atomic::AtomicBool::new(false);
    let background = async |store: &std::sync::Arc<dyn jobqueue_store::Store>| {
        let mut seen = 0;
        while !finished.load(std::sync::atomic::Ordering::Relaxed) {
            store.fold_errors(5).await.unwrap();
            let found = groups(fixture, ErrorGroupQuery::default()).await;
            let all: u64 = found.iter().map(|it| it.attempts).sum();
            assert!(all >= seen, "{all} failed attempts after {seen}");
            seen = all;
        }
    };
    let all = async {
        join_all((0..WORKERS).map(work)).await;
        finished.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    futures::join!(all, background(&fixture.store), background(&second));
    let attempts = fixture.number("SELECT count(*) FROM attempts WHERE outcome = 1").await as u64;
    assert_eq!(attempts, (WORKERS * ROUNDS * 4) as u64);
    for folded in [false, true] {
        if folded {
            fold(fixture).await;
        }
        let found = groups(fixture, ErrorGroupQuery::default()).await;
        assert_eq!(found.len(), 3);
        for it in &found {
            let counted = details(fixture, it.id).await;
            assert_eq!(it.attempts, counted.worker_ids.iter().map(|w| w.attempts).sum::<u64>());
            assert_eq!(it.attempts, (WORKERS * ROUNDS * 4 / 3) as u64);
        }
    }
}

async fn change(fixture: &StoreFixture, id: ErrorGroupId, state: NewErrorGroupState) {
    let change = ErrorGroupChange { state: Some(state), ..ErrorGroupChange::default() };
    assert!(fixture.store.update_error_group(id, &change).await.unwrap());
}

async fn state(fixture: &StoreFixture, id: ErrorGroupId) -> ErrorGroupState {
    details(fixture, id).await.group.state
}

async fn a_resolved_group_that_fails_again_is_regressed(fixture: &StoreFixture) {
    let id = id_of("email", "refused");
    fail(fixture, "w", "refused").await;
    change(fixture, id, NewErrorGroupState::Resolved).await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Resolved);
    fold(fixture).await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Resolved, "what failed before is folded later");
    assert!(details(fixture, id).await.group.changed_at_ms.is_some());
    fail(fixture, "w", "refused").await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Regressed);
    fold(fixture).await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Regressed);
    change(fixture, id, NewErrorGroupState::Resolved).await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Resolved);
    change(fixture, id, NewErrorGroupState::Open).await;
    fail(fixture, "w", "refused").await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Open);
}

async fn an_ignored_group_becomes_open_at_its_time_or_count(fixture: &StoreFixture) {
    let id = id_of("email", "refused");
    fail(fixture, "w", "refused").await;
    change(fixture, id, NewErrorGroupState::Ignored { until_ms: None, attempts: Some(2) }).await;
    fail(fixture, "w", "refused").await;
    let it = details(fixture, id).await.group;
    assert_eq!((it.state, it.ignored_attempts, it.ignored_until_ms), (ErrorGroupState::Ignored, Some(1), None));
    fail(fixture, "w", "refused").await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Open);
    let until = fixture.now_ms().await + 200;
    change(fixture, id, NewErrorGroupState::Ignored { until_ms: Some(until), attempts: None }).await;
    fixture.pass(until).await;
    eventually("the group is open", async || (state(fixture, id).await == ErrorGroupState::Open).then_some(())).await;
    change(fixture, id, NewErrorGroupState::Ignored { until_ms: None, attempts: None }).await;
    fail(fixture, "w", "refused").await;
    assert_eq!(state(fixture, id).await, ErrorGroupState::Ignored);
}

async fn notes_and_links_stay_and_an_unknown_group_is_not_found(fixture: &StoreFixture) {
    let id = id_of("email", "refused");
    fail(fixture, "w", "refused").await;
    let note = ErrorGroupChange { note: Some("is \"known\" €".to_owned()), ..ErrorGroupChange::default() };
    assert!(fixture.store.update_error_group(id, &note).await.unwrap());
    let link = ErrorGroupChange { link: Some("https://example.org/7".to_owned()), ..ErrorGroupChange::default() };
    assert!(fixture.store.update_error_group(id, &link).await.unwrap());
    fold(fixture).await;
    change(fixture, id, NewErrorGroupState::Resolved).await;
    let it = details(fixture, id).await.group;
    assert_eq!((it.note.as_str(), it.link.as_str(), it.attempts), ("is \"known\" €", "https://example.org/7", 1));
    let unknown = ErrorGroupId(7);
    assert!(!fixture.store.update_error_group(unknown, &note).await.unwrap());
    assert_eq!(fixture.store.error_group(unknown, ErrorWindow::Day).await.unwrap(), None);
}

async fn dead_letters_leave_their_group_when_they_are_retried_deleted_or_pruned(fixture: &StoreFixture) {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(fail(fixture, "w", "refused").await);
    }
    let id = id_of("email", "refused");
    let dead_letters = async || details(fixture, id).await.group.dead_letters;
    assert_eq!(dead_letters().await, 4);
    fixture.store.retry(&ids[..1]).await.unwrap();
    assert_eq!(dead_letters().await, 3);
    fold(fixture).await;
    fixture.store.delete(&ids[1..2]).await.unwrap();
    assert_eq!(dead_letters().await, 2);
    eventually("the others are pruned", async || {
        fixture.store.prune(&KEEP_NOTHING, 100).await.unwrap();
        (dead_letters().await == 0).then_some(())
    })
    .await;
    let it = details(fixture, id).await;
    assert_eq!((it.group.attempts, it.worker_ids[0].dead_letters, it.died.iter().sum::<u64>()), (4, 0, 4));
}

async fn attempts_that_time_out_and_workers_that_are_lost_have_groups(fixture: &StoreFixture) {
    for timeout in [30, 31] {
        fixture.submit(NewJob { attempt_timeout_ms: Some(timeout), max_retries: 1, ..job("w") }).await;
    }
    let live = fixture.session("w").await;
    assert_eq!(live.acquire(2).await.len(), 2);
    fixture.rescue_until(0, 2).await;
    for (worker_id, host) in [("a", "host-1"), ("b", "host-2")] {
        fixture.submit(job(worker_id)).await;
        let new = NewSession { host: host.to_owned(), ..session(worker_id) };
        fixture.expiring_session(new, 1).await;
        fixture.rescue_until(1, 0).await;
    }
    let found = groups(fixture, ErrorGroupQuery::default()).await;
    let found: BTreeMap<_, _> =
        found.into_iter().map(|it| (it.title.clone(), (it.attempts, it.dead_letters))).collect();
    let expected = [("attempt timed out after # ms", (2, 2)), ("worker lost", (2, 0))];
    assert_eq!(found, expected.map(|(title, counts)| (title.to_owned(), counts)).into());
    assert!(details(fixture, id_of("email", "worker lost")).await.sample.error.contains("host-2"));
}

async fn jobs_that_wait_for_their_next_attempt_are_counted(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let waiting = NewJob { retry: Some(policy), ..job("w") };
    fixture.submit_all(vec![waiting; 4]).await;
    let later = jobqueue_store::Start::After { delay_ms: HOUR_MS };
    fixture.submit(NewJob { start: later, ..job("w") }).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(4).await;
    for leased in &leased[..3] {
        session.fail(leased.lease, "refused").await;
    }
    session.fail(leased[3].lease, "no route").await;
    let it = details(fixture, id_of("email", "refused")).await;
    assert_eq!((it.retrying, it.retrying_is_floor), (3, false));
    fixture.store.cancel(&[leased[0].job.id], "").await.unwrap();
    assert_eq!(details(fixture, id_of("email", "refused")).await.retrying, 2);
    assert_eq!(details(fixture, id_of("email", "no route")).await.retrying, 1);
}

async fn a_list_has_orders_filters_and_pages(fixture: &StoreFixture) {
    for _ in 0..3 {
        fail(fixture, "a", "many").await;
    }
    let session = fixture.session("b").await;
    fixture.submit(NewJob { max_retries: 100, ..job("b") }).await;
    for _ in 0..5 {
        let leased = session.acquire_one().await;
        session.end_saying(leased.lease, Ending::Fail { permanent: false, retry_after_ms: Some(0) }, "again").await;
    }
    fail(fixture, "a", "again").await;
    fixture.pass(fixture.now_ms().await).await;
    fail(fixture, "a", "last").await;
    change(fixture, id_of("email", "many"), NewErrorGroupState::Resolved).await;
    for folded in [false, true] {
        if folded {
            fold(fixture).await;
        }
        let titles = async |query: ErrorGroupQuery| {
            groups(fixture, query).await.into_iter().map(|it| it.title).collect::<Vec<_>>()
        };
        let by = |order: ErrorOrder| ErrorGroupQuery { order, window: ErrorWindow::Hour, ..ErrorGroupQuery::default() };
        assert_eq!(titles(by(ErrorOrder::LastSeen)).await, ["last", "again", "many"]);
        assert_eq!(titles(by(ErrorOrder::Attempts)).await, ["again", "many", "last"]);
        assert_eq!(titles(by(ErrorOrder::DeadLetters)).await[0], "many");
        let states = vec![ErrorGroupState::Open, ErrorGroupState::Regressed];
        assert_eq!(titles(ErrorGroupQuery { states, ..by(ErrorOrder::Attempts) }).await, ["again", "last"]);
        let of_b = ErrorGroupQuery { worker_id: Some("b".to_owned()), ..by(ErrorOrder::Attempts) };
        let of_b = groups(fixture, of_b).await;
        assert_eq!(of_b.len(), 1);
        assert_eq!((of_b[0].counts.iter().sum::<u64>(), of_b[0].dead_letters, of_b[0].attempts), (5, 0, 6));
        let mut query = ErrorGroupQuery { page_size: 2, ..by(ErrorOrder::LastSeen) };
        let first = fixture.store.error_groups(&query).await.unwrap();
        assert_eq!((first.groups.len(), first.total), (2, 3));
        query.after = first.next;
        let second = fixture.store.error_groups(&query).await.unwrap();
        assert_eq!((second.groups.len(), second.next, second.groups[0].title.as_str()), (1, None, "many"));
    }
}

async fn the_dead_letters_of_a_group_are_listed_in_pages(fixture: &StoreFixture) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(fail(fixture, "w", "refused").await);
        fail(fixture, "w", "no route").await;
    }
    fixture.store.retry(&ids[..1]).await.unwrap();
    let of_group = |id| ListQuery {
        filter: JobFilter { error_group: Some(id), ..JobFilter::of(None, Some(State::Failed), None) },
        page_size: 2,
        view: View::Basic,
        ..ListQuery::default()
    };
    let found = fixture.list_all(&of_group(id_of("email", "refused"))).await;
    let mut expected: Vec<_> = fixture.store.get(&ids[1..]).await.unwrap().into_iter().flatten().collect();
    expected.sort_by_key(|job| std::cmp::Reverse((job.finished_at_ms, job.id)));
    let key = |jobs: &[jobqueue_store::JobRecord]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(key(&found), key(&expected));
    assert!(found.iter().all(|job| job.payload.is_empty() && job.last_error == "refused"));
    assert_eq!(fixture.list_all(&of_group(ErrorGroupId(7))).await, []);
}

async fn old_slots_and_groups_are_pruned_and_dead_letters_keep_theirs(fixture: &StoreFixture) {
    let dead = fail(fixture, "w", "dies").await;
    fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let leased = session.acquire_one().await;
    session.fail(leased.lease, "goes").await;
    fold(fixture).await;
    let keep = jobqueue_store::Retention { dead_letters_ms: i64::MAX / 2, ..KEEP_NOTHING };
    let slots = async || fixture.number("SELECT count(*) FROM error_series").await;
    assert_eq!(slots().await, 4, "a minute and an hour of each group");
    let old = "UPDATE error_series SET slot = slot - 3 * 1440 WHERE step = 60000";
    fixture.sql(old, old).await;
    fixture.store.prune(&keep, 100).await.unwrap();
    assert_eq!(slots().await, 2, "hours are kept for longer than minutes");
    let old = "UPDATE error_series SET slot = slot - 91 * 24";
    fixture.sql(old, old).await;
    let old = "UPDATE error_groups SET last_seen = last_seen - 7862400000;
               UPDATE error_worker_ids SET last_seen = last_seen - 7862400000";
    fixture.sql(old, old).await;
    fixture.store.prune(&keep, 100).await.unwrap();
    assert_eq!(slots().await, 0);
    let found = groups(fixture, ErrorGroupQuery::default()).await;
    assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), [id_of("email", "dies")]);
    assert_eq!(fixture.number("SELECT count(*) FROM error_worker_ids").await, 1);
    fixture.store.delete(&[dead]).await.unwrap();
    fold(fixture).await;
    fixture.store.prune(&keep, 100).await.unwrap();
    assert_eq!(groups(fixture, ErrorGroupQuery::default()).await, []);
    assert_eq!(fixture.number("SELECT count(*) FROM error_worker_ids").await, 0);
}

/// Fills all groups but one with groups of the SQL text's own making.
async fn fill(fixture: &StoreFixture, dead_letters: i64) {
    let rest = limits::ERROR_GROUPS - 1;
    let columns =
        "INSERT INTO error_groups (fingerprint, task, title, first_seen, last_seen, attempts, dead_letters, error)";
    let postgres =
        format!("{columns} SELECT n, '', 'made', n, n, 1, {dead_letters}, '' FROM generate_series(1, {rest}) AS t(n)");
    let sqlite = format!(
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {rest})
         {columns} SELECT n, '', 'made', n, n, 1, {dead_letters}, '' FROM t"
    );
    fixture.sql(&sqlite, &postgres).await;
}

async fn beyond_the_limit_the_oldest_groups_without_dead_letters_go(fixture: &StoreFixture) {
    fill(fixture, 0).await;
    for error in ["one", "two", "three"] {
        fail(fixture, "w", error).await;
        fold(fixture).await;
    }
    let count = fixture.number("SELECT count(*) FROM error_groups").await;
    assert_eq!(count, limits::ERROR_GROUPS as i64);
    assert_eq!(fixture.number("SELECT min(fingerprint) FROM error_groups WHERE title = 'made'").await, 3);
    for error in ["one", "two", "three"] {
        assert_eq!(details(fixture, id_of("email", error)).await.group.dead_letters, 1);
    }
}

async fn errors_without_room_are_counted_together_until_there_is_room(fixture: &StoreFixture) {
    fill(fixture, 1).await;
    fail(fixture, "w", "has room").await;
    fold(fixture).await;
    let first = fail(fixture, "w", "has none").await;
    let second = fail(fixture, "w", "has none").await;
    fixture.submit(job("x")).await;
    let session = fixture.session("x").await;
    session.fail(session.acquire_one().await.lease, "has none either").await;
    fold(fixture).await;
    let other = details(fixture, ErrorGroupId::OTHER).await.group;
    assert_eq!((other.attempts, other.dead_letters), (3, 2));
    assert_eq!(fixture.store.error_group(id_of("email", "has none"), ErrorWindow::Day).await.unwrap(), None);
    fixture.store.delete(&[first]).await.unwrap();
    fold(fixture).await;
    assert_eq!(details(fixture, ErrorGroupId::OTHER).await.group.dead_letters, 1);
    let gone = "DELETE FROM error_groups WHERE title = 'made'";
    fixture.sql(gone, gone).await;
    let third = fail(fixture, "w", "has none").await;
    fold(fixture).await;
    let own = details(fixture, id_of("email", "has none")).await;
    assert_eq!((own.group.attempts, own.group.dead_letters), (1, 2), "it has its dead letters now");
    assert_eq!(own.worker_ids[0].dead_letters, 2);
    assert_eq!(details(fixture, ErrorGroupId::OTHER).await.group.dead_letters, 0);
    fixture.store.retry(&[second, third]).await.unwrap();
    fold(fixture).await;
    assert_eq!(details(fixture, id_of("email", "has none")).await.group.dead_letters, 0);
}
