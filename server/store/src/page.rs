//! Pages of lists: which rows are read, where a page ends, and where the next one begins.

use async_trait::async_trait;
use jobqueue_shared::{limits, state::State};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error::StoreResult,
    rows::packed_claim::decode_ids,
    types::{Cursor, JobFilter, JobRecord, ListQuery, Page, View},
};

/// A row of a list before its job is read: the values that the list is ordered by, and its size.
#[derive(FromRow)]
pub struct ListRow {
    pub id: Uuid,
    pub worker_id: String,
    pub priority: i16,
    pub at: i64,
    pub task: String,
    pub bytes: i64,
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

/// Number of pages of candidates that are read at first to fill a page of a filtered list.
const PAGES_FILTERED: usize = 5;

/// A driver's reads for lists.
#[async_trait]
pub trait ListSource: Sync {
    /// Reads the first `limit` rows of the query's list after its cursor, whatever their task.
    async fn candidates(&self, query: &ListQuery, limit: usize) -> StoreResult<Vec<ListRow>>;

    /// Reads jobs, in the order of `ids`; `None` where there is no such job.
    async fn jobs(&self, ids: &[Uuid], view: View) -> StoreResult<Vec<Option<JobRecord>>>;
}

/// Reads a page of jobs.
pub async fn list(source: &impl ListSource, query: &ListQuery) -> StoreResult<Page> {
    let page_size = query.page_size as usize;
    let JobFilter { state, task, .. } = &query.filter;
    // One row more than the page tells whether there is another page.
    let few = if task.is_some() { PAGES_FILTERED * page_size } else { page_size + 1 };
    let (mut kept, mut end) = read_page(source, query, few).await?;
    // A filter without an index reads on if few rows pass it.
    if task.is_some() && kept.len() < page_size && end.is_some() {
        (kept, end) = read_page(source, query, limits::PAGE_SCAN as usize).await?;
    }
    let ids: Vec<Uuid> = kept.iter().map(|row| row.id).collect();
    let matches = |job: &JobRecord| state.is_none_or(|state| job.state == state);
    let jobs = source.jobs(&ids, query.view).await?.into_iter().flatten().filter(matches).collect();
    Ok(Page { jobs, next: end.map(|row| row.cursor(*state)) })
}

async fn read_page(
    source: &impl ListSource,
    query: &ListQuery,
    limit: usize,
) -> StoreResult<(Vec<ListRow>, Option<ListRow>)> {
    let mut rows = source.candidates(query, limit).await?;
    if query.view == View::Basic {
        for row in &mut rows {
            row.bytes = 0;
        }
    }
    Ok(cut(rows, limit, query.filter.task.as_deref(), query.page_size as usize))
}

/// Cuts candidates to a page: jobs of `task`, at most `page_size`, within the bytes of a reply, but at least one.
/// Returns the page and, unless the list ends, the row after which the next page begins. The list ends with `rows` if
/// these are fewer than `limit_read`.
fn cut(rows: Vec<ListRow>, limit_read: usize, task: Option<&str>, page_size: usize) -> (Vec<ListRow>, Option<ListRow>) {
    let read_all = rows.len() < limit_read;
    let mut kept: Vec<ListRow> = Vec::new();
    let mut bytes = 0;
    let mut last_seen = None;
    for row in rows {
        let matches = task.is_none_or(|task| row.task == task);
        if matches {
            if kept.len() == page_size || (!kept.is_empty() && bytes + row.bytes > limits::REPLY_BYTES as i64) {
                let end = kept.last().map(ListRow::position);
                return (kept, end);
            }
            bytes += row.bytes;
            kept.push(row);
            last_seen = kept.last().map(ListRow::position);
        } else {
            last_seen = Some(row);
        }
    }
    (kept, if read_all { None } else { last_seen })
}

impl ListRow {
    /// Position of a page of the list of `state` that ends with this row.
    fn cursor(self, state: Option<State>) -> Cursor {
        let (worker_id, priority) =
            if state == Some(State::Pending) { (self.worker_id, self.priority as u8) } else { Default::default() };
        Cursor { worker_id, priority, at_ms: self.at, id: self.id }
    }

    fn position(&self) -> Self {
        Self { worker_id: self.worker_id.clone(), task: String::new(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tasks: &[&str], bytes: i64) -> Vec<ListRow> {
        let row = |(n, task): (usize, &&str)| ListRow {
            id: Uuid::from_u128(n as u128),
            worker_id: "w".into(),
            priority: 5,
            at: 0,
            task: (*task).into(),
            bytes,
        };
        tasks.iter().enumerate().map(row).collect()
    }

    fn ends(page: (Vec<ListRow>, Option<ListRow>)) -> (usize, Option<u128>) {
        (page.0.len(), page.1.map(|row| row.id.as_u128()))
    }

    #[test]
    fn a_page_ends_where_the_next_one_begins() {
        assert_eq!(ends(cut(rows(&["a"; 3], 1), 3, None, 2)), (2, Some(1)), "one more was read");
        assert_eq!(ends(cut(rows(&["a"; 2], 1), 3, None, 2)), (2, None), "nothing follows");
        assert_eq!(ends(cut(rows(&["a"; 3], 2_000_000), 10, None, 3)), (1, Some(0)), "by bytes");
        assert_eq!(ends(cut(rows(&["a"], 9_000_000), 10, None, 3)), (1, None), "at least one job");
        assert_eq!(ends(cut(rows(&["a", "b", "b"], 1), 3, Some("a"), 5)), (1, Some(2)), "short, and goes on");
        assert_eq!(ends(cut(rows(&["b", "b"], 1), 2, Some("a"), 5)), (0, Some(1)), "empty, and goes on");
    }
}
