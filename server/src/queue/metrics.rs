//! GetMetrics and GetThroughput: how many jobs are where, and how they moved minute by minute.

use jobqueue_shared::{limits, proto::v1};

use super::{Queue, error::Result, validate::Violations};
use crate::store::{MinuteCounts, WorkerIdCounts};

/// What `GetThroughput` looks back without being told.
const MINUTES_DEFAULT: i64 = 60;

/// Counts by worker_id and in all, as of `now_ms`.
#[derive(Debug)]
pub struct Counts {
    pub now_ms: i64,
    pub all: WorkerIdCounts,
    pub worker_ids: Vec<WorkerIdCounts>,
}

impl Queue {
    pub async fn counts(&self) -> Result<Counts> {
        let worker_ids = self.store.counts().await?;
        Ok(Counts { now_ms: self.clock.now_ms(), all: sum(&worker_ids), worker_ids })
    }

    /// Each minute up to the present one, oldest first, those without events included.
    pub async fn throughput(&self, request: &v1::GetThroughputRequest) -> Result<Vec<MinuteCounts>> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let minutes = match violations.integer("minutes", request.minutes, 0..=limits::THROUGHPUT_MINUTES as u32) {
            0 => MINUTES_DEFAULT,
            minutes => i64::from(minutes),
        };
        violations.finish()?;
        let last = self.clock.now_ms().div_euclid(60_000);
        let worker_id = (!request.worker_id.is_empty()).then_some(request.worker_id.as_str());
        let found = self.store.throughput(worker_id, last - minutes + 1).await?;
        Ok(filled(last - minutes + 1, last, &found))
    }
}

pub fn sum(counts: &[WorkerIdCounts]) -> WorkerIdCounts {
    let mut all = WorkerIdCounts::default();
    for it in counts {
        all.pending += it.pending;
        all.scheduled += it.scheduled;
        all.retrying += it.retrying;
        all.running += it.running;
        all.done += it.done;
        all.failed += it.failed;
        all.cancelled += it.cancelled;
        all.sessions += it.sessions;
        all.oldest_runnable_ms = match (all.oldest_runnable_ms, it.oldest_runnable_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    all
}

fn filled(first: i64, last: i64, found: &[MinuteCounts]) -> Vec<MinuteCounts> {
    let mut found = found.iter().copied().skip_while(|it| it.minute < first).peekable();
    (first..=last)
        .map(|minute| {
            found.next_if(|it| it.minute == minute).unwrap_or(MinuteCounts { minute, ..MinuteCounts::default() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_without_events_are_there_too() {
        let at = |minute, done| MinuteCounts { minute, done, ..MinuteCounts::default() };
        let minutes = filled(10, 14, &[at(9, 9), at(11, 1), at(14, 4), at(15, 5)]);
        assert_eq!(minutes, [at(10, 0), at(11, 1), at(12, 0), at(13, 0), at(14, 4)]);
    }

    #[test]
    fn the_sum_has_the_oldest_of_all() {
        let at = |pending, oldest_runnable_ms| WorkerIdCounts { pending, oldest_runnable_ms, ..Default::default() };
        let all = sum(&[at(1, None), at(2, Some(7)), at(3, Some(5))]);
        assert_eq!((all.pending, all.oldest_runnable_ms), (6, Some(5)));
        assert_eq!(sum(&[]), WorkerIdCounts::default());
    }
}
