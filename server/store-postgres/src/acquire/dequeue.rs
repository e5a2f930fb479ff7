//! Dequeue: takes runnable jobs out of `ready` for sessions, each of another worker_id.

use std::{collections::HashMap, sync::Arc, time::Instant};

use jobqueue_shared::limits;
use jobqueue_store::{error::StoreResult, rows::job::TakenRow, types::Acquire};
use serde::Deserialize;
use sqlx::{FromRow as _, Row as _};

use crate::{
    PostgresStore, Tx,
    acquire::{
        scan_cursor::{Key, PRIORITIES, ScanCursors, ScanStart},
        session_quota::Reservation,
    },
    connect::pool::Pool,
};

/// The acquire of one session, and the jobs that were taken for it.
pub(crate) struct Dequeue<'a> {
    pub request: &'a Acquire,
    pub reply_bytes: usize,
    pub start: ScanStart,
    /// Keys from which the next scan starts: the scan cursors, or below them.
    keys: [Key; PRIORITIES],
    pub reservation: Reservation<'a>,
    /// `None`: the session is not alive.
    pub session: Option<SessionRow>,
    pub taken: Vec<TakenRow>,
    /// `taken` are jobs that wait for sessions that handle their task, taken before they were due.
    pub early: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SessionRow {
    pub worker_id: String,
    pub host: String,
    pub now: i64,
    /// Number of jobs that the session holds; `None` if they were not counted.
    pub held: Option<i64>,
    pub repeated: bool,
    /// Its worker_id is paused, or its lease has run out.
    pub gets_nothing: bool,
}

impl<'a> Dequeue<'a> {
    pub(crate) fn new(store: &'a PostgresStore, request: &'a Acquire, reply_bytes: usize) -> Self {
        let reservation = store.session_quotas.reserve(request.session_id, request.max_jobs);
        let start = store.scan_cursors.start(request.worker_id.as_deref(), store.clock.now_ms());
        Self {
            request,
            reply_bytes,
            keys: start.keys,
            start,
            reservation,
            session: None,
            taken: Vec::new(),
            early: false,
        }
    }

    /// The session, if it may get jobs.
    pub(crate) fn taker(&self) -> Option<&SessionRow> {
        self.session.as_ref().filter(|session| !session.repeated && !session.gets_nothing)
    }

    /// Number of jobs for which the session had room before this acquire.
    pub(crate) fn room(&self, session: &SessionRow) -> i64 {
        let held = session.held.or(self.reservation.holds).unwrap_or_default();
        i64::from(limits::JOBS_PER_SESSION) - self.reservation.others - held
    }

    fn is_short(&self) -> bool {
        let most = |session| self.room(session).min(i64::from(self.request.max_jobs));
        self.taker().is_some_and(|session| (self.taken.len() as i64) < most(session))
    }
}

/// Whether a dequeue waits for session rows that another transaction has locked, or skips them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locked {
    Wait,
    Skip,
}

/// Statement that dequeues jobs for several sessions. `$locked` is what FOR KEY SHARE does with locked session rows.
///
/// A session whose lease has run out, but that rescue has not ended, gets nothing, like one whose worker_id is paused:
/// perhaps no server could hear its heartbeats.
///
/// A session is locked against rescue, which takes the row FOR UPDATE, and not against heartbeats. Rescue therefore
/// waits for an acquire that commits late, and sees its claims.
///
/// Jobs are taken by priority, then run_at, then id, with one index range for each priority, so that jobs that are not
/// due are never walked. `ctid = ANY(ARRAY(..))` is a TID scan whatever the statistics, and deletes no more rows than
/// the LIMIT. Beside the jobs the statement returns one row for each session, because the server waits for the reply to
/// each statement. With a single session, all jobs are its own and come without a worker_id.
macro_rules! dequeue {
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
                        s.expires_at <= now_ms() OR EXISTS (SELECT FROM pauses w WHERE w.worker_id = s.worker_id) AS gets_nothing
                 FROM sessions s
                 WHERE s.id = a.id AND s.ended_at IS NULL
                 FOR KEY SHARE OF s",
            $locked,
            "
             ) AS s
    ), room AS MATERIALIZED (
        SELECT n, worker_id, now, bytes, is_first,
               CASE WHEN repeated OR gets_nothing THEN 0 ELSE greatest(least(max_jobs, most - coalesce(held, 0)), 0) END AS jobs
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
    RETURNING id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job, worker_id)
    SELECT NULL::uuid, NULL::smallint, NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::bigint,
           NULL::bytea, NULL::text, n,
           json_build_object('worker_id', worker_id, 'host', host, 'now', now, 'held', held, 'repeated', repeated, 'gets_nothing', gets_nothing)::text
    FROM session
    UNION ALL
    SELECT id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job,
           CASE WHEN cardinality($1::uuid[]) > 1 THEN worker_id END, NULL, NULL
    FROM taken"
        )
    };
}

/// Takes jobs for each session, besides those that it has, up to `max_jobs` and the bytes of a reply, but at least one
/// in all.
pub(crate) async fn dequeue(tx: &mut Tx, looks: &mut [&mut Dequeue<'_>], locked: Locked) -> StoreResult<()> {
    let statement = match locked {
        Locked::Wait => dequeue!(""),
        Locked::Skip => dequeue!(" SKIP LOCKED"),
    };
    let bytes = |look: &Dequeue<'_>| look.taken.iter().map(|row| i64::from(row.payload_bytes)).sum::<i64>();
    let most =
        |look: &Dequeue<'_>| i64::from(limits::JOBS_PER_SESSION) - look.reservation.others - look.taken.len() as i64;
    let rows = {
        let all = || looks.iter().map(|look| &**look);
        sqlx::query(statement)
            .bind(all().map(|look| look.request.session_id).collect::<Vec<_>>())
            .bind(all().map(|look| look.request.acquire_no as i32).collect::<Vec<_>>())
            .bind(all().map(|look| i64::from(look.request.max_jobs) - look.taken.len() as i64).collect::<Vec<_>>())
            .bind(all().map(|look| look.reply_bytes as i64 - bytes(look)).collect::<Vec<_>>())
            .bind(all().map(most).collect::<Vec<_>>())
            .bind(all().map(|look| look.taken.is_empty()).collect::<Vec<_>>())
            .bind(all().map(|look| look.reservation.holds.is_none()).collect::<Vec<_>>())
            .bind(all().flat_map(|look| look.keys.map(|(run_at, _)| run_at)).collect::<Vec<_>>())
            .bind(all().flat_map(|look| look.keys.map(|(_, id)| id)).collect::<Vec<_>>())
            .fetch_all(&mut **tx)
            .await?
    };
    let mut index_of = HashMap::new();
    for row in &rows {
        if let Some(json) = row.try_get::<Option<&str>, _>(10)? {
            let session: SessionRow = serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let place = row.try_get::<i64, _>(9)? as usize - 1;
            index_of.insert(session.worker_id.clone(), place);
            let known = &mut looks[place].session;
            // A job that became due between two scans must not start before its time: the later time counts.
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
            Some(worker_id) => index_of.get(worker_id).copied().unwrap_or_default(),
            None => 0,
        };
        looks[place].taken.push(TakenRow::from_row(row)?);
    }
    for look in looks {
        look.taken.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    }
    Ok(())
}

/// Starts the full scans that are due, and scans below the scan cursors for sessions that got fewer jobs than they
/// asked for: jobs may have become ready there.
pub(crate) async fn scan_below(store: &PostgresStore, tx: &mut Tx, looks: &mut [Dequeue<'_>]) -> StoreResult<()> {
    for look in looks.iter().filter(|look| look.start.starts_full_scan) {
        if let Some(session) = look.taker() {
            let (pool, scan_cursors) = (store.pool.clone(), Arc::clone(&store.scan_cursors));
            tokio::spawn(full_scan(pool, scan_cursors, session.worker_id.clone(), session.now));
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
    // This transaction has locked the sessions already, so that none is skipped.
    dequeue(tx, &mut short, Locked::Skip).await?;
    for session in short.iter().filter_map(|look| look.session.as_ref()) {
        store.scan_cursors.scanned_below(&session.worker_id, began);
    }
    Ok(())
}

/// First runnable row of each priority. The time is a parameter: with a volatile function in its place, rows that are
/// not due would be walked.
const FIRST_READY: &str = "
    SELECT p.priority::smallint, r.run_at, r.id FROM generate_series(0, 9) AS p(priority), LATERAL (
        SELECT ready.run_at, ready.id FROM ready
        WHERE ready.worker_id = $1 AND ready.priority = p.priority::smallint AND ready.run_at <= $2
        ORDER BY ready.run_at, ready.id LIMIT 1
    ) AS r";

/// Full scan of a worker_id, which lowers its scan cursor. It runs beside the acquires, because it walks every dead row
/// while an old snapshot is held. A failure costs nothing: another scan is due soon.
async fn full_scan(pool: Pool, scan_cursors: Arc<ScanCursors>, worker_id: String, now: i64) {
    let began = Instant::now();
    match sqlx::query_as(FIRST_READY).bind(&worker_id).bind(now).fetch_all(&pool).await {
        Ok(first) => scan_cursors.full_scan_found(&worker_id, began, &first),
        Err(error) => {
            tracing::debug!(%error, worker_id, "the full scan failed");
            // Its duration counts all the same.
            scan_cursors.full_scan_found(&worker_id, began, &[]);
        }
    }
}
