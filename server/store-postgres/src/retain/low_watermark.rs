//! Low watermark of a table of deltas, below which no deltas are left.
//!
//! While an old snapshot is held, deltas that were added to their totals stay in the table as dead rows. Readers of
//! deltas therefore begin behind the low watermark: no delta at or below it will ever become visible.
//!
//! Every turn moves all visible deltas into the totals; only the watermark waits. Transactions take ids in the order in
//! which they insert, but commit in another order, so one turn notes the newest id and the transactions that may have
//! taken an id and have not ended. A later turn, when all of these have ended, raises the watermark to that id in the
//! transaction that moves the deltas up to it.

use jobqueue_store::error::StoreResult;
use parking_lot::Mutex;

use crate::Tx;

/// Statements for one table of deltas.
pub(crate) struct DeltaTable {
    pub(crate) begin_turn: &'static str,
    pub(crate) set_watermark: &'static str,
    pub(crate) newest_id: &'static str,
    pub(crate) writers: &'static str,
}

/// Virtual ids of transactions that may be inserting deltas. A transaction holds this lock from before it takes an id
/// until after its commit is visible.
macro_rules! writers {
    ($deltas:literal) => {
        concat!(
            "SELECT virtualtransaction FROM pg_locks
             WHERE locktype = 'relation' AND relation = '",
            $deltas,
            "'::regclass AND mode = 'RowExclusiveLock'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND pid IS DISTINCT FROM pg_backend_pid()"
        )
    };
}
pub(crate) use writers;

/// Statements for a table of deltas, its watermark and the name of its lock. A turn's advisory lock lets one server work
/// at a time: two that add to the same totals would wait for each other crosswise.
macro_rules! delta_table {
    ($deltas:literal, $watermark:literal, $lock:literal) => {
        $crate::retain::low_watermark::DeltaTable {
            begin_turn: concat!(
                "SELECT pg_try_advisory_xact_lock(hashtext('",
                $lock,
                " ' || current_schema())), (SELECT up_to FROM ",
                $watermark,
                "),
                        pg_postmaster_start_time()::text, NOT EXISTS (SELECT FROM (",
                $crate::retain::low_watermark::writers!($deltas),
                ") AS writers WHERE virtualtransaction = ANY($1))"
            ),
            set_watermark: concat!(
                "UPDATE ",
                $watermark,
                " SET up_to = $1 WHERE up_to < $1 AND NOT EXISTS (SELECT FROM ",
                $deltas,
                " WHERE id > up_to AND id <= $1)"
            ),
            newest_id: concat!(
                "SELECT pg_sequence_last_value(pg_get_serial_sequence('",
                $deltas,
                "', 'id')::regclass)"
            ),
            writers: $crate::retain::low_watermark::writers!($deltas),
        }
    };
}
pub(crate) use delta_table;

/// The next low watermark, valid when all transactions have ended that may have written at or below it.
#[derive(Clone, Debug)]
pub(crate) struct NextWatermark {
    up_to: i64,
    /// Virtual ids of these transactions.
    writers: Vec<String>,
    /// Start time of the PostgreSQL server in which the watermark was noted. In another one the newest id may be lower.
    started: String,
}

/// Notes of this server about the next low watermark of one table.
#[derive(Debug, Default)]
pub(crate) struct LowWatermark(Mutex<Option<NextWatermark>>);

/// A turn that this server has begun.
pub(crate) struct Turn {
    /// Id up to which no deltas are left.
    pub(crate) mark: i64,
    started: String,
    next: Option<NextWatermark>,
    ended: bool,
}

impl LowWatermark {
    /// Begins a turn. `None`: it is another server's.
    pub(crate) async fn begin_turn(&self, tx: &mut Tx, table: &DeltaTable) -> StoreResult<Option<Turn>> {
        let next = self.0.lock().clone();
        let writers = next.as_ref().map(|next| next.writers.as_slice());
        let (mine, mark, started, ended): (bool, i64, String, bool) =
            sqlx::query_as(table.begin_turn).bind(writers).fetch_one(&mut **tx).await?;
        let next = next.filter(|next| next.started == started);
        Ok(mine.then_some(Turn { mark, started, next, ended }))
    }

    /// Keeps what a turn has noted. To be called after its commit.
    pub(crate) fn set(&self, next: NextWatermark) {
        *self.0.lock() = Some(next);
    }
}

impl Turn {
    /// Raises the watermark if nothing below it can appear any more, and notes the next one.
    pub(crate) async fn end(self, tx: &mut Tx, table: &DeltaTable, took_all: bool) -> StoreResult<NextWatermark> {
        match self.next {
            Some(next) if !self.ended || !took_all => Ok(next),
            next => {
                if let Some(next) = next {
                    sqlx::query(table.set_watermark).bind(next.up_to).execute(&mut **tx).await?;
                }
                note(tx, table, self.started).await
            }
        }
    }
}

/// Notes the newest id, and only then the transactions that may have taken it.
async fn note(tx: &mut Tx, table: &DeltaTable, started: String) -> StoreResult<NextWatermark> {
    let up_to = sqlx::query_scalar(table.newest_id).fetch_one(&mut **tx).await?;
    let writers = sqlx::query_scalar(table.writers).fetch_all(&mut **tx).await?;
    Ok(NextWatermark { up_to, writers, started })
}
