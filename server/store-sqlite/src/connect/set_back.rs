//! Correction of stored times after the server has run with a clock that was ahead.

use jobqueue_store::{clock::wall_ms, error::StoreResult, rows::write::Deltas};
use sqlx::FromRow;

use crate::{SqliteStore, Tx, begin, deltas};

/// Difference of clocks, in milliseconds, below which stored times are left as they are.
const SKEW_MS: i64 = 60_000;

/// Statements that move each time after `?1` back by `?2`. Ids stay as they are, because programs know them.
const TIMES: [&str; 18] = [
    "UPDATE sessions SET heartbeat_at = heartbeat_at - ?2, expires_at = expires_at - ?2 WHERE heartbeat_at > ?1",
    "UPDATE sessions SET started_at = started_at - ?2 WHERE started_at > ?1",
    "UPDATE sessions SET ended_at = ended_at - ?2 WHERE ended_at > ?1",
    "UPDATE claims SET claimed_at = claimed_at - ?2, deadline = deadline - ?2 WHERE claimed_at > ?1",
    "UPDATE done SET claimed_at = claimed_at - ?2 WHERE claimed_at > ?1",
    "UPDATE done SET finished_at = finished_at - ?2 WHERE finished_at > ?1",
    "UPDATE dead_letters SET started_at = started_at - ?2 WHERE started_at > ?1",
    "UPDATE dead_letters SET failed_at = failed_at - ?2 WHERE failed_at > ?1",
    "UPDATE cancelled SET started_at = started_at - ?2 WHERE started_at > ?1",
    "UPDATE cancelled SET cancelled_at = cancelled_at - ?2 WHERE cancelled_at > ?1",
    "UPDATE attempts SET started_at = started_at - ?2 WHERE started_at > ?1",
    "UPDATE attempts SET ended_at = ended_at - ?2 WHERE ended_at > ?1",
    "UPDATE progress SET at = at - ?2 WHERE at > ?1",
    "UPDATE pauses SET paused_at = paused_at - ?2 WHERE paused_at > ?1",
    "UPDATE idempotency_keys SET gone_at = gone_at - ?2 WHERE gone_at > ?1",
    "UPDATE operations SET started_at = started_at - ?2 WHERE started_at > ?1",
    "UPDATE operations SET updated_at = updated_at - ?2, lease_until = 0, next_at = 0 WHERE updated_at > ?1",
    "UPDATE operations SET finished_at = finished_at - ?2 WHERE finished_at > ?1",
];

/// Jobs pending since a time that is still to come. From now on they wait as long as they were told to.
const READY: &str = "SELECT worker_id, run_at, enqueued_at, attempts_used FROM ready WHERE enqueued_at > ?1";

/// Moves pending jobs back. Their inline jobs are removed, because a row with one has the same `run_at` as `jobs`.
const SHIFT_READY: &str =
    "UPDATE ready SET run_at = run_at - ?2, enqueued_at = enqueued_at - ?2, inline_job = NULL WHERE enqueued_at > ?1";

#[derive(FromRow)]
struct ReadyRow {
    worker_id: String,
    run_at: i64,
    enqueued_at: i64,
    attempts_used: i32,
}

impl SqliteStore {
    /// Moves stored times that are still to come back by as much as the newest of them is ahead of this machine's wall
    /// clock; returns by how many milliseconds. No other process may work on the file, and this store is not used
    /// afterwards.
    pub async fn set_clock_back(&self) -> StoreResult<i64> {
        let mut writer = self.writer().await?;
        let now = wall_ms();
        let ahead = self.clock.now_ms() - now;
        if ahead < SKEW_MS {
            return Ok(0);
        }
        let mut tx = begin(&mut writer).await?;
        for statement in TIMES {
            sqlx::query(statement).bind(now).bind(ahead).execute(&mut *tx).await?;
        }
        shift_ready(&mut tx, now, ahead).await?;
        // Minutes in the future: their counts would be added to when they come.
        sqlx::query("DELETE FROM series WHERE minute > ?1").bind(now / 60_000).execute(&mut *tx).await?;
        sqlx::query("UPDATE pruning SET confirmed_at = min(confirmed_at, ?1)").bind(now).execute(&mut *tx).await?;
        sqlx::query("UPDATE heard_until SET until = min(until, ?1)").bind(now).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(ahead)
    }
}

async fn shift_ready(tx: &mut Tx, now: i64, ahead: i64) -> StoreResult<()> {
    let rows: Vec<ReadyRow> = sqlx::query_as(READY).bind(now).fetch_all(&mut *tx).await?;
    let mut deltas = Deltas::default();
    for row in &rows {
        deltas.pending(&row.worker_id, row.enqueued_at, row.run_at, row.attempts_used, -1);
        deltas.pending(&row.worker_id, row.enqueued_at - ahead, row.run_at - ahead, row.attempts_used, 1);
    }
    sqlx::query(SHIFT_READY).bind(now).bind(ahead).execute(&mut *tx).await?;
    deltas::write_deltas(tx, &deltas, now).await
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::state::{Ending, State};

    use super::*;
    use jobqueue_store::{
        Acquire, Acquired, ConnectOptions, NewJob, NewSession, Registration, Settlement, Start, Store as _, Unit,
        UnitAnswer,
    };

    const HOUR_MS: i64 = 3_600_000;
    const AHEAD_MS: i64 = 40 * 24 * HOUR_MS;

    async fn submit(store: &SqliteStore, start: Start) -> uuid::Uuid {
        let job = NewJob {
            worker_id: "w".into(),
            task: String::new(),
            priority: 5,
            start,
            payload: "{}".into(),
            max_retries: 3,
            retry: None,
            attempt_timeout_ms: Some(HOUR_MS),
            key: None,
            origin: None,
        };
        let answers = store.insert(&[Unit { jobs: vec![job] }], &[]).await.unwrap().answers;
        let UnitAnswer::Stored(stored) = &answers[0] else { panic!("{answers:?}") };
        stored[0].id
    }

    #[tokio::test]
    async fn stored_times_that_are_to_come_move_back_and_the_clock_is_right_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = ConnectOptions::new(format!("sqlite://{}/jobs.db", folder.path().display()));
        let store = SqliteStore::connect(&options).await.unwrap();
        let next_week = wall_ms() + 7 * 24 * HOUR_MS;
        let of_before = submit(&store, Start::At { run_at_ms: next_week }).await;

        store.clock.advance(AHEAD_MS);
        let session = NewSession {
            worker_id: "w".into(),
            host: "h".into(),
            pid: 1,
            version: String::new(),
            tasks: Vec::new(),
            slots: 10,
            lease_ms: 30_000,
            predecessors: Vec::new(),
        };
        let Registration::New { session_id, .. } = store.register(&session).await.unwrap() else {
            panic!("not registered")
        };
        let done = submit(&store, Start::Now).await;
        let running = submit(&store, Start::Now).await;
        let acquire = Acquire { session_id, worker_id: None, acquire_no: 1, max_jobs: 9 };
        // The job for next week is due by this clock, too.
        let Acquired::Jobs { jobs, .. } = store.acquire(&acquire).await.unwrap() else { panic!("no jobs") };
        let lease = |id| jobs.iter().find(|leased| leased.job.id == id).unwrap().lease;
        let (text, note) = (String::new(), String::new());
        let session_id = Some(session_id);
        let settled = Settlement { session_id, lease: lease(done), ending: Ending::Complete, text, result: None, note };
        store.settle(&[settled]).await.unwrap();
        let delayed = submit(&store, Start::After { delay_ms: HOUR_MS }).await;
        let waiting = submit(&store, Start::Now).await;

        let back = store.set_clock_back().await.unwrap();
        assert!((AHEAD_MS - 1_000..=AHEAD_MS).contains(&back), "{back}");
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        store.close().await;

        let store = SqliteStore::connect(&options).await.unwrap();
        let now = store.now_ms().await.unwrap();
        assert!((now - wall_ms()).abs() < 1_000, "the clock is still ahead");
        let found = store.get(&[done, running, delayed, waiting, of_before]).await.unwrap();
        let found: Vec<_> = found.into_iter().map(Option::unwrap).collect();
        assert_eq!((found[0].state, found[1].state), (State::Done, State::Running));
        assert!(found[0].finished_at_ms.unwrap() <= now);
        assert!((now..=now + HOUR_MS).contains(&found[2].run_at_ms), "{:?}", found[2]);
        assert!(found[3].run_at_ms <= now, "{:?}", found[3]);
        assert_eq!(store.set_clock_back().await.unwrap(), 0, "there is nothing left to do");
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        store.close().await;
    }
}
