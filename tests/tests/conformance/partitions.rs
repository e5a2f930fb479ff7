//! Jobs in partitions by day, which only PostgreSQL has: made ahead, dropped as a whole, and nobody notices.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use jobqueue_server::store::{ListQuery, NewJob, Retention, SettleAnswer};
use jobqueue_shared::state::State;
use jobqueue_tests::{database::Driver, poll::eventually};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::bed::{AT_ONCE, Bed, HOUR_MS, job, jobs, keyed};

const DAY_MS: i64 = 24 * HOUR_MS;

/// As if it were two days later for what is done. A day that ends tomorrow has had its time, one that ends after it
/// has not.
const LATER: Retention =
    Retention { done_ms: -2 * DAY_MS, cancelled_ms: HOUR_MS, dead_letters_ms: HOUR_MS, keys_ms: HOUR_MS };

const WEEK: Retention =
    Retention { done_ms: 7 * DAY_MS, cancelled_ms: HOUR_MS, dead_letters_ms: HOUR_MS, keys_ms: HOUR_MS };

/// `day(n)`: the lowest id of the day n days from today. In an empty database of a new server.
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

/// A bed on which today and tomorrow are one day that can be dropped.
async fn bed_with_a_day(driver: Driver) -> Bed {
    let bed = Bed::new(driver).await;
    let arrange = "
        SELECT partition('jobs_before', NULL, 0);
        CREATE TABLE jobs_today (LIKE jobs INCLUDING ALL);
        SELECT partition('jobs_today', 0, 2), partition('jobs_after', 2, NULL);";
    bed.sql("", &format!("BEGIN; {DAYS} {arrange} COMMIT")).await;
    bed
}

/// Name and bounds of each partition, oldest first. They follow one on the other, and leave out no id.
async fn partitions(bed: &Bed) -> Vec<(String, String, String)> {
    let mut connection = bed.postgres().await;
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

async fn has(bed: &Bed, name: &str) -> bool {
    partitions(bed).await.iter().any(|partition| partition.0 == name)
}

/// Maintains until a day is dropped.
async fn drop_a_day(bed: &Bed) {
    let dropped = eventually("a day is dropped", async || {
        let dropped = bed.store.maintain(&LATER).await.unwrap();
        (dropped > 0).then_some(dropped)
    })
    .await;
    assert_eq!(dropped, 1);
}

async fn prune_all(bed: &Bed, retention: &Retention) {
    while bed.store.prune(retention, 1_000).await.unwrap() > 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_and_no_more_than_are_needed() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let bed = Bed::new(driver).await;
        assert_eq!(partitions(&bed).await.len(), 2);
        let before = bed.submit(job("w")).await;
        eventually("days are made", async || {
            assert_eq!(bed.store.maintain(&WEEK).await.unwrap(), 0);
            (partitions(&bed).await.len() > 2).then_some(())
        })
        .await;
        let made = partitions(&bed).await;
        // At midnight the test may see one day more.
        assert!((7..=9).contains(&(made.len() - 1)), "{made:?}");
        bed.store.maintain(&WEEK).await.unwrap();
        assert_eq!(partitions(&bed).await, made);
        let after = bed.submit(job("w")).await;
        assert_eq!(bed.states(&[before, after]).await, [State::Pending; 2]);
        bed.check().await;
        bed.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_partition_that_is_in_use_ends_and_days_go_on_behind_it() {
    let bed = Bed::new(Driver::Postgres).await;
    let arrange = "SELECT partition('jobs_before', NULL, -9), partition('jobs_after', -9, NULL);";
    bed.sql("", &format!("BEGIN; {DAYS} {arrange} COMMIT")).await;
    let session = bed.session("w").await;
    let ids = bed.submit_all(jobs("w", 20)).await;
    let lease = session.acquire(1).await[0].lease;
    bed.store.maintain(&WEEK).await.unwrap();
    let found = partitions(&bed).await;
    assert!(found.len() > 3, "{found:?}");
    assert!(bed.states(&ids).await.iter().all(|state| *state != State::Done));
    session.complete(lease).await;
    bed.submit_all(jobs("w", 20)).await;
    assert_eq!(session.acquire(100).await.len(), 39);
    assert_eq!(bed.number("SELECT count(*) FROM jobs_after").await, 0);
    bed.check().await;
    bed.close().await;
}

/// Done jobs are gone at once for who asks, and what else is known of them goes row by row. All others stay, and go
/// on: those that wait or run, dead letters, cancelled ones, and those that were done too late to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_with_its_done_jobs_and_all_others_go_on() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let bed = bed_with_a_day(driver).await;
        let mut ids = Vec::new();
        for state in State::ALL {
            ids.push(bed.job_in(state, keyed(state.word(), "k", 1)).await);
        }
        let [pending, running, done, failed, cancelled] = ids[..] else { panic!("{ids:?}") };
        let late = bed.job_in(State::Done, job("late")).await;
        bed.sql("", "UPDATE done SET finished_at = now_ms() + 3 * 86400000 WHERE worker_id = 'late'").await;
        let session = bed.session("some").await;
        let some = bed.submit_all(vec![NewJob { retry: Some(AT_ONCE), ..job("some") }; 100]).await;
        let first = session.acquire(1).await[0].lease;
        session.fail(first, "at first").await;
        let leased = session.acquire(100).await;
        for (n, leased) in leased.iter().enumerate() {
            if n % 2 == 0 {
                session.complete_with(leased.lease, "{}").await;
            }
        }
        bed.check().await;

        drop_a_day(&bed).await;
        assert!(!has(&bed, "jobs_today").await && has(&bed, "jobs_kept").await);
        let states = [State::Pending, State::Running, State::Failed, State::Cancelled, State::Done];
        assert_eq!(bed.states(&[pending, running, failed, cancelled, late]).await, states);
        assert_eq!(bed.number("SELECT count(*) FROM jobs_kept").await, 5 + 50);
        assert_eq!(bed.find(done).await, None);
        assert_eq!(bed.store.history(done).await.unwrap(), None);
        assert!(bed.store.history(running).await.unwrap().is_some());
        let done_list = ListQuery { state: Some(State::Done), page_size: 10, ..ListQuery::default() };
        assert_eq!(bed.list_all(&done_list).await.iter().map(|job| job.id).collect::<Vec<_>>(), [late]);
        assert_eq!(session.complete(leased[0].lease).await, SettleAnswer::Stale, "nothing is known of it any more");
        assert_eq!(bed.store.retry(&[done]).await.unwrap(), [jobqueue_server::store::Moved::NotFound]);
        let known = bed.submit_or_known(keyed("done", "k", 1)).await;
        assert_eq!((known.id, known.deduplicated), (done, true), "its key has its own time");
        assert_eq!(bed.store.audit().await.unwrap(), Vec::<String>::new());

        prune_all(&bed, &LATER).await;
        bed.check().await;
        assert_eq!(bed.tally("some").await, [0, 50, 0, 0, 0]);
        assert_eq!(bed.tally("late").await, [0, 0, 1, 0, 0]);
        assert_eq!(bed.number("SELECT count(*) FROM results").await, 0);
        assert_eq!(bed.number("SELECT count(*) FROM done").await, 1);

        // What ran goes on under its old lease, what waits starts, what was set aside goes back to work.
        for leased in leased.iter().skip(1).step_by(2) {
            assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
        }
        bed.store.retry(&[failed, cancelled]).await.unwrap();
        assert_eq!(bed.get(failed).await.payload, job("failed").payload);
        assert_eq!(bed.attempts(failed).await.len(), 2, "its history is kept");
        for (worker_id, id) in [("pending", pending), ("failed", failed), ("cancelled", cancelled)] {
            let session = bed.session(worker_id).await;
            let leased = session.acquire_one().await;
            assert_eq!(
                (leased.job.id, session.complete(leased.lease).await),
                (id, SettleAnswer::Accepted(State::Done))
            );
        }
        assert!(some.len() == 100 && bed.tally("some").await == [0, 0, 50, 0, 0]);
        bed.check().await;
        bed.close().await;
    }
}

/// Twenty done jobs on each of the ten days before today, submitted and finished at noon.
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
    let bed = Bed::new(Driver::Postgres).await;
    bed.sql("", &format!("BEGIN; {DAYS} {TEN_DAYS} COMMIT")).await;
    bed.check().await;
    // Nobody has dropped them in time: what is a day overdue goes row by row, the rest is left to go with its day.
    prune_all(&bed, &WEEK).await;
    bed.check().await;
    assert_eq!(bed.tally("w").await[State::Done as usize], 8 * 20);
    assert_eq!(bed.number("SELECT count(*) FROM day_8").await, 20);
    let dropped = eventually("days are dropped", async || {
        let dropped = bed.store.maintain(&WEEK).await.unwrap();
        (dropped > 0).then_some(dropped)
    })
    .await;
    assert_eq!(dropped, 3);
    assert_eq!(bed.number("SELECT count(*) FROM jobs").await, 7 * 20);
    assert_eq!(bed.list_all(&ListQuery { page_size: 50, ..ListQuery::default() }).await.len(), 7 * 20);
    prune_all(&bed, &WEEK).await;
    assert_eq!(bed.tally("w").await[State::Done as usize], 7 * 20);
    bed.check().await;
    bed.close().await;
}

/// Submits never wait for longer than the attempt to drop does, which gives up; the reader is not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_delays_the_drop_and_not_the_submits() {
    let bed = bed_with_a_day(Driver::Postgres).await;
    let done = bed.job_in(State::Done, job("done")).await;
    let mut reader = bed.postgres().await;
    on(&mut reader, "BEGIN; SELECT count(*) FROM jobs").await;
    let (store, failed) = (bed.store.clone(), Arc::new(AtomicUsize::new(0)));
    let attempts = Arc::clone(&failed);
    let maintaining = tokio::spawn(async move {
        while store.maintain(&LATER).await.unwrap() == 0 {
            attempts.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut ids = Vec::new();
    eventually("drops are attempted while jobs are submitted", async || {
        ids.push(bed.submit(job("w")).await);
        (failed.load(Ordering::SeqCst) >= 3 && ids.len() >= 50).then_some(())
    })
    .await;
    let session = bed.session("w").await;
    for leased in session.acquire(25).await {
        assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
    }
    on(&mut reader, "SELECT count(*) FROM jobs").await;
    assert!(!maintaining.is_finished(), "the reader still holds what is to be dropped");
    assert_eq!(bed.state(done).await, State::Done);
    on(&mut reader, "COMMIT").await;
    maintaining.await.unwrap();
    assert_eq!(bed.find(done).await, None);
    assert_eq!(session.acquire(ids.len() as u32).await.len(), ids.len() - 25);
    prune_all(&bed, &LATER).await;
    bed.check().await;
    reader.close().await.unwrap();
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_maintain_at_once_under_load_lose_nothing() {
    for driver in [Driver::Postgres, Driver::Pooled] {
        let bed = bed_with_a_day(driver).await;
        let second = bed.second_store().await;
        let old = bed.submit_all(jobs("old", 50)).await;
        bed.job_in(State::Done, job("done")).await;
        let session = bed.session("w").await.on(&second);
        let work = async {
            let mut finished = 0;
            while finished < 200 {
                if finished % 50 == 0 {
                    bed.submit_all(jobs("w", 50)).await;
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
                let both = [bed.store.maintain(&LATER), second.maintain(&LATER)];
                dropped += join_all(both).await.into_iter().map(Result::unwrap).sum::<u64>();
            }
            dropped
        };
        let ((), dropped) = tokio::join!(work, dropped);
        assert_eq!(dropped, 1);
        partitions(&bed).await;
        assert_eq!(bed.states(&old).await, [State::Pending; 50]);
        prune_all(&bed, &LATER).await;
        bed.check().await;
        bed.close().await;
    }
}

/// A drop that is cut off at any moment, as by a crash, has done nothing or all.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_is_cut_off_is_whole_or_nothing() {
    let bed = bed_with_a_day(Driver::Postgres).await;
    let pending = bed.submit_all(jobs("w", 20)).await;
    bed.job_in(State::Done, job("done")).await;
    for ms in [1, 3, 5, 8, 12, 16, 20, 30, 40] {
        let second = bed.second_store().await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), second.maintain(&LATER)).await;
        partitions(&bed).await;
        assert_eq!(bed.states(&pending).await, [State::Pending; 20]);
        assert_eq!(bed.store.audit().await.unwrap(), Vec::<String>::new());
    }
    eventually("the day is dropped", async || {
        bed.store.maintain(&LATER).await.unwrap();
        has(&bed, "jobs_kept").await.then_some(())
    })
    .await;
    prune_all(&bed, &LATER).await;
    bed.check().await;
    bed.close().await;
}

/// As [`LATER`], and a day later.
const LATEST: Retention = Retention { done_ms: LATER.done_ms - DAY_MS, ..LATER };

/// More jobs than are copied, which wait since a day that is `day` days from today.
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
    let bed = bed_with_a_day(Driver::Postgres).await;
    let done = bed.job_in(State::Done, job("done")).await;
    let pending = bed.submit(job("w")).await;
    bed.sql("", &too_many(1)).await;
    assert_eq!(bed.store.maintain(&LATER).await.unwrap(), 0);
    assert!(!has(&bed, "jobs_today").await, "its turn has been");
    assert_eq!(bed.states(&[done, pending]).await, [State::Done, State::Pending]);
    assert_eq!(bed.number("SELECT count(*) FROM jobs").await, 100_003);
    prune_all(&bed, &LATER).await;
    assert_eq!(bed.find(done).await, None);
    // The days after it go, and when it has become small, it is put together with them.
    assert_eq!(bed.store.maintain(&LATEST).await.unwrap(), 1);
    assert_eq!(bed.number("SELECT count(*) FROM jobs").await, 100_002);
    bed.sql("", NO_MORE).await;
    bed.check().await;
    assert_eq!(bed.store.maintain(&Retention { done_ms: LATEST.done_ms - DAY_MS, ..LATER }).await.unwrap(), 1);
    let kept: Vec<_> = partitions(&bed).await.into_iter().filter(|it| it.0.starts_with("jobs_kept")).collect();
    assert_eq!((kept.len(), kept[0].0.as_str()), (1, "jobs_kept"));
    assert_eq!(bed.state(pending).await, State::Pending);
    bed.check().await;
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_also_where_the_oldest_partition_is_too_large_to_be_copied() {
    let bed = bed_with_a_day(Driver::Postgres).await;
    let done = bed.job_in(State::Done, job("done")).await;
    let pending = bed.submit(job("w")).await;
    bed.sql("", &too_many(-3)).await;
    drop_a_day(&bed).await;
    let found = partitions(&bed).await;
    assert!(found[0].0 == "jobs_before" && found[1].0.starts_with("jobs_kept_"), "{found:?}");
    assert_eq!(bed.find(done).await, None);
    assert_eq!(bed.store.audit().await.unwrap().len(), 1, "only counts are missing");
    bed.sql("", NO_MORE).await;
    prune_all(&bed, &LATER).await;
    assert_eq!(bed.store.maintain(&LATEST).await.unwrap(), 1);
    let found = partitions(&bed).await;
    assert!(found[0].0 == "jobs_kept" && !found[1].0.starts_with("jobs_kept"), "{found:?}");
    assert_eq!(bed.state(pending).await, State::Pending);
    bed.check().await;
    bed.close().await;
}

/// With plans for the parameters at hand, and with those that fit all.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_todays_jobs_does_not_look_into_old_partitions() {
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let bed = Bed::new(Driver::Postgres).await;
        let mut connection = bed.postgres().await;
        on(&mut connection, &format!("BEGIN; {DAYS} {TEN_DAYS} COMMIT")).await;
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
        on(&mut connection, &format!("ALTER DATABASE {name} SET plan_cache_mode = {mode}")).await;
        connection.close().await.unwrap();
        let reopening = bed.now_ms().await;
        let bed = bed.reopened().await;
        let mut connection = bed.postgres().await;
        // What they have read is counted when they end, which takes them a moment.
        eventually("all earlier connections have ended", async || {
            let earlier = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                           AND extract(epoch FROM backend_start) * 1000 < $1";
            let earlier: i64 = sqlx::query_scalar(earlier).bind(reopening).fetch_one(&mut connection).await.unwrap();
            (earlier == 0).then_some(())
        })
        .await;
        on(&mut connection, "SELECT pg_stat_reset()").await;

        let ids = bed.submit_all([vec![keyed("w", "k", 1)], jobs("w", 200)].concat()).await;
        bed.submit_or_known(keyed("w", "k", 1)).await;
        let session = bed.session("w").await;
        for (n, leased) in session.acquire(100).await.into_iter().enumerate() {
            match n % 4 {
                0 => drop(session.fail_for_good(leased.lease, "no").await),
                1 => drop(session.fail(leased.lease, "no").await),
                2 => drop(session.complete_with(leased.lease, "{}").await),
                _ => drop(session.snooze(leased.lease, HOUR_MS).await),
            }
        }
        bed.store.cancel(&ids[150..175], "").await.unwrap();
        bed.store.retry(&ids[150..155]).await.unwrap();
        bed.states(&ids).await;
        bed.store.history(ids[0]).await.unwrap();
        for state in [None, Some(State::Pending), Some(State::Failed), Some(State::Cancelled), Some(State::Running)] {
            for worker_id in [None, Some("w".to_owned())] {
                let query = ListQuery { state, worker_id, page_size: 10, ..ListQuery::default() };
                assert!(
                    bed.store.list(&query).await.unwrap().jobs.len() == 10 || state == Some(State::Running),
                    "{state:?}"
                );
            }
        }
        bed.store.delete(&ids[155..175]).await.unwrap();
        let bed = bed.reopened().await;

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
        bed.check().await;
        bed.close().await;
    }
}

/// An id that was never given out is nowhere, wherever it would be.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_time_are_looked_for_and_not_found() {
    let bed = bed_with_a_day(Driver::Postgres).await;
    bed.store.maintain(&WEEK).await.unwrap();
    let known = bed.submit(job("w")).await;
    let ids = [Uuid::nil(), Uuid::max(), Uuid::new_v4(), known, Uuid::now_v7()];
    let found = bed.store.get(&ids).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true, false]);
    bed.store.get(&[]).await.unwrap();
    bed.check().await;
    bed.close().await;
}
