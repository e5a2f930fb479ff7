//! What goes on without being asked for. Safe on any number of servers of one database at once.
//!
//! One file a kind of work: `run_once` does it, [`every`] repeats it.

pub mod fold;
pub mod health;
pub mod poll;
pub mod prune;
pub mod rescue;

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::store::{StoreError, StoreResult};

/// Runs `work` again and again until `stop`, about `interval` apart: varied by a quarter, so that servers do not
/// walk in step. An outage is logged when it begins and when it ends, not at every turn.
pub async fn every<F, Fut>(name: &'static str, interval: Duration, stop: CancellationToken, work: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = StoreResult<()>>,
{
    let mut failing = false;
    loop {
        let pause = interval.mul_f64(rand::random_range(0.75..1.25));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        // A turn that has begun ends: its last write would be rolled back otherwise.
        let result = AssertUnwindSafe(work())
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(StoreError::Defect("it panicked".into())));
        match result {
            Ok(()) if failing => {
                info!(work = name, "background work goes on");
                failing = false;
            }
            Ok(()) => {}
            Err(error) if failing => debug!(work = name, %error, "background work still fails"),
            Err(error) => {
                warn!(work = name, %error, "background work fails; it is tried again");
                failing = true;
            }
        }
    }
}
