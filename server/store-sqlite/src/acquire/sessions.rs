//! Sessions that acquire or are offered jobs, read by one statement for a whole group.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::limits;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    types::HandOff,
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::Tx;

#[derive(FromRow)]
pub(super) struct SessionRow {
    /// Index of its acquire in the group.
    n: i64,
    pub worker_id: String,
    pub host: String,
    pub held: i64,
    pub repeated: bool,
    /// Its worker_id is paused, or its lease has run out.
    pub gets_nothing: bool,
    #[sqlx(flatten)]
    pub jobs: WaitingJobs,
}

/// Jobs of a worker_id that wait.
#[derive(FromRow)]
pub(super) struct WaitingJobs {
    /// Some can be taken.
    pub runnable: bool,
    /// Time at which the next job becomes due.
    pub next_run_at: Option<i64>,
    /// Some wait for sessions that handle their task.
    pub for_tasks: bool,
}

/// Reads the session of each acquire, and whether there are jobs for it. The CROSS JOIN keeps the order of the loops.
///
/// A session whose lease has run out, but that rescue has not ended, gets nothing, like one whose worker_id is paused:
/// perhaps the server could not hear its heartbeats.
const READ_SESSIONS: &str = "
    WITH p(priority) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))
    SELECT a.key AS n, s.worker_id, s.host,
           (SELECT coalesce(sum(length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = s.id) AS held,
           EXISTS (SELECT 1 FROM claims c WHERE c.session_id = s.id AND c.acquire_no = a.value ->> 1) AS repeated,
           s.expires_at <= ?2 OR EXISTS (SELECT 1 FROM pauses w WHERE w.worker_id = s.worker_id) AS gets_nothing,
           EXISTS (SELECT 1 FROM p CROSS JOIN ready r
                   WHERE r.worker_id = s.worker_id AND r.priority = p.priority AND r.run_at <= ?2) AS runnable,
           (SELECT min((SELECT r.run_at FROM ready r
                        WHERE r.worker_id = s.worker_id AND r.priority = p.priority AND r.run_at > ?2
                        ORDER BY r.run_at LIMIT 1)) FROM p) AS next_run_at,
           EXISTS (SELECT 1 FROM ready r WHERE r.worker_id = s.worker_id AND r.for_task IS NOT NULL) AS for_tasks
    FROM json_each(?1) AS a CROSS JOIN sessions s
    WHERE s.id = unhex(a.value ->> 0) AND s.ended_at IS NULL";

/// Reads the sessions of acquires, which are given by session and acquire_no. `None`: the session is not alive.
pub(super) async fn read_sessions(
    tx: &mut Tx,
    acquires: impl ExactSizeIterator<Item = (Uuid, u32)>,
    now: i64,
) -> StoreResult<Vec<Option<SessionRow>>> {
    let mut sessions: Vec<_> = std::iter::repeat_with(|| None).take(acquires.len()).collect();
    let asked: Vec<_> = acquires.map(|(session_id, acquire_no)| (session_id.simple(), acquire_no)).collect();
    let asked = serde_json::to_string(&asked).map_err(|error| StoreError::Data(error.to_string()))?;
    let rows: Vec<SessionRow> = sqlx::query_as(READ_SESSIONS).bind(asked).bind(now).fetch_all(&mut *tx).await?;
    for row in rows {
        let at = row.n as usize;
        sessions[at] = Some(row);
    }
    Ok(sessions)
}

/// Hosts of the sessions of offers, in their order; `None` if the session cannot take its offer.
pub(crate) async fn takers(tx: &mut Tx, offers: &[HandOff], now: i64) -> StoreResult<Vec<Option<String>>> {
    if offers.is_empty() {
        return Ok(Vec::new());
    }
    let asked = offers.iter().map(|offer| (offer.session_id, offer.acquire_no));
    let sessions = read_sessions(tx, asked, now).await?;
    // Offers of the same group to one session, which its row does not count.
    let (mut taken, mut numbers) = (HashMap::<Uuid, i64>::new(), HashSet::new());
    let hosts = offers.iter().zip(sessions).map(|(offer, session)| {
        let session = session?;
        let (jobs, taken) = (offer.jobs.len() as i64, taken.entry(offer.session_id).or_default());
        let room = i64::from(limits::JOBS_PER_SESSION) - session.held - *taken;
        let can = !session.repeated && !session.gets_nothing && jobs <= room && session.worker_id == offer.worker_id;
        if !can || !numbers.insert((offer.session_id, offer.acquire_no)) {
            return None;
        }
        *taken += jobs;
        Some(session.host)
    });
    Ok(hosts.collect())
}
