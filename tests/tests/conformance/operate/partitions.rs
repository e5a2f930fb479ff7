//! Partitions of `jobs` by day, which only PostgreSQL has: they are created ahead of time and dropped as a whole,
//! without an effect on other calls.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use jobqueue_shared::state::State;
use jobqueue_store::{JobFilter, ListQuery, NewJob, Retention, SettleAnswer};
use jobqueue_tests::{database::Driver, poll::eventually};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::store_fixture::{HOUR_MS, NO_DELAY, StoreFixture, job, jobs, keyed};

const DAY_MS: i64 = 24 * HOUR_MS;

/// Retention that treats done jobs as they will be treated in two days: a day that ends tomorrow is past its retention,
/// one that ends after it is not.
const LATER: Retention = Retention {
    done_ms: -2 * DAY_MS,
    cancelled_ms: HOUR_MS,
    dead_letters_ms: HOUR_MS,
    keys_ms: HOUR_MS,
    operations_ms: HOUR_MS,
};

const WEEK: Retention = Retention {
    done_ms: 7 * DAY_MS,
    cancelled_ms: HOUR_MS,
    dead_letters_ms: HOUR_MS,
    keys_ms: HOUR_MS,
    operations_ms: HOUR_MS,
};

/// SQL of `day(n)`, the lowest id of the day n days from today, and of `partition`. For an empty database of a new
/// server.
const DAYS: &str = "
    CREATE FUNCTION day(n integer) RETURNS uuid LANGUAGE sql AS $$
        SELECT rpad(lpad(to_hex((now_ms() / 86400000 + n) * 86400000), 12, '0'), 32, '0')::uuid $$;
    CREATE FUNCTION partition(part text, low integer, high integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('ALTER TABLE jobs ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', part,
            coalesce(quote_literal(day(low)), 'MINVALUE'), coalesce(quote_literal(day(high)), 'MAXVALUE'));
    END $$;
    ALTER TABLE jobs DETACH PARTITION jobs_before;
    ALTER TABLE jobs DETACH PARTITION jobs_after;";

async fn on(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Fixture in which today and tomorrow are one day that can be dropped.
async fn bed_with_a_day(driver: Driver) -> StoreFixture {
    let fixture = StoreFixture::new(driver).await;
    let arrange = "
        SELECT partition('jobs_before', NULL, 0);
        CREATE TABLE jobs_today (LIKE jobs INCLUDING ALL);
        SELECT partition('jobs_today', 0, 2), partition('jobs_after', 2, NULL);";
    fixture.sql("", &format!("BEGIN; {DAYS} {arrange} COMMIT")).await;
    fixture
}

/// Name and bounds of each partition, oldest first. Panics unless each begins where the one before ends, so that every
/// id has one.
async fn partitions(fixture: &StoreFixture) -> Vec<(String, String, String)> {
    let mut connection = fixture.postgres().await;
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT relname::text, split_part(bounds, ' TO ', 1), split_part(bounds, ' TO ', 2)
         FROM (SELECT c.relname, replace(pg_get_expr(c.relpartbound, c.oid), 'FOR VALUES FROM ', '') AS bounds
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'jobs'::regclass) AS t
         ORDER BY bounds NOT LIKE '(MINVALUE%', bounds",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    assert_eq!((found[0].1.as_str(), found[found.len() - 1].2.as_str()), ("(MINVALUE)", "(MAXVALUE)"), "{found:?}");
    assert!(found.windows(2).all(|pair| pair[0].2 == pair[1].1), "{found:?}");
    found
}

async fn has(fixture: &StoreFixture, name: &str) -> bool {
    partitions(fixture).await.iter().any(|partition| partition.0 == name)
}

/// Calls `maintain` until a day is dropped.
async fn drop_a_day(fixture: &StoreFixture) {
    let dropped = eventually("a day is dropped", async || {
        let dropped = fixture.store.maintain(&LATER).await.unwrap();
        (dropped > 0).then_some(dropped)
    })
    .await;
    assert_eq!(dropped, 1);
}

async fn prune_all(fixture: &StoreFixture, retention: &Retention) {
    while fixture.store.prune(retention, 1_000).await.unwrap() > 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_and_no_more_than_are_needed() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let fixture = StoreFixture::new(driver).await;
        assert_eq!(partitions(&fixture).await.len(), 2);
        let before = fixture.submit(job("w")).await;
        eventually("days are made", async || {
            assert_eq!(fixture.store.maintain(&WEEK).await.unwrap(), 0);
            (partitions(&fixture).await.len() > 2).then_some(())
        })
        .await;
        let made = partitions(&fixture).await;
        // At midnight the test may see one day more.
        assert!((7..=9).contains(&(made.len() - 1)), "{made:?}");
        fixture.store.maintain(&WEEK).await.unwrap();
        assert_eq!(partitions(&fixture).await, made);
        let after = fixture.submit(job("w")).await;
        assert_eq!(fixture.states(&[before, after]).await, [State::Pending; 2]);
        fixture.check().await;
        fixture.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_partition_that_is_in_use_ends_and_days_go_on_behind_it() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    let arrange = "SELECT partition('jobs_before', NULL, -9), partition('jobs_after', -9, NULL);";
    fixture.sql("", &format!("BEGIN; {DAYS} {arrange} COMMIT")).await;
    let session = fixture.session("w").await;
    let ids = fixture.submit_all(jobs("w", 20)).await;
    let lease = session.acquire(1).await[0].lease;
    fixture.store.maintain(&WEEK).await.unwrap();
    let found = partitions(&fixture).await;
    assert!(found.len() > 3, "{found:?}");
    assert!(fixture.states(&ids).await.iter().all(|state| *state != State::Done));
    session.complete(lease).await;
    fixture.submit_all(jobs("w", 20)).await;
    assert_eq!(session.acquire(100).await.len(), 39);
    assert_eq!(fixture.number("SELECT count(*) FROM jobs_after").await, 0);
    fixture.check().await;
    fixture.close().await;
}

/// A drop removes done jobs at once for all readers, and the other rows about them one by one later. All other jobs
/// stay and can go on: pending and running ones, dead letters, cancelled ones, and those that were done too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_with_its_done_jobs_and_all_others_go_on() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let fixture = bed_with_a_day(driver).await;
        let mut ids = Vec::new();
        for state in State::ALL {
            ids.push(fixture.job_in(state, keyed(state.word(), "k", 1)).await);
        }
        let [pending, running, done, failed, cancelled] = ids[..] else { panic!("{ids:?}") };
        let copy_of = |origin, worker_id: &str| NewJob { origin: Some(origin), ..job(worker_id) };
        fixture.job_in(State::Done, copy_of(failed, "copied")).await;
        let copy = fixture.job_in(State::Cancelled, copy_of(done, "copies")).await;
        let late = fixture.job_in(State::Done, job("late")).await;
        fixture.sql("", "UPDATE done SET finished_at = now_ms() + 3 * 86400000 WHERE worker_id = 'late'").await;
        let session = fixture.session("some").await;
        let some = fixture.submit_all(vec![NewJob { retry: Some(NO_DELAY), ..job("some") }; 100]).await;
        let first = session.acquire(1).await[0].lease;
        session.fail(first, "at first").await;
        let leased = session.acquire(100).await;
        for (n, leased) in leased.iter().enumerate() {
            if n % 2 == 0 {
                session.complete_with(leased.lease, "{}").await;
            }
        }
        fixture.check().await;

        drop_a_day(&fixture).await;
        assert!(!has(&fixture, "jobs_today").await && has(&fixture, "jobs_kept").await);
        let states = [State::Pending, State::Running, State::Failed, State::Cancelled, State::Done];
        assert_eq!(fixture.states(&[pending, running, failed, cancelled, late]).await, states);
        assert_eq!(fixture.number("SELECT count(*) FROM jobs_kept").await, 6 + 50);
        assert_eq!(fixture.find(done).await, None);
        assert_eq!(fixture.store.history(done).await.unwrap(), None);
        assert!(fixture.store.history(running).await.unwrap().is_some());
        let done_list =
            ListQuery { filter: JobFilter::of(None, Some(State::Done), None), page_size: 10, ..ListQuery::default() };
        assert_eq!(fixture.list_all(&done_list).await.iter().map(|job| job.id).collect::<Vec<_>>(), [late]);
        assert_eq!(session.complete(leased[0].lease).await, SettleAnswer::Stale, "nothing is known of it any more");
        assert_eq!(fixture.store.retry(&[done]).await.unwrap(), [jobqueue_store::ActionAnswer::NotFound]);
        let known = fixture.submit_or_known(keyed("done", "k", 1)).await;
        assert_eq!((known.id, known.deduplicated), (done, true), "its key has its own time");
        assert_eq!(fixture.store.audit().await.unwrap(), Vec::<String>::new());

        prune_all(&fixture, &LATER).await;
        fixture.check().await;
        assert_eq!(fixture.tally("some").await, [0, 50, 0, 0, 0]);
        assert_eq!(fixture.tally("late").await, [0, 0, 1, 0, 0]);
        assert_eq!(fixture.number("SELECT count(*) FROM results").await, 0);
        assert_eq!(fixture.number("SELECT count(*) FROM done").await, 1);
        assert_eq!(fixture.number("SELECT count(*) FROM origins").await, 1, "one copy went with its day");
        assert_eq!(fixture.get(copy).await.origin, Some(done));

        // Running jobs are settled under their old leases, pending ones start, failed and cancelled ones can be
        // retried.
        for leased in leased.iter().skip(1).step_by(2) {
            assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
        }
        fixture.store.retry(&[failed, cancelled]).await.unwrap();
        assert_eq!(fixture.get(failed).await.payload, job("failed").payload);
        assert_eq!(fixture.attempts(failed).await.len(), 2, "its history is kept");
        for (worker_id, id) in [("pending", pending), ("failed", failed), ("cancelled", cancelled)] {
            let session = fixture.session(worker_id).await;
            let leased = session.acquire_one().await;
            assert_eq!(
                (leased.job.id, session.complete(leased.lease).await),
                (id, SettleAnswer::Accepted(State::Done))
            );
        }
        assert!(some.len() == 100 && fixture.tally("some").await == [0, 0, 50, 0, 0]);
        fixture.check().await;
        fixture.close().await;
    }
}

/// SQL that stores twenty done jobs on each of the ten days before today, submitted and finished at noon.
const TEN_DAYS: &str = "
    SELECT partition('jobs_before', NULL, -10);
    DO $$ BEGIN
        FOR n IN -10..-1 LOOP
            EXECUTE format('CREATE TABLE day_%s (LIKE jobs INCLUDING ALL)', -n);
            PERFORM partition('day_' || -n, n, n + 1);
        END LOOP;
    END $$;
    SELECT partition('jobs_after', 0, NULL);
    CREATE TABLE old AS
        SELECT at, rpad(lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(n), 3, '0') || '8', 32, '0')::uuid AS id
        FROM generate_series(-10, -1) AS days(day), generate_series(1, 20) AS numbers(n),
             LATERAL (SELECT (now_ms() / 86400000 + day) * 86400000 + 43200000 AS at) AS t;
    INSERT INTO jobs SELECT id, 'w', 'email', 5, at, '{}', 3, NULL, NULL, NULL FROM old;
    INSERT INTO done SELECT 'w', id, gen_random_uuid(), gen_random_uuid(), at, at, uuid_send(id), NULL FROM old;
    INSERT INTO counters VALUES ('w', 0, 0, 0, 0, 200, 0, 0);
    DROP TABLE old;";

#[tokio::test(flavor = "multi_thread")]
async fn days_of_done_jobs_go_one_after_the_other_when_their_time_comes() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    fixture.sql("", &format!("BEGIN; {DAYS} {TEN_DAYS} COMMIT")).await;
    fixture.check().await;
    // No day was dropped in time. Rows that are a day overdue are pruned one by one; the others stay, to be dropped
    // with their day.
    prune_all(&fixture, &WEEK).await;
    fixture.check().await;
    assert_eq!(fixture.tally("w").await[State::Done as usize], 8 * 20);
    assert_eq!(fixture.number("SELECT count(*) FROM day_8").await, 20);
    let dropped = eventually("days are dropped", async || {
        let dropped = fixture.store.maintain(&WEEK).await.unwrap();
        (dropped > 0).then_some(dropped)
    })
    .await;
    assert_eq!(dropped, 3);
    assert_eq!(fixture.number("SELECT count(*) FROM jobs").await, 7 * 20);
    assert_eq!(fixture.list_all(&ListQuery { page_size: 50, ..ListQuery::default() }).await.len(), 7 * 20);
    prune_all(&fixture, &WEEK).await;
    assert_eq!(fixture.tally("w").await[State::Done as usize], 7 * 20);
    fixture.check().await;
    fixture.close().await;
}

/// A submit waits no longer than one attempt to drop, which gives up; the reader is not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_delays_the_drop_and_not_the_submits() {
    let fixture = bed_with_a_day(Driver::Postgres).await;
    let done = fixture.job_in(State::Done, job("done")).await;
    let mut reader = fixture.postgres().await;
    on(&mut reader, "BEGIN; SELECT count(*) FROM jobs").await;
    let (store, failed) = (fixture.store.clone(), Arc::new(AtomicUsize::new(0)));
    let attempts = Arc::clone(&failed);
    let maintaining = tokio::spawn(async move {
        while store.maintain(&LATER).await.unwrap() == 0 {
            attempts.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut ids = Vec::new();
    eventually("drops are attempted while jobs are submitted", async || {
        ids.push(fixture.submit(job("w")).await);
        (failed.load(Ordering::SeqCst) >= 3 && ids.len() >= 50).then_some(())
    })
    .await;
    let session = fixture.session("w").await;
    for leased in session.acquire(25).await {
        assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
    }
    on(&mut reader, "SELECT count(*) FROM jobs").await;
    assert!(!maintaining.is_finished(), "the reader still holds what is to be dropped");
    assert_eq!(fixture.state(done).await, State::Done);
    on(&mut reader, "COMMIT").await;
    maintaining.await.unwrap();
    assert_eq!(fixture.find(done).await, None);
    assert_eq!(session.acquire(ids.len() as u32).await.len(), ids.len() - 25);
    prune_all(&fixture, &LATER).await;
    fixture.check().await;
    reader.close().await.unwrap();
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_maintain_at_once_under_load_lose_nothing() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let fixture = bed_with_a_day(driver).await;
        let second = fixture.second_store().await;
        let old = fixture.submit_all(jobs("old", 50)).await;
        fixture.job_in(State::Done, job("done")).await;
        let session = fixture.session("w").await.on(&second);
        let work = async {
            let mut finished = 0;
            while finished < 200 {
                if finished % 50 == 0 {
                    fixture.submit_all(jobs("w", 50)).await;
                }
                for leased in session.acquire(10).await {
                    assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
                    finished += 1;
                }
            }
        };
        let dropped = async {
            let mut dropped = 0;
            while dropped == 0 {
                let both = [fixture.store.maintain(&LATER), second.maintain(&LATER)];
                dropped += join_all(both).await.into_iter().map(Result::unwrap).sum::<u64>();
            }
            dropped
        };
        let ((), dropped) = tokio::join!(work, dropped);
        assert_eq!(dropped, 1);
        partitions(&fixture).await;
        assert_eq!(fixture.states(&old).await, [State::Pending; 50]);
        prune_all(&fixture, &LATER).await;
        fixture.check().await;
        fixture.close().await;
    }
}

/// A drop that is cut off at any moment, as by a crash, has taken effect completely or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_is_cut_off_is_whole_or_nothing() {
    let fixture = bed_with_a_day(Driver::Postgres).await;
    let pending = fixture.submit_all(jobs("w", 20)).await;
    fixture.job_in(State::Done, job("done")).await;
    for ms in [1, 3, 5, 8, 12, 16, 20, 30, 40] {
        let second = fixture.second_store().await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), second.maintain(&LATER)).await;
        partitions(&fixture).await;
        assert_eq!(fixture.states(&pending).await, [State::Pending; 20]);
        assert_eq!(fixture.store.audit().await.unwrap(), Vec::<String>::new());
    }
    eventually("the day is dropped", async || {
        fixture.store.maintain(&LATER).await.unwrap();
        has(&fixture, "jobs_kept").await.then_some(())
    })
    .await;
    prune_all(&fixture, &LATER).await;
    fixture.check().await;
    fixture.close().await;
}

/// As [`LATER`], and a day later.
const LATEST: Retention = Retention { done_ms: LATER.done_ms - DAY_MS, ..LATER };

/// SQL that stores more jobs than a drop copies at once, pending since a day that is `day` days from today.
fn too_many(day: i32) -> String {
    format!(
        "CREATE TABLE many AS
            SELECT rpad(substr(replace(day({day})::text, '-', ''), 1, 12) || '7' || lpad(to_hex(n), 8, '0'), 32, '8')::uuid AS id
            FROM generate_series(1, 100001) AS t(n);
         INSERT INTO jobs SELECT id, 'many', 'email', 5, 0, '{{}}', 3, NULL, NULL, NULL FROM many;
         INSERT INTO ready SELECT 'many', id, 5, 0, 0, 0, 2, 0, false FROM many"
    )
}

const NO_MORE: &str = "
    DELETE FROM ready WHERE worker_id = 'many'; DELETE FROM jobs WHERE worker_id = 'many'; DROP TABLE many";

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_leaves_too_much_behind_is_left_to_the_pruner_of_rows() {
    let fixture = bed_with_a_day(Driver::Postgres).await;
    let done = fixture.job_in(State::Done, job("done")).await;
    let pending = fixture.submit(job("w")).await;
    fixture.sql("", &too_many(1)).await;
    assert_eq!(fixture.store.maintain(&LATER).await.unwrap(), 0);
    assert!(!has(&fixture, "jobs_today").await, "its turn has been");
    assert_eq!(fixture.states(&[done, pending]).await, [State::Done, State::Pending]);
    assert_eq!(fixture.number("SELECT count(*) FROM jobs").await, 100_003);
    prune_all(&fixture, &LATER).await;
    assert_eq!(fixture.find(done).await, None);
    // Later days are dropped, and the partition is merged with theirs once it has become small.
    assert_eq!(fixture.store.maintain(&LATEST).await.unwrap(), 1);
    assert_eq!(fixture.number("SELECT count(*) FROM jobs").await, 100_002);
    fixture.sql("", NO_MORE).await;
    fixture.check().await;
    assert_eq!(fixture.store.maintain(&Retention { done_ms: LATEST.done_ms - DAY_MS, ..LATER }).await.unwrap(), 1);
    let kept: Vec<_> = partitions(&fixture).await.into_iter().filter(|it| it.0.starts_with("jobs_kept")).collect();
    assert_eq!((kept.len(), kept[0].0.as_str()), (1, "jobs_kept"));
    assert_eq!(fixture.state(pending).await, State::Pending);
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_also_where_the_oldest_partition_is_too_large_to_be_copied() {
    let fixture = bed_with_a_day(Driver::Postgres).await;
    let done = fixture.job_in(State::Done, job("done")).await;
    let pending = fixture.submit(job("w")).await;
    fixture.sql("", &too_many(-3)).await;
    drop_a_day(&fixture).await;
    let found = partitions(&fixture).await;
    assert!(found[0].0 == "jobs_before" && found[1].0.starts_with("jobs_kept_"), "{found:?}");
    assert_eq!(fixture.find(done).await, None);
    assert_eq!(fixture.store.audit().await.unwrap().len(), 1, "only counts are missing");
    fixture.sql("", NO_MORE).await;
    prune_all(&fixture, &LATER).await;
    assert_eq!(fixture.store.maintain(&LATEST).await.unwrap(), 1);
    let found = partitions(&fixture).await;
    assert!(found[0].0 == "jobs_kept" && !found[1].0.starts_with("jobs_kept"), "{found:?}");
    assert_eq!(fixture.state(pending).await, State::Pending);
    fixture.check().await;
    fixture.close().await;
}

/// With plans for the actual parameters, and with generic ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_todays_jobs_does_not_look_into_old_partitions() {
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let fixture = StoreFixture::new(Driver::Postgres).await;
        let mut connection = fixture.postgres().await;
        on(&mut connection, &format!("BEGIN; {DAYS} {TEN_DAYS} COMMIT")).await;
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
        on(&mut connection, &format!("ALTER DATABASE {name} SET plan_cache_mode = {mode}")).await;
        connection.close().await.unwrap();
        let reopening = fixture.now_ms().await;
        let fixture = fixture.reopened().await;
        let mut connection = fixture.postgres().await;
        // Connections report their statistics when they end, which takes a moment.
        eventually("all earlier connections have ended", async || {
            let earlier = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                           AND extract(epoch FROM backend_start) * 1000 < $1";
            let earlier: i64 = sqlx::query_scalar(earlier).bind(reopening).fetch_one(&mut connection).await.unwrap();
            (earlier == 0).then_some(())
        })
        .await;
        on(&mut connection, "SELECT pg_stat_reset()").await;

        let ids = fixture.submit_all([vec![keyed("w", "k", 1)], jobs("w", 200)].concat()).await;
        fixture.submit_or_known(keyed("w", "k", 1)).await;
        let session = fixture.session("w").await;
        for (n, leased) in session.acquire(100).await.into_iter().enumerate() {
            match n % 4 {
                0 => drop(session.fail_for_good(leased.lease, "no").await),
                1 => drop(session.fail(leased.lease, "no").await),
                2 => drop(session.complete_with(leased.lease, "{}").await),
                _ => drop(session.snooze(leased.lease, HOUR_MS).await),
            }
        }
        fixture.store.cancel(&ids[150..175], "").await.unwrap();
        fixture.store.retry(&ids[150..155]).await.unwrap();
        fixture.states(&ids).await;
        fixture.store.history(ids[0]).await.unwrap();
        for state in [None, Some(State::Pending), Some(State::Failed), Some(State::Cancelled), Some(State::Running)] {
            for worker_id in [None, Some("w")] {
                let query =
                    ListQuery { filter: JobFilter::of(worker_id, state, None), page_size: 10, ..ListQuery::default() };
                assert!(
                    fixture.store.list(&query).await.unwrap().jobs.len() == 10 || state == Some(State::Running),
                    "{state:?}"
                );
            }
        }
        fixture.store.delete(&ids[155..175]).await.unwrap();
        let fixture = fixture.reopened().await;

        let mut scans = async |old: bool| -> i64 {
            sqlx::query_scalar(
                "SELECT sum(coalesce(idx_scan, 0) + coalesce(seq_scan, 0))::bigint FROM pg_stat_user_tables
                 WHERE (relname LIKE 'day\\_%' OR relname = 'jobs_before') = $1 AND (relname LIKE 'day\\_%' OR relname LIKE 'jobs\\_%')",
            )
            .bind(old)
            .fetch_one(&mut connection)
            .await
            .unwrap()
        };
        eventually("the database has counted", async || (scans(false).await > 100).then_some(())).await;
        assert_eq!(scans(true).await, 0, "{mode}");
        connection.close().await.unwrap();
        fixture.check().await;
        fixture.close().await;
    }
}

/// An id that was never given out is not found, whichever partition it would be in.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_time_are_looked_for_and_not_found() {
    let fixture = bed_with_a_day(Driver::Postgres).await;
    fixture.store.maintain(&WEEK).await.unwrap();
    let known = fixture.submit(job("w")).await;
    let ids = [Uuid::nil(), Uuid::max(), Uuid::new_v4(), known, Uuid::now_v7()];
    let found = fixture.store.get(&ids).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true, false]);
    fixture.store.get(&[]).await.unwrap();
    fixture.check().await;
    fixture.close().await;
}
