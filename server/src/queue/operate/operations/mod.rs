//! Operations: StartOperation, GetOperation, ListOperations, PauseOperation, ResumeOperation and StopOperation.
//!
//! `spec` checks what is asked for, `selection` finds the jobs, and `runner` runs the operations that the database holds:
//! each by a `run`, whose `progress` is stored.

mod progress;
mod run;
pub(crate) mod runner;
mod selection;
mod spec;

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{JobRecord, NewOperation, OperationRecord, OperationStarted, OperationState, Refusal};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use self::progress::Progress;
use self::selection::Selection;
use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    observe::page_token,
    validate::{Violations, operation_id},
};

/// Name of the list in its page tokens.
const LIST: &str = "operations";

/// Bytes of an operation in a reply besides its brief.
const RECORD_BYTES: usize = 512;

/// Answer to a start.
#[derive(Debug)]
pub enum Started {
    Operation { record: OperationRecord, deduplicated: bool },
    DryRun { count: u64, is_floor: bool, samples: Vec<JobRecord> },
}

/// Part of an operation that answers show and that never changes.
fn brief(spec: &v1::OperationSpec) -> v1::Operation {
    let mut spec = spec.clone();
    let ids = spec.filter.as_mut().map(|filter| {
        let ids = filter.ids.len();
        filter.ids.truncate(limits::OPERATION_IDS_SHOWN);
        ids
    });
    let filter_ids = ids.and_then(|ids| i32::try_from(ids).ok()).unwrap_or_default();
    v1::Operation { spec: Some(spec), filter_ids, ..v1::Operation::default() }
}

/// Number of operations, from the first on, that fit into `bytes`.
fn fitting(records: &[OperationRecord], bytes: usize) -> usize {
    let mut left = bytes;
    let fit = records.iter().take_while(|record| {
        let size = RECORD_BYTES + record.brief.len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fit.count()
}

impl Queue {
    pub async fn start_operation(&self, request: v1::StartOperationRequest, caller: String) -> Result<Started> {
        let mut violations = Violations::default();
        violations.name("request_id", &request.request_id, limits::IDEMPOTENCY_KEY);
        let now_ms = self.context.clock.now_ms();
        let spec =
            spec::check(request.spec.unwrap_or_default(), request.dry_run, now_ms + limits::DELAY_MS, &mut violations);
        violations.finish()?;
        let selection = Selection::new(spec.kind(), &spec::jobs(&spec));
        let store = &*self.context.store;
        let (count, is_floor) = selection.count(store).await?;
        if request.dry_run {
            let samples = selection.samples(store, limits::OPERATION_SAMPLES).await?;
            return Ok(Started::DryRun { count, is_floor, samples });
        }
        let brief = brief(&spec).encode_to_vec();
        let spec = spec.encode_to_vec();
        let new = NewOperation {
            request_id: (!request.request_id.is_empty()).then_some(request.request_id),
            request_hash: Sha256::digest(&spec).into(),
            spec,
            brief,
            caller,
            total: Some((count, is_floor)),
        };
        let (record, deduplicated) = match store.start_operation(&new).await? {
            OperationStarted::New(record) => (record, false),
            OperationStarted::Existing(record) => (record, true),
            OperationStarted::KeyConflict(existing) => return Err(Error::RequestIdReused { existing }),
        };
        self.run_operations().await;
        Ok(Started::Operation { record, deduplicated })
    }

    pub async fn get_operation(&self, request: &v1::GetOperationRequest) -> Result<(OperationRecord, Vec<Refusal>)> {
        let id = operation_id(&request.operation_id)?;
        self.context.store.operation(id).await?.ok_or(Error::NoOperation(id))
    }

    /// Lists a page of operations, and returns the token of the next page.
    pub async fn list_operations(&self, request: &v1::ListOperationsRequest) -> Result<(Vec<OperationRecord>, String)> {
        let mut violations = Violations::default();
        let page_size = match violations.integer("page_size", request.page_size, 0..=limits::OPERATIONS_PAGE) {
            0 => limits::OPERATIONS_PAGE_DEFAULT,
            size => size,
        };
        let before: Option<Uuid> = match request.page_token.as_str() {
            "" => None,
            token => page_token::place(LIST, token).map_err(|wrong| violations.add("page_token", wrong)).ok(),
        };
        violations.finish()?;
        let mut found = self.context.store.operations(before, page_size + 1).await?;
        let read = found.len();
        found.truncate(fitting(&found, limits::REPLY_BYTES).clamp(1, page_size as usize));
        let next = found.last().filter(|_| found.len() < read).map(|last| page_token::token(LIST, &last.id));
        Ok((found, next.unwrap_or_default()))
    }

    pub async fn pause_operation(&self, request: &v1::PauseOperationRequest) -> Result<OperationRecord> {
        use OperationState::{CanaryWaiting, Paused, Running};
        self.move_operation(&request.operation_id, "paused", &[Running, CanaryWaiting], Paused, "paused by a person")
            .await
    }

    pub async fn resume_operation(&self, request: &v1::ResumeOperationRequest) -> Result<OperationRecord> {
        use OperationState::{Paused, Running};
        let record = self.move_operation(&request.operation_id, "resumed", &[Paused], Running, "").await?;
        self.run_operations().await;
        Ok(record)
    }

    pub async fn stop_operation(&self, request: &v1::StopOperationRequest) -> Result<OperationRecord> {
        use OperationState::{CanaryWaiting, Paused, Running, Stopped};
        let from = [Running, CanaryWaiting, Paused];
        self.move_operation(&request.operation_id, "stopped", &from, Stopped, "stopped by a person").await
    }

    /// Moves an operation; one that is in that state already is no error.
    async fn move_operation(
        &self,
        id: &str,
        verb: &'static str,
        from: &[OperationState],
        to: OperationState,
        note: &str,
    ) -> Result<OperationRecord> {
        let id = operation_id(id)?;
        let moved = self.context.store.move_operation(id, from, to, note).await?;
        let (moved, record) = moved.ok_or(Error::NoOperation(id))?;
        let is_there = record.state == to || to == OperationState::Running && record.state.is_active();
        if moved || is_there {
            return Ok(record);
        }
        Err(Error::WrongOperationState { id, state: record.state, verb })
    }

    /// Starts to run the operations that no runner has. A failure is left to the background work, which repeats it.
    async fn run_operations(&self) {
        if let Err(error) = self.operations.run_once().await {
            tracing::debug!(%error, "operations were not looked for");
        }
    }
}
