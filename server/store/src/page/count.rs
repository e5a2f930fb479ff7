//! Counts of the jobs that pass a filter: from the counters where these suffice, else by bounded scans.

use std::time::Instant;

use jobqueue_shared::{limits, state::State, sub_state::SubState};

use super::{
    ListSource, NoHandlerRow,
    scan::{Budget, Scan},
};
use crate::{
    error::StoreResult,
    types::{Count, JobCounts, JobFilter, WorkerIdCounts},
};

/// Lists in the order in which they are counted: those that are short as a rule come first, and leave the others what
/// they did not need of the budget.
const LISTS: [State; 5] = [State::Running, State::Failed, State::Cancelled, State::Pending, State::Done];

/// Counts the jobs that pass `filter`; with `by_state`, also those of each state that pass the rest of it.
pub async fn count(source: &impl ListSource, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts> {
    if filter.is_counted() {
        return counted(source, filter, by_state).await;
    }
    let several = filter.state().is_none() && !filter.states.is_empty();
    if !by_state && !several {
        let mut budget = Budget::whole();
        let found = scanned(source, filter, &mut budget, false).await?;
        return Ok(JobCounts { count: sum(found.iter().map(|(_, count)| *count)), by_state: Vec::new() });
    }
    let wanted: Vec<SubState> = if by_state { SubState::ALL.to_vec() } else { filter.states.clone() };
    let found = each_state(source, filter, &wanted).await?;
    let selected = found.iter().filter(|(state, _)| filter.states.is_empty() || filter.states.contains(state));
    let count = sum(selected.map(|(_, count)| *count));
    Ok(JobCounts { count, by_state: if by_state { found } else { Vec::new() } })
}

/// Counts by the counters, and by the index of jobs without a handler, which the counters count by their times.
async fn counted(source: &impl ListSource, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts> {
    let mut of_all = WorkerIdCounts::default();
    for it in source.counts().await? {
        if filter.worker_ids.is_empty() || filter.worker_ids.contains(&it.worker_id) {
            of_all.pending += it.pending;
            of_all.scheduled += it.scheduled;
            of_all.retrying += it.retrying;
            of_all.running += it.running;
            of_all.done += it.done;
            of_all.failed += it.failed;
            of_all.cancelled += it.cancelled;
        }
    }
    let all = |states: &[SubState]| states.iter().all(|it| filter.states.contains(it));
    let any = |states: &[SubState]| states.iter().any(|it| filter.states.contains(it));
    let kinds_matter = by_state || (any(&SubState::PENDING) && !all(&SubState::PENDING));
    let no_handler: NoHandlerRow = if kinds_matter && of_all.pending > 0 {
        source.no_handler_counts(&filter.worker_ids, limits::NO_HANDLER_SCAN).await?
    } else {
        NoHandlerRow::default()
    };
    let at_least = no_handler.total >= i64::from(limits::NO_HANDLER_SCAN);
    let left = |all: u64, part: i64| {
        // Where not all jobs without a handler are known, any of the others may be one.
        if at_least { 0 } else { all.saturating_sub(part.max(0) as u64) }
    };
    let scheduled = left(of_all.scheduled, no_handler.scheduled);
    let retrying = left(of_all.retrying, no_handler.retrying);
    let ready = left(of_all.pending, no_handler.total + scheduled as i64 + retrying as i64);
    let number = |state| match state {
        SubState::Ready => ready,
        SubState::Scheduled => scheduled,
        SubState::Retrying => retrying,
        SubState::NoHandler => no_handler.total.max(0) as u64,
        SubState::Running => of_all.running,
        SubState::Done => of_all.done,
        SubState::Failed => of_all.failed,
        SubState::Cancelled => of_all.cancelled,
    };
    let one = |state: SubState| Count { number: number(state), at_least: at_least && state.state() == State::Pending };
    let WorkerIdCounts { pending, running, done, failed, cancelled, .. } = of_all;
    let count = if filter.states.is_empty() {
        exactly(pending + running + done + failed + cancelled)
    } else if all(&SubState::PENDING) {
        let rest = filter.states.iter().filter(|it| it.state() != State::Pending).map(|it| one(*it));
        sum(rest.chain([exactly(pending)]))
    } else {
        sum(filter.states.iter().map(|it| one(*it)))
    };
    let by_state = if by_state { SubState::ALL.map(|it| (it, one(it))).to_vec() } else { Vec::new() };
    Ok(JobCounts { count, by_state })
}

fn exactly(number: u64) -> Count {
    Count { number, at_least: false }
}

fn sum(counts: impl Iterator<Item = Count>) -> Count {
    counts.fold(Count::default(), |sum, it| Count {
        number: sum.number + it.number,
        at_least: sum.at_least || it.at_least,
    })
}

/// Counts the jobs of each wanted state that pass the rest of the filter, each list with its share of the budget.
async fn each_state(
    source: &impl ListSource,
    filter: &JobFilter,
    wanted: &[SubState],
) -> StoreResult<Vec<(SubState, Count)>> {
    let whole = Budget::whole();
    let lists: Vec<State> = LISTS.into_iter().filter(|list| wanted.iter().any(|it| it.state() == *list)).collect();
    let mut rows = whole.rows;
    let mut found = Vec::new();
    for (n, &list) in lists.iter().enumerate() {
        let others = lists.len() - n;
        let now = Instant::now();
        let share = whole.until.saturating_duration_since(now) / others as u32;
        let mut budget = Budget { rows: (rows / others).max(1), until: now + share };
        let states: Vec<SubState> = wanted.iter().copied().filter(|it| it.state() == list).collect();
        let kinds = list == State::Pending;
        let of_list = JobFilter { states: states.clone(), ..filter.clone() };
        if filter.error_group.is_some() && list != State::Failed {
            found.extend(states.into_iter().map(|state| (state, exactly(0))));
            continue;
        }
        let before = budget.rows;
        let counts = scanned(source, &of_list, &mut budget, kinds).await?;
        rows = rows.saturating_sub(before - budget.rows);
        let at_least = counts.iter().any(|(_, count)| count.at_least);
        found.extend(states.into_iter().map(|state| {
            let number = counts.iter().filter(|(it, _)| !kinds || *it == Some(state)).map(|(_, count)| count.number);
            (state, Count { number: number.sum(), at_least })
        }));
    }
    found.sort_unstable_by_key(|(state, _)| *state);
    Ok(found)
}

/// Counts the jobs that pass `filter` by reading its list, until it or the budget ends; takes what it reads from the
/// budget. With `kinds`, the jobs of each state are counted apart.
async fn scanned(
    source: &impl ListSource,
    filter: &JobFilter,
    budget: &mut Budget,
    kinds: bool,
) -> StoreResult<Vec<(Option<SubState>, Count)>> {
    let mut scan = Scan::new(source, filter, None, *budget);
    if kinds {
        scan = scan.with_states();
    }
    let mut numbers: Vec<(Option<SubState>, u64)> = Vec::new();
    while !scan.has_ended() {
        for row in scan.next(limits::PAGE_SCAN as usize).await? {
            let state = row.sub_state.filter(|_| kinds);
            match numbers.iter_mut().find(|(it, _)| *it == state) {
                Some((_, number)) => *number += 1,
                None => numbers.push((state, 1)),
            }
        }
        if scan.is_spent() {
            break;
        }
    }
    budget.rows = budget.rows.saturating_sub(scan.read());
    let at_least = !scan.has_ended();
    if numbers.is_empty() {
        numbers.push((None, 0));
    }
    Ok(numbers.into_iter().map(|(state, number)| (state, Count { number, at_least })).collect())
}
