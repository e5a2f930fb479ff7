//! Decides what a transaction writes when attempts end: which settlements are accepted, and where each job goes.
//!
//! A driver finds and locks the rows, calls [`decide`], and writes the [`SettleDecision`]. Both drivers share the
//! decision, so that they cannot disagree.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, SecondsFormat};
use jobqueue_shared::{
    lease::LeaseId,
    limits,
    retry::RetryPolicy,
    state::{self, Ending, Next, State},
};
use uuid::Uuid;

use crate::{
    error_groups::{changes::ErrorChanges, title},
    rows::{
        packed_claim::{self, Entry},
        write::{AttemptRow, CancelledRow, DeadRow, Deltas, DoneRow, ReadyRow, ResultRow, StopRow},
    },
    settle::claim::{Claim, Prior, RetryColumns},
    types::{AttemptOutcome, SettleAnswer, Settlement, StopReason},
};

/// Rows that the transaction writes, and the answers to the items.
#[derive(Debug, Default)]
pub struct SettleDecision {
    /// Claims that keep some entries.
    pub kept: Vec<Claim>,
    /// Claims whose last entry was settled.
    pub closed: Vec<Uuid>,
    pub ready: Vec<ReadyRow>,
    pub done: Vec<DoneRow>,
    pub dead: Vec<DeadRow>,
    pub cancelled: Vec<CancelledRow>,
    pub attempts: Vec<AttemptRow>,
    pub results: Vec<ResultRow>,
    pub stops: Vec<StopRow>,
    pub deltas: Deltas,
    pub errors: ErrorChanges,
    pub answers: Vec<SettleAnswer>,
}

/// Ids of the claims that `items` name, in the order in which claims are locked everywhere.
pub fn claim_ids(items: &[Settlement]) -> Vec<Uuid> {
    let mut ids: Vec<_> = items.iter().map(|item| item.lease.claim_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Leases that `items` name and that are not open in `claims`, for the driver to look up how they ended.
pub fn not_open(items: &[Settlement], claims: &HashMap<Uuid, Claim>) -> Vec<LeaseId> {
    let open = |lease: LeaseId| {
        claims.get(&lease.claim_id).is_some_and(|claim| claim.entries.iter().any(|p| p.job_id == lease.job_id))
    };
    let mut leases: Vec<_> = items.iter().map(|item| item.lease).filter(|&lease| !open(lease)).collect();
    leases.sort_unstable();
    leases.dedup();
    leases
}

/// Jobs whose retry columns the decision needs: all but completed and cancelled ones.
pub fn needs_retry_columns(items: &[Settlement]) -> Vec<Uuid> {
    let mut ids: Vec<_> = items
        .iter()
        .filter(|item| !matches!(item.ending, Ending::Complete | Ending::Cancel))
        .map(|item| item.lease.job_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Pairs (session, job) of releases for want of a handler.
pub fn without_handler(items: &[Settlement], claims: &HashMap<Uuid, Claim>) -> Vec<(Uuid, Uuid)> {
    items
        .iter()
        .filter(|item| matches!(item.ending, Ending::Release { no_handler: true }))
        .filter_map(|item| Some((claims.get(&item.lease.claim_id)?.session_id, item.lease.job_id)))
        .collect()
}

/// Sets the tasks that the driver looked up for [`without_handler`].
pub fn set_foreign_tasks(columns: &mut HashMap<Uuid, RetryColumns>, tasks: Vec<(Uuid, String)>) {
    for (job_id, task) in tasks {
        if let Some(columns) = columns.get_mut(&job_id) {
            columns.unhandled_task = Some(task);
        }
    }
}

/// Decides every item. `claims` are locked; `columns` and `priors` are what [`needs_retry_columns`] and [`not_open`]
/// asked for.
pub fn decide(
    items: &[Settlement],
    mut claims: HashMap<Uuid, Claim>,
    columns: &HashMap<Uuid, RetryColumns>,
    priors: &HashMap<LeaseId, Prior>,
    now: i64,
    mut random: impl FnMut() -> f64,
) -> SettleDecision {
    let mut decision = SettleDecision::default();
    let mut touched: Vec<Uuid> = Vec::new();
    let mut settled: HashMap<LeaseId, (Option<AttemptOutcome>, State)> = HashMap::new();
    let mut completed: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
    for item in items {
        let claim = claims.get_mut(&item.lease.claim_id);
        let open = claim.and_then(|claim| {
            let index = claim.entries.iter().position(|entry| entry.job_id == item.lease.job_id)?;
            Some((claim, index))
        });
        let Some((claim, index)) = open else {
            let prior = priors.get(&item.lease).filter(|prior| Some(prior.session_id) == item.session_id);
            let again = settled.get(&item.lease).copied().or_else(|| prior.map(|prior| (prior.outcome, prior.state)));
            let answer = again
                .filter(|(before, _)| is_repeated(item.ending, *before))
                .map(|(_, state)| SettleAnswer::Accepted(state));
            if answer.is_none()
                && let (Some(session_id), Some(prior)) = (item.session_id, priors.get(&item.lease))
            {
                decision.attempts.push(refusal(settlement_name(item.ending), item.lease, session_id, *prior, now));
            }
            decision.answers.push(answer.unwrap_or(SettleAnswer::Stale));
            continue;
        };
        if let Some(session_id) = item.session_id.filter(|session_id| *session_id != claim.session_id) {
            let prior = claim.as_prior(claim.entries[index]);
            decision.attempts.push(refusal(settlement_name(item.ending), item.lease, session_id, prior, now));
            decision.answers.push(SettleAnswer::Stale);
            continue;
        }
        let entry = claim.entries.remove(index);
        touched.push(claim.id);
        let next = decision.end(item, claim, entry, columns.get(&entry.job_id), now, &mut random);
        settled.insert(item.lease, (outcome(item.ending), next));
        if next == State::Done {
            completed.entry(claim.id).or_default().push(entry);
        }
        decision.answers.push(SettleAnswer::Accepted(next));
    }
    for (claim_id, entries) in completed {
        let claim = &claims[&claim_id];
        decision.done.extend(packed_claim::done_groups(entries).into_iter().map(|group| DoneRow {
            worker_id: claim.worker_id.clone(),
            first_id: group[0].job_id,
            claim_id,
            session_id: claim.session_id,
            claimed_at: claim.claimed_at,
            finished_at: now,
            ids: packed_claim::encode_ids(group.iter().map(|entry| entry.job_id)),
            runs: packed_claim::encode_runs(&group),
        }));
    }
    touched.sort_unstable();
    touched.dedup();
    for id in touched {
        match claims.remove(&id) {
            Some(claim) if !claim.entries.is_empty() => decision.kept.push(claim),
            _ => decision.closed.push(id),
        }
    }
    decision.ready.sort_by_key(|row| row.id);
    decision
}

impl SettleDecision {
    /// worker_ids whose jobs became pending.
    pub fn woken(&self) -> impl Iterator<Item = String> {
        self.ready.iter().map(|row| row.worker_id.clone())
    }

    /// Sessions that have to stop a lease.
    pub fn stopped(&self) -> impl Iterator<Item = Uuid> {
        let sessions: std::collections::BTreeSet<_> = self.stops.iter().map(|stop| stop.session_id).collect();
        sessions.into_iter()
    }

    fn end(
        &mut self,
        item: &Settlement,
        claim: &Claim,
        entry: Entry,
        columns: Option<&RetryColumns>,
        now: i64,
        random: &mut impl FnMut() -> f64,
    ) -> State {
        let job_id = entry.job_id;
        let attempt = state::Attempt {
            run_no: entry.run_no,
            attempts_used: entry.attempts_used,
            max_retries: columns.map_or(0, |columns| columns.max_retries),
            retry: columns.map_or_else(RetryPolicy::default, |columns| columns.retry),
        };
        let next = state::next(attempt, item.ending, now, random());
        self.deltas.at(&claim.worker_id, 0).running -= 1;
        let task = columns.map_or("", |columns| &columns.task);
        let group = grouped_error(item).map(|error| title::group(task, error));
        let group_id = group.as_ref().map(|group| group.id.0);
        if let Some(group) = group {
            let died = matches!(next, Next::Failed { .. });
            self.errors.failed(group, &claim.worker_id, task, &item.text, job_id, died);
        }
        if let Some(outcome) = outcome(item.ending) {
            self.attempts.push(AttemptRow {
                job_id,
                run_no: entry.run_no as i32,
                outcome: outcome.into(),
                claim_id: Some(claim.id),
                session_id: Some(claim.session_id),
                host: claim.host.clone(),
                started_at: Some(claim.claimed_at),
                ended_at: now,
                error: item.text.clone(),
                fingerprint: group_id,
            });
        }
        let reason = match item.ending {
            Ending::Cancel => Some(StopReason::Cancelled),
            Ending::TimedOut => Some(StopReason::TimedOut),
            _ => None,
        };
        if let Some(reason) = reason {
            self.stops.push(StopRow {
                session_id: claim.session_id,
                claim_id: claim.id,
                job_id,
                reason: reason.into(),
            });
        }
        match next {
            Next::Done => {
                let delta = self.deltas.at(&claim.worker_id, 0);
                delta.done += 1;
                delta.completed += 1;
                if item.result.is_some() || !item.note.is_empty() {
                    self.results.push(ResultRow {
                        id: job_id,
                        result: item.result.clone().map(String::into_bytes),
                        note: item.note.clone(),
                    });
                }
            }
            Next::Pending { run_at_ms, attempts_used, waits_for_handler } => {
                let row = ReadyRow {
                    worker_id: claim.worker_id.clone(),
                    id: job_id,
                    priority: columns.map_or(i16::from(limits::PRIORITY_DEFAULT), |columns| columns.priority),
                    run_at: run_at_ms,
                    run_no: entry.run_no as i32,
                    attempts_used: attempts_used as i32,
                    payload_bytes: columns.map_or(0, |columns| columns.payload_bytes),
                    enqueued_at: now,
                    waits_for_handler,
                    for_task: columns.filter(|_| waits_for_handler).and_then(|columns| columns.unhandled_task.clone()),
                    inline_job: None,
                };
                self.deltas.ready(&row, 1);
                if attempts_used == entry.attempts_used {
                    self.deltas.at(&claim.worker_id, 0).retried += 1;
                }
                self.ready.push(row);
            }
            Next::Failed { reason } => {
                let delta = self.deltas.at(&claim.worker_id, 0);
                delta.failed += 1;
                delta.died += 1;
                self.dead.push(DeadRow {
                    id: job_id,
                    run_no: entry.run_no as i32,
                    attempts_used: entry.attempts_used as i32,
                    reason: reason.into(),
                    error: item.text.clone(),
                    fingerprint: group_id.unwrap_or_default(),
                    session_id: claim.session_id,
                    started_at: claim.claimed_at,
                    failed_at: now,
                });
            }
            Next::Cancelled => {
                self.deltas.at(&claim.worker_id, 0).cancelled += 1;
                self.cancelled.push(CancelledRow {
                    id: job_id,
                    worker_id: claim.worker_id.clone(),
                    run_no: entry.run_no as i32,
                    attempts_used: entry.attempts_used as i32,
                    cancelled_at: now,
                    note: item.text.clone(),
                    session_id: Some(claim.session_id),
                    started_at: Some(claim.claimed_at),
                });
            }
        }
        next.state()
    }
}

/// The entry in a job's history for a settlement or progress report that was refused, because its lease is stale or
/// another session's. `what` names the call, `session_id` its caller.
pub fn refusal(what: &str, lease: LeaseId, session_id: Uuid, prior: Prior, now: i64) -> AttemptRow {
    let owner = prior.session_id;
    let why = if prior.state == State::Running {
        format!("the lease belongs to session {owner}")
    } else {
        let how = prior.outcome.map_or("completed", AttemptOutcome::word);
        let ended = DateTime::from_timestamp_millis(prior.ended_at).unwrap_or_default();
        let ended = ended.to_rfc3339_opts(SecondsFormat::Millis, true);
        format!("the lease of session {owner} ended at {ended} ({how})")
    };
    AttemptRow {
        job_id: lease.job_id,
        run_no: prior.run_no as i32,
        outcome: AttemptOutcome::Refused.into(),
        claim_id: Some(lease.claim_id),
        session_id: Some(session_id),
        host: String::new(),
        started_at: None,
        ended_at: now,
        error: format!("{what} refused: {why}"),
        fingerprint: None,
    }
}

/// Text by which a failed attempt is grouped; `None` if the attempt did not fail. The texts of lost workers name sessions
/// and hosts, and are one group.
fn grouped_error(item: &Settlement) -> Option<&str> {
    match item.ending {
        Ending::Fail { .. } | Ending::TimedOut => Some(&item.text),
        Ending::Lost { started: true } => Some("worker lost"),
        _ => None,
    }
}

/// Name of a settlement, for refusals.
fn settlement_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "completion",
        Ending::Fail { .. } => "failure",
        Ending::Snooze { .. } => "snooze",
        _ => "release",
    }
}

/// Whether the same settlement was accepted before, so that it is the repetition of a call whose reply was lost.
fn is_repeated(ending: Ending, before: Option<AttemptOutcome>) -> bool {
    use AttemptOutcome as O;
    matches!(
        (ending, before),
        (Ending::Complete, None)
            | (Ending::Fail { .. }, Some(O::Failed))
            | (Ending::Snooze { .. }, Some(O::Snoozed))
            | (Ending::Release { .. }, Some(O::Released | O::NoHandler))
    )
}

/// Outcome for the history; `None` for a completed attempt, which its done row records.
fn outcome(ending: Ending) -> Option<AttemptOutcome> {
    Some(match ending {
        Ending::Complete => return None,
        Ending::Fail { .. } => AttemptOutcome::Failed,
        Ending::Snooze { .. } => AttemptOutcome::Snoozed,
        Ending::Release { no_handler: true } => AttemptOutcome::NoHandler,
        Ending::Release { no_handler: false } | Ending::Lost { started: false } => AttemptOutcome::Released,
        Ending::Cancel => AttemptOutcome::Cancelled,
        Ending::TimedOut => AttemptOutcome::TimedOut,
        Ending::Lost { started: true } => AttemptOutcome::Lost,
    })
}

/// Entries of locked claims whose attempts have exceeded their timeout.
pub fn timed_out_items(claims: &HashMap<Uuid, Claim>, now: i64) -> Vec<Settlement> {
    let mut items = Vec::new();
    for claim in claims.values() {
        for entry in &claim.entries {
            if let Some(timeout) = entry.timeout_ms.filter(|timeout| claim.claimed_at + timeout <= now) {
                let text = format!("attempt timed out after {timeout} ms");
                items.push(Settlement::by_server(claim.id, entry.job_id, Ending::TimedOut, text));
            }
        }
    }
    items.sort_by_key(|item| item.lease);
    items
}

/// Locked claims whose stored deadline has passed though no entry is late: their deadline has to be written anew.
pub fn outdated_deadlines(claims: &HashMap<Uuid, Claim>, now: i64) -> Vec<Claim> {
    claims.values().filter(|claim| claim.deadline().is_none_or(|deadline| deadline > now)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whose_lease_it_was_and_when_and_how_it_ended() {
        let lease = LeaseId { claim_id: Uuid::from_u128(1), job_id: Uuid::from_u128(2) };
        let (owner, other) = (Uuid::from_u128(3), Uuid::from_u128(4));
        let prior = Prior {
            session_id: owner,
            run_no: 7,
            outcome: Some(AttemptOutcome::TimedOut),
            state: State::Pending,
            ended_at: 1_767_225_600_123,
        };
        let row = refusal(settlement_name(Ending::Complete), lease, owner, prior, 9);
        assert_eq!(
            row.error,
            format!("completion refused: the lease of session {owner} ended at 2026-01-01T00:00:00.123Z (timed out)")
        );
        assert_eq!((row.job_id, row.run_no, row.session_id, row.ended_at), (lease.job_id, 7, Some(owner), 9));
        let done = Prior { outcome: None, state: State::Done, ..prior };
        assert!(refusal("snooze", lease, owner, done, 9).error.ends_with("Z (completed)"));
        let open = Prior { outcome: None, state: State::Running, ..prior };
        let row = refusal("progress", lease, other, open, 9);
        assert_eq!(row.error, format!("progress refused: the lease belongs to session {owner}"));
        assert_eq!(row.session_id, Some(other), "it is told of whom it was refused");
    }
}
