//! A scan: reads a list from a position on, chunk by chunk, and keeps the rows whose jobs pass the filter.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jobqueue_shared::{limits, state::State, sub_state::SubState};
use uuid::Uuid;

use super::{
    ListRow, ListSource, ListStart,
    walk::{Verdict, Walk},
};
use crate::{
    error::StoreResult,
    types::{Cursor, JobFilter, JobRecord, View},
};

/// Number of rows whose jobs are read at once.
const CHUNK: usize = 500;
/// Number of rows that are read behind a skip: the next skip may follow at once.
const AFTER_SKIP: usize = 50;
/// Maximum number of jobs without a handler that are read by their ids and sorted. If there are more, the list of all
/// pending jobs is scanned for them.
const NO_HANDLER_IDS: usize = 1_000;
/// Maximum number of copies of a job that are found by its id; of a job with more, the list is scanned.
const COPY_IDS: usize = 1_000;

/// Bounds of a scan. At least one chunk is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) rows: usize,
    pub(super) until: Instant,
}

impl Budget {
    /// Budget of one call.
    pub(super) fn whole() -> Self {
        Self { rows: limits::PAGE_SCAN as usize, until: Instant::now() + Duration::from_millis(limits::SCAN_MS) }
    }
}

pub(super) struct Scan<'a, S> {
    source: &'a S,
    walk: Walk<'a>,
    now_ms: i64,
    budget: Budget,
    position: Option<Cursor>,
    /// worker_ids whose jobs are still to be read, the current one last; `None` is all of them.
    segments: Vec<Option<&'a str>>,
    read: usize,
    /// Whether the last chunk ended with a skip.
    skipped: bool,
    /// Whether each row has to know the state of its job.
    with_states: bool,
}

impl<'a, S: ListSource> Scan<'a, S> {
    pub(super) fn new(source: &'a S, filter: &'a JobFilter, after: Option<Cursor>, budget: Budget) -> Self {
        let now_ms = source.clock_ms();
        let walk = Walk::new(filter, now_ms);
        // Pending jobs are in the order of their worker_ids, so those of several can be read one after the other.
        let several = walk.state == Some(State::Pending) && filter.worker_ids.len() > 1;
        let mut segments: Vec<Option<&str>> = if several {
            let first = after.as_ref().map_or("", |after| after.worker_id.as_str());
            filter.worker_ids.iter().map(String::as_str).filter(|it| *it >= first).map(Some).collect()
        } else {
            vec![filter.worker_id()]
        };
        segments.sort_unstable_by(|a, b| b.cmp(a));
        segments.dedup();
        let mut scan = Self {
            source,
            walk,
            now_ms,
            budget,
            position: None,
            segments,
            read: 0,
            skipped: false,
            with_states: false,
        };
        // A position in another worker_id, which has no jobs any more, is in front of the current one.
        let current = scan.segments.last().copied().flatten();
        let valid = after.filter(|after| !several || current == Some(after.worker_id.as_str()));
        scan.position = valid.or_else(|| scan.walk.start(current));
        scan
    }

    /// Makes the scan find out the state of every job that passes.
    pub(super) fn with_states(mut self) -> Self {
        self.with_states = true;
        self
    }

    /// Whether any row can fail.
    pub(super) fn tests_rows(&self) -> bool {
        self.walk.tests_rows()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the budget has been used up. Rows alone are read in few statements, whose number bounds their time.
    pub(super) fn is_spent(&self) -> bool {
        let slow = self.needs_records() || self.skipped;
        self.read >= self.budget.rows || (slow && Instant::now() >= self.budget.until)
    }

    /// Number of rows that were read.
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Position behind the last row that was read.
    pub(super) fn position(&self) -> Option<Cursor> {
        self.position.clone()
    }

    /// Reads on, up to `limit` rows; returns those whose jobs pass, in the order of the list.
    pub(super) async fn next(&mut self, limit: usize) -> StoreResult<Vec<ListRow>> {
        let Some(&worker_id) = self.segments.last() else { return Ok(Vec::new()) };
        if let Some(rows) = self.by_ids(worker_id).await? {
            self.segments.clear();
            self.read += rows.len();
            return self.passing(rows).await;
        }
        let most = self.budget.rows.saturating_sub(self.read).max(1);
        let most = if self.needs_records() { most.min(CHUNK) } else { most };
        let limit = limit.min(if self.skipped { most.min(AFTER_SKIP) } else { most });
        let start = ListStart {
            worker_id: worker_id.map(str::to_owned),
            state: self.walk.state,
            error_group: self.walk.error_group(),
            after: self.position.clone(),
        };
        let rows = self.source.candidates(&start, limit).await?;
        self.read += rows.len().max(1);
        let rows = self.walk_over(rows, limit);
        self.passing(rows).await
    }

    fn needs_records(&self) -> bool {
        // Rows of pending jobs tell their kinds, and every other list has one state.
        (self.with_states && self.walk.state.is_none()) || self.walk.needs_records()
    }

    /// Keeps the rows that pass by themselves, and moves the position behind all rows, or on to a later place.
    fn walk_over(&mut self, rows: Vec<ListRow>, limit: usize) -> Vec<ListRow> {
        self.skipped = false;
        let ended = rows.len() < limit;
        let mut kept = Vec::new();
        let mut skip = None;
        for row in rows {
            // Rows up to a place that was skipped to were read in vain.
            if skip.as_ref().is_some_and(|skip| !is_behind(&row, skip)) {
                continue;
            }
            self.position = Some(row.position(self.walk.state));
            match self.walk.verdict(&row) {
                Verdict::Pass => kept.push(ListRow { sub_state: row.kind(self.now_ms), ..row }),
                Verdict::Fail => {}
                Verdict::SkipTo(position) => skip = Some(position),
                Verdict::End => {
                    self.next_segment();
                    return kept;
                }
            }
        }
        if ended {
            self.next_segment();
        } else if let (Some(skip), Some(position)) = (skip, &self.position)
            && skip.worker_id == position.worker_id
            && key(&skip) > key(position)
        {
            self.skipped = true;
            self.position = Some(skip);
        }
        kept
    }

    fn next_segment(&mut self) {
        self.segments.pop();
        if let Some(&next) = self.segments.last() {
            self.position = self.walk.start(next);
        }
    }

    /// Rows of few jobs that are known by their ids, sorted into the order of the list; `None` if the list has to be
    /// scanned.
    async fn by_ids(&self, worker_id: Option<&str>) -> StoreResult<Option<Vec<ListRow>>> {
        let filter = self.walk.filter;
        let ids = if !filter.ids.is_empty() {
            filter.ids.clone()
        } else if let Some(origin) = filter.origin {
            let ids = self.source.copy_ids(origin, COPY_IDS + 1).await?;
            if ids.len() > COPY_IDS {
                return Ok(None);
            }
            ids
        } else if filter.states == [SubState::NoHandler] && filter.worker_ids.len() <= 1 {
            let ids = self.source.no_handler_ids(worker_id, NO_HANDLER_IDS + 1).await?;
            if ids.len() > NO_HANDLER_IDS {
                return Ok(None);
            }
            ids
        } else {
            return Ok(None);
        };
        let mut jobs: Vec<JobRecord> = Vec::new();
        for ids in ids.chunks(CHUNK) {
            let found = self.source.jobs(ids, View::Basic).await?.into_iter().flatten();
            jobs.extend(found.filter(|job| filter.matches_but_payload(job, self.now_ms)));
        }
        let state = self.walk.state;
        let mut places: Vec<Cursor> = jobs.iter().map(|job| place(job, state)).collect();
        if state == Some(State::Pending) {
            places.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
            places.retain(|it| self.position.as_ref().is_none_or(|position| key(it) > key(position)));
        } else {
            places.sort_unstable_by(|a, b| key(b).cmp(&key(a)));
            places.retain(|it| self.position.as_ref().is_none_or(|position| key(it) < key(position)));
        }
        let states: HashMap<Uuid, SubState> = jobs.iter().map(|job| (job.id, job.sub_state(self.now_ms))).collect();
        let rows = self.source.rows(places.into_iter().map(|it| (it.at_ms, it.id)).collect()).await?;
        Ok(Some(rows.into_iter().map(|row| ListRow { sub_state: states.get(&row.id).copied(), ..row }).collect()))
    }

    /// Reads the jobs of rows, where the rows alone do not tell whether they pass.
    async fn passing(&self, rows: Vec<ListRow>) -> StoreResult<Vec<ListRow>> {
        if !self.needs_records() || rows.is_empty() {
            return Ok(rows);
        }
        let with_payload = !self.walk.filter.payload.is_empty();
        let mut states: HashMap<Uuid, SubState> = HashMap::with_capacity(rows.len());
        for part in parts(&rows, with_payload) {
            let ids: Vec<Uuid> = part.iter().map(|row| row.id).collect();
            let view = if with_payload { View::Full } else { View::Basic };
            for job in self.source.jobs(&ids, view).await?.into_iter().flatten() {
                if self.walk.filter.matches(&job, self.now_ms) {
                    states.insert(job.id, job.sub_state(self.now_ms));
                }
            }
        }
        let state = |row: ListRow| Some(ListRow { sub_state: Some(*states.get(&row.id)?), ..row });
        Ok(rows.into_iter().filter_map(state).collect())
    }
}

/// Splits rows into parts whose jobs are read at once; with payloads, within the bytes of a reply.
fn parts(rows: &[ListRow], with_payload: bool) -> Vec<&[ListRow]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (n, row) in rows.iter().enumerate() {
        let size = if with_payload { row.bytes } else { 0 };
        if n > start && (bytes + size > limits::REPLY_BYTES as i64 || n - start == CHUNK) {
            parts.push(&rows[start..n]);
            (start, bytes) = (n, 0);
        }
        bytes += size;
    }
    if start < rows.len() {
        parts.push(&rows[start..]);
    }
    parts
}

/// Place of a job in the list of `state`.
fn place(job: &JobRecord, state: Option<State>) -> Cursor {
    let at_ms = match state {
        None => 0,
        Some(State::Pending) => job.run_at_ms,
        Some(State::Running) => job.started_at_ms.unwrap_or_default(),
        Some(State::Done | State::Failed | State::Cancelled) => job.finished_at_ms.unwrap_or_default(),
    };
    let (worker_id, priority) =
        if state == Some(State::Pending) { (job.worker_id.clone(), job.priority) } else { Default::default() };
    Cursor { worker_id, priority, at_ms, id: job.id }
}

fn key(it: &Cursor) -> (&str, u8, i64, Uuid) {
    (&it.worker_id, it.priority, it.at_ms, it.id)
}

/// Whether a pending job comes after `skip`. The database may order worker_ids otherwise than by their bytes, so only
/// those within one are compared.
fn is_behind(row: &ListRow, skip: &Cursor) -> bool {
    row.worker_id != skip.worker_id || (row.priority as u8, row.at, row.id) > (skip.priority, skip.at_ms, skip.id)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{page::NoHandlerRow, types::WorkerIdCounts};

    const NOW: i64 = 1_000;

    /// Pending jobs in memory, in the order of their list.
    struct Jobs {
        rows: Vec<ListRow>,
        read: AtomicUsize,
    }

    impl Jobs {
        fn new(keys: impl IntoIterator<Item = (&'static str, u8, i64)>) -> Self {
            let row = |(n, (worker_id, priority, at)): (usize, (&str, u8, i64))| ListRow {
                id: Uuid::from_u128(n as u128),
                worker_id: worker_id.into(),
                priority: priority.into(),
                at,
                task: String::new(),
                bytes: 0,
                attempts_used: Some(0),
                waits_for_handler: Some(false),
                sub_state: None,
            };
            let mut rows: Vec<_> = keys.into_iter().enumerate().map(row).collect();
            rows.sort_by(|a, b| (&a.worker_id, a.priority, a.at, a.id).cmp(&(&b.worker_id, b.priority, b.at, b.id)));
            Self { rows, read: AtomicUsize::new(0) }
        }

        /// Scans the whole list in chunks of `limit`; returns the times of the rows that pass.
        async fn scan(&self, filter: &JobFilter, limit: usize) -> Vec<i64> {
            let budget = Budget { rows: usize::MAX, until: Instant::now() + Duration::from_mins(1) };
            let (mut scan, mut found) = (Scan::new(self, filter, None, budget), Vec::new());
            while !scan.has_ended() {
                found.extend(scan.next(limit).await.unwrap().into_iter().map(|row| row.at));
            }
            found
        }
    }

    #[async_trait]
    impl ListSource for Jobs {
        fn clock_ms(&self) -> i64 {
            NOW
        }

        async fn candidates(&self, start: &ListStart, limit: usize) -> StoreResult<Vec<ListRow>> {
            let after =
                |row: &&ListRow| start.after.as_ref().is_none_or(|it| key(&row.position(start.state)) > key(it));
            let of_one = |row: &&ListRow| start.worker_id.as_ref().is_none_or(|it| *it == row.worker_id);
            let rows: Vec<_> = self.rows.iter().filter(after).filter(of_one).take(limit).cloned().collect();
            self.read.fetch_add(rows.len(), Ordering::Relaxed);
            Ok(rows)
        }

        async fn rows(&self, _: Vec<(i64, Uuid)>) -> StoreResult<Vec<ListRow>> {
            unreachable!("no filter has ids")
        }

        async fn jobs(&self, ids: &[Uuid], _: View) -> StoreResult<Vec<Option<JobRecord>>> {
            let find = |id: &Uuid| {
                let row = self.rows.iter().find(|row| row.id == *id)?;
                let (worker_id, priority) = (row.worker_id.clone(), row.priority as u8);
                Some(JobRecord { id: *id, worker_id, priority, run_at_ms: row.at, ..JobRecord::sample(0) })
            };
            Ok(ids.iter().map(find).collect())
        }

        async fn no_handler_ids(&self, _: Option<&str>, _: usize) -> StoreResult<Vec<Uuid>> {
            unreachable!("no filter asks for them")
        }

        async fn copy_ids(&self, _: Uuid, _: usize) -> StoreResult<Vec<Uuid>> {
            unreachable!("no filter asks for them")
        }

        async fn no_handler_counts(&self, _: &[String], _: u32) -> StoreResult<NoHandlerRow> {
            unreachable!("no filter asks for them")
        }

        async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
            unreachable!("a scan does not count")
        }
    }

    #[tokio::test]
    async fn ready_jobs_are_skipped_in_a_scan_for_scheduled_ones() {
        let ready = (0..20_000).map(|n| (["a", "b"][n % 2], (n % 10) as u8, n as i64 % NOW));
        let jobs = Jobs::new(ready.chain([("a", 9, NOW + 1), ("b", 0, NOW + 2), ("b", 5, NOW + 3)]));
        let filter = JobFilter { states: vec![SubState::Scheduled], ..JobFilter::default() };
        assert_eq!(jobs.scan(&filter, 500).await, [NOW + 1, NOW + 2, NOW + 3]);
        let read = jobs.read.load(Ordering::Relaxed);
        assert!(read < 2_000, "{read} rows of 20,003 were read");
    }

    #[tokio::test]
    async fn jobs_of_several_worker_ids_are_read_one_worker_id_after_the_other() {
        let keys = (0..3_000).map(|n| (["a", "b", "c"][n % 3], 5, n as i64));
        let jobs = Jobs::new(keys.chain([("d", 5, 7)]));
        let worker_ids = vec!["a".to_owned(), "d".to_owned(), "e".to_owned()];
        let filter = JobFilter { worker_ids, states: SubState::PENDING.to_vec(), ..JobFilter::default() };
        let found = jobs.scan(&filter, 100).await;
        assert_eq!((found.len(), found.last()), (1_001, Some(&7)));
        assert_eq!(jobs.read.load(Ordering::Relaxed), 1_001, "others were read");
    }

    #[tokio::test]
    async fn any_chunk_gives_the_same_rows() {
        let keys = || (0..400).map(|n: i64| (["a", "B", "c"][n as usize % 3], (n * 7 % 10) as u8, n * 13 % 50 * 40));
        for filter in [
            JobFilter { states: vec![SubState::Scheduled], ..JobFilter::default() },
            JobFilter { states: vec![SubState::Ready], ..JobFilter::default() },
            JobFilter {
                states: SubState::PENDING.to_vec(),
                priority: crate::types::Bounds { min: Some(2), max: Some(6) },
                run_at: crate::types::Span { from_ms: Some(400), before_ms: Some(900) },
                ..JobFilter::default()
            },
        ] {
            let jobs = Jobs::new(keys());
            let ids: Vec<_> = jobs.rows.iter().map(|row| row.id).collect();
            let records = jobs.jobs(&ids, View::Basic).await.unwrap();
            let passing = records.into_iter().flatten().filter(|job| filter.matches(job, NOW));
            let expected: Vec<_> = passing.map(|job| job.run_at_ms).collect();
            assert!(!expected.is_empty());
            for limit in [1, 2, 7, 64, 1_000] {
                assert_eq!(jobs.scan(&filter, limit).await, expected, "chunks of {limit}");
            }
        }
    }

    #[test]
    fn payloads_are_read_in_parts_that_fit_into_memory() {
        let row = |bytes| ListRow {
            id: Uuid::nil(),
            worker_id: String::new(),
            priority: 0,
            at: 0,
            task: String::new(),
            bytes,
            attempts_used: None,
            waits_for_handler: None,
            sub_state: None,
        };
        let lengths =
            |rows: &[ListRow], with_payload| parts(rows, with_payload).iter().map(|it| it.len()).collect::<Vec<_>>();
        let large = vec![row(1_000_000); 7];
        assert_eq!(lengths(&large, true), [3, 3, 1]);
        assert_eq!(lengths(&large, false), [7]);
        assert_eq!(lengths(&vec![row(9_000_000); 2], true), [1, 1], "at least one");
        assert_eq!(lengths(&vec![row(1); CHUNK + 1], true), [CHUNK, 1]);
        assert!(lengths(&[], true).is_empty());
    }
}
