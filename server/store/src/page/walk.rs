//! The way of a scan through a list: where it begins, which rows can pass, where it can skip rows, and where it ends.

use jobqueue_shared::{lease::created_at_ms, state::State, sub_state::SubState};
use uuid::Uuid;

use super::ListRow;
use crate::types::{Cursor, ErrorGroupId, JobFilter};

/// End of the times that page tokens hold: the year 10000.
const END_MS: i64 = 253_402_300_800_000;

/// A filter, and the list that is read for it.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) filter: &'a JobFilter,
    pub(super) state: Option<State>,
    /// Times of the rows of interest in a list of pending jobs, from inclusive, before exclusive.
    due: (i64, i64),
    /// Priorities of these rows, both inclusive.
    priorities: (u8, u8),
    now_ms: i64,
}

/// Conclusion from a row about the rest of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The job passes, as far as its row shows.
    Pass,
    Fail,
    /// No row up to this position passes.
    SkipTo(Cursor),
    /// Neither this row nor any behind it passes.
    End,
}

impl<'a> Walk<'a> {
    pub(super) fn new(filter: &'a JobFilter, now_ms: i64) -> Self {
        let all = |kinds: &[SubState]| !filter.states.is_empty() && filter.states.iter().all(|it| kinds.contains(it));
        let (mut from, mut before) = (filter.run_at.from_ms.unwrap_or(0), filter.run_at.before_ms.unwrap_or(END_MS));
        if all(&[SubState::Scheduled, SubState::Retrying]) {
            from = from.max(now_ms + 1);
        }
        if all(&[SubState::Ready]) {
            before = before.min(now_ms + 1);
        }
        let priority = |bound: Option<u32>, other: u8| bound.map_or(other, |it| it.min(u8::MAX.into()) as u8);
        Self {
            filter,
            state: filter.state(),
            due: (from.clamp(0, END_MS), before.clamp(0, END_MS)),
            priorities: (priority(filter.priority.min, 0), priority(filter.priority.max, u8::MAX)),
            now_ms,
        }
    }

    /// Error group whose dead letters are read by index.
    pub(super) fn error_group(&self) -> Option<ErrorGroupId> {
        self.filter.error_group.filter(|_| self.state == Some(State::Failed))
    }

    /// Whether a job's row does not decide whether the job passes.
    pub(super) fn needs_records(&self) -> bool {
        let filter = self.filter;
        let pending = self.state == Some(State::Pending);
        (self.state.is_none() && !filter.states.is_empty())
            || !(filter.attempts.is_open() || pending)
            || !filter.failure_reasons.is_empty()
            || !filter.error_contains.is_empty()
            || filter.session_id.is_some()
            || (filter.error_group.is_some() && (self.error_group().is_none() || !filter.ids.is_empty()))
            || filter.origin.is_some()
            || !filter.payload.is_empty()
            || !(filter.finished.is_open() || self.is_finished())
            || !(filter.run_at.is_open() || pending)
    }

    /// Whether any row can fail.
    pub(super) fn tests_rows(&self) -> bool {
        let filter = self.filter;
        let plain = JobFilter {
            worker_ids: filter.worker_ids.clone(),
            states: filter.states.clone(),
            error_group: self.error_group(),
            ..Default::default()
        };
        let pending = self.state == Some(State::Pending);
        let by_index = *filter == plain && (filter.worker_ids.len() <= 1 || pending);
        let all_kinds = !pending || SubState::PENDING.iter().all(|it| filter.states.contains(it));
        self.needs_records() || !by_index || !all_kinds
    }

    fn is_finished(&self) -> bool {
        self.state.is_some_and(State::is_finished)
    }

    /// Position at which the list begins; `None` is its very first row. `worker_id` is the only one of the list.
    pub(super) fn start(&self, worker_id: Option<&str>) -> Option<Cursor> {
        let cursor = Cursor { worker_id: String::new(), priority: 0, at_ms: 0, id: Uuid::nil() };
        match self.state {
            None => {
                let before = self.filter.created.before_ms.filter(|it| *it < END_MS)?;
                Some(Cursor { id: first_id(before), ..cursor })
            }
            Some(State::Pending) => worker_id.map(|worker_id| self.first_due(worker_id, self.priorities.0)),
            Some(State::Running) => None,
            Some(State::Done | State::Failed | State::Cancelled) => {
                let before = self.filter.finished.before_ms.filter(|it| *it < END_MS)?;
                Some(Cursor { at_ms: before.max(0), ..cursor })
            }
        }
    }

    /// Position in front of the first pending jobs of interest of a worker_id and priority.
    fn first_due(&self, worker_id: &str, priority: u8) -> Cursor {
        let (at_ms, id) = if self.due.0 == 0 { (0, Uuid::nil()) } else { (self.due.0 - 1, Uuid::max()) };
        Cursor { worker_id: worker_id.to_owned(), priority, at_ms, id }
    }

    pub(super) fn verdict(&self, row: &ListRow) -> Verdict {
        let created = created_at_ms(row.id);
        let filter = self.filter;
        let too_early = |at: i64, from: Option<i64>| from.is_some_and(|from| at < from);
        match self.state {
            None if too_early(created, filter.created.from_ms) => return Verdict::End,
            // A job finishes after it was created.
            Some(State::Done | State::Failed | State::Cancelled)
                if too_early(row.at, filter.finished.from_ms) || too_early(row.at, filter.created.from_ms) =>
            {
                return Verdict::End;
            }
            Some(State::Pending) => {
                if let Some(skip) = self.skip(row) {
                    return Verdict::SkipTo(skip);
                }
            }
            _ => {}
        }
        let passes = (filter.worker_ids.is_empty() || filter.worker_ids.contains(&row.worker_id))
            && (filter.tasks.is_empty() || filter.tasks.contains(&row.task))
            && filter.priority.contains(u32::from(row.priority as u16))
            && filter.created.contains(created)
            && (filter.ids.is_empty() || filter.ids.contains(&row.id))
            && (!self.is_finished() || filter.finished.contains(row.at))
            && (self.state != Some(State::Pending) || self.passes_pending(row));
        if passes { Verdict::Pass } else { Verdict::Fail }
    }

    /// Whether a pending job has one of the wanted kinds and numbers of attempts, as far as its row shows.
    fn passes_pending(&self, row: &ListRow) -> bool {
        row.kind(self.now_ms).is_none_or(|kind| self.filter.states.contains(&kind))
            && row.attempts_used.is_none_or(|used| self.filter.attempts.contains(used.max(0) as u32))
    }

    /// Position behind a pending job up to which no other passes, if the job itself does not because of its time or
    /// priority.
    fn skip(&self, row: &ListRow) -> Option<Cursor> {
        let (lowest, highest) = self.priorities;
        let priority = row.priority as u8;
        if priority < lowest {
            return Some(self.first_due(&row.worker_id, lowest));
        }
        if priority <= highest && row.at < self.due.0 {
            return Some(self.first_due(&row.worker_id, priority));
        }
        if priority > highest || row.at >= self.due.1 {
            if priority < highest.min(9) {
                return Some(self.first_due(&row.worker_id, priority + 1));
            }
            let worker_id = row.worker_id.clone();
            return Some(Cursor { worker_id, priority: 9, at_ms: END_MS - 1, id: Uuid::max() });
        }
        None
    }
}

/// Smallest id of a job that was created at `time_ms`.
fn first_id(time_ms: i64) -> Uuid {
    Uuid::from_u128((time_ms.clamp(0, (1 << 48) - 1) as u128) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Bounds, Span};

    const NOW: i64 = 1_000;

    fn row(worker_id: &str, priority: i16, at: i64) -> ListRow {
        ListRow {
            id: first_id(at),
            worker_id: worker_id.into(),
            priority,
            at,
            task: "t".into(),
            bytes: 0,
            attempts_used: None,
            waits_for_handler: None,
            sub_state: None,
        }
    }

    fn skipped(filter: &JobFilter, priority: i16, at: i64) -> Option<(u8, i64)> {
        match Walk::new(filter, NOW).verdict(&row("w", priority, at)) {
            Verdict::SkipTo(cursor) => {
                assert_eq!(cursor.worker_id, "w");
                Some((cursor.priority, cursor.at_ms))
            }
            _ => None,
        }
    }

    #[test]
    fn a_scan_of_pending_jobs_skips_those_of_other_times_and_priorities() {
        let scheduled = JobFilter { states: vec![SubState::Scheduled], ..JobFilter::default() };
        assert_eq!(skipped(&scheduled, 5, NOW), Some((5, NOW)), "to the first one that is not due");
        assert_eq!(skipped(&scheduled, 5, NOW + 1), None);
        let ready = JobFilter { states: vec![SubState::Ready], ..JobFilter::default() };
        assert_eq!(skipped(&ready, 5, NOW), None);
        assert_eq!(skipped(&ready, 5, NOW + 1), Some((6, 0)), "to the next priority");
        assert_eq!(skipped(&ready, 9, NOW + 1), Some((9, END_MS - 1)), "to the next worker_id");
        let some = JobFilter {
            states: SubState::PENDING.to_vec(),
            priority: Bounds { min: Some(2), max: Some(3) },
            run_at: Span { from_ms: Some(10), before_ms: Some(20) },
            ..JobFilter::default()
        };
        assert_eq!(skipped(&some, 0, 15), Some((2, 9)));
        assert_eq!(skipped(&some, 2, 5), Some((2, 9)));
        assert_eq!(skipped(&some, 2, 15), None);
        assert_eq!(skipped(&some, 2, 20), Some((3, 9)));
        assert_eq!(skipped(&some, 3, 20), Some((9, END_MS - 1)));
        assert_eq!(skipped(&some, 4, 5), Some((9, END_MS - 1)));
        let start = Walk::new(&some, NOW).start(Some("w")).unwrap();
        assert_eq!((start.priority, start.at_ms, start.id), (2, 9, Uuid::max()));
    }

    #[test]
    fn a_scan_begins_and_ends_at_the_range_of_its_order() {
        let created = Span { from_ms: Some(10), before_ms: Some(20) };
        let all = JobFilter { created, ..JobFilter::default() };
        let walk = Walk::new(&all, NOW);
        assert_eq!(walk.start(None).unwrap().id, first_id(20));
        assert_eq!(walk.verdict(&row("w", 5, 10)), Verdict::Pass);
        assert_eq!(walk.verdict(&row("w", 5, 9)), Verdict::End);
        let failed = JobFilter { states: vec![SubState::Failed], finished: created, ..JobFilter::default() };
        let walk = Walk::new(&failed, NOW);
        assert_eq!((walk.start(None).unwrap().at_ms, walk.needs_records()), (20, false));
        assert_eq!(walk.verdict(&row("w", 5, 10)), Verdict::Pass);
        assert_eq!(walk.verdict(&row("w", 5, 9)), Verdict::End);
        let failed = JobFilter { states: vec![SubState::Failed], created, ..JobFilter::default() };
        let walk = Walk::new(&failed, NOW);
        assert_eq!(walk.start(None), None, "it may have finished at any time after");
        assert_eq!(walk.verdict(&ListRow { at: 9, ..row("w", 5, 15) }), Verdict::End);
        assert_eq!(walk.verdict(&ListRow { at: 30, ..row("w", 5, 25) }), Verdict::Fail);
    }

    #[test]
    fn records_are_read_only_for_conditions_that_rows_do_not_show() {
        let needs = |filter: &JobFilter| Walk::new(filter, NOW).needs_records();
        assert!(!needs(&JobFilter::of(Some("w"), Some(State::Pending), Some("t"))));
        assert!(!needs(&JobFilter::default()));
        let retrying = JobFilter {
            states: vec![SubState::Retrying],
            attempts: Bounds { min: Some(2), max: None },
            ..JobFilter::default()
        };
        assert!(!needs(&retrying));
        let walk = Walk::new(&retrying, NOW);
        let row =
            |used, waits| ListRow { attempts_used: Some(used), waits_for_handler: Some(waits), ..row("w", 5, NOW + 1) };
        assert_eq!(walk.verdict(&row(2, false)), Verdict::Pass);
        assert_eq!(walk.verdict(&row(1, false)), Verdict::Fail);
        assert_eq!(walk.verdict(&row(2, true)), Verdict::Fail, "it waits for a handler");
        let span = Span { from_ms: Some(1), before_ms: None };
        for filter in [
            JobFilter { states: vec![SubState::Failed, SubState::Done], ..JobFilter::default() },
            JobFilter { finished: span, ..JobFilter::default() },
            JobFilter { run_at: span, states: vec![SubState::Done], ..JobFilter::default() },
            JobFilter { error_contains: "x".into(), ..JobFilter::default() },
        ] {
            assert!(needs(&filter), "{filter:?}");
        }
    }
}
