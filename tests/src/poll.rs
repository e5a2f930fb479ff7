//! Waiting for conditions, never longer than they take.

use std::time::{Duration, Instant};

/// Time limit of a wait on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `probe` until it returns an answer, and panics with `what` after [`PATIENCE`].
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe).await
}

/// Calls `probe` every few milliseconds until it returns an answer, and panics with `what` after `patience`.
pub async fn within<T>(patience: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
