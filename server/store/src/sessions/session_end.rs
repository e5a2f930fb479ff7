//! The end of a session: which jobs it held, which of them it had started, and how their attempts end. Both drivers use
//! it.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::state::Ending;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error::StoreResult,
    rows::packed_claim,
    settle::claim::Claim,
    types::{NewSession, Registration, Rescued, Settlement},
};

/// Maximum number of jobs that EndSession and RegisterSession take back in their own transaction. Rescue takes back the
/// rest.
pub const TAKEN_BACK_AT_ONCE: usize = 1_000;

/// A row of `sessions`, locked, that ends or has ended.
#[derive(FromRow)]
pub struct SessionEndRow {
    pub id: Uuid,
    pub worker_id: String,
    host: String,
    slots: i32,
    lease: i64,
    expires_at: i64,
    ended_at: Option<i64>,
    lost: bool,
    held: Option<Vec<u8>>,
    expired: bool,
}

impl SessionEndRow {
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Whether the session has ended or its lease has run out.
    pub fn is_gone(&self) -> bool {
        self.has_ended() || self.expired
    }

    /// Why the session ended. A session whose lease had time left was declared gone.
    fn cause(&self, ending_cause: Cause) -> Cause {
        match self.ended_at {
            None => ending_cause,
            Some(_) if !self.lost => Cause::Goodbye,
            Some(ended_at) if ended_at < self.expires_at => Cause::Declared,
            Some(_) => Cause::Silent,
        }
    }
}

/// Id and job ids of a session's claim, which can be read even if its entries are damaged. In the order in which the
/// claims were taken.
#[derive(FromRow)]
pub struct HeldClaimRow {
    session_id: Uuid,
    pub id: Uuid,
    pub ids: Vec<u8>,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// EndSession was called. Nothing is charged.
    Goodbye,
    /// The session's lease ran out.
    Silent,
    /// The next run of the same worker reported, by `predecessors`, that the process is gone.
    Declared,
}

/// A session that is gone, with the claims that are left of it.
pub struct SessionEnd {
    pub id: Uuid,
    /// `None` if its row is gone.
    session: Option<SessionEndRow>,
    cause: Cause,
    claims: Vec<HeldClaimRow>,
}

/// Joins sessions with their claims. `missing` are sessions of which only claims are left.
pub fn join_claims(
    sessions: Vec<SessionEndRow>,
    missing: Vec<Uuid>,
    claims: Vec<HeldClaimRow>,
    cause: Cause,
) -> Vec<SessionEnd> {
    let mut by_session: HashMap<Uuid, Vec<HeldClaimRow>> = HashMap::new();
    for claim in claims {
        by_session.entry(claim.session_id).or_default().push(claim);
    }
    let mut claims = |id| by_session.remove(&id).unwrap_or_default();
    let mut all = Vec::with_capacity(sessions.len() + missing.len());
    for session in sessions {
        let (id, cause) = (session.id, session.cause(cause));
        all.push(SessionEnd { id, session: Some(session), cause, claims: claims(id) });
    }
    all.extend(missing.into_iter().map(|id| SessionEnd {
        id,
        session: None,
        cause: Cause::Silent,
        claims: claims(id),
    }));
    all
}

impl SessionEnd {
    /// The value of `sessions.held` for a session that ends now. `None` if it has ended before, or its row is gone.
    pub fn ends_holding(&self) -> Option<Vec<u8>> {
        self.session.as_ref().filter(|session| !session.has_ended()).map(|_| held(&self.claims))
    }

    pub fn is_lost(&self) -> bool {
        self.cause != Cause::Goodbye
    }

    /// Attempts of locked `claims` that end with the session. A lost session's started jobs are charged an attempt: the
    /// first `slots` of all that it held, in the order in which it took them.
    pub fn items(&self, claims: &HashMap<Uuid, Claim>) -> Vec<Settlement> {
        let started = self.started();
        let text = self.text();
        let mut items = Vec::new();
        for claim in self.claims.iter().filter_map(|claim| claims.get(&claim.id)) {
            for entry in &claim.entries {
                let ending = if self.is_lost() {
                    let started = started.as_ref().is_none_or(|started| started.contains(&entry.job_id));
                    Ending::Lost { started }
                } else {
                    Ending::Release { no_handler: false }
                };
                items.push(Settlement::by_server(claim.id, entry.job_id, ending, text.clone()));
            }
        }
        items
    }

    /// Jobs that the session had started; `None` means all that it held.
    fn started(&self) -> Option<HashSet<Uuid>> {
        let session = self.session.as_ref()?;
        let now = held(&self.claims);
        let held = session.held.as_ref().unwrap_or(&now);
        Some(packed_claim::decode_ids(held).take(session.slots as usize).collect())
    }

    fn text(&self) -> String {
        let id = self.id;
        let Some(SessionEndRow { worker_id, host, lease, .. }) = &self.session else {
            return format!("worker lost: session {id} is gone");
        };
        match self.cause {
            Cause::Goodbye => "its session ended".to_owned(),
            Cause::Silent => format!("worker lost: session {id} of {worker_id} on {host} was silent for {lease} ms"),
            Cause::Declared => {
                format!("worker lost: session {id} of {worker_id} on {host} was declared gone by its successor")
            }
        }
    }
}

/// Concatenated job ids of claims, in the order in which the claims were taken.
pub fn held(claims: &[HeldClaimRow]) -> Vec<u8> {
    packed_claim::encode_ids(claims.iter().flat_map(|claim| packed_claim::decode_ids(&claim.ids)))
}

/// The next claims to take back, with about `limit` jobs in all, without the quarantined `left_out`; and whether there
/// are more.
pub fn next_claims(ends: &[SessionEnd], limit: usize, left_out: &[Uuid]) -> (Vec<Uuid>, bool) {
    let left_out: HashSet<_> = left_out.iter().collect();
    let (mut ids, mut jobs) = (Vec::new(), 0);
    for claim in ends.iter().flat_map(|session| &session.claims).filter(|claim| !left_out.contains(&claim.id)) {
        if jobs >= limit {
            return (ids, true);
        }
        jobs += claim.ids.len() / 16;
        ids.push(claim.id);
    }
    (ids, false)
}

/// A session whose lease has run out, and the number of jobs that it holds.
#[derive(FromRow)]
pub struct LostRow {
    id: Uuid,
    jobs: i64,
}

/// Groups sessions to end in one transaction each: about `limit` jobs together, or one session that holds more.
pub(crate) fn batches(lost: Vec<LostRow>, limit: usize) -> Vec<Vec<Uuid>> {
    let mut batches = Vec::new();
    let (mut batch, mut jobs) = (Vec::new(), 0);
    for session in lost {
        batch.push(session.id);
        jobs += session.jobs.max(0) as usize;
        if jobs >= limit {
            batches.push(std::mem::take(&mut batch));
            jobs = 0;
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Answer of a rescue that may have failed half-way: an error only if nothing was rescued.
pub(crate) fn rescue_answer(mut rescued: Rescued, result: StoreResult<()>) -> StoreResult<Rescued> {
    rescued.worker_ids.sort_unstable();
    rescued.worker_ids.dedup();
    let got_on = rescued.sessions + rescued.lost + rescued.timed_out > 0;
    rescued.more &= got_on;
    match result {
        Err(error) if !got_on => Err(error),
        Err(error) => {
            tracing::warn!(%error, "not all could be rescued in this turn; the next goes on");
            Ok(rescued)
        }
        Ok(()) => Ok(rescued),
    }
}

/// The refusal of a registration whose predecessors are no earlier runs of the same worker on the same host; `None` if
/// it may go on. Predecessors that have ended, or are not known, are no obstacle.
pub fn refuse_predecessors(new: &NewSession, sessions: &[SessionEndRow]) -> Option<Registration> {
    let refused = |session: &SessionEndRow| {
        let why = if session.worker_id != new.worker_id {
            "is a session of another worker_id"
        } else if session.host != new.host {
            "is a session of another host"
        } else {
            return None;
        };
        let index = new.predecessors.iter().position(|id| *id == session.id)?;
        Some(Registration::NoPredecessor { index, why })
    };
    sessions.iter().filter(|session| !session.has_ended()).find_map(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::packed_claim::Entry;

    fn row(slots: i32) -> SessionEndRow {
        SessionEndRow {
            id: Uuid::from_u128(1),
            worker_id: "w".into(),
            host: "h".into(),
            slots,
            lease: 5_000,
            expires_at: 100,
            ended_at: None,
            lost: false,
            held: None,
            expired: true,
        }
    }

    fn hold(session: u128, claim: u128, jobs: &[u128]) -> HeldClaimRow {
        let ids = packed_claim::encode_ids(jobs.iter().map(|id| Uuid::from_u128(*id)));
        HeldClaimRow { session_id: Uuid::from_u128(session), id: Uuid::from_u128(claim), ids }
    }

    fn claims(holds: &[HeldClaimRow]) -> HashMap<Uuid, Claim> {
        let claim = |hold: &HeldClaimRow| Claim {
            id: hold.id,
            worker_id: "w".into(),
            session_id: hold.session_id,
            host: "h".into(),
            claimed_at: 0,
            entries: packed_claim::decode_ids(&hold.ids)
                .map(|job_id| Entry { job_id, run_no: 1, attempts_used: 1, timeout_ms: None })
                .collect(),
        };
        holds.iter().map(|hold| (hold.id, claim(hold))).collect()
    }

    fn charged(items: &[Settlement]) -> Vec<u128> {
        let started = items.iter().filter(|item| item.ending == Ending::Lost { started: true });
        started.map(|item| item.lease.job_id.as_u128()).collect()
    }

    #[test]
    fn in_whatever_batches_a_session_goes_it_is_charged_for_its_first_slots() {
        let holds = || vec![hold(1, 10, &[7, 3]), hold(1, 11, &[9]), hold(1, 12, &[4, 5])];
        let all = &join_claims(vec![row(3)], Vec::new(), holds(), Cause::Silent)[0];
        assert_eq!(charged(&all.items(&claims(&holds()))), [7, 3, 9]);
        let held = all.ends_holding();
        // The first claim is gone; the session has ended, and its row keeps what it held.
        let ended = SessionEndRow { ended_at: Some(200), lost: true, held, ..row(3) };
        let rest = &join_claims(vec![ended], Vec::new(), holds().split_off(1), Cause::Silent)[0];
        assert_eq!(rest.ends_holding(), None);
        let items = rest.items(&claims(&holds()));
        assert_eq!((items.len(), charged(&items)), (3, vec![9]));
    }

    #[test]
    fn a_claim_that_was_not_locked_is_left_for_later() {
        let holds = || vec![hold(1, 10, &[7]), hold(1, 11, &[9])];
        let session = &join_claims(vec![row(1)], Vec::new(), holds(), Cause::Silent)[0];
        let items = session.items(&claims(&holds()[1..]));
        assert_eq!((items.len(), charged(&items)), (1, vec![]), "what it had started is the other one");
    }

    #[test]
    fn jobs_are_told_how_their_session_ended() {
        let cause = |row: SessionEndRow, now| {
            let all = join_claims(vec![row], Vec::new(), vec![hold(1, 10, &[7])], now);
            let items = all[0].items(&claims(&[hold(1, 10, &[7])]));
            (items[0].ending, items[0].text.clone())
        };
        let (lost, released) = (Ending::Lost { started: true }, Ending::Release { no_handler: false });
        let ended = |lost, ended_at| SessionEndRow { ended_at: Some(ended_at), lost, ..row(1) };
        for (row, now, ending, end) in [
            (row(1), Cause::Silent, lost, "was silent for 5000 ms"),
            (row(1), Cause::Declared, lost, "was declared gone by its successor"),
            (row(1), Cause::Goodbye, released, "its session ended"),
            (ended(true, 100), Cause::Silent, lost, "was silent for 5000 ms"),
            (ended(true, 99), Cause::Silent, lost, "was declared gone by its successor"),
            (ended(false, 50), Cause::Silent, released, "its session ended"),
        ] {
            let (how, text) = cause(row, now);
            assert!(how == ending && text.ends_with(end), "{how:?} {text}");
        }
        let unknown = join_claims(Vec::new(), vec![Uuid::from_u128(1)], vec![hold(1, 10, &[7])], Cause::Silent);
        assert_eq!(charged(&unknown[0].items(&claims(&[hold(1, 10, &[7])]))), [7]);
    }

    #[test]
    fn batches_stay_about_their_limit_and_skip_what_is_broken() {
        let lost = |jobs: &[i64]| jobs.iter().map(|jobs| LostRow { id: Uuid::nil(), jobs: *jobs }).collect();
        let sizes = |jobs: &[i64]| batches(lost(jobs), 10).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[0, 0, 5, 5, 0, 10_000, 3, 3]), [4, 2, 2]);
        assert_eq!(sizes(&[]), [0; 0]);
        let holds = vec![hold(1, 10, &[1, 2]), hold(1, 11, &[3]), hold(1, 12, &[4])];
        let all = join_claims(vec![row(1)], Vec::new(), holds, Cause::Silent);
        let next = |limit, left_out: &[u128]| {
            let left_out: Vec<_> = left_out.iter().map(|id| Uuid::from_u128(*id)).collect();
            let (ids, more) = next_claims(&all, limit, &left_out);
            (ids.iter().map(Uuid::as_u128).collect::<Vec<_>>(), more)
        };
        assert_eq!(next(2, &[]), (vec![10], true));
        assert_eq!(next(3, &[]), (vec![10, 11], true));
        assert_eq!(next(3, &[10]), (vec![11, 12], false));
        assert_eq!(next(0, &[]), (vec![], true));
    }

    #[test]
    fn only_the_same_worker_on_the_same_host_is_taken_over() {
        let new = |worker_id: &str, host: &str| NewSession {
            worker_id: worker_id.into(),
            host: host.into(),
            pid: 1,
            version: String::new(),
            tasks: Vec::new(),
            slots: 1,
            lease_ms: 5_000,
            predecessors: vec![Uuid::from_u128(9), Uuid::from_u128(1)],
        };
        assert_eq!(refuse_predecessors(&new("w", "h"), &[row(1)]), None);
        for (new, why) in [(new("x", "h"), "of another worker_id"), (new("w", "g"), "of another host")] {
            let Some(Registration::NoPredecessor { index: 1, why: told }) = refuse_predecessors(&new, &[row(1)]) else {
                panic!()
            };
            assert!(told.ends_with(why), "{told}");
            let ended = SessionEndRow { ended_at: Some(1), ..row(1) };
            assert_eq!(refuse_predecessors(&new, &[ended]), None, "it is over anyway");
        }
    }
}
