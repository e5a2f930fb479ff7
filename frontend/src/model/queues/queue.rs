//! Queues, the jobs of one worker_id each: the address of a queue's page, and its row in lists.

use std::fmt::Write as _;

use jobqueue_shared::{
    proto::v1::{GetMetricsResponse, WorkerIdMetrics},
    time::duration_ms,
};

use super::attention::{Concern, Kind};
use crate::model::{
    counts::Pause,
    filter::{Filter, encode},
    number::count,
    span,
    status::Look,
};

/// Number of queues on a page of the list, for which one call fetches the throughput.
pub const PAGE: usize = 50;

const PATH: &str = "/queues";

/// Address of the page of a worker_id.
///
/// Browsers and the router decode `%` sequences several times, and take `.` and `..` for folders. A worker_id may hold
/// all of these: each such byte is written as `~` and its two hexadecimal digits.
pub fn page(worker_id: &str) -> String {
    let dots = matches!(worker_id, "." | "..");
    let mut text = String::with_capacity(worker_id.len());
    for c in worker_id.chars() {
        if matches!(c, '~' | '%' | '/' | '\\') || (dots && c == '.') {
            // Writing to a String cannot fail.
            let _ = write!(text, "~{:02X}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    format!("{PATH}/{}", encode(&text))
}

/// worker_id in the last segment of a page's address, which the router has decoded.
pub fn of_segment(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('~') {
        text.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        if let Some(byte) = byte {
            text.push(char::from(byte));
            rest = &after[2..];
        } else {
            text.push('~');
            rest = after;
        }
    }
    text + rest
}

/// Row of the list of queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRow {
    pub worker_id: String,
    pub pending: String,
    pub running: String,
    pub failed: String,
    /// True when `failed` is not zero; the number is a link then.
    pub any_failed: bool,
    pub oldest_waits: String,
    pub sessions: String,
    pub pause: Option<Pause>,
    /// Look of the worst concern.
    pub trouble: Option<Look>,
}

impl QueueRow {
    fn of(metrics: &WorkerIdMetrics, concerns: &[Concern]) -> Self {
        let age = metrics.oldest_runnable_age.as_ref();
        let pause = Pause::of(metrics);
        Self {
            worker_id: metrics.worker_id.clone(),
            pending: count(metrics.pending),
            running: count(metrics.running),
            failed: count(metrics.failed),
            any_failed: metrics.failed > 0,
            oldest_waits: age.map_or_else(|| "–".into(), |age| span::coarse(duration_ms(age))),
            sessions: count(metrics.sessions),
            trouble: concerns.first().and_then(|worst| look(worst.kind)),
            pause,
        }
    }

    /// Rows of the queues whose worker_id contains `part`, in any case: the worst first, then by name.
    pub fn all(metrics: &GetMetricsResponse, part: &str, now: i64) -> Vec<Self> {
        let part = part.to_lowercase();
        let mut found: Vec<_> = metrics
            .worker_ids
            .iter()
            .filter(|it| part.is_empty() || it.worker_id.to_lowercase().contains(&part))
            .map(|it| (it, Concern::all(it, now)))
            .collect();
        found.sort_by(|(a, a_concerns), (b, b_concerns)| {
            let place = |it: &WorkerIdMetrics, concerns: &[Concern]| (Concern::rank(concerns), it.paused_at.is_none());
            place(a, a_concerns).cmp(&place(b, b_concerns)).then_with(|| a.worker_id.cmp(&b.worker_id))
        });
        found.into_iter().map(|(it, concerns)| Self::of(it, &concerns)).collect()
    }

    /// Address of the list at `path` with the jobs of this worker_id alone.
    pub fn list(&self, path: &str) -> String {
        Filter::of_worker_id(&self.worker_id).url(path)
    }
}

/// Page `at` of a list, counted from 0; the last one when there are not so many.
pub fn cut_page<T>(mut rows: Vec<T>, at: usize) -> Vec<T> {
    let at = at.min(pages(rows.len()).saturating_sub(1));
    rows.drain(..at * PAGE);
    rows.truncate(PAGE);
    rows
}

/// Number of pages of a list of `rows` rows.
pub fn pages(rows: usize) -> usize {
    rows.div_ceil(PAGE)
}

/// Look of a concern; a row says by itself that it is paused.
fn look(kind: Kind) -> Option<Look> {
    match kind {
        Kind::Failing => Some(Look { icon: "cross", word: "failing", tone: "failed" }),
        Kind::NoWorker => Some(Look { icon: "plugs", word: "no worker", tone: "retrying" }),
        Kind::Slow => Some(Look { icon: "timer", word: "late", tone: "retrying" }),
        Kind::Paused => None,
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::{duration, timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::model::filter::decode;

    fn metrics(worker_ids: Vec<WorkerIdMetrics>) -> GetMetricsResponse {
        GetMetricsResponse { worker_ids, ..GetMetricsResponse::default() }
    }

    fn named(worker_id: &str) -> WorkerIdMetrics {
        WorkerIdMetrics { worker_id: worker_id.into(), sessions: 1, ..WorkerIdMetrics::default() }
    }

    /// Segment of an address as the browser and the router decode it: once, twice and more.
    fn decoded(page: &str, times: usize) -> String {
        let segment = page.strip_prefix("/queues/").unwrap().to_owned();
        (0..times).fold(segment, |segment, _| decode(&segment))
    }

    #[test]
    fn an_address_is_readable_where_the_worker_id_is() {
        for (worker_id, address) in [
            ("worker-1a", "/queues/worker-1a"),
            ("a/b", "/queues/a~2Fb"),
            ("..", "/queues/~2E~2E"),
            ("v1.2", "/queues/v1.2"),
            ("100%", "/queues/100~25"),
            ("büro 1", "/queues/b%C3%BCro%201"),
        ] {
            assert_eq!(page(worker_id), address);
        }
        assert_eq!(of_segment("~zz~4"), "~zz~4", "nobody's address, read as it is");
    }

    #[test]
    fn rows_are_sorted_by_trouble_and_then_by_name() {
        let waits = WorkerIdMetrics { pending: 3, oldest_runnable_age: Some(duration(60_000)), ..named("") };
        let all = metrics(vec![
            named("fine"),
            WorkerIdMetrics { paused_at: Some(timestamp(0)), ..named("paused") },
            WorkerIdMetrics { failed_lately: 3, ..named("b-fails") },
            WorkerIdMetrics { failed_lately: 300, ..named("z-fails-most") },
            WorkerIdMetrics { failed_lately: 9, ..named("a-fails") },
            WorkerIdMetrics { worker_id: "lonely".into(), sessions: 0, ..waits.clone() },
            WorkerIdMetrics { worker_id: "held".into(), paused_at: Some(timestamp(0)), ..waits },
        ]);
        let rows = QueueRow::all(&all, "", 1_000);
        let order: Vec<_> = rows.iter().map(|row| row.worker_id.as_str()).collect();
        assert_eq!(order, ["z-fails-most", "a-fails", "b-fails", "lonely", "held", "paused", "fine"]);
        let words: Vec<_> = rows.iter().map(|row| row.trouble.map_or("", |look| look.word)).collect();
        assert_eq!(words, ["failing", "failing", "failing", "no worker", "", "", ""]);
        let found = QueueRow::all(&all, "FAILS", 1_000);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_row_links_what_has_failed() {
        let row = |metrics: WorkerIdMetrics| QueueRow::of(&metrics, &[]);
        let mail = WorkerIdMetrics { pending: 1_234_567, ..named("mail") };
        let calm = row(mail.clone());
        assert_eq!((calm.pending.as_str(), calm.failed.as_str(), calm.any_failed), ("1,234,567", "0", false));
        assert_eq!((calm.oldest_waits.as_str(), calm.pause, calm.trouble), ("–", None, None));
        let failed = row(WorkerIdMetrics { failed: 2, oldest_runnable_age: Some(duration(61_000)), ..mail });
        assert!(failed.any_failed);
        assert_eq!(
            (failed.oldest_waits.as_str(), failed.list("/dead-letters").as_str()),
            ("1 min", "/dead-letters?worker_id=mail")
        );
    }

    #[test]
    fn a_list_is_cut_into_pages() {
        let rows: Vec<usize> = (0..=PAGE * 2).collect();
        assert_eq!((pages(0), pages(PAGE), pages(rows.len())), (0, 1, 3));
        assert_eq!(cut_page(rows.clone(), 0), rows[..PAGE]);
        assert_eq!(cut_page(rows.clone(), 2), [PAGE * 2]);
        assert_eq!(cut_page(rows, 9), [PAGE * 2], "the last page");
        assert_eq!(cut_page(Vec::<usize>::new(), 3), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn every_worker_id_has_an_address_of_its_own(worker_id in "[^\\p{Cc}]{1,25}|[.~%/2E]{1,6}", times in 1_usize..4) {
            prop_assert_eq!(of_segment(&decoded(&page(&worker_id), times)), worker_id);
        }

        #[test]
        fn no_segment_is_too_strange(segment in ".{0,40}") {
            of_segment(&segment);
        }
    }
}
