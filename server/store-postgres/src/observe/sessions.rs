//! Reads of sessions and of the jobs that they hold.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::{packed_claim, session::SessionRow},
    sessions::session_end::{self, HeldClaimRow},
    types::{SessionDetails, SessionQuery, SessionRecord},
};
use uuid::Uuid;

use crate::{PostgresStore, observe::read, sessions::end};

/// A page of up to $6 sessions and about $7 bytes, but at least one session: the tasks of one can be 100 KB.
const SESSIONS: &str = "
    SELECT s.id, s.worker_id, s.host, s.pid, s.version, s.tasks, s.slots, s.lease, s.started_at, s.heartbeat_at,
           s.expires_at, s.draining, s.ended_at, s.lost,
           (SELECT coalesce(sum(octet_length(c.ids)), 0)::bigint / 16 FROM claims c WHERE c.session_id = s.id) AS running
    FROM (
        SELECT s.*, row_number() OVER in_order AS n, sum(octet_length(s.tasks)) OVER in_order AS bytes
        FROM sessions s
        WHERE ($1::text IS NULL OR s.worker_id = $1) AND (s.ended_at IS NULL OR s.ended_at > $2)
          AND ($3::boolean IS NULL OR (s.ended_at IS NOT NULL, -s.started_at, s.id) > ($3, -$4::bigint, $5::uuid))
        WINDOW in_order AS (ORDER BY s.ended_at IS NOT NULL, s.started_at DESC, s.id)
        ORDER BY s.ended_at IS NOT NULL, s.started_at DESC, s.id
        LIMIT $6
    ) AS s
    WHERE s.n = 1 OR s.bytes <= $7
    ORDER BY s.n";

pub(crate) async fn sessions(store: &PostgresStore, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
    let now = store.now().await?;
    let rows: Vec<SessionRow> = sqlx::query_as(SESSIONS)
        .bind(&query.worker_id)
        .bind(now - 86_400_000)
        .bind(query.after.map(|it| it.ended))
        .bind(query.after.map(|it| it.started_at_ms))
        .bind(query.after.map(|it| it.session_id))
        .bind(i64::from(query.page_size))
        .bind(limits::REPLY_BYTES as i64)
        .fetch_all(&store.pool)
        .await?;
    rows.into_iter().map(|row| row.into_record(now)).collect()
}

const SESSION: &str = "
    SELECT s.id, s.worker_id, s.host, s.pid, s.version, s.tasks, s.slots, s.lease, s.started_at, s.heartbeat_at,
           s.expires_at, s.draining, s.ended_at, s.lost, s.held,
           (SELECT coalesce(sum(octet_length(c.ids)), 0)::bigint / 16 FROM claims c WHERE c.session_id = s.id) AS running
    FROM sessions s WHERE s.id = $1";

pub(crate) async fn session(store: &PostgresStore, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
    let now = store.now().await?;
    let mut connection = store.pool.acquire().await?;
    let row: Option<SessionRow> = sqlx::query_as(SESSION).bind(session_id).fetch_optional(&mut *connection).await?;
    let Some(mut row) = row else { return Ok(None) };
    let held = if let Some(held) = row.held.take() {
        held
    } else {
        let claims: Vec<HeldClaimRow> =
            sqlx::query_as(end::CLAIMS_OF_SESSIONS).bind([session_id]).fetch_all(&mut *connection).await?;
        session_end::held(&claims)
    };
    let held = &held[..held.len().min(16 * limits::HELD_SHOWN)];
    let jobs = read::states(&mut connection, &packed_claim::decode_ids(held).collect::<Vec<_>>()).await?;
    let session = row.into_record(now)?;
    let held = jobqueue_store::rows::session::held_jobs(held, session.slots, &jobs);
    Ok(Some(SessionDetails { session, held }))
}
