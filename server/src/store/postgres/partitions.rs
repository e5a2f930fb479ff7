//! The partitions of `jobs`: a day each, cut off the newest one ahead of time, and dropped as a whole when what
//! finished on it has had its time.
//!
//! The oldest has no lower bound, the newest no upper one, so that every id has its place, whatever clocks do and
//! however long no server of this kind runs. What a day leaves behind (jobs that are not done, and dead letters, whose
//! facts people read, and jobs that were done late) moves into a new partition, together with what earlier days have
//! left behind. Who submits waits for [`LOCK_TIMEOUT`] at most; what does not succeed is tried in the next turn.

use std::{collections::BTreeSet, sync::Once};

use jobqueue_shared::lease::created_at_ms;
use sqlx::{AssertSqlSafe, FromRow, error::DatabaseError};
use uuid::Uuid;

use super::{PostgresStore, Tx};
use crate::store::{
    clock::wall_ms,
    days,
    error::{StoreError, StoreResult},
    places,
    types::Retention,
};

/// How partitions are called, and begin to be called, that hold what days have left behind. Before the first of them,
/// the oldest is `jobs_before`.
const KEPT: &str = "jobs_kept";
/// The newest partition.
const AFTER: &str = "jobs_after";

/// Submits queue behind a statement that waits to change the partitions.
const LOCK_TIMEOUT: &str = "; SET LOCAL lock_timeout = '100ms'";

/// Who deletes old jobs waits while so many rows and bytes are copied. A day that leaves more behind is not dropped;
/// what has had its time on it goes row by row.
const KEPT_ROWS: usize = 100_000;
const KEPT_BYTES: i64 = 256 * 1024 * 1024;

/// Done rows that are looked at in one statement.
const DONE_ROWS: i64 = 20_000;

#[derive(Debug)]
struct Partition {
    name: String,
    from: Option<Uuid>,
    to: Option<Uuid>,
}

/// The partitions, oldest first.
struct Partitions(Vec<Partition>);

impl Partitions {
    /// The oldest, and those whose turn to be dropped has been: what they hold goes row by row.
    fn handled(&self) -> &[Partition] {
        let kept = self.0.iter().skip(1).take_while(|partition| partition.name.starts_with(KEPT)).count();
        self.0.get(..=kept).unwrap_or_default()
    }

    fn handled_until(&self) -> Uuid {
        self.handled().last().and_then(|last| last.to).unwrap_or_default()
    }

    /// Where the newest begins.
    fn newest_from(&self) -> Uuid {
        self.0.last().and_then(|newest| newest.from).unwrap_or_default()
    }

    /// The next whose turn it is, if it ends by `until`.
    fn next_day(&self, until: i64) -> Option<Day<'_>> {
        let day = self.0.get(self.handled().len())?;
        let day = Day { name: &day.name, from: day.from?, to: day.to? };
        (created_at_ms(day.to) <= until).then_some(day)
    }
}

struct Day<'a> {
    name: &'a str,
    from: Uuid,
    to: Uuid,
}

impl Day<'_> {
    fn holds(&self, id: Uuid) -> bool {
        self.from <= id && id < self.to
    }
}

#[derive(FromRow)]
struct PartitionRow {
    name: String,
    /// `None`: it was dropped while they were read.
    bounds: Option<String>,
}

const PARTITIONS: &str = "
    SELECT quote_ident(c.relname) AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'jobs'::regclass";

async fn partitions(tx: &mut Tx) -> StoreResult<Partitions> {
    loop {
        let rows: Vec<PartitionRow> = sqlx::query_as(PARTITIONS).fetch_all(&mut **tx).await?;
        let partitions: Option<Vec<_>> = rows.into_iter().map(PartitionRow::into_partition).collect();
        if let Some(mut partitions) = partitions {
            partitions.sort_by_key(|partition| partition.from);
            return Ok(Partitions(partitions));
        }
    }
}

impl PartitionRow {
    /// `FOR VALUES FROM ('..') TO ('..')`, or MINVALUE and MAXVALUE without quotes.
    fn into_partition(self) -> Option<Partition> {
        let bound = |text: Option<&str>| text.and_then(|text| text.split('\'').nth(1)?.parse().ok());
        let bounds = self.bounds?;
        let mut ends = bounds.split(" TO ");
        Some(Partition { from: bound(ends.next()), to: bound(ends.next()), name: self.name })
    }
}

/// Ids below this may have lost their facts before they lost their place among the done.
pub(super) async fn dropped_before(tx: &mut Tx) -> StoreResult<Uuid> {
    let partitions = partitions(tx).await?;
    let dropped = partitions.handled().iter().any(|partition| partition.name.starts_with(KEPT));
    Ok(if dropped { partitions.handled_until() } else { Uuid::nil() })
}

/// What was finished before this goes row by row.
pub(super) async fn done_before(tx: &mut Tx, now: i64, done_ms: i64) -> StoreResult<i64> {
    Ok(days::done_before(now, done_ms, created_at_ms(partitions(tx).await?.handled_until())))
}

/// Makes days ahead, and drops those that have had their time; answers how many. Any server may do it at any time:
/// one does, the others pass.
pub(super) async fn maintain(store: &PostgresStore, retention: &Retention) -> StoreResult<u64> {
    if !owns_jobs(store).await? {
        return Ok(0);
    }
    let now = store.now().await?;
    not_now(make_ahead(store, now).await)?;
    let mut dropped = 0;
    let now = store.clock.no_later_than(wall_ms());
    while let Some(turn) = not_now(drop_next(store, now - retention.done_ms).await)? {
        match turn {
            Turn::Dropped => dropped += 1,
            Turn::LeftAsItIs => {}
            Turn::NothingIsDue => break,
        }
    }
    Ok(dropped)
}

const OWNER: &str = "
    SELECT pg_has_role(relowner, 'USAGE'), current_user::text, pg_get_userbyid(relowner)::text
    FROM pg_class WHERE oid = 'jobs'::regclass";

/// Only a member of the owner can change partitions. Without that all works; old jobs go row by row.
async fn owns_jobs(store: &PostgresStore) -> StoreResult<bool> {
    static TOLD: Once = Once::new();
    let (owns, role, owner): (bool, String, String) = sqlx::query_as(OWNER).fetch_one(&store.pool).await?;
    if !owns {
        TOLD.call_once(|| {
            tracing::warn!(
                role,
                owner,
                "the role does not own the table jobs: no days are made and dropped, and old jobs are removed row by row, \
                 which costs more; to let it, GRANT the owner to the role"
            );
        });
    }
    Ok(owns)
}

/// `None` when others were in the way: a lock or a statement took too long, or a deadlock was resolved.
fn not_now<T>(result: Result<T, Failure>) -> StoreResult<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Failure::InTheWay(error)) => {
            tracing::debug!(%error, "the partitions are not changed now");
            Ok(None)
        }
        Err(Failure::Other(error)) => Err(error),
    }
}

#[derive(Debug)]
enum Failure {
    InTheWay(sqlx::Error),
    Other(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
        match code.as_str() {
            "55P03" | "57014" | "40P01" => Self::InTheWay(error),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

/// A transaction of the only one who changes partitions.
async fn begin(store: &PostgresStore) -> Result<Option<Tx>, Failure> {
    let mut tx = store.pool.begin_with("BEGIN", LOCK_TIMEOUT).await?;
    let first: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('jobqueue_partitions ' || current_schema()))")
            .fetch_one(&mut *tx)
            .await?;
    Ok(first.then_some(tx))
}

async fn run(tx: &mut Tx, statements: String) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut **tx).await?;
    Ok(())
}

/// The last id in the newest partition, if any.
async fn newest_id(tx: &mut Tx) -> Result<Option<Uuid>, Failure> {
    let newest = AssertSqlSafe(format!("SELECT id FROM {AFTER} ORDER BY id DESC LIMIT 1"));
    Ok(sqlx::query_scalar(newest).fetch_optional(&mut **tx).await?)
}

/// Cuts days off the newest partition when few are left before it. One that is in use, because nobody did so for long
/// or a clock was ahead, stays as it is, and ends.
async fn make_ahead(store: &PostgresStore, now: i64) -> Result<(), Failure> {
    let mut look = store.pool.acquire().await?;
    let from = partitions(&mut look).await?.newest_from();
    look.commit().await?;
    if !days::runs_out(created_at_ms(from), now) {
        return Ok(());
    }
    let Some(mut tx) = begin(store).await? else { return Ok(()) };
    let from = partitions(&mut tx).await?.newest_from();
    let cut = days::cut(created_at_ms(from), newest_id(&mut tx).await?.map(created_at_ms), now);
    if !days::runs_out(created_at_ms(from), now) {
        return Ok(());
    }
    // All that takes time comes before the lock on the whole.
    let mut names = Vec::new();
    for day in &cut.days {
        let name = format!("jobs_{}", days::date(day.start));
        run(&mut tx, format!("CREATE TABLE {name} (LIKE jobs INCLUDING ALL)")).await?;
        names.push((name, bound(day.start), bound(day.end)));
    }
    run(
        &mut tx,
        format!("CREATE TABLE {AFTER}_next (LIKE jobs INCLUDING ALL); ALTER TABLE jobs DETACH PARTITION {AFTER}"),
    )
    .await?;
    if days::cut(created_at_ms(from), newest_id(&mut tx).await?.map(created_at_ms), now) != cut {
        return Ok(());
    }
    match cut.closed {
        Some(until) => {
            let name = format!("jobs_{}", days::date(created_at_ms(from)));
            run(&mut tx, format!("ALTER TABLE {AFTER} RENAME TO {name}")).await?;
            names.push((name, from, bound(until)));
        }
        None => run(&mut tx, format!("DROP TABLE {AFTER}")).await?,
    }
    for (name, from, to) in names {
        run(&mut tx, format!("ALTER TABLE jobs ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"))
            .await?;
    }
    let from = bound(cut.newest_from);
    run(
        &mut tx,
        format!(
            "ALTER TABLE {AFTER}_next RENAME TO {AFTER};
             ALTER TABLE jobs ATTACH PARTITION {AFTER} FOR VALUES FROM ('{from}') TO (MAXVALUE)"
        ),
    )
    .await?;
    Ok(tx.commit().await?)
}

/// The lowest id of this millisecond.
fn bound(ms: i64) -> Uuid {
    Uuid::from_u128((ms.max(0) as u128) << 80)
}

/// What became of the next day.
enum Turn {
    NothingIsDue,
    Dropped,
    /// It leaves too much behind.
    LeftAsItIs,
}

/// Drops the next day, if all that was done on it before `done_before` makes it go.
///
/// What it leaves behind is known before the lock on the whole is taken: a job that is done by then stays so, and
/// while rows are copied nobody adds or removes any.
async fn drop_next(store: &PostgresStore, done_before: i64) -> Result<Turn, Failure> {
    let mut look = store.pool.acquire().await?;
    let due = partitions(&mut look).await?.next_day(done_before).is_some();
    look.commit().await?;
    if !due {
        return Ok(Turn::NothingIsDue);
    }
    let Some(mut tx) = begin(store).await? else { return Ok(Turn::NothingIsDue) };
    let found = partitions(&mut tx).await?;
    let Some(day) = found.next_day(done_before) else { return Ok(Turn::NothingIsDue) };
    let left = left_behind(&mut tx, &day, done_before).await?;
    let (mut rows, mut bytes) = size_of_left(&mut tx, &day, &left).await?;
    if rows > KEPT_ROWS || bytes > KEPT_BYTES {
        let Day { name, from, .. } = day;
        run(&mut tx, format!("ALTER TABLE {name} RENAME TO {KEPT}_{}", days::date(created_at_ms(from)))).await?;
        tx.commit().await?;
        tracing::info!(day = name, "this day leaves much behind: its old jobs are removed one by one");
        return Ok(Turn::LeftAsItIs);
    }
    // With those before it, as far as all can be copied together.
    let mut from = Some(day.from);
    let mut replaced = vec![day.name];
    for partition in found.handled().iter().rev() {
        let more = size(&mut tx, partition).await?;
        if rows + more.0 > KEPT_ROWS || bytes + more.1 > KEPT_BYTES {
            break;
        }
        (rows, bytes) = (rows + more.0, bytes + more.1);
        from = partition.from;
        replaced.push(&partition.name);
    }
    if !replace(&mut tx, &day, left, from, &replaced).await? {
        return Ok(Turn::NothingIsDue);
    }
    tx.commit().await?;
    tracing::info!(day = day.name, kept = rows, "dropped a day of old jobs");
    Ok(Turn::Dropped)
}

const COPY: &str = "
    INSERT INTO jobs_kept_next
    SELECT * FROM jobs WHERE id >= $1 AND id < $2
    UNION ALL
    SELECT * FROM jobs WHERE id = ANY($3) AND id >= $2 AND id < $4";

/// Puts one partition in the place of adjacent ones that end with the day. It holds all of theirs that begin at
/// `from`, but of the day only what it leaves behind. False: that has become too much.
async fn replace(
    tx: &mut Tx,
    day: &Day<'_>,
    mut left: BTreeSet<Uuid>,
    from: Option<Uuid>,
    replaced: &[&str],
) -> Result<bool, Failure> {
    let (to, all) = (day.to, replaced.join(", "));
    // With the constraint nobody has to read the rows again to know that they belong there.
    let lowest = from.unwrap_or_default();
    let constraint = format!("CONSTRAINT {KEPT}_range CHECK (id >= '{lowest}' AND id < '{to}')");
    run(
        tx,
        format!(
            "CREATE TABLE {KEPT}_next (LIKE jobs INCLUDING ALL, {constraint});
             LOCK TABLE {all} IN SHARE MODE"
        ),
    )
    .await?;
    // A clock that was set back can have brought new ones.
    left.extend(not_done(tx, day).await?);
    if left.len() > KEPT_ROWS {
        return Ok(false);
    }
    run(tx, "SET LOCAL statement_timeout = '4s'".to_owned()).await?;
    sqlx::query(COPY)
        .persistent(false)
        .bind(lowest)
        .bind(day.from)
        .bind(left.into_iter().collect::<Vec<_>>())
        .bind(to)
        .execute(&mut **tx)
        .await?;
    let detach: Vec<_> = replaced.iter().map(|name| format!("ALTER TABLE jobs DETACH PARTITION {name};")).collect();
    let detach = detach.concat();
    let (low, name) = match from {
        Some(from) => (format!("'{from}'"), format!("{KEPT}_{}", days::date(created_at_ms(from)))),
        None => ("MINVALUE".to_owned(), KEPT.to_owned()),
    };
    run(
        tx,
        format!(
            "{detach}
             ALTER TABLE jobs ATTACH PARTITION {KEPT}_next FOR VALUES FROM ({low}) TO ('{to}');
             DROP TABLE {all};
             ALTER TABLE {KEPT}_next RENAME TO {name};
             ALTER TABLE {name} DROP CONSTRAINT {KEPT}_range"
        ),
    )
    .await?;
    Ok(true)
}

/// In one statement, so that none is missed on its way from one to another. Dead letters that have had their time go
/// when the pruner takes them; until then people see their facts. Of what waits an index is read as a whole.
const NOT_DONE: &str = "
    SELECT ids FROM claims
    UNION ALL
    (SELECT uuid_send(id) FROM ready WHERE id >= $1 AND id < $2
     UNION ALL SELECT uuid_send(id) FROM dead_letters WHERE id >= $1 AND id < $2
     UNION ALL SELECT uuid_send(id) FROM cancelled WHERE id >= $1 AND id < $2
     LIMIT $3)";

/// The day's jobs that have a place where facts are needed; at least one too many, if they are.
async fn not_done(tx: &mut Tx, day: &Day<'_>) -> Result<BTreeSet<Uuid>, Failure> {
    let limit = KEPT_ROWS as i64 + 1;
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar(NOT_DONE).bind(day.from).bind(day.to).bind(limit).fetch_all(&mut **tx).await?;
    Ok(rows.iter().flat_map(|ids| places::decode_ids(ids)).filter(|id| day.holds(*id)).collect())
}

/// One step from worker_id to worker_id along the index.
const WORKER_IDS: &str = "
    WITH RECURSIVE steps AS (
        (SELECT worker_id FROM done ORDER BY worker_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.worker_id FROM done d WHERE d.worker_id > steps.worker_id ORDER BY d.worker_id LIMIT 1)
        FROM steps WHERE steps.worker_id IS NOT NULL
    )
    SELECT worker_id FROM steps WHERE worker_id IS NOT NULL";

const DONE_LATE: &str = "
    SELECT count(*) AS rows, (array_agg(first_id ORDER BY first_id DESC))[1] AS last,
           coalesce(array_agg(ids) FILTER (WHERE finished_at >= $4), '{}') AS late
    FROM (
        SELECT first_id, finished_at, ids FROM done
        WHERE worker_id = $1 AND first_id >= $2 AND first_id < $3
        ORDER BY first_id LIMIT $5
    ) AS next";

#[derive(FromRow)]
struct DoneChunk {
    rows: i64,
    last: Option<Uuid>,
    late: Vec<Vec<u8>>,
}

/// The day's jobs that are kept: those that are not done, and those that were done so late that their time is not
/// over. At least one too many, if they are.
async fn left_behind(tx: &mut Tx, day: &Day<'_>, done_before: i64) -> Result<BTreeSet<Uuid>, Failure> {
    let mut left = not_done(tx, day).await?;
    let worker_ids: Vec<String> = sqlx::query_scalar(WORKER_IDS).fetch_all(&mut **tx).await?;
    for worker_id in worker_ids {
        let mut next = places::earliest_first_id(day.from);
        while left.len() <= KEPT_ROWS {
            let chunk: DoneChunk = sqlx::query_as(DONE_LATE)
                .bind(&worker_id)
                .bind(next)
                .bind(day.to)
                .bind(done_before)
                .bind(DONE_ROWS)
                .fetch_one(&mut **tx)
                .await?;
            left.extend(chunk.late.iter().flat_map(|ids| places::decode_ids(ids)).filter(|id| day.holds(*id)));
            // The last row is read again: others may have its id.
            match chunk.last {
                Some(last) if chunk.rows == DONE_ROWS && last > next => next = last,
                _ => break,
            }
        }
    }
    Ok(left)
}

const SIZE_OF_LEFT: &str = "
    SELECT coalesce(sum(octet_length(payload)), 0)::bigint FROM jobs WHERE id = ANY($1) AND id >= $2 AND id < $3";

/// Rows and bytes of payload.
async fn size_of_left(tx: &mut Tx, day: &Day<'_>, left: &BTreeSet<Uuid>) -> Result<(usize, i64), Failure> {
    if left.len() > KEPT_ROWS {
        return Ok((left.len(), 0));
    }
    let ids: Vec<_> = left.iter().copied().collect();
    let bytes = sqlx::query_scalar(SIZE_OF_LEFT).bind(ids).bind(day.from).bind(day.to).fetch_one(&mut **tx).await?;
    Ok((left.len(), bytes))
}

const SIZE: &str = "
    SELECT count(*), coalesce(sum(bytes), 0)::bigint
    FROM (SELECT octet_length(payload) AS bytes FROM jobs WHERE id >= $1 AND id < $2 LIMIT $3) AS rows";

/// The same of a partition; one row too many stands for all that are.
async fn size(tx: &mut Tx, partition: &Partition) -> Result<(usize, i64), Failure> {
    let (rows, bytes): (i64, i64) = sqlx::query_as(SIZE)
        .bind(partition.from.unwrap_or_default())
        .bind(partition.to)
        .bind(KEPT_ROWS as i64 + 1)
        .fetch_one(&mut **tx)
        .await?;
    Ok((rows as usize, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_postgres_prints_them() {
        let [one, two] = [bound(1_700_000_000_000), bound(1_700_086_400_000)];
        for (text, from, to) in [
            (format!("FOR VALUES FROM ('{one}') TO ('{two}')"), Some(one), Some(two)),
            (format!("FOR VALUES FROM (MINVALUE) TO ('{two}')"), None, Some(two)),
            (format!("FOR VALUES FROM ('{one}') TO (MAXVALUE)"), Some(one), None),
        ] {
            let partition = PartitionRow { name: String::new(), bounds: Some(text) }.into_partition().unwrap();
            assert_eq!((partition.from, partition.to), (from, to));
        }
        assert!(PartitionRow { name: String::new(), bounds: None }.into_partition().is_none());
        assert_eq!(created_at_ms(one), 1_700_000_000_000);
    }
}
