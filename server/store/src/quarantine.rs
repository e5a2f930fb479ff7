//! Quarantine for damaged rows: rescue leaves them out for a while, so that they neither hold up the rows behind them
//! nor fill the log.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::error::StoreError;

/// Time after which a row is tried again: somebody may have repaired it.
const RETRY_AFTER: Duration = Duration::from_mins(1);
/// Maximum number of rows remembered. Beyond it all are forgotten and logged again.
const REMEMBERED: usize = 10_000;

/// Ids of claims and sessions in quarantine, each with the time of its last failure.
#[derive(Default)]
pub struct Quarantine(Mutex<HashMap<Uuid, Instant>>);

impl Quarantine {
    /// Ids to leave out now.
    pub fn left_out(&self) -> Vec<Uuid> {
        let mut rows = self.0.lock();
        // A row that did not fail again when it was tried is repaired or gone.
        rows.retain(|_, since| since.elapsed() < 2 * RETRY_AFTER);
        rows.iter().filter(|(_, since)| since.elapsed() < RETRY_AFTER).map(|(id, _)| *id).collect()
    }

    /// Puts a row into quarantine, and logs it if it is new there.
    pub fn add(&self, what: &'static str, id: Uuid, error: &StoreError) {
        let mut rows = self.0.lock();
        if rows.len() >= REMEMBERED {
            rows.clear();
        }
        if rows.insert(id, Instant::now()).is_none() {
            tracing::error!(what, %id, %error, "this row cannot be rescued; the others are");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(quarantine: &Quarantine) -> Vec<u128> {
        let mut ids: Vec<_> = quarantine.left_out().iter().map(Uuid::as_u128).collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_row_is_looked_at_again_after_a_while() {
        let quarantine = Quarantine::default();
        let error = StoreError::Defect("it does not hold together".into());
        quarantine.add("claim", Uuid::from_u128(1), &error);
        tokio::time::advance(RETRY_AFTER / 2).await;
        quarantine.add("claim", Uuid::from_u128(2), &error);
        assert_eq!(sorted(&quarantine), [1, 2]);
        tokio::time::advance(RETRY_AFTER / 2).await;
        assert_eq!(sorted(&quarantine), [2], "it may have been mended");
        quarantine.add("claim", Uuid::from_u128(1), &error);
        assert_eq!(sorted(&quarantine), [1, 2]);
        tokio::time::advance(2 * RETRY_AFTER).await;
        assert_eq!(sorted(&quarantine), [0; 0]);
        assert!(quarantine.0.lock().is_empty(), "nothing is kept of what is well");
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let quarantine = Quarantine::default();
        for n in 0..=REMEMBERED as u128 {
            quarantine.add("claim", Uuid::from_u128(n), &StoreError::Defect(String::new()));
        }
        assert!(quarantine.left_out().len() <= REMEMBERED);
    }
}
