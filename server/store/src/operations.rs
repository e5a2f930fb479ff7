//! Operations: the part of the store that keeps them, and the decisions about their steps that both drivers share.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jobqueue_shared::{limits, state::State};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error::{StoreError, StoreResult},
    operator_actions::Answers,
    types::{
        ActionAnswer, Change, ClaimedOperation, JobRecord, MovedJob, NewOperation, OperationRecord, OperationStarted,
        OperationState, Outcomes, Refusal, Step, StepAnswer, Then,
    },
};

/// Maximum number of looks for jobs that move while a step changes them.
pub const LOOKS: usize = 3;

/// Storage of operations.
#[async_trait]
pub trait OperationStore: Send + Sync + 'static {
    /// Stores a running operation that no runner has. It covers the jobs that match at this moment.
    async fn start_operation(&self, new: &NewOperation) -> StoreResult<OperationStarted>;

    /// Reads an operation and the first jobs that it refused, on one snapshot.
    async fn operation(&self, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>>;

    /// Reads operations, newest first, that are older than `before`.
    async fn operations(&self, before: Option<Uuid>, limit: u32) -> StoreResult<Vec<OperationRecord>>;

    /// Moves an operation that is in one of `from` to another state, and takes it from its runner: no step of it is
    /// stored afterwards. Returns whether it was moved, and the operation as it is then.
    async fn move_operation(
        &self,
        id: Uuid,
        from: &[OperationState],
        to: OperationState,
        note: &str,
    ) -> StoreResult<Option<(bool, OperationRecord)>>;

    /// Gives the runner with this token an active operation that no runner has, or whose runner's lease has run out.
    async fn claim_operation(&self, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>>;

    /// Changes the jobs of a step, and advances the operation, in one transaction. Only the operation's runner can do so.
    async fn step_operation(&self, step: &Step) -> StoreResult<StepAnswer>;

    /// Reads what became of the jobs of an operation's canary or sample.
    async fn operation_outcomes(&self, id: Uuid, canary: bool) -> StoreResult<Outcomes>;
}

/// Columns of [`OperationRow`].
#[macro_export]
macro_rules! operation_columns {
    () => {
        "id, brief, state, note, caller, started_at, updated_at, finished_at, total, total_is_floor, changed, refused, progress"
    };
}

#[derive(FromRow)]
pub struct OperationRow {
    id: Uuid,
    brief: Vec<u8>,
    state: i16,
    note: String,
    caller: String,
    started_at: i64,
    updated_at: i64,
    finished_at: Option<i64>,
    total: Option<i64>,
    total_is_floor: bool,
    changed: i64,
    refused: i64,
    progress: String,
}

impl OperationRow {
    pub fn into_record(self) -> StoreResult<OperationRecord> {
        let state = OperationState::try_from(self.state)
            .map_err(|_| StoreError::Defect(format!("operation {} has the state {}", self.id, self.state)))?;
        Ok(OperationRecord {
            id: self.id,
            brief: self.brief,
            state,
            note: self.note,
            caller: self.caller,
            started_at_ms: self.started_at,
            updated_at_ms: self.updated_at,
            finished_at_ms: self.finished_at,
            total: self.total.map(count),
            total_is_floor: self.total_is_floor,
            changed: count(self.changed),
            refused: count(self.refused),
            progress: self.progress,
        })
    }
}

fn count(n: i64) -> u64 {
    n.max(0).unsigned_abs()
}

/// Row of a refused job. The state is that of `State::ALL`, by its index.
#[derive(Debug, FromRow, PartialEq, Eq)]
pub struct RefusalRow {
    pub n: i32,
    pub job_id: Uuid,
    pub state: Option<i16>,
    pub later: bool,
}

impl RefusalRow {
    pub fn into_refusal(self) -> Refusal {
        let state = self.state.and_then(|index| STATES.get(index as usize).copied());
        Refusal { job_id: self.job_id, state, later: self.later }
    }
}

/// States by their stored numbers.
const STATES: [State; 5] = State::ALL;

fn state_no(state: State) -> i16 {
    STATES.iter().position(|it| *it == state).unwrap_or_default() as i16
}

/// Step of an operation under way: the answers for its jobs, and what is known of those that were not changed.
pub struct StepUnderWay<'s> {
    step: &'s Step,
    pub answers: Answers,
    /// Jobs that came into their state after the operation had started.
    later: HashSet<Uuid>,
    states: HashMap<Uuid, State>,
    /// Jobs that did not match when the operation started, and so are no part of it.
    foreign: HashSet<Uuid>,
}

impl<'s> StepUnderWay<'s> {
    pub fn new(step: &'s Step) -> Self {
        Self {
            step,
            answers: Answers::to(&step.ids),
            later: HashSet::new(),
            states: HashMap::new(),
            foreign: HashSet::new(),
        }
    }

    /// Time up to which a job must have come into its state. A cancellation of pending and running jobs alike finds a job
    /// that changes between the two by [`Self::exclude`] instead.
    pub fn until(&self) -> i64 {
        if self.is_cancel_of_all() { i64::MAX } else { self.step.covers_until_ms }
    }

    /// Whether jobs that a person has retried since the start must be excluded.
    pub fn is_cancel_of_all(&self) -> bool {
        matches!(self.step.change, Change::Cancel { of_all: true, .. })
    }

    /// Excludes jobs that did not match when the operation started.
    pub fn exclude(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            self.foreign.insert(id);
            self.answers.leave(id);
        }
    }

    /// Judges the jobs that a look has not changed, by their states now. Jobs without an answer are looked for again.
    pub fn judge(&mut self, records: &HashMap<Uuid, JobRecord>) {
        let change = &self.step.change;
        self.answers.answer_rest(records, |state| change.takes(state));
        self.states.extend(records.iter().map(|(id, record)| (*id, record.state)));
        let until = self.until();
        let open = self.answers.open();
        for id in open.into_iter().filter(|id| records.get(id).is_some_and(|it| it.updated_at_ms > until)) {
            self.later.insert(id);
            self.answers.leave(id);
        }
    }

    /// Jobs that were changed, and refusals of the others.
    pub fn finish(self) -> (Vec<MovedJob>, Vec<Refusal>) {
        let (mut moved, mut refused) = (Vec::new(), Vec::new());
        let (states, later) = (&self.states, &self.later);
        for (id, answer) in self.answers.all().filter(|(id, _)| !self.foreign.contains(id)) {
            match answer {
                Some(ActionAnswer::Done { worker_id, stopped }) => {
                    moved.push(MovedJob { id, worker_id: worker_id.clone(), stopped: *stopped });
                }
                Some(ActionAnswer::NotFound) => refused.push(Refusal { job_id: id, state: None, later: false }),
                Some(ActionAnswer::Refused(state)) => {
                    refused.push(Refusal { job_id: id, state: Some(*state), later: later.contains(&id) });
                }
                // Moved too fast: the job is no longer where it was at the start.
                None => refused.push(Refusal { job_id: id, state: states.get(&id).copied(), later: true }),
            }
        }
        (moved, refused)
    }
}

/// Rows of the refusals that are kept, if so many were refused before.
pub fn refusal_rows(refused_before: i64, refusals: &[Refusal]) -> Vec<RefusalRow> {
    let room = (i64::from(limits::OPERATION_REFUSALS) - refused_before).max(0) as usize;
    let rows = refusals.iter().take(room).zip(1..).map(|(it, n)| RefusalRow {
        n: refused_before as i32 + n,
        job_id: it.job_id,
        state: it.state.map(state_no),
        later: it.later,
    });
    rows.collect()
}

/// Ids of changed jobs that join the canary (true) or the sample.
pub fn samples(step: &Step, moved: &[MovedJob]) -> Vec<(Uuid, bool)> {
    let canary = moved.iter().filter(|_| step.remember.canary).map(|job| (job.id, true));
    let sample = moved.iter().take(step.remember.sample as usize).map(|job| (job.id, false));
    canary.chain(sample).collect()
}

/// Sums up what became of the jobs of a canary or sample, of which `jobs` were retried.
pub fn outcomes<'r>(jobs: usize, records: impl IntoIterator<Item = &'r JobRecord>) -> Outcomes {
    let mut sum = Outcomes { jobs: jobs as u32, left: jobs as u32, ..Outcomes::default() };
    for record in records {
        // A retry has set the attempts used to 0.
        let failed_again = match record.state {
            State::Failed => true,
            State::Pending => record.attempts_used > 0,
            State::Running => record.attempts_used > 1,
            State::Done | State::Cancelled => false,
        };
        if failed_again {
            sum.failed_again += 1;
        } else if record.state == State::Done {
            sum.succeeded += 1;
        } else if record.state != State::Cancelled {
            sum.waiting += 1;
        }
    }
    sum.left -= sum.failed_again + sum.succeeded + sum.waiting;
    sum
}

/// Time in milliseconds that a rate allows for so many jobs; rounded up, so that the rate is never exceeded.
pub fn pace_ms(rate: Option<u32>, jobs: usize) -> i64 {
    rate.map_or(0, |rate| (jobs as i64 * 1_000).div_euclid(i64::from(rate).max(1)) + i64::from(jobs > 0))
}

/// State, note, and whether the runner keeps the operation, after a step.
pub fn after(then: &Then) -> (OperationState, &str, bool) {
    match then {
        Then::GoOn => (OperationState::Running, "", true),
        Then::WaitForCanary => (OperationState::CanaryWaiting, "", true),
        Then::Release => (OperationState::Running, "", false),
        Then::End(state, note) => (*state, note, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Remember;

    fn step(change: Change, ids: &[u128]) -> Step {
        Step {
            operation_id: Uuid::nil(),
            token: Uuid::nil(),
            lease_ms: 1_000,
            change,
            ids: ids.iter().map(|id| Uuid::from_u128(*id)).collect(),
            covers_until_ms: 1_000,
            rate: None,
            remember: Remember::default(),
            progress: String::new(),
            then: Then::GoOn,
        }
    }

    fn record(id: u128, state: State, since: i64) -> (Uuid, JobRecord) {
        let id = Uuid::from_u128(id);
        (id, JobRecord { id, state, updated_at_ms: since, ..JobRecord::sample(0) })
    }

    #[test]
    fn a_job_that_was_not_changed_is_refused_with_what_is_true_of_it() {
        let step = step(Change::Retry { text: String::new() }, &[4, 3, 2, 1]);
        let mut under_way = StepUnderWay::new(&step);
        let records = HashMap::from([
            record(1, State::Pending, 0),
            record(2, State::Failed, 1_001),
            record(3, State::Failed, 1_000),
        ]);
        under_way.judge(&records);
        assert_eq!(under_way.answers.open(), [Uuid::from_u128(3)], "only this one is looked for again");
        let (moved, refused) = under_way.finish();
        assert_eq!(moved, []);
        let told: Vec<_> = refused.iter().map(|it| (it.job_id.as_u128(), it.state, it.later)).collect();
        assert_eq!(
            told,
            [
                (1, Some(State::Pending), false),
                (2, Some(State::Failed), true),
                (3, Some(State::Failed), true),
                (4, None, false)
            ]
        );
    }

    #[test]
    fn an_attempt_that_failed_since_the_retry_counts_whatever_comes_next() {
        let with = |state, attempts_used| JobRecord { attempts_used, ..record(1, state, 0).1 };
        let records = [
            with(State::Pending, 0),
            with(State::Pending, 1),
            with(State::Running, 1),
            with(State::Running, 2),
            with(State::Failed, 3),
            with(State::Done, 1),
            with(State::Cancelled, 1),
        ];
        let expected = Outcomes { jobs: 9, succeeded: 1, failed_again: 3, waiting: 2, left: 3 };
        assert_eq!(outcomes(9, &records), expected, "two are gone, and one was cancelled");
    }

    #[test]
    fn a_cancellation_of_all_does_not_mind_a_job_that_begins_to_run() {
        let step = step(Change::Cancel { reason: String::new(), of_all: true }, &[1, 2]);
        let mut under_way = StepUnderWay::new(&step);
        under_way.exclude([Uuid::from_u128(2)]);
        under_way.judge(&HashMap::from([record(1, State::Running, 5_000)]));
        assert_eq!(under_way.answers.open(), [Uuid::from_u128(1)]);
    }

    #[test]
    fn the_first_refusals_are_kept_and_numbered_on() {
        let refusals = vec![Refusal { job_id: Uuid::nil(), state: Some(State::Running), later: false }; 3];
        let numbers = |before| refusal_rows(before, &refusals).iter().map(|row| row.n).collect::<Vec<_>>();
        assert_eq!(numbers(0), [1, 2, 3]);
        assert_eq!(numbers(98), [99, 100]);
        assert!(numbers(100).is_empty());
        assert!(numbers(1_000_000).is_empty());
        let row = refusal_rows(0, &refusals).remove(0);
        assert_eq!(row.into_refusal(), refusals[0]);
    }

    #[test]
    fn a_rate_is_never_exceeded_by_rounding() {
        for (rate, jobs) in [(1, 1), (3, 1), (7, 500), (100_000, 1), (100_000, 500)] {
            let ms = pace_ms(Some(rate), jobs);
            assert!(ms * i64::from(rate) >= jobs as i64 * 1_000, "{jobs} at {rate}/s take {ms} ms");
        }
        assert_eq!((pace_ms(None, 500), pace_ms(Some(5), 0)), (0, 0));
    }
}
