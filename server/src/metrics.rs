//! /metrics, in Prometheus' text format.
//!
//! Counters and histograms come from the recorder. States of the database (jobs by state, the age of the oldest
//! runnable job, sessions) are read at a scrape, at most once a second, and formatted here: a recorder would keep
//! gauges of worker_ids that are gone.

use std::{
    cmp::Reverse,
    fmt::Write as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jobqueue_store::WorkerIdCounts;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::{sync::Mutex, time::Instant};

use crate::queue::{self, Counts, Queue};

/// Maximum number of worker_ids with series of their own, those with most unfinished jobs; the others are summed up.
const WORKER_IDS: usize = 200;
/// Time for which the gauges of one scrape serve further scrapes.
const FRESH: Duration = Duration::from_secs(1);
/// worker_id label of that sum. No worker_id is empty, so that it collides with none.
const OTHER: &str = "";

/// Bounds of histogram buckets in seconds, from a fraction of a commit to a stuck database.
const BUCKETS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

/// Returns the process's metrics recorder; the first call installs it.
pub fn recorder() -> Result<&'static PrometheusHandle, BuildError> {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = RECORDER.get() {
        return Ok(handle);
    }
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    // Another thread, or a program that embeds the server, may have installed one before: then that recorder counts.
    let _ = metrics::set_global_recorder(recorder);
    describe();
    Ok(RECORDER.get_or_init(|| handle))
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("jobqueue_submitted_total", "Jobs stored.");
    counter!("jobqueue_deduplicated_total", "Submits answered with the job that their idempotency key named.");
    counter!("jobqueue_acquired_total", "Jobs handed to workers.");
    counter!("jobqueue_settled_total", "Outcomes accepted, by what the worker said.");
    counter!("jobqueue_dead_letters_total", "Jobs that became dead letters by a worker's outcome.");
    counter!(
        "jobqueue_refused_outcomes_total",
        "Outcomes and progress refused because their lease was not valid, by what the worker said."
    );
    counter!("jobqueue_rescued_total", "Jobs taken back, by why: their session was lost, or their attempt timed out.");
    counter!("jobqueue_pruned_total", "Rows removed because their retention ran out.");
    counter!("jobqueue_store_errors_total", "Store calls that failed, by method and kind.");
    counter!("jobqueue_log_lines_dropped_total", "Lines that the log lacks, because stderr was not read or failed.");
    histogram!("jobqueue_submit_seconds", "From a submit's arrival to its commit.");
    histogram!("jobqueue_settle_seconds", "From an outcome's arrival to its commit.");
    histogram!("jobqueue_start_seconds", "From the moment a job could run to its hand-over.");
    histogram!("jobqueue_store_seconds", "Store calls, by method.");
    gauge!(
        "jobqueue_clock_skew_seconds",
        "The database's time minus this machine's wall clock. On SQLite it is above 0 after the clock was set back."
    );
    metrics_process::Collector::default().describe();
}

/// Renderer of /metrics.
pub struct Scrape {
    recorder: &'static PrometheusHandle,
    process: metrics_process::Collector,
    queue: Arc<Queue>,
    gauges: Mutex<Option<(Instant, String)>>,
}

impl Scrape {
    pub fn new(recorder: &'static PrometheusHandle, queue: Arc<Queue>) -> Self {
        Self { recorder, process: metrics_process::Collector::default(), queue, gauges: Mutex::default() }
    }

    pub async fn render(&self) -> String {
        let gauges = self.gauges().await;
        self.process.collect();
        self.recorder.render() + &gauges
    }

    async fn gauges(&self) -> String {
        // Locked while the store is asked, so that many scrapes at once ask once.
        let mut cached = self.gauges.lock().await;
        if let Some((read, text)) = &*cached
            && read.elapsed() < FRESH
        {
            return text.clone();
        }
        let text = match self.queue.counts().await {
            Ok(counts) => gauges(&counts),
            // Without this series a failure would look like an empty queue.
            Err(_) => up(false),
        };
        *cached = Some((Instant::now(), text.clone()));
        text
    }
}

fn up(up: bool) -> String {
    let mut text = String::new();
    head(&mut text, "jobqueue_storage_up", "1 when the storage answered this scrape.");
    let _ = writeln!(text, "jobqueue_storage_up {}", u8::from(up));
    text
}

fn head(text: &mut String, name: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
}

fn gauges(counts: &Counts) -> String {
    let rows = bounded(&counts.worker_ids);
    let mut text = up(true);
    head(
        &mut text,
        "jobqueue_jobs",
        "Jobs by worker_id and state; scheduled and retrying are pending for later. An empty worker_id is the sum of those beyond the 200 busiest.",
    );
    for (worker_id, it) in &rows {
        let waiting = it.pending.saturating_sub(it.scheduled + it.retrying);
        for (state, jobs) in [
            ("pending", waiting),
            ("scheduled", it.scheduled),
            ("retrying", it.retrying),
            ("running", it.running),
            ("done", it.done),
            ("failed", it.failed),
            ("cancelled", it.cancelled),
        ] {
            let _ = writeln!(text, "jobqueue_jobs{{worker_id=\"{worker_id}\",state=\"{state}\"}} {jobs}");
        }
    }
    head(&mut text, "jobqueue_queue_latency_seconds", "The age of the oldest job that could run; 0 when none waits.");
    for (worker_id, it) in &rows {
        let age_ms = it.oldest_runnable_ms.map_or(0, |since| counts.now_ms.saturating_sub(since).max(0));
        let _ =
            writeln!(text, "jobqueue_queue_latency_seconds{{worker_id=\"{worker_id}\"}} {}", age_ms as f64 / 1_000.0);
    }
    head(&mut text, "jobqueue_sessions", "Live worker sessions.");
    for (worker_id, it) in &rows {
        let _ = writeln!(text, "jobqueue_sessions{{worker_id=\"{worker_id}\"}} {}", it.sessions);
    }
    head(&mut text, "jobqueue_paused", "1 while the jobs of a worker_id are not handed out.");
    for (worker_id, it) in &rows {
        let _ = writeln!(text, "jobqueue_paused{{worker_id=\"{worker_id}\"}} {}", u8::from(it.paused.is_some()));
    }
    text
}

/// Label values with their counts: the busiest `WORKER_IDS`, and the sum of the others.
fn bounded(worker_ids: &[WorkerIdCounts]) -> Vec<(String, WorkerIdCounts)> {
    let mut by_load: Vec<_> = worker_ids.iter().collect();
    by_load.sort_by_key(|it| (Reverse(it.pending + it.running), Reverse(it.sessions), &it.worker_id));
    let (own, rest) = by_load.split_at(by_load.len().min(WORKER_IDS));
    let mut rows: Vec<_> = own.iter().map(|it| (escaped(&it.worker_id), (*it).clone())).collect();
    if !rest.is_empty() {
        let rest: Vec<_> = rest.iter().map(|it| (*it).clone()).collect();
        rows.push((OTHER.into(), queue::sum(&rest)));
    }
    rows
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(worker_id: &str, pending: u64) -> WorkerIdCounts {
        WorkerIdCounts { worker_id: worker_id.into(), pending, ..WorkerIdCounts::default() }
    }

    #[test]
    fn series_stay_bounded_and_sums_exact() {
        let worker_ids: Vec<_> = (0..1_000).map(|n| counts(&format!("w{n}"), n)).collect();
        let rows = bounded(&worker_ids);
        assert_eq!(rows.len(), WORKER_IDS + 1);
        assert_eq!(rows[0].0, "w999");
        assert_eq!(rows[WORKER_IDS].0, OTHER);
        assert_eq!(rows.iter().map(|(_, it)| it.pending).sum::<u64>(), (0..1_000_u64).sum::<u64>());
    }

    #[test]
    fn no_series_is_there_twice_whatever_worker_ids_are_called() {
        let named = ["other", "(other)", "w1"].map(|name| counts(name, 1_000));
        let worker_ids = (2..1_000).map(|n| counts(&format!("w{n}"), n)).chain(named);
        let all = WorkerIdCounts::default();
        let text = gauges(&Counts { now_ms: 0, all, worker_ids: worker_ids.collect() });
        let mut series: Vec<_> = text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
        series.retain(|line| !line.starts_with('#'));
        let count = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), count);
    }

    #[test]
    fn labels_cannot_break_the_format() {
        let text = gauges(&Counts {
            now_ms: 10_500,
            all: WorkerIdCounts::default(),
            worker_ids: vec![WorkerIdCounts { oldest_runnable_ms: Some(10_000), ..counts(r#"a"b\c"#, 1) }],
        });
        assert!(text.contains(r#"jobqueue_jobs{worker_id="a\"b\\c",state="pending"} 1"#), "{text}");
        assert!(text.contains(r#"jobqueue_queue_latency_seconds{worker_id="a\"b\\c"} 0.5"#), "{text}");
    }
}
