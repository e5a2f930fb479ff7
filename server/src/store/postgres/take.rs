//! Taking runnable jobs for sessions that ask, each of another worker_id.

use std::{collections::HashMap, sync::Arc, time::Instant};

use jobqueue_shared::limits;
use serde::Deserialize;
use sqlx::{FromRow as _, Row as _};

use super::{
    PostgresStore, Tx,
    floor::{Floors, Key, PRIORITIES, Start},
    held::Taking,
    pool::Pool,
};
use crate::store::{error::StoreResult, rows::TakenRow, types::Acquire};

/// A session that asks, and what there is for it.
pub(super) struct Look<'a> {
    pub request: &'a Acquire,
    pub reply_bytes: usize,
    pub start: Start,
    /// Where it looks: at the start, or below.
    keys: [Key; PRIORITIES],
    pub taking: Taking<'a>,
    /// `None`: it is not alive.
    pub session: Option<SessionRow>,
    pub taken: Vec<TakenRow>,
    /// They were taken before they were due, for their tasks.
    pub early: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct SessionRow {
    pub worker_id: String,
    pub host: String,
    pub now: i64,
    /// Where it was counted.
    pub held: Option<i64>,
    pub repeated: bool,
    pub paused: bool,
}

impl<'a> Look<'a> {
    pub(super) fn new(store: &'a PostgresStore, request: &'a Acquire, reply_bytes: usize) -> Self {
        let taking = store.held.take(request.session_id, request.max_jobs);
        let start = store.floors.start(request.worker_id.as_deref(), store.clock.now_ms());
        Self { request, reply_bytes, keys: start.keys, start, taking, session: None, taken: Vec::new(), early: false }
    }

    /// Its session, if that may have jobs.
    pub(super) fn taker(&self) -> Option<&SessionRow> {
        self.session.as_ref().filter(|session| !session.repeated && !session.paused)
    }

    /// For how many jobs the session had room.
    pub(super) fn room(&self, session: &SessionRow) -> i64 {
        let held = session.held.or(self.taking.holds).unwrap_or_default();
        i64::from(limits::JOBS_PER_SESSION) - self.taking.others - held
    }

    fn is_short(&self) -> bool {
        let most = |session| self.room(session).min(i64::from(self.request.max_jobs));
        self.taker().is_some_and(|session| (self.taken.len() as i64) < most(session))
    }
}

/// Whether to wait for sessions that somebody has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    Wait,
    Skip,
}

/// A session whose lease has run out, and that rescue has not ended, gets nothing, as one that is paused: it may be that
/// nobody could hear its heartbeats.
///
/// A session is locked against rescue, which takes the row FOR UPDATE, and not against heartbeats. An acquire that
/// commits late is therefore never rescued before it is seen.
///
/// By priority, then run_at, then id, one index range a priority, so that jobs that wait for their time are never
/// walked. `ctid = ANY(ARRAY(..))` is a TID scan whatever the statistics, and takes no more rows than the LIMIT. One row
/// more tells of each session, in the same statement, for the server waits for the answer to each. Of one session
/// everything is its own.
macro_rules! take_ready {
    ($locked:literal) => {
        concat!(
            "WITH session AS MATERIALIZED (
        SELECT a.n, a.max_jobs, a.bytes, a.most, a.is_first, s.*
        FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::boolean[])
             WITH ORDINALITY AS a(id, acquire_no, max_jobs, bytes, most, is_first, counts, n),
             LATERAL (
                 SELECT s.worker_id, s.host, now_ms() AS now,
                        CASE WHEN a.counts THEN
                            (SELECT coalesce(sum(octet_length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = s.id)
                        END AS held,
                        EXISTS (SELECT FROM claims c WHERE c.session_id = s.id AND c.acquire_no = a.acquire_no) AS repeated,
                        s.expires_at <= now_ms() OR EXISTS (SELECT FROM worker_ids w WHERE w.worker_id = s.worker_id) AS paused
                 FROM sessions s
                 WHERE s.id = a.id AND s.ended_at IS NULL
                 FOR KEY SHARE OF s",
            $locked,
            "
             ) AS s
    ), room AS MATERIALIZED (
        SELECT n, worker_id, now, bytes, is_first,
               CASE WHEN repeated OR paused THEN 0 ELSE greatest(least(max_jobs, most - coalesce(held, 0)), 0) END AS jobs
        FROM session
    ), taken AS (DELETE FROM ready WHERE ctid = ANY(ARRAY(
        SELECT sized.tid FROM room, LATERAL (
            SELECT tid, n, sum(payload_bytes) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS bytes
            FROM (
                SELECT r.tid, r.payload_bytes, row_number() OVER () AS n
                FROM generate_series(0, 9) AS p(priority), LATERAL (
                    SELECT ready.ctid AS tid, ready.payload_bytes
                    FROM ready
                    WHERE ready.worker_id = room.worker_id AND ready.priority = p.priority::smallint AND ready.run_at <= room.now
                      AND (ready.run_at, ready.id) > (($8::bigint[])[(room.n - 1) * 10 + p.priority + 1],
                                                      ($9::uuid[])[(room.n - 1) * 10 + p.priority + 1])
                    ORDER BY ready.run_at, ready.id
                    LIMIT room.jobs
                    FOR UPDATE SKIP LOCKED
                ) AS r
                LIMIT room.jobs
            ) AS candidates
        ) AS sized
        WHERE sized.bytes <= room.bytes OR (sized.n = 1 AND room.is_first)
    ))
    RETURNING id, priority, run_at, run_no, used, payload_bytes, since, facts, worker_id)
    SELECT NULL::uuid, NULL::smallint, NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::bigint,
           NULL::bytea, NULL::text, n,
           json_build_object('worker_id', worker_id, 'host', host, 'now', now, 'held', held, 'repeated', repeated, 'paused', paused)::text
    FROM session
    UNION ALL
    SELECT id, priority, run_at, run_no, used, payload_bytes, since, facts,
           CASE WHEN cardinality($1::uuid[]) > 1 THEN worker_id END, NULL, NULL
    FROM taken"
        )
    };
}

/// As many for each as fit beside those that it has: `max_jobs` and the bytes of a reply, but at least one in all.
pub(super) async fn take_ready(tx: &mut Tx, looks: &mut [&mut Look<'_>], locked: Locked) -> StoreResult<()> {
    let statement = match locked {
        Locked::Wait => take_ready!(""),
        Locked::Skip => take_ready!(" SKIP LOCKED"),
    };
    let bytes = |look: &Look<'_>| look.taken.iter().map(|row| i64::from(row.payload_bytes)).sum::<i64>();
    let most = |look: &Look<'_>| i64::from(limits::JOBS_PER_SESSION) - look.taking.others - look.taken.len() as i64;
    let rows = {
        let all = || looks.iter().map(|look| &**look);
        sqlx::query(statement)
            .bind(all().map(|look| look.request.session_id).collect::<Vec<_>>())
            .bind(all().map(|look| look.request.acquire_no as i32).collect::<Vec<_>>())
            .bind(all().map(|look| i64::from(look.request.max_jobs) - look.taken.len() as i64).collect::<Vec<_>>())
            .bind(all().map(|look| look.reply_bytes as i64 - bytes(look)).collect::<Vec<_>>())
            .bind(all().map(most).collect::<Vec<_>>())
            .bind(all().map(|look| look.taken.is_empty()).collect::<Vec<_>>())
            .bind(all().map(|look| look.taking.holds.is_none()).collect::<Vec<_>>())
            .bind(all().flat_map(|look| look.keys.map(|(run_at, _)| run_at)).collect::<Vec<_>>())
            .bind(all().flat_map(|look| look.keys.map(|(_, id)| id)).collect::<Vec<_>>())
            .fetch_all(&mut **tx)
            .await?
    };
    let mut place_of = HashMap::new();
    for row in &rows {
        if let Some(json) = row.try_get::<Option<&str>, _>(10)? {
            let session: SessionRow = serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let place = row.try_get::<i64, _>(9)? as usize - 1;
            place_of.insert(session.worker_id.clone(), place);
            let known = &mut looks[place].session;
            // What became due between two looks does not start before its time.
            match known {
                Some(known) => known.now = known.now.max(session.now),
                None => *known = Some(session),
            }
        }
    }
    for row in &rows {
        if row.try_get::<Option<i64>, _>(9)?.is_some() {
            continue;
        }
        let place = match row.try_get::<Option<&str>, _>(8)? {
            Some(worker_id) => place_of.get(worker_id).copied().unwrap_or_default(),
            None => 0,
        };
        looks[place].taken.push(TakenRow::from_row(row)?);
    }
    for look in looks {
        look.taken.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    }
    Ok(())
}

/// A short answer: perhaps something was put below the floors.
pub(super) async fn look_below(store: &PostgresStore, tx: &mut Tx, looks: &mut [Look<'_>]) -> StoreResult<()> {
    for look in looks.iter().filter(|look| look.start.expired) {
        if let Some(session) = look.taker() {
            let (pool, floors) = (store.pool.clone(), Arc::clone(&store.floors));
            tokio::spawn(look_from_bottom(pool, floors, session.worker_id.clone(), session.now));
        }
    }
    let mut short = Vec::new();
    for look in looks.iter_mut().filter(|look| look.is_short()) {
        if let Some(below) = look.start.below() {
            look.keys = below.keys;
            short.push(look);
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    let began = Instant::now();
    // Their sessions are locked by this transaction.
    take_ready(tx, &mut short, Locked::Skip).await?;
    for session in short.iter().filter_map(|look| look.session.as_ref()) {
        store.floors.looked_below(&session.worker_id, began);
    }
    Ok(())
}

/// The time is a parameter: compared with a function that changes, rows that wait for their time would be walked.
const FIRST_READY: &str = "
    SELECT p.priority::smallint, r.run_at, r.id FROM generate_series(0, 9) AS p(priority), LATERAL (
        SELECT ready.run_at, ready.id FROM ready
        WHERE ready.worker_id = $1 AND ready.priority = p.priority::smallint AND ready.run_at <= $2
        ORDER BY ready.run_at, ready.id LIMIT 1
    ) AS r";

/// Off the acquire path: behind an old snapshot this walks every dead row. Not getting to it is no loss: the next
/// expiry asks again.
async fn look_from_bottom(pool: Pool, floors: Arc<Floors>, worker_id: String, now: i64) {
    let began = Instant::now();
    match sqlx::query_as(FIRST_READY).bind(&worker_id).bind(now).fetch_all(&pool).await {
        Ok(first) => floors.looked(&worker_id, began, &first),
        Err(error) => tracing::debug!(%error, worker_id, "nobody looked below the floor"),
    }
}
