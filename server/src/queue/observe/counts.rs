//! GetMetrics and GetThroughput: the number of jobs by state, and events by minute.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{MinuteCounts, WorkerIdCounts};

use super::page_token;
use crate::queue::{error::Result, handle::Queue, validate::Violations};

/// Default number of minutes of `GetThroughput`.
const MINUTES_DEFAULT: i64 = 60;

/// Name of the list of worker_ids in its page tokens.
const WORKER_IDS: &str = "worker_ids";
/// Maximum size in bytes of the counts of one worker_id in an answer, without its name and pause reason.
const COUNTS_BYTES: usize = 160;

/// Counts by worker_id and their sum, as of `now_ms`.
#[derive(Debug)]
pub struct Counts {
    pub now_ms: i64,
    pub all: WorkerIdCounts,
    pub worker_ids: Vec<WorkerIdCounts>,
}

impl Queue {
    pub async fn counts(&self) -> Result<Counts> {
        let worker_ids = self.context.store.counts().await?;
        Ok(Counts { now_ms: self.context.clock.now_ms(), all: sum(&worker_ids), worker_ids })
    }

    /// A page of worker_ids with their counts, the sum over all worker_ids, and the token of the next page.
    pub async fn counts_page(&self, request: &v1::GetMetricsRequest) -> Result<(Counts, String)> {
        let mut violations = Violations::default();
        let page_size = match violations.integer("page_size", request.page_size, 0..=limits::WORKER_IDS_PAGE) {
            0 => limits::WORKER_IDS_PAGE,
            size => size,
        };
        let after: Option<String> = match request.page_token.as_str() {
            "" => None,
            token => page_token::place(WORKER_IDS, token).map_err(|wrong| violations.add("page_token", wrong)).ok(),
        };
        violations.finish()?;
        let mut counts = self.counts().await?;
        let next = cut_page(&mut counts.worker_ids, after.as_deref(), page_size as usize);
        Ok((counts, next.map(|last| page_token::token(WORKER_IDS, &last)).unwrap_or_default()))
    }

    /// Counts of each minute up to the current one, oldest first, minutes without events included.
    pub async fn throughput(&self, request: &v1::GetThroughputRequest) -> Result<Vec<MinuteCounts>> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let minutes = match violations.integer("minutes", request.minutes, 0..=limits::THROUGHPUT_MINUTES as u32) {
            0 => MINUTES_DEFAULT,
            minutes => i64::from(minutes),
        };
        violations.finish()?;
        let last = self.context.clock.now_ms().div_euclid(60_000);
        let worker_id = (!request.worker_id.is_empty()).then_some(request.worker_id.as_str());
        let found = self.context.store.throughput(worker_id, last - minutes + 1).await?;
        Ok(filled(last - minutes + 1, last, &found))
    }
}

/// Cuts worker_ids, which are sorted, to the page after `after`: at most `page_size` of them, and about
/// `limits::REPLY_BYTES`. Returns the page's last worker_id if more follow.
fn cut_page(worker_ids: &mut Vec<WorkerIdCounts>, after: Option<&str>, page_size: usize) -> Option<String> {
    if let Some(after) = after {
        let seen = worker_ids.partition_point(|it| it.worker_id.as_str() <= after);
        worker_ids.drain(..seen);
    }
    let mut bytes = 0;
    let fits = worker_ids.iter().take(page_size).take_while(|it| {
        bytes += COUNTS_BYTES + it.worker_id.len() + it.paused.as_ref().map_or(0, |paused| paused.reason.len());
        bytes <= limits::REPLY_BYTES
    });
    let count = fits.count();
    let more = count < worker_ids.len();
    worker_ids.truncate(count);
    worker_ids.last().filter(|_| more).map(|it| it.worker_id.clone())
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
    fn pages_of_worker_ids_leave_out_none_and_name_none_twice() {
        let paused = |n: usize| jobqueue_store::Pause { at_ms: 1, reason: "r".repeat(n % 1_025) };
        let all: Vec<_> = (0..10_000)
            .map(|n| WorkerIdCounts {
                worker_id: format!("w{n:05}"),
                paused: Some(paused(n)),
                ..WorkerIdCounts::default()
            })
            .collect();
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let mut page = all.clone();
            let next = cut_page(&mut page, after.as_deref(), 4_000);
            assert!(page.len() <= 4_000);
            let texts: usize =
                page.iter().map(|it| it.worker_id.len() + it.paused.as_ref().unwrap().reason.len()).sum();
            assert!(texts <= limits::REPLY_BYTES);
            seen.extend(page);
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
        assert!(pages >= 3, "{pages}");
    }

    #[test]
    fn the_sum_has_the_oldest_of_all() {
        let at = |pending, oldest_runnable_ms| WorkerIdCounts { pending, oldest_runnable_ms, ..Default::default() };
        let all = sum(&[at(1, None), at(2, Some(7)), at(3, Some(5))]);
        assert_eq!((all.pending, all.oldest_runnable_ms), (6, Some(5)));
        assert_eq!(sum(&[]), WorkerIdCounts::default());
    }
}
