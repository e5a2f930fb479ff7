//! Time of the queue, which follows the wall clock forwards, but never backwards.

use jobqueue_store::error::StoreResult;

use crate::{SqliteStore, begin, sessions::outage};

/// Milliseconds that the wall clock may gain in a second or so by being adjusted. A larger gain is a jump: the machine
/// was suspended, or its clock was set.
const JUMP_MS: i64 = 1_000;

/// Gives sessions that were alive at a jump their whole lease again: none could be heard in the time that the jump left
/// out.
const GRANT_LEASES: &str = "
    UPDATE sessions SET expires_at = ?2 + lease WHERE ended_at IS NULL AND expires_at > ?1 AND expires_at < ?2 + lease";

/// Moves the start of running attempts by a jump: none ran in the time that it left out.
const SHIFT_ATTEMPTS: &str = "UPDATE claims SET claimed_at = claimed_at + ?1, deadline = deadline + ?1";

/// Advances the queue's time to this machine's wall clock, `wall_ms`.
pub(crate) async fn follow(store: &SqliteStore, wall_ms: i64) -> StoreResult<()> {
    let behind = wall_ms - store.clock.now_ms();
    if behind < JUMP_MS {
        store.clock.advance(behind.max(0));
        return Ok(());
    }
    // Leases and clock change under the writer's lock, so that leases are judged by the new time only after they are
    // extended.
    let mut writer = store.writer().await?;
    let before = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    sqlx::query(GRANT_LEASES).bind(before).bind(before + behind).execute(&mut *tx).await?;
    sqlx::query(SHIFT_ATTEMPTS).bind(behind).execute(&mut *tx).await?;
    tx.commit().await?;
    // A jump is no outage: sessions were heard all the time.
    outage::shift_heard_until(store, behind);
    store.clock.advance(behind);
    tracing::warn!(
        seconds = behind / 1_000,
        "the wall clock went ahead at once (a suspended machine, or a clock that was set): the queue's time follows, and \
         sessions that were alive get their lease again"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobqueue_store::{
        Acquire, Acquired, ConnectOptions, NewJob, NewSession, Registration, SessionQuery, Start, Store as _, Unit,
        UnitAnswer, clock::wall_ms,
    };

    const HOUR_MS: i64 = 3_600_000;

    fn job(start: Start, attempt_timeout_ms: Option<i64>) -> Unit {
        let job = NewJob {
            worker_id: "w".into(),
            task: String::new(),
            priority: 5,
            start,
            payload: "{}".into(),
            max_retries: 0,
            retry: None,
            attempt_timeout_ms,
            key: None,
            origin: None,
        };
        Unit { jobs: vec![job] }
    }

    fn session(lease_ms: i64) -> NewSession {
        NewSession {
            worker_id: "w".into(),
            host: "h".into(),
            pid: 1,
            version: String::new(),
            tasks: Vec::new(),
            slots: 10,
            lease_ms,
            predecessors: Vec::new(),
        }
    }

    fn jobs_of(acquired: Acquired) -> usize {
        let Acquired::Jobs { jobs, .. } = acquired else { panic!("{acquired:?}") };
        jobs.len()
    }

    #[tokio::test]
    async fn after_a_jump_of_the_wall_clock_what_is_due_runs_and_nobody_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let options = ConnectOptions::new(format!("sqlite://{}/jobs.db", folder.path().display()));
        let store = SqliteStore::connect(&options).await.unwrap();
        let Registration::New { session_id, .. } = store.register(&session(30_000)).await.unwrap() else {
            panic!("not registered")
        };
        store.insert(&[job(Start::Now, Some(60_000))], &[]).await.unwrap();
        store.note_heard().await.unwrap();
        let acquire = Acquire { session_id, worker_id: None, acquire_no: 1, max_jobs: 1 };
        assert_eq!(jobs_of(store.acquire(&acquire).await.unwrap()), 1);
        // Due in a moment by the future wall clock, which is an hour ahead.
        let due = wall_ms() + HOUR_MS;
        let answers = store.insert(&[job(Start::At { run_at_ms: due }, None)], &[]).await.unwrap().answers;
        assert!(matches!(answers[0], UnitAnswer::Stored(_)));

        follow(&store, wall_ms() + HOUR_MS).await.unwrap();
        let skew = store.now_ms().await.unwrap() - wall_ms() - HOUR_MS;
        assert!(skew.abs() < 1_000, "{skew}");
        assert_eq!(store.note_heard().await.unwrap(), 0, "a jump is no outage");
        let rescued = store.rescue(100).await.unwrap();
        assert_eq!((rescued.sessions, rescued.lost, rescued.timed_out), (0, 0, 0), "the jump took jobs away");
        let alive = store.sessions(&SessionQuery { page_size: 10, ..SessionQuery::default() }).await.unwrap();
        assert!(alive[0].expires_at_ms > store.now_ms().await.unwrap() + 20_000, "{alive:?}");
        let acquire = Acquire { acquire_no: 2, ..acquire };
        assert_eq!(jobs_of(store.acquire(&acquire).await.unwrap()), 1, "what is due is not found");

        // The queue's time does not go backwards.
        follow(&store, wall_ms()).await.unwrap();
        assert!(store.now_ms().await.unwrap() - wall_ms() > HOUR_MS - 1_000);
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        store.close().await;
    }
}
