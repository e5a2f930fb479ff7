//! GetMetrics, GetThroughput and GetThroughputs: the number of jobs by state, and events by minute.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{MinuteCounts, SlotCounts, WorkerIdCounts};

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

/// Slots of minutes up to the present one, in which events are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slots {
    /// First minute of the first slot, in minutes since 1970.
    first: i64,
    /// First minute of the slot that holds the present minute.
    last: i64,
    step: u32,
}

impl Slots {
    /// Slots of a request, where 0 stands for the defaults.
    fn of(minutes: i32, step: i32, now_ms: i64, violations: &mut Violations) -> Self {
        let minutes = match violations.integer("minutes", minutes, 0..=limits::THROUGHPUT_MINUTES as u32) {
            0 => MINUTES_DEFAULT,
            minutes => i64::from(minutes),
        };
        let step = violations.integer("step", step, 0..=limits::THROUGHPUT_STEP).max(1);
        let width = i64::from(step);
        let begin = |minute: i64| minute.div_euclid(width) * width;
        let now = now_ms.div_euclid(60_000);
        Self { first: begin(now - minutes + 1), last: begin(now), step }
    }

    /// Counts of each slot, those without events included.
    fn fill(self, found: impl IntoIterator<Item = MinuteCounts>) -> Vec<MinuteCounts> {
        let empty = |minute| MinuteCounts { minute, ..MinuteCounts::default() };
        let mut slots: Vec<_> = (self.first..=self.last).step_by(self.step as usize).map(empty).collect();
        for it in found {
            let at = usize::try_from((it.minute - self.first).div_euclid(self.step.into())).ok();
            // A minute may have begun since `now_ms` was read.
            if let Some(slot) = at.and_then(|at| slots.get_mut(at)) {
                slot.submitted += it.submitted;
                slot.done += it.done;
                slot.failed += it.failed;
                slot.retried += it.retried;
            }
        }
        slots
    }
}

/// Counts of several worker_ids in the same slots.
#[derive(Debug)]
pub struct Throughputs {
    pub start_ms: i64,
    pub step: u32,
    pub series: Vec<(String, Vec<MinuteCounts>)>,
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

    /// Counts of each slot of minutes up to the present one, oldest first, slots without events included.
    pub async fn throughput(&self, request: &v1::GetThroughputRequest) -> Result<Vec<MinuteCounts>> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let slots = Slots::of(request.minutes, request.step, self.context.clock.now_ms(), &mut violations);
        violations.finish()?;
        let worker_id = (!request.worker_id.is_empty()).then_some(request.worker_id.as_str());
        Ok(slots.fill(self.context.store.throughput(worker_id, slots.first).await?))
    }

    /// Counts of each worker_id of the request in each slot.
    pub async fn throughputs(&self, request: v1::GetThroughputsRequest) -> Result<Throughputs> {
        let mut violations = Violations::default();
        let count = request.worker_ids.len();
        if !(1..=limits::THROUGHPUTS).contains(&count) {
            violations.add("worker_ids", format!("has {count} entries; it must have 1 to {}", limits::THROUGHPUTS));
        }
        let mut seen = HashSet::new();
        for (n, worker_id) in request.worker_ids.iter().take(limits::THROUGHPUTS).enumerate() {
            let field = format!("worker_ids[{n}]");
            violations.worker_id(&field, worker_id);
            if !seen.insert(worker_id) {
                violations.add(&field, "is named twice");
            }
        }
        let slots = Slots::of(request.minutes, request.step, self.context.clock.now_ms(), &mut violations);
        violations.finish()?;
        let found = self.context.store.throughputs(&request.worker_ids, slots.first, slots.step).await?;
        let mut found = by_worker_id(found);
        let series = request.worker_ids.into_iter().map(|worker_id| {
            let counts = slots.fill(found.remove(&worker_id).unwrap_or_default());
            (worker_id, counts)
        });
        Ok(Throughputs { start_ms: slots.first * 60_000, step: slots.step, series: series.collect() })
    }
}

fn by_worker_id(found: Vec<SlotCounts>) -> HashMap<String, Vec<MinuteCounts>> {
    let mut all: HashMap<String, Vec<MinuteCounts>> = HashMap::new();
    for it in found {
        all.entry(it.worker_id).or_default().push(it.counts);
    }
    all
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
        all.failed_lately += it.failed_lately;
        all.cancelled += it.cancelled;
        all.sessions += it.sessions;
        all.oldest_runnable_ms = match (all.oldest_runnable_ms, it.oldest_runnable_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(minutes: i32, step: i32, now_min: i64) -> Slots {
        let mut violations = Violations::default();
        let slots = Slots::of(minutes, step, now_min * 60_000 + 59_999, &mut violations);
        violations.finish().unwrap();
        slots
    }

    #[test]
    fn slots_without_events_are_there_too() {
        let at = |minute, done| MinuteCounts { minute, done, ..MinuteCounts::default() };
        let found = [at(9, 9), at(11, 1), at(14, 4), at(15, 5)];
        assert_eq!(slots(5, 0, 14).fill(found), [at(10, 0), at(11, 1), at(12, 0), at(13, 0), at(14, 4)]);
        assert_eq!(slots(7, 3, 14).fill(found), [at(6, 0), at(9, 10), at(12, 4)], "what was counted later is left out");
    }

    #[test]
    fn slots_begin_at_multiples_of_their_length_and_cover_what_was_asked_for() {
        for (minutes, step, now, first, last) in [
            (0, 0, 1_000, 941, 1_000),
            (1, 1, 7, 7, 7),
            (1_440, 15, 100_000, 98_550, 99_990),
            (60, 60, 119, 60, 60),
            (60, 60, 90, 0, 60),
        ] {
            let slots = slots(minutes, step, now);
            assert_eq!((slots.first, slots.last), (first, last), "{minutes} minutes in steps of {step}");
            assert_eq!(slots.fill([]).len() as i64, (last - first) / i64::from(step.max(1)) + 1);
        }
    }

    #[test]
    fn what_is_wrong_with_slots_is_named() {
        for (minutes, step, field) in [(1_441, 1, "minutes"), (-1, 1, "minutes"), (60, 61, "step"), (60, -1, "step")] {
            let mut violations = Violations::default();
            Slots::of(minutes, step, 0, &mut violations);
            assert!(format!("{:?}", violations.finish().unwrap_err()).contains(field), "{minutes} {step}");
        }
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
