//! Rows that rescue could not make sense of. They are left out for a while, so that they neither starve the rows
//! behind them nor fill the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::error::StoreError;

/// Somebody may have mended a row: it is looked at again after so long.
const AGAIN: Duration = Duration::from_mins(1);
/// Rows remembered at most; then all are forgotten, and logged once more.
const REMEMBERED: usize = 10_000;

/// Claims and sessions, by id, and since when they are left out.
#[derive(Default)]
pub(super) struct Broken(Mutex<HashMap<Uuid, Instant>>);

impl Broken {
    /// What not to look at now.
    pub(super) fn left_out(&self) -> Vec<Uuid> {
        let mut rows = self.lock();
        // What was not found broken again when it was looked at is mended or gone.
        rows.retain(|_, since| since.elapsed() < 2 * AGAIN);
        rows.iter().filter(|(_, since)| since.elapsed() < AGAIN).map(|(id, _)| *id).collect()
    }

    /// Leaves the row out. Logged when it is new.
    pub(super) fn add(&self, what: &'static str, id: Uuid, error: &StoreError) {
        let mut rows = self.lock();
        if rows.len() >= REMEMBERED {
            rows.clear();
        }
        if rows.insert(id, Instant::now()).is_none() {
            tracing::error!(what, %id, %error, "this row cannot be rescued; the others are");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(broken: &Broken) -> Vec<u128> {
        let mut ids: Vec<_> = broken.left_out().iter().map(Uuid::as_u128).collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_row_is_looked_at_again_after_a_while() {
        let broken = Broken::default();
        let error = StoreError::Defect("it does not hold together".into());
        broken.add("claim", Uuid::from_u128(1), &error);
        tokio::time::advance(AGAIN / 2).await;
        broken.add("claim", Uuid::from_u128(2), &error);
        assert_eq!(sorted(&broken), [1, 2]);
        tokio::time::advance(AGAIN / 2).await;
        assert_eq!(sorted(&broken), [2], "it may have been mended");
        broken.add("claim", Uuid::from_u128(1), &error);
        assert_eq!(sorted(&broken), [1, 2]);
        tokio::time::advance(2 * AGAIN).await;
        assert_eq!(sorted(&broken), [0; 0]);
        assert!(broken.lock().is_empty(), "nothing is kept of what is well");
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let broken = Broken::default();
        for n in 0..=REMEMBERED as u128 {
            broken.add("claim", Uuid::from_u128(n), &StoreError::Defect(String::new()));
        }
        assert!(broken.left_out().len() <= REMEMBERED);
    }
}
