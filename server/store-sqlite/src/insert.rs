//! Insert: stores new jobs.

use std::collections::HashMap;

use async_trait::async_trait;
use jobqueue_store::{
    clock::Clock,
    error::{StoreError, StoreResult},
    insert_units::InsertGroup,
    leases,
    prepare::{self, FirstKey, Holder, NewRow},
    settle::claim::Claim,
    types::{HandOff, Inserted, Unit},
};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{SqliteStore, Tx, acquire, batches, id_list};

#[async_trait]
impl InsertGroup for SqliteStore {
    async fn insert_group(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>> {
        insert_group(self, units, offers).await
    }
}

/// A commit that fails has not happened: no connection can be lost that would hide its outcome.
async fn insert_group(store: &SqliteStore, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>> {
    let mut share = store.share().await?;
    match insert_in(share.connection()?, &store.clock, units, offers).await {
        Ok(None) => {
            share.undo().await;
            Ok(None)
        }
        inserted => share.finish(inserted).await,
    }
}

async fn insert_in(tx: &mut Tx, clock: &Clock, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>> {
    let rows = prepare::new_rows(units, clock)?;
    let holders = win_keys(tx, prepare::first_keys(&rows)).await?;
    let decision = prepare::decide_keys(units, &rows, &holders);
    if units.len() > 1 && prepare::depends_on_refused_unit(&decision) {
        return Ok(None);
    }
    give_back_keys(tx, &decision.give_back).await?;
    let now = clock.now_ms();
    let (mut handed, mut claims) = (vec![Vec::new(); offers.len()], Vec::new());
    let hosts = acquire::takers(tx, offers, now).await?;
    for ((offer, host), handed) in offers.iter().zip(hosts).zip(&mut handed) {
        let Some(host) = host else { continue };
        let Some((claim, mut columns)) = leases::claim_for_hand_off(&decision.insert, offer) else { continue };
        let claim = Claim { host, claimed_at: now, ..claim };
        *handed = leases::leased(std::slice::from_ref(&claim), &mut columns)?;
        claims.push((claim, offer.acquire_no, 0));
    }
    acquire::write_claims(tx, &claims).await?;
    let taken: Vec<_> = claims.into_iter().map(|(claim, ..)| claim).collect();
    write_jobs(tx, &decision.insert, &taken).await?;
    write_origins(tx, &prepare::origins(&decision.insert)).await?;
    Ok(Some(Inserted { answers: decision.answers, handed }))
}

/// Wins the keys that are free. Returns the holders of all, by worker_id and key. With one writer a key without a holder
/// is free, so that one query decides.
async fn win_keys(tx: &mut Tx, keys: Vec<FirstKey<'_>>) -> StoreResult<HashMap<(String, String), Holder>> {
    let mut holders = read_keys(tx, &keys).await?;
    let open: Vec<_> = keys
        .into_iter()
        .filter(|((worker_id, key), ..)| !holders.contains_key(&((*worker_id).to_owned(), (*key).to_owned())))
        .collect();
    insert_keys(tx, &open).await?;
    for ((worker_id, key), job_id, hash) in open {
        holders.insert((worker_id.to_owned(), key.to_owned()), Holder { job_id, request_hash: hash.to_vec() });
    }
    Ok(holders)
}

async fn insert_keys(tx: &mut Tx, keys: &[FirstKey<'_>]) -> StoreResult<()> {
    for keys in batches(keys) {
        let mut query = QueryBuilder::new("INSERT INTO idempotency_keys (worker_id, key, job_id, request_hash) ");
        query.push_values(keys, |mut row, ((worker_id, key), job_id, hash)| {
            row.push_bind(*worker_id).push_bind(*key).push_bind(*job_id).push_bind(hash.as_slice());
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Reads the holders of keys. SQLite has no arrays, so the keys come as one JSON text.
const READ_KEYS: &str = "
    SELECT k.worker_id, k.key, k.job_id, k.request_hash
    FROM json_each(?1) AS asked
    JOIN idempotency_keys k ON k.worker_id = asked.value ->> 0 AND k.key = asked.value ->> 1";

#[derive(FromRow)]
struct KeyRow {
    worker_id: String,
    key: String,
    job_id: Uuid,
    request_hash: Vec<u8>,
}

async fn read_keys(tx: &mut Tx, keys: &[FirstKey<'_>]) -> StoreResult<HashMap<(String, String), Holder>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: Vec<_> = keys.iter().map(|(key, ..)| key).collect();
    let asked = serde_json::to_string(&asked).map_err(|error| StoreError::Data(error.to_string()))?;
    let rows: Vec<KeyRow> = sqlx::query_as(READ_KEYS).bind(asked).fetch_all(&mut *tx).await?;
    let holder =
        |row: KeyRow| ((row.worker_id, row.key), Holder { job_id: row.job_id, request_hash: row.request_hash });
    Ok(rows.into_iter().map(holder).collect())
}

async fn give_back_keys(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<()> {
    if !ids.is_empty() {
        sqlx::query("DELETE FROM idempotency_keys WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))")
            .bind(id_list(ids))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Stores jobs, and those of them that are not claimed in `ready`.
async fn write_jobs(tx: &mut Tx, rows: &[&NewRow<'_>], claims: &[Claim]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new(
            "INSERT INTO jobs (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, \
             idempotency_key) ",
        );
        query.push_values(rows, |mut values, row| {
            let new = row.job;
            values
                .push_bind(row.id)
                .push_bind(new.worker_id.as_str())
                .push_bind(new.task.as_str())
                .push_bind(i16::from(new.priority))
                .push_bind(row.run_at)
                .push_bind(new.payload.as_bytes())
                .push_bind(new.max_retries as i16)
                .push_bind(row.retry.as_deref())
                .push_bind(new.attempt_timeout_ms)
                .push_bind(new.key.as_ref().map(|key| key.key.as_str()));
        });
        query.build().execute(&mut *tx).await?;
    }
    let now = rows.iter().map(|row| row.enqueued_at).max().unwrap_or_default();
    let mut deltas = prepare::submit_deltas(rows);
    for claim in claims {
        let (delta, jobs) = (deltas.at(&claim.worker_id, 0), claim.entries.len() as i32);
        delta.first_attempt -= jobs;
        delta.running += jobs;
    }
    let claimed = prepare::claimed(claims);
    let ready: Vec<_> = rows.iter().filter(|row| !claimed.contains(&row.id)).map(|row| row.ready()).collect();
    crate::settle::write::write_ready(tx, &ready).await?;
    crate::deltas::write_deltas(tx, &deltas, now).await
}

async fn write_origins(tx: &mut Tx, origins: &[(Uuid, Uuid)]) -> StoreResult<()> {
    for origins in batches(origins) {
        let mut query = QueryBuilder::new("INSERT INTO origins (id, origin) ");
        query.push_values(origins, |mut row, (id, origin)| {
            row.push_bind(*id).push_bind(*origin);
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}
