//! Partitions of `jobs`: one for each day, cut off the newest partition ahead of time, and dropped as a whole when the
//! retention of all that finished on that day is over.
//!
//! The oldest partition has no lower bound and the newest no upper one, so that every id belongs to one, whatever
//! clocks do and however long no server runs. Jobs that a day leaves behind (jobs that are not done, dead letters,
//! whose rows in `jobs` people read, and jobs that were done late) move into a new partition, together with what
//! earlier days have left behind. Submits wait for [`LOCK_TIMEOUT`] at most; a change that does not get its locks by
//! then is tried again in the next turn.

use std::{collections::BTreeSet, sync::Once};

use jobqueue_shared::lease::created_at_ms;
use jobqueue_store::{
    clock::wall_ms,
    error::{StoreError, StoreResult},
    rows::packed_claim,
    types::Retention,
};
use sqlx::{AssertSqlSafe, FromRow, error::DatabaseError};
use uuid::Uuid;

use crate::retain::partition_calendar;
use crate::{PostgresStore, Tx};

/// Name, or prefix of the names, of partitions that hold the jobs that days have left behind. Before the first of them
/// exists, the oldest partition is `jobs_before`.
const KEPT: &str = "jobs_kept";
/// Name of the newest partition.
const AFTER: &str = "jobs_after";

/// Time that a change of the partitions waits for a lock. Submits queue behind it meanwhile.
const LOCK_TIMEOUT: &str = "; SET LOCAL lock_timeout = '100ms'";

/// Maximum number of rows copied in one change: deletions of old jobs wait meanwhile. A day that leaves more behind is
/// not dropped; its jobs are pruned row by row.
const KEPT_ROWS: usize = 100_000;
/// Maximum bytes of payload copied in one change, for the same reason.
const KEPT_BYTES: i64 = 256 * 1024 * 1024;

/// Maximum number of done rows read by one statement.
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
    /// The oldest partition, and the [`KEPT`] partitions that follow it, whose turn to be dropped has been: jobs in
    /// these are pruned row by row.
    fn handled(&self) -> &[Partition] {
        let kept = self.0.iter().skip(1).take_while(|partition| partition.name.starts_with(KEPT)).count();
        self.0.get(..=kept).unwrap_or_default()
    }

    fn handled_until(&self) -> Uuid {
        self.handled().last().and_then(|last| last.to).unwrap_or_default()
    }

    /// Lower bound of the newest partition.
    fn newest_from(&self) -> Uuid {
        self.0.last().and_then(|newest| newest.from).unwrap_or_default()
    }

    /// The next day to drop, if it ends by `until`.
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
    /// `None`: the partition was dropped while the catalog was read.
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
    /// Parses `FOR VALUES FROM ('..') TO ('..')`, with MINVALUE and MAXVALUE without quotes.
    fn into_partition(self) -> Option<Partition> {
        let bound = |text: Option<&str>| text.and_then(|text| text.split('\'').nth(1)?.parse().ok());
        let bounds = self.bounds?;
        let mut ends = bounds.split(" TO ");
        Some(Partition { from: bound(ends.next()), to: bound(ends.next()), name: self.name })
    }
}

/// Id below which a job may have lost its row in `jobs` before its entry in `done`.
pub(crate) async fn dropped_before(tx: &mut Tx) -> StoreResult<Uuid> {
    let partitions = partitions(tx).await?;
    let dropped = partitions.handled().iter().any(|partition| partition.name.starts_with(KEPT));
    Ok(if dropped { partitions.handled_until() } else { Uuid::nil() })
}

/// Time before which done jobs are pruned row by row.
pub(crate) async fn done_before(tx: &mut Tx, now: i64, done_ms: i64) -> StoreResult<i64> {
    Ok(partition_calendar::done_before(now, done_ms, created_at_ms(partitions(tx).await?.handled_until())))
}

/// Creates partitions for days ahead of time, and drops the days whose retention is over; returns how many were
/// dropped. Any server may call it at any time: an advisory lock lets one of them work, and the others return.
pub(crate) async fn maintain(store: &PostgresStore, retention: &Retention) -> StoreResult<u64> {
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

/// Whether the role is a member of the owner of `jobs`, as changes of partitions require. Without that everything else
/// works, and old jobs are pruned row by row.
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

/// `None` if others were in the way: a lock or a statement took too long, or a deadlock was resolved.
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

/// Begins a transaction that may change partitions; `None` if another transaction does so now.
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

/// Highest id in the newest partition, if that has any.
async fn newest_id(tx: &mut Tx) -> Result<Option<Uuid>, Failure> {
    let newest = AssertSqlSafe(format!("SELECT id FROM {AFTER} ORDER BY id DESC LIMIT 1"));
    Ok(sqlx::query_scalar(newest).fetch_optional(&mut **tx).await?)
}

/// Cuts days off the newest partition when few are left before it. A newest partition that is in use, because no server
/// did so for long or a clock was ahead, gets an upper bound and stays as it is.
async fn make_ahead(store: &PostgresStore, now: i64) -> Result<(), Failure> {
    let mut look = store.pool.acquire().await?;
    let from = partitions(&mut look).await?.newest_from();
    look.commit().await?;
    if !partition_calendar::runs_out(created_at_ms(from), now) {
        return Ok(());
    }
    let Some(mut tx) = begin(store).await? else { return Ok(()) };
    let from = partitions(&mut tx).await?.newest_from();
    let cut = partition_calendar::cut(created_at_ms(from), newest_id(&mut tx).await?.map(created_at_ms), now);
    if !partition_calendar::runs_out(created_at_ms(from), now) {
        return Ok(());
    }
    // Slow statements come before the lock on the whole of `jobs`, which DETACH takes.
    let mut names = Vec::new();
    for day in &cut.days {
        let name = format!("jobs_{}", partition_calendar::date(day.start));
        run(&mut tx, format!("CREATE TABLE {name} (LIKE jobs INCLUDING ALL)")).await?;
        names.push((name, bound(day.start), bound(day.end)));
    }
    run(
        &mut tx,
        format!("CREATE TABLE {AFTER}_next (LIKE jobs INCLUDING ALL); ALTER TABLE jobs DETACH PARTITION {AFTER}"),
    )
    .await?;
    if partition_calendar::cut(created_at_ms(from), newest_id(&mut tx).await?.map(created_at_ms), now) != cut {
        return Ok(());
    }
    match cut.closed {
        Some(until) => {
            let name = format!("jobs_{}", partition_calendar::date(created_at_ms(from)));
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

/// Lowest id of this millisecond.
fn bound(ms: i64) -> Uuid {
    Uuid::from_u128((ms.max(0) as u128) << 80)
}

/// Outcome of a turn for the next day.
enum Turn {
    NothingIsDue,
    Dropped,
    /// The day leaves too much behind, and is kept.
    LeftAsItIs,
}

/// Drops the next day if it ends by `done_before`. Jobs that were done before that time go with it; the others are
/// copied.
///
/// The jobs to copy are determined before the lock on the whole of `jobs` is taken: a job that is done by then stays
/// done, and while rows are copied a lock keeps others from adding or removing any.
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
        run(&mut tx, format!("ALTER TABLE {name} RENAME TO {KEPT}_{}", partition_calendar::date(created_at_ms(from))))
            .await?;
        tx.commit().await?;
        tracing::info!(day = name, "this day leaves much behind: its old jobs are removed one by one");
        return Ok(Turn::LeftAsItIs);
    }
    // Earlier partitions are merged with what the day leaves behind, as far as all can be copied together.
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

/// Replaces adjacent partitions that end with the day by one. It holds all rows of those that begin at `from`, but of
/// the day only the jobs that it leaves behind. False: these have become too many.
async fn replace(
    tx: &mut Tx,
    day: &Day<'_>,
    mut left: BTreeSet<Uuid>,
    from: Option<Uuid>,
    replaced: &[&str],
) -> Result<bool, Failure> {
    let (to, all) = (day.to, replaced.join(", "));
    // With the constraint ATTACH does not read the rows again to check that they belong there.
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
    // A clock that was set back can have added jobs to the day meanwhile.
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
        Some(from) => (format!("'{from}'"), format!("{KEPT}_{}", partition_calendar::date(created_at_ms(from)))),
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

/// Ids of jobs that are not done: those of all claims, and up to $3 of the day's. One statement, so that no job is
/// missed on its way from one table to another. Dead letters whose retention is over go when the pruner takes them;
/// until then people see their rows in `jobs`. Of `ready` a whole index is read.
const NOT_DONE: &str = "
    SELECT ids FROM claims
    UNION ALL
    (SELECT uuid_send(id) FROM ready WHERE id >= $1 AND id < $2
     UNION ALL SELECT uuid_send(id) FROM dead_letters WHERE id >= $1 AND id < $2
     UNION ALL SELECT uuid_send(id) FROM cancelled WHERE id >= $1 AND id < $2
     LIMIT $3)";

/// The day's jobs that need their row in `jobs`. If they are more than [`KEPT_ROWS`], at least one more than that.
async fn not_done(tx: &mut Tx, day: &Day<'_>) -> Result<BTreeSet<Uuid>, Failure> {
    let limit = KEPT_ROWS as i64 + 1;
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar(NOT_DONE).bind(day.from).bind(day.to).bind(limit).fetch_all(&mut **tx).await?;
    Ok(rows.iter().flat_map(|ids| packed_claim::decode_ids(ids)).filter(|id| day.holds(*id)).collect())
}

/// Distinct worker_ids in `done`, by one step along the index from each to the next.
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

/// The day's jobs that are kept: those that are not done, and those that were done at `done_before` or later. If they
/// are more than [`KEPT_ROWS`], at least one more than that.
async fn left_behind(tx: &mut Tx, day: &Day<'_>, done_before: i64) -> Result<BTreeSet<Uuid>, Failure> {
    let mut left = not_done(tx, day).await?;
    let worker_ids: Vec<String> = sqlx::query_scalar(WORKER_IDS).fetch_all(&mut **tx).await?;
    for worker_id in worker_ids {
        let mut next = packed_claim::earliest_first_id(day.from);
        while left.len() <= KEPT_ROWS {
            let chunk: DoneChunk = sqlx::query_as(DONE_LATE)
                .bind(&worker_id)
                .bind(next)
                .bind(day.to)
                .bind(done_before)
                .bind(DONE_ROWS)
                .fetch_one(&mut **tx)
                .await?;
            left.extend(chunk.late.iter().flat_map(|ids| packed_claim::decode_ids(ids)).filter(|id| day.holds(*id)));
            // The last row is read again, because others may have the same first id.
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

/// Number of rows left behind, and bytes of their payloads.
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

/// Number of rows in a partition, and bytes of their payloads, counted up to one row more than [`KEPT_ROWS`].
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
