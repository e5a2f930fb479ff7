//! How many jobs run at once.
//!
//! A slot is taken before a job is asked for and given back when its handler has ended, so that a worker never holds
//! more than it runs. A buffer of jobs that wait for a slot would be a second, larger semaphore that `acquire` takes
//! from, with a slot taken just before the handler starts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub(crate) struct Slots(Arc<Semaphore>);

/// One or more slots; free again when dropped.
pub(crate) struct Taken(OwnedSemaphorePermit);

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a free slot, then takes all that are free, at most `most`.
    pub(crate) async fn take(&self, most: usize) -> Taken {
        let Ok(mut taken) = Arc::clone(&self.0).acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        let more = self.0.available_permits().min(most.saturating_sub(1));
        if let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(more as u32) {
            taken.merge(more);
        }
        Taken(taken)
    }
}

impl Taken {
    pub(crate) fn count(&self) -> usize {
        self.0.num_permits()
    }

    /// One of them, for one job.
    pub(crate) fn one(&mut self) -> Option<Taken> {
        self.0.split(1).map(Taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_free_slots_are_taken_and_given_back_one_by_one() {
        let slots = Slots::new(5);
        let mut taken = slots.take(3).await;
        assert_eq!(taken.count(), 3);
        let rest = slots.take(100).await;
        assert_eq!(rest.count(), 2);
        let one = taken.one().unwrap();
        drop(one);
        assert_eq!(slots.take(100).await.count(), 1);
        drop((taken, rest));
        assert_eq!(slots.take(100).await.count(), 5);
    }
}
