//! worker_ids whose jobs were looked for a moment ago and not found, so that a poll that comes now parks before it
//! looks again.
//!
//! Where jobs are handed to parked polls directly, a worker's next poll would otherwise look for jobs once for each job,
//! and find nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Time for which a look that found nothing counts. A job that no notification announced is found after it.
const TRUSTED: Duration = Duration::from_secs(1);
/// Maximum number of worker_ids remembered. Beyond it all are forgotten, which costs one look for each.
const WORKER_IDS: usize = 10_000;

#[derive(Default)]
pub(crate) struct EmptyLooks(Mutex<HashMap<String, Looks>>);

#[derive(Default)]
struct Looks {
    /// Number of notifications of runnable jobs.
    notified: u64,
    /// The last look, if it found nothing and no notification has come since it began.
    empty: Option<EmptyLook>,
}

/// A look that found nothing.
#[derive(Clone, Copy)]
pub(crate) struct EmptyLook {
    began: Instant,
    /// Due time of the next job, in the database's milliseconds.
    pub next_run_at_ms: Option<i64>,
}

/// A look under way.
pub(crate) struct Look {
    began: Instant,
    notified: u64,
}

impl EmptyLooks {
    /// Begins a look for jobs of this worker_id.
    pub(crate) fn begin(&self, worker_id: &str) -> Look {
        let mut all = self.0.lock();
        if all.len() >= WORKER_IDS && !all.contains_key(worker_id) {
            all.clear();
        }
        if !all.contains_key(worker_id) {
            all.insert(worker_id.to_owned(), Looks::default());
        }
        Look { began: Instant::now(), notified: all.get(worker_id).map_or(0, |looks| looks.notified) }
    }

    /// Records that a look found nothing. It does not count if a notification has come since it began.
    pub(crate) fn found_nothing(&self, worker_id: &str, look: &Look, next_run_at_ms: Option<i64>) {
        if let Some(looks) = self.0.lock().get_mut(worker_id)
            && looks.notified == look.notified
        {
            looks.empty = Some(EmptyLook { began: look.began, next_run_at_ms });
        }
    }

    /// Forgets that nothing was found, because jobs may be runnable now.
    pub(crate) fn notified(&self, worker_id: &str) {
        if let Some(looks) = self.0.lock().get_mut(worker_id) {
            looks.notified += 1;
            looks.empty = None;
        }
    }

    /// Forgets all looks, because notifications were lost.
    pub(crate) fn clear(&self) {
        for looks in self.0.lock().values_mut() {
            looks.notified += 1;
            looks.empty = None;
        }
    }

    /// The last look, if it is known by it that no job is runnable.
    pub(crate) fn get(&self, worker_id: &str, now_ms: i64) -> Option<EmptyLook> {
        let look = self.0.lock().get(worker_id)?.empty?;
        let is_due = look.next_run_at_ms.is_some_and(|next| next <= now_ms);
        (look.began.elapsed() < TRUSTED && !is_due).then_some(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Due time of the next job, or 0 if there is none; `None` if it has to be looked.
    fn empty(looks: &EmptyLooks, worker_id: &str, now_ms: i64) -> Option<i64> {
        looks.get(worker_id, now_ms).map(|look| look.next_run_at_ms.unwrap_or_default())
    }

    #[test]
    fn a_look_counts_until_a_notification_and_until_the_next_job_is_due() {
        let looks = EmptyLooks::default();
        assert_eq!(empty(&looks, "w", 0), None);
        let look = looks.begin("w");
        assert_eq!(empty(&looks, "w", 0), None, "it has found nothing yet");
        looks.found_nothing("w", &look, None);
        assert_eq!(empty(&looks, "w", 0), Some(0));
        assert_eq!(empty(&looks, "v", 0), None);
        looks.notified("v");
        assert_eq!(empty(&looks, "w", 0), Some(0));
        looks.notified("w");
        assert_eq!(empty(&looks, "w", 0), None);
        looks.found_nothing("w", &looks.begin("w"), Some(100));
        assert_eq!(empty(&looks, "w", 99), Some(100));
        assert_eq!(empty(&looks, "w", 100), None);
    }

    #[test]
    fn a_look_does_not_count_if_a_notification_came_while_it_was_under_way() {
        let looks = EmptyLooks::default();
        let [first, second] = [(); 2].map(|()| looks.begin("w"));
        looks.found_nothing("w", &first, None);
        looks.notified("w");
        looks.found_nothing("w", &second, None);
        assert_eq!(empty(&looks, "w", 0), None);
        let third = looks.begin("w");
        looks.clear();
        looks.found_nothing("w", &third, None);
        assert_eq!(empty(&looks, "w", 0), None);
    }

    #[test]
    fn a_look_counts_for_a_moment_only_and_few_are_kept() {
        let looks = EmptyLooks::default();
        let look = looks.begin("w");
        let long_ago = look.began.checked_sub(TRUSTED).unwrap();
        looks.found_nothing("w", &Look { began: long_ago, ..look }, None);
        assert_eq!(empty(&looks, "w", 0), None);
        for n in 0..2 * WORKER_IDS {
            looks.begin(&n.to_string());
        }
        assert!(looks.0.lock().len() <= WORKER_IDS);
    }
}
