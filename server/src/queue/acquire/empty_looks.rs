//! Sessions that looked for jobs a moment ago and found none, so that a poll that comes now parks before it looks again.
//!
//! Where jobs are handed to parked polls directly, a worker's next poll would otherwise look for jobs once for each job,
//! and find nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use uuid::Uuid;

/// Time for which a look that found nothing counts.
const TRUSTED: Duration = Duration::from_secs(1);
/// Maximum number of worker_ids remembered, and of sessions of each. Beyond it all are forgotten, which costs one look
/// for each.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(crate) struct EmptyLooks(Mutex<All>);

#[derive(Default)]
struct All {
    by_worker_id: HashMap<String, Looks>,
    /// Number of notifications, and of worker_ids remembered anew.
    count: u64,
}

struct Looks {
    /// [`All::count`] at the last notification of runnable jobs.
    notified: u64,
    /// The last look of each session, if it found nothing and no notification has come since it began.
    empty: HashMap<Uuid, EmptyLook>,
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
        let known = all.by_worker_id.get(worker_id).map(|looks| looks.notified);
        let notified = known.unwrap_or_else(|| {
            if all.by_worker_id.len() >= REMEMBERED {
                all.by_worker_id.clear();
            }
            all.count += 1;
            let notified = all.count;
            all.by_worker_id.insert(worker_id.to_owned(), Looks { notified, empty: HashMap::new() });
            notified
        });
        Look { began: Instant::now(), notified }
    }

    /// Records that a session's look found nothing. It does not count if a notification has come since it began.
    pub(crate) fn found_nothing(&self, worker_id: &str, session_id: Uuid, look: &Look, next_run_at_ms: Option<i64>) {
        if let Some(looks) = self.0.lock().by_worker_id.get_mut(worker_id)
            && looks.notified == look.notified
        {
            if looks.empty.len() >= REMEMBERED {
                looks.empty.clear();
            }
            looks.empty.insert(session_id, EmptyLook { began: look.began, next_run_at_ms });
        }
    }

    /// Forgets the looks for jobs of this worker_id, because some may be runnable now.
    pub(crate) fn notified(&self, worker_id: &str) {
        let All { by_worker_id, count } = &mut *self.0.lock();
        if let Some(looks) = by_worker_id.get_mut(worker_id) {
            *count += 1;
            looks.notified = *count;
            looks.empty.clear();
        }
    }

    /// Forgets all looks, because notifications were lost.
    pub(crate) fn clear(&self) {
        self.0.lock().by_worker_id.clear();
    }

    /// The session's last look, while it shows that no job is runnable.
    pub(crate) fn get(&self, worker_id: &str, session_id: Uuid, now_ms: i64) -> Option<EmptyLook> {
        let look = *self.0.lock().by_worker_id.get(worker_id)?.empty.get(&session_id)?;
        let is_due = look.next_run_at_ms.is_some_and(|next| next <= now_ms);
        (look.began.elapsed() < TRUSTED && !is_due).then_some(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Uuid = Uuid::from_u128(1);

    /// Due time of the next job, or 0 if there is none; `None` if it has to be looked.
    fn empty(looks: &EmptyLooks, worker_id: &str, now_ms: i64) -> Option<i64> {
        looks.get(worker_id, SESSION, now_ms).map(|look| look.next_run_at_ms.unwrap_or_default())
    }

    #[test]
    fn a_look_counts_until_a_notification_and_until_the_next_job_is_due() {
        let looks = EmptyLooks::default();
        assert_eq!(empty(&looks, "w", 0), None);
        let look = looks.begin("w");
        assert_eq!(empty(&looks, "w", 0), None, "it has found nothing yet");
        looks.found_nothing("w", SESSION, &look, None);
        assert_eq!(empty(&looks, "w", 0), Some(0));
        assert_eq!(empty(&looks, "v", 0), None);
        assert!(looks.get("w", Uuid::from_u128(2), 0).is_none(), "another session may find what this one may not take");
        looks.notified("v");
        assert_eq!(empty(&looks, "w", 0), Some(0));
        looks.notified("w");
        assert_eq!(empty(&looks, "w", 0), None);
        looks.found_nothing("w", SESSION, &looks.begin("w"), Some(100));
        assert_eq!(empty(&looks, "w", 99), Some(100));
        assert_eq!(empty(&looks, "w", 100), None);
    }

    #[test]
    fn a_look_does_not_count_if_a_notification_came_while_it_was_under_way() {
        let looks = EmptyLooks::default();
        let [first, second] = [(); 2].map(|()| looks.begin("w"));
        looks.found_nothing("w", SESSION, &first, None);
        looks.notified("w");
        looks.found_nothing("w", SESSION, &second, None);
        assert_eq!(empty(&looks, "w", 0), None);
        let third = looks.begin("w");
        looks.clear();
        looks.found_nothing("w", SESSION, &third, None);
        assert_eq!(empty(&looks, "w", 0), None);
    }

    #[test]
    fn a_look_counts_for_a_moment_only_and_few_are_kept() {
        let looks = EmptyLooks::default();
        let look = looks.begin("w");
        let long_ago = look.began.checked_sub(TRUSTED).unwrap();
        looks.found_nothing("w", SESSION, &Look { began: long_ago, ..look }, None);
        assert_eq!(empty(&looks, "w", 0), None);
        let look = looks.begin("w");
        looks.notified("w");
        for n in 0..2 * REMEMBERED {
            looks.begin(&n.to_string());
        }
        assert!(looks.0.lock().by_worker_id.len() <= REMEMBERED);
        looks.begin("w");
        looks.found_nothing("w", SESSION, &look, None);
        assert_eq!(
            empty(&looks, "w", 0),
            None,
            "the notification came after the look had begun, though it is forgotten"
        );
        for n in 0..2 * REMEMBERED as u128 {
            looks.found_nothing("w", Uuid::from_u128(n), &looks.begin("w"), None);
        }
        assert!(looks.0.lock().by_worker_id["w"].empty.len() <= REMEMBERED);
    }
}
