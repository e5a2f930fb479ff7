//! Runs operations: claims those that no runner has, and takes each through its jobs, step by step.
//!
//! All that an operation is lies in the database. A runner that fails or dies leaves it there, and when its lease has run
//! out, a runner of any server goes on behind the last step that was committed.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use jobqueue_store::{ClaimedOperation, OperationState, StoreError, StoreResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::run::Run;
use crate::queue::context::Context;

/// Time for which a runner keeps an operation. It extends it with every step, and sooner than half of it has passed.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// Maximum number of operations that a server runs at once.
const AT_ONCE: usize = 8;

/// States in which an operation has, or may get, a runner.
const ACTIVE: [OperationState; 2] = [OperationState::Running, OperationState::CanaryWaiting];

const DEFECT: &str = "an internal error; the server's log has the details";

pub(crate) struct Runner {
    context: Arc<Context>,
    tracker: TaskTracker,
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

impl Runner {
    /// Makes a runner whose tasks run on `tracker`, and give their operations back when `stop` is cancelled.
    pub(crate) fn new(context: Arc<Context>, tracker: &TaskTracker, stop: CancellationToken) -> Self {
        Self { context, tracker: tracker.clone(), stop, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Claims the operations that no runner has, as far as there is room, and starts to run them.
    pub(crate) async fn run_once(&self) -> StoreResult<()> {
        while !self.stop.is_cancelled() {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Ok(()) };
            let token = Uuid::new_v4();
            let claimed = self.context.store.claim_operation(token, LEASE.as_millis() as i64).await?;
            let Some(claimed) = claimed else { return Ok(()) };
            let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
            self.tracker.spawn(run(context, claimed, token, stop, place));
        }
        Ok(())
    }
}

async fn run(
    context: Arc<Context>,
    claimed: ClaimedOperation,
    token: Uuid,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let id = claimed.record.id;
    info!(operation = %id, changed = claimed.record.changed, "runs an operation");
    let running = async { Run::new(&context, claimed, token, stop)?.finish().await };
    let ended = AssertUnwindSafe(running)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StoreError::Defect("it panicked".into())));
    match ended {
        Ok(()) => {}
        // Whether the last step was committed is not known. The next runner sees it.
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Full(_))) => {
            warn!(operation = %id, %error, "an operation is interrupted; it goes on when its lease has run out");
        }
        Err(error) => {
            error!(operation = %id, %error, "an operation failed");
            let ended = context.store.move_operation(id, &ACTIVE, OperationState::Failed, DEFECT).await;
            if let Err(error) = ended {
                warn!(operation = %id, %error, "the end of an operation could not be stored");
            }
        }
    }
}
