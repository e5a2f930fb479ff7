//! Jobs of an operation: which lists of the store hold them, page by page, and how many there are.

use std::time::{Duration, Instant};

use jobqueue_shared::{lease::created_at_ms, proto::v1::operation_spec::Kind, state::State, sub_state::SubState};
use jobqueue_store::{Cursor, JobFilter, JobRecord, ListQuery, Store, StoreResult, View};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Time after which counting ends with a floor.
const COUNT_FOR: Duration = Duration::from_secs(1);
/// Number of jobs that counting reads at once.
const COUNT_PAGE: u32 = 500;

/// States whose jobs a kind of operation can change, in the order in which it takes them.
pub(super) fn states_of(kind: Kind) -> &'static [State] {
    match kind {
        Kind::Unspecified => &[],
        Kind::Retry => &[State::Failed, State::Cancelled],
        // Running jobs last: those that are taken meanwhile are then found.
        Kind::Cancel => &[State::Pending, State::Running],
        Kind::Delete => &[State::Done, State::Failed, State::Cancelled],
        Kind::SetPriority | Kind::Reschedule => &[State::Pending],
    }
}

/// Position in a selection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Number of the list, or of the first id.
    at: usize,
    /// End of the last page of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Cursor>,
}

/// A page of jobs of a selection.
#[derive(Debug, Default)]
pub(super) struct SelectionPage {
    pub jobs: Vec<JobRecord>,
    /// `None` at the end.
    pub next: Option<Position>,
}

impl SelectionPage {
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.jobs.iter().map(|job| job.id).collect()
    }
}

/// The jobs that a kind of operation can change and that match its filter.
#[derive(Debug)]
pub(super) struct Selection {
    states: Vec<State>,
    /// The filter with the states of the kind, without ids.
    filter: JobFilter,
    /// Jobs that the filter names; empty = all.
    ids: Vec<Uuid>,
    /// The filter for each state: jobs of one state have one list, which a page can go on in while jobs leave it.
    lists: Vec<JobFilter>,
}

impl Selection {
    pub(super) fn new(kind: Kind, filter: &JobFilter) -> Self {
        let named = |state: State| -> Vec<SubState> {
            let all = SubState::of(state).into_iter();
            all.filter(|it| filter.states.is_empty() || filter.states.contains(it)).collect()
        };
        let states: Vec<_> = states_of(kind).iter().map(|state| (*state, named(*state))).collect();
        let states: Vec<_> = states.into_iter().filter(|(_, kinds)| !kinds.is_empty()).collect();
        let with = |states: Vec<SubState>| JobFilter { states, ids: Vec::new(), ..filter.clone() };
        Self {
            filter: with(states.iter().flat_map(|(_, kinds)| kinds.clone()).collect()),
            lists: states.iter().map(|(_, kinds)| with(kinds.clone())).collect(),
            states: states.into_iter().map(|(state, _)| state).collect(),
            ids: filter.ids.clone(),
        }
    }

    /// States of the jobs.
    pub(super) fn states(&self) -> &[State] {
        &self.states
    }

    /// Whether the job matched at `covers_until_ms`, as far as its state tells. A job that moves between the states of the
    /// selection matched if it existed.
    fn covers(&self, job: &JobRecord, covers_until_ms: i64) -> bool {
        let since = if self.states.len() > 1 && self.states.contains(&State::Running) {
            created_at_ms(job.id)
        } else {
            job.updated_at_ms
        };
        since <= covers_until_ms
    }

    /// Reads the next jobs, at most `size`: a page may have fewer and still not be the last.
    pub(super) async fn page(
        &self,
        store: &dyn Store,
        position: &Position,
        size: u32,
        covers_until_ms: i64,
    ) -> StoreResult<SelectionPage> {
        let (mut jobs, next) = if self.ids.is_empty() {
            self.list_page(store, position, size).await?
        } else {
            self.page_of_ids(store, position, size).await?
        };
        jobs.retain(|job| self.covers(job, covers_until_ms));
        Ok(SelectionPage { jobs, next })
    }

    async fn list_page(
        &self,
        store: &dyn Store,
        position: &Position,
        page_size: u32,
    ) -> StoreResult<(Vec<JobRecord>, Option<Position>)> {
        let Some(filter) = self.lists.get(position.at) else { return Ok((Vec::new(), None)) };
        let query = ListQuery { filter: filter.clone(), page_size, after: position.after.clone(), view: View::Basic };
        let page = store.list(&query).await?;
        let next = match page.next {
            Some(after) => Some(Position { at: position.at, after: Some(after) }),
            None if position.at + 1 < self.lists.len() => Some(Position { at: position.at + 1, after: None }),
            None => None,
        };
        Ok((page.jobs, next))
    }

    async fn page_of_ids(
        &self,
        store: &dyn Store,
        position: &Position,
        size: u32,
    ) -> StoreResult<(Vec<JobRecord>, Option<Position>)> {
        let rest = self.ids.get(position.at..).unwrap_or_default();
        let ids = &rest[..rest.len().min(size as usize)];
        let at = position.at + ids.len();
        let filter = JobFilter { ids: ids.to_vec(), ..self.filter.clone() };
        let mut query = ListQuery { filter, page_size: size, after: None, view: View::Basic };
        let mut jobs = Vec::with_capacity(ids.len());
        if self.states.is_empty() || ids.is_empty() {
            return Ok((jobs, None));
        }
        loop {
            let page = store.list(&query).await?;
            jobs.extend(page.jobs);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok((jobs, (at < self.ids.len()).then_some(Position { at, after: None }))),
            }
        }
    }

    /// Counts the jobs; true: there are more. Where the counters do not tell the jobs apart as the filter does, the jobs
    /// are read, for a limited time.
    pub(super) async fn count(&self, store: &dyn Store) -> StoreResult<(u64, bool)> {
        if self.ids.is_empty() && !self.states.is_empty() {
            let counted = store.count(&self.filter, false).await?.count;
            if !counted.at_least {
                return Ok((counted.number, false));
            }
        }
        let (begun, mut position, mut count) = (Instant::now(), Position::default(), 0);
        loop {
            let page = self.page(store, &position, COUNT_PAGE, i64::MAX).await?;
            count += page.jobs.len() as u64;
            match page.next {
                None => return Ok((count, false)),
                Some(_) if begun.elapsed() >= COUNT_FOR => return Ok((count, true)),
                Some(next) => position = next,
            }
        }
    }

    /// Reads the first jobs, without payloads and results.
    pub(super) async fn samples(&self, store: &dyn Store, size: u32) -> StoreResult<Vec<JobRecord>> {
        let (mut position, mut samples) = (Position::default(), Vec::new());
        let begun = Instant::now();
        loop {
            let page = self.page(store, &position, size, i64::MAX).await?;
            samples.extend(page.jobs);
            samples.truncate(size as usize);
            match page.next {
                Some(next) if samples.len() < size as usize && begun.elapsed() < COUNT_FOR => position = next,
                _ => return Ok(samples),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(kind: Kind, states: &[SubState]) -> Selection {
        Selection::new(kind, &JobFilter { states: states.to_vec(), ..JobFilter::default() })
    }

    #[test]
    fn a_kind_takes_only_the_states_that_it_can_change() {
        let lists = |kind, states: &[SubState]| -> Vec<Vec<SubState>> {
            selection(kind, states).lists.into_iter().map(|list| list.states).collect()
        };
        assert_eq!(lists(Kind::Retry, &[]), [[SubState::Failed], [SubState::Cancelled]]);
        assert_eq!(lists(Kind::Retry, &[SubState::Failed, SubState::Done]), [[SubState::Failed]]);
        assert_eq!(lists(Kind::SetPriority, &[]), [SubState::PENDING]);
        assert_eq!(lists(Kind::Cancel, &[SubState::Scheduled]), [[SubState::Scheduled]]);
        assert_eq!(lists(Kind::Delete, &[SubState::Ready]), Vec::<Vec<SubState>>::new());
    }

    #[test]
    fn a_job_that_came_into_its_state_later_is_not_covered() {
        let job = |since| JobRecord { updated_at_ms: since, ..JobRecord::sample(0) };
        let retry = selection(Kind::Retry, &[]);
        assert!(retry.covers(&job(5), 5) && !retry.covers(&job(6), 5));
        let cancel = selection(Kind::Cancel, &[]);
        assert!(cancel.covers(&job(6), 5), "it may have begun to run meanwhile");
        let pending = selection(Kind::Cancel, &[SubState::Ready]);
        assert!(!pending.covers(&job(6), 5));
    }
}
