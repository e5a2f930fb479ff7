//! Pages of lists: which rows are read, where a page ends, and where the next one begins.

pub mod count;
mod scan;
mod walk;

use async_trait::async_trait;
use jobqueue_shared::{limits, state::State, sub_state::SubState};
use sqlx::FromRow;
use uuid::Uuid;

use self::scan::{Budget, Scan};
use crate::{
    error::StoreResult,
    rows::packed_claim::decode_ids,
    types::{Cursor, ErrorGroupId, JobRecord, ListQuery, Page, View, WorkerIdCounts},
};

/// A row of a list before its job is read: the values that the list is ordered by, and its size.
#[derive(Clone, Debug, FromRow)]
pub struct ListRow {
    pub id: Uuid,
    pub worker_id: String,
    pub priority: i16,
    pub at: i64,
    pub task: String,
    pub bytes: i64,
    /// Of rows in the list of pending jobs.
    #[sqlx(default)]
    pub attempts_used: Option<i32>,
    /// Of rows in the list of pending jobs.
    #[sqlx(default)]
    pub waits_for_handler: Option<bool>,
    /// State of the job, if the scan knows it.
    #[sqlx(skip)]
    pub sub_state: Option<SubState>,
}

/// Jobs of one row of `claims` or `done`.
#[derive(FromRow)]
pub struct GroupRow {
    pub at: i64,
    pub ids: Vec<u8>,
}

/// Jobs of packed rows after `after`: newest row first, then by descending id; at most `limit`.
pub fn newest(groups: &[GroupRow], after: Option<&Cursor>, limit: usize) -> Vec<(i64, Uuid)> {
    let mut jobs: Vec<_> = groups
        .iter()
        .flat_map(|group| decode_ids(&group.ids).map(|id| (group.at, id)))
        .filter(|job| after.is_none_or(|after| *job < (after.at_ms, after.id)))
        .collect();
    jobs.sort_unstable_by(|a, b| b.cmp(a));
    jobs.truncate(limit);
    jobs
}

/// Part of a list that a driver reads by index.
#[derive(Clone, Debug, Default)]
pub struct ListStart {
    pub worker_id: Option<String>,
    /// `None`: the list of all jobs, by their ids.
    pub state: Option<State>,
    /// Error group whose dead letters the list holds; only with the state failed.
    pub error_group: Option<ErrorGroupId>,
    pub after: Option<Cursor>,
}

/// Pending jobs that wait for a handler, by the kind that the counters count them as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromRow)]
pub struct NoHandlerRow {
    /// All of them, up to the limit.
    pub total: i64,
    pub scheduled: i64,
    pub retrying: i64,
}

/// A driver's reads for lists and counts.
#[async_trait]
pub trait ListSource: Sync {
    /// The database's time, as far as the driver knows it.
    fn clock_ms(&self) -> i64;

    /// Reads the first `limit` rows of a list.
    async fn candidates(&self, start: &ListStart, limit: usize) -> StoreResult<Vec<ListRow>>;

    /// Reads the rows of given jobs, each with its time in the list, in their order. Jobs that are gone have none.
    async fn rows(&self, jobs: Vec<(i64, Uuid)>) -> StoreResult<Vec<ListRow>>;

    /// Reads jobs, in the order of `ids`; `None` where there is no such job.
    async fn jobs(&self, ids: &[Uuid], view: View) -> StoreResult<Vec<Option<JobRecord>>>;

    /// Ids of pending jobs that wait for a handler, in no order.
    async fn no_handler_ids(&self, worker_id: Option<&str>, limit: usize) -> StoreResult<Vec<Uuid>>;

    /// Ids of the copies of a job, newest first.
    async fn copy_ids(&self, origin: Uuid, limit: usize) -> StoreResult<Vec<Uuid>>;

    /// Counts up to `limit` pending jobs that wait for a handler; an empty list of worker_ids is all.
    async fn no_handler_counts(&self, worker_ids: &[String], limit: u32) -> StoreResult<NoHandlerRow>;

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>>;
}

/// Number of pages of rows that are read at first to fill a page of a filtered list.
const PAGES_FILTERED: usize = 5;

/// Reads a page of jobs.
pub async fn list(source: &impl ListSource, query: &ListQuery) -> StoreResult<Page> {
    let page_size = query.page_size as usize;
    let mut scan = Scan::new(source, &query.filter, query.after.clone(), Budget::whole());
    // One row more than the page tells whether there is another page.
    let mut limit = if scan.tests_rows() { PAGES_FILTERED * page_size } else { page_size + 1 };
    let mut page = PageRows { page_size, view: query.view, rows: Vec::new(), bytes: 0 };
    let next = loop {
        let rows = scan.next(limit).await?;
        if let Some(next) = page.fill(rows, query.filter.state()) {
            break Some(next);
        }
        if scan.has_ended() {
            break None;
        }
        if page.rows.len() == page_size || scan.is_spent() {
            break scan.position();
        }
        limit = if scan.tests_rows() { limits::PAGE_SCAN as usize } else { page_size + 1 - page.rows.len() };
    };
    let ids: Vec<Uuid> = page.rows.iter().map(|row| row.id).collect();
    // A job may have moved since its row was read.
    let now_ms = source.clock_ms();
    let passes = |job: &JobRecord| query.filter.matches_but_payload(job, now_ms);
    let jobs = source.jobs(&ids, query.view).await?.into_iter().flatten().filter(passes).collect();
    Ok(Page { jobs, next })
}

/// Rows of a page that is being filled.
struct PageRows {
    page_size: usize,
    view: View,
    rows: Vec<ListRow>,
    bytes: i64,
}

impl PageRows {
    /// Adds rows until the page is full: it has at most `page_size`, within the bytes of a reply, but at least one.
    /// Returns the end of the page if a row did not fit.
    fn fill(&mut self, rows: Vec<ListRow>, state: Option<State>) -> Option<Cursor> {
        for row in rows {
            let bytes = if self.view == View::Basic { 0 } else { row.bytes };
            let full = self.rows.len() == self.page_size
                || (!self.rows.is_empty() && self.bytes + bytes > limits::REPLY_BYTES as i64);
            if full {
                return self.rows.last().map(|row| row.position(state));
            }
            self.bytes += bytes;
            self.rows.push(row);
        }
        None
    }
}

impl ListRow {
    /// Kind of a pending job at the time `now_ms`; `None` if the row does not tell.
    fn kind(&self, now_ms: i64) -> Option<SubState> {
        let attempts_used = self.attempts_used?.max(0) as u32;
        Some(SubState::of_pending(self.waits_for_handler?, attempts_used, self.at, now_ms))
    }

    /// Position of the row in the list of `state`.
    fn position(&self, state: Option<State>) -> Cursor {
        let (worker_id, priority) = if state == Some(State::Pending) {
            (self.worker_id.clone(), self.priority as u8)
        } else {
            Default::default()
        };
        Cursor { worker_id, priority, at_ms: self.at, id: self.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(number: u128, bytes: i64) -> Vec<ListRow> {
        let row = |n| ListRow {
            id: Uuid::from_u128(n),
            worker_id: "w".into(),
            priority: 5,
            at: 0,
            task: String::new(),
            bytes,
            attempts_used: None,
            waits_for_handler: None,
            sub_state: None,
        };
        (0..number).map(row).collect()
    }

    #[test]
    fn a_page_ends_where_the_next_one_begins() {
        let filled = |number, bytes, view, page_size| {
            let mut page = PageRows { page_size, view, rows: Vec::new(), bytes: 0 };
            let end = page.fill(rows(number, bytes), None);
            (page.rows.len(), end.map(|end| end.id.as_u128()))
        };
        assert_eq!(filled(3, 1, View::Full, 2), (2, Some(1)), "one more was read");
        assert_eq!(filled(2, 1, View::Full, 2), (2, None), "nothing follows");
        assert_eq!(filled(3, 2_000_000, View::Full, 3), (1, Some(0)), "by bytes");
        assert_eq!(filled(3, 2_000_000, View::Basic, 3), (3, None), "payloads are not part of it");
        assert_eq!(filled(1, 9_000_000, View::Full, 3), (1, None), "at least one job");
    }
}
