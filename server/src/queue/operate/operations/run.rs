//! One run of an operation by a runner: from where it was claimed, to its end or to the loss of the claim.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::OptionFuture;
use jobqueue_shared::proto::v1;
use jobqueue_store::{
    Change, ClaimedOperation, OperationState, Remember, Step, StepAnswer, Stepped, StoreError, StoreResult, Then,
};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::{
    progress::{Progress, Verdict, judge_canary, judge_sample},
    runner::LEASE,
    selection::{Position, Selection, SelectionPage},
    spec,
};
use crate::queue::context::Context;

/// Maximum number of jobs in one step. Their rows stay locked until its commit.
const STEP: u32 = 500;
/// Number of steps per second by which a limited rate is kept.
const STEPS_A_SECOND: u32 = 10;
/// Interval at which the outcomes of retried jobs are read.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of jobs in the sample, and of those that a step adds.
const SAMPLE: u32 = 1_000;
const SAMPLE_A_STEP: u32 = 10;

pub(super) struct Run<'c> {
    context: &'c Arc<Context>,
    stop: CancellationToken,
    id: Uuid,
    token: Uuid,
    spec: v1::OperationSpec,
    change: Change,
    selection: Selection,
    covers_until_ms: i64,
    progress: Progress,
    changed: u64,
    /// Changed jobs when the current pass over the lists began.
    changed_before_pass: u64,
    /// Time at which the rate allows the next step.
    next_step: Instant,
    renewed: Instant,
    judged: Option<Instant>,
}

/// A step was refused: the operation is no longer this runner's.
struct Lost;

type Outcome<T> = StoreResult<Result<T, Lost>>;

/// Work that a step leaves.
enum Taken {
    /// More jobs: the next page, if it was read meanwhile.
    Page(Option<SelectionPage>),
    End,
}

impl<'c> Run<'c> {
    pub(super) fn new(
        context: &'c Arc<Context>,
        claimed: ClaimedOperation,
        token: Uuid,
        stop: CancellationToken,
    ) -> StoreResult<Self> {
        let record = claimed.record;
        let damaged = |what: &str| StoreError::Defect(format!("operation {}: {what} cannot be read", record.id));
        let spec = v1::OperationSpec::decode(claimed.spec.as_slice()).map_err(|_| damaged("its spec"))?;
        let selection = Selection::new(spec.kind(), &spec::jobs(&spec));
        let change = spec::change(&spec, record.id, selection.states().len() > 1).ok_or_else(|| damaged("its kind"))?;
        let now = Instant::now();
        Ok(Self {
            context,
            stop,
            id: record.id,
            token,
            change,
            selection,
            covers_until_ms: record.started_at_ms,
            progress: Progress::read(&record.progress).map_err(|_| damaged("its progress"))?,
            changed: record.changed,
            changed_before_pass: record.changed,
            next_step: now + wait(claimed.wait_ms),
            renewed: now,
            judged: None,
            spec,
        })
    }

    /// Runs the operation to its end, until another has it, or until the server stops.
    pub(super) async fn finish(mut self) -> StoreResult<()> {
        let mut ahead: Option<SelectionPage> = None;
        loop {
            if self.stop.is_cancelled() {
                let _ = self.step(Vec::new(), Then::Release).await?;
                return Ok(());
            }
            let now = Instant::now();
            if now < self.next_step {
                self.pause(self.next_step - now).await;
                if self.must_renew() && self.step(Vec::new(), Then::GoOn).await?.is_err() {
                    return Ok(());
                }
                continue;
            }
            match self.judge().await? {
                Ok(Verdict::GoOn) => {}
                Ok(Verdict::Wait) => {
                    self.pause(JUDGE_EVERY).await;
                    continue;
                }
                Ok(Verdict::Stop(note)) => {
                    info!(operation = %self.id, note, "an operation stops");
                    let _ = self.step(Vec::new(), Then::End(OperationState::Stopped, note)).await?;
                    return Ok(());
                }
                Err(Lost) => return Ok(()),
            }
            let page = match ahead.take() {
                Some(page) => page,
                None => self.read(&self.progress.position).await?,
            };
            match self.take(page).await? {
                Ok(Taken::Page(next)) => ahead = next,
                Ok(Taken::End) | Err(Lost) => return Ok(()),
            }
        }
    }

    /// Takes a page of jobs.
    async fn take(&mut self, page: SelectionPage) -> Outcome<Taken> {
        let ids = page.ids();
        let is_last = page.next.is_none();
        if ids.is_empty() && !is_last && !self.must_renew() {
            self.progress.position = page.next.unwrap_or_default();
            return Ok(Ok(Taken::Page(None)));
        }
        let repeats = self.repeats();
        let then = if is_last && !repeats { Then::End(OperationState::Done, String::new()) } else { Then::GoOn };
        let ends = matches!(then, Then::End(..));
        self.progress.position = page.next.unwrap_or_default();
        // The next page is read while this one is written, unless what comes next depends on it.
        let reads = !is_last && self.spec.rate == 0 && self.canary_left() == 0;
        let next = self.progress.position.clone();
        let (store, selection, covers_until_ms) = (&*self.context.store, &self.selection, self.covers_until_ms);
        let context = Arc::clone(self.context);
        let step = self.new_step(ids, then);
        let read: OptionFuture<_> = reads.then(|| selection.page(store, &next, STEP, covers_until_ms)).into();
        let (answer, ahead) = tokio::join!(context.store.step_operation(&step), read);
        let Ok(stepped) = self.stepped(answer?) else { return Ok(Err(Lost)) };
        self.tell(&stepped);
        if ends {
            info!(operation = %self.id, changed = stepped.changed, refused = stepped.refused, "an operation is done");
            return Ok(Ok(Taken::End));
        }
        if is_last {
            // A pass that finds nothing more is the last one.
            if stepped.changed == self.changed_before_pass {
                let ended = self.step(Vec::new(), Then::End(OperationState::Done, String::new())).await?;
                return Ok(ended.map(|_| Taken::End));
            }
            self.changed_before_pass = stepped.changed;
        }
        Ok(Ok(Taken::Page(ahead.transpose()?)))
    }

    /// Whether the lists are read again after their end: jobs that are cancelled while they move between two states can be
    /// missed in both.
    fn repeats(&self) -> bool {
        matches!(self.change, Change::Cancel { of_all: true, .. })
    }

    async fn read(&self, position: &Position) -> StoreResult<SelectionPage> {
        let mut size = STEP;
        if self.spec.rate > 0 {
            size = size.min((self.spec.rate.unsigned_abs() / STEPS_A_SECOND).max(1));
        }
        if let left @ 1.. = self.canary_left() {
            size = size.min(left);
        }
        self.selection.page(&*self.context.store, position, size, self.covers_until_ms).await
    }

    /// Number of jobs that the canary still lacks; 0 if there is none, or it has passed.
    fn canary_left(&self) -> u32 {
        let canary = u64::from(self.spec.canary.unsigned_abs());
        if self.progress.canary_passed { 0 } else { canary.saturating_sub(self.changed) as u32 }
    }

    /// Whether the canary is complete and its outcome decides.
    fn canary_waits(&self) -> bool {
        self.spec.canary > 0 && !self.progress.canary_passed && self.canary_left() == 0
    }

    async fn judge(&mut self) -> Outcome<Verdict> {
        let (canary, sample) = (self.canary_waits(), self.spec.stop_percent);
        let is_due = self.judged.is_none_or(|at| at.elapsed() >= JUDGE_EVERY);
        if !is_due || !canary && sample.is_none() {
            return Ok(Ok(if canary { Verdict::Wait } else { Verdict::GoOn }));
        }
        let began_waiting = canary && self.judged.is_none();
        self.judged = Some(Instant::now());
        let before = self.progress.clone();
        let store = Arc::clone(&self.context.store);
        let mut verdict = Verdict::GoOn;
        if canary {
            self.progress.canary = store.operation_outcomes(self.id, true).await?;
            verdict = judge_canary(self.progress.canary, self.spec.canary_stop_percent());
            self.progress.canary_passed = verdict == Verdict::GoOn;
        }
        if let Some(percent) = sample {
            self.progress.sample = store.operation_outcomes(self.id, false).await?;
            if let stop @ Verdict::Stop(_) = judge_sample(self.progress.sample, percent) {
                verdict = stop;
            }
        }
        let changed = self.progress != before || began_waiting || self.must_renew();
        if changed && !matches!(verdict, Verdict::Stop(_)) {
            let then = if verdict == Verdict::Wait { Then::WaitForCanary } else { Then::GoOn };
            if self.step(Vec::new(), then).await?.is_err() {
                return Ok(Err(Lost));
            }
        }
        Ok(Ok(verdict))
    }

    fn must_renew(&self) -> bool {
        self.renewed.elapsed() >= LEASE / 3
    }

    fn new_step(&self, ids: Vec<Uuid>, then: Then) -> Step {
        let room = SAMPLE.saturating_sub((self.changed / u64::from(STEP)) as u32 * SAMPLE_A_STEP);
        let sample = if self.spec.stop_percent.is_some() { room.min(SAMPLE_A_STEP) } else { 0 };
        Step {
            operation_id: self.id,
            token: self.token,
            lease_ms: LEASE.as_millis() as i64,
            change: self.change.clone(),
            ids,
            covers_until_ms: self.covers_until_ms,
            rate: (self.spec.rate > 0).then(|| self.spec.rate.unsigned_abs()),
            remember: Remember { canary: self.canary_left() > 0, sample },
            progress: self.progress.text(),
            then,
        }
    }

    async fn step(&mut self, ids: Vec<Uuid>, then: Then) -> Outcome<Stepped> {
        let answer = self.context.store.step_operation(&self.new_step(ids, then)).await?;
        Ok(self.stepped(answer))
    }

    fn stepped(&mut self, answer: StepAnswer) -> Result<Stepped, Lost> {
        match answer {
            StepAnswer::NotRunner => {
                info!(operation = %self.id, "an operation was paused, stopped, or taken over");
                Err(Lost)
            }
            StepAnswer::Stepped(stepped) => {
                self.renewed = Instant::now();
                self.next_step = self.renewed + wait(stepped.wait_ms);
                self.changed = stepped.changed;
                Ok(stepped)
            }
        }
    }

    /// Tells of a step what RetryJob and CancelJob tell of one job.
    fn tell(&self, stepped: &Stepped) {
        let context = self.context;
        match self.change {
            Change::Retry { .. } | Change::SetPriority(_) | Change::Reschedule { .. } => {
                let mut jobs: HashMap<&str, usize> = HashMap::new();
                for job in &stepped.moved {
                    *jobs.entry(&job.worker_id).or_default() += 1;
                }
                for (worker_id, jobs) in jobs {
                    context.notifier.wake(worker_id, jobs);
                }
            }
            Change::Cancel { .. } => {
                for session_id in stepped.moved.iter().filter_map(|job| job.stopped) {
                    context.notifier.stop(session_id);
                }
                context.finished.tell(stepped.moved.iter().map(|job| job.id));
            }
            Change::Delete => {}
        }
    }

    /// Waits, but not so long that the lease runs out, nor when the server stops.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(time.min(LEASE / 3)) => {}
        }
    }
}

fn wait(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs())
}
