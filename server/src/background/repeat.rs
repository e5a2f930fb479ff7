//! Repetition of background work.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use jobqueue_store::{StoreError, StoreResult};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::health::Health;

/// Maximum pause after a turn that failed, so that the end of an outage is noticed soon.
const RETRY: Duration = Duration::from_secs(5);
/// Time for which background work has to fail before the server is not ready. A lock that is held for a moment, or one
/// slow transaction, does not take a server out of service.
const PATIENCE: Duration = Duration::from_secs(20);

/// Repeats `work` until `stop` is cancelled, about `interval` apart: varied by a quarter, so that several servers do
/// not run it at the same time. A failure is logged when it begins and when it ends, not at every turn, and `health` is
/// told if it lasts.
pub async fn every<F, Fut>(name: &'static str, interval: Duration, stop: CancellationToken, health: &Health, work: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = StoreResult<()>>,
{
    let mut failing: Option<Instant> = None;
    loop {
        let pause = if failing.is_some() { interval.min(RETRY) } else { interval };
        let pause = pause.mul_f64(rand::random_range(0.75..1.25));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        // A turn that has begun is not cut off: its last write would be rolled back.
        let result = AssertUnwindSafe(work())
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(StoreError::Defect("it panicked".into())));
        match (result, failing) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                info!(work = name, "background work goes on");
                health.works(name).await;
                failing = None;
            }
            (Err(error), None) => {
                warn!(work = name, %error, "background work fails; it is tried again");
                failing = Some(Instant::now());
            }
            (Err(error), Some(since)) => {
                debug!(work = name, %error, "background work still fails");
                if since.elapsed() >= PATIENCE {
                    health.fails(name).await;
                }
            }
        }
    }
}
