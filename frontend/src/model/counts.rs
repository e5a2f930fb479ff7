//! Counts of the jobs, in all and by worker_id, as the overview shows them.

use jobqueue_shared::{
    proto::v1::{GetMetricsResponse, WorkerIdMetrics},
    time::{duration_ms, timestamp_ms},
};

use super::{
    filter::Filter,
    number::{count, plural},
    span,
    throughput::{Minute, total},
};

/// Fixed parts of a tile: the list that it counts, its colours, icon and word.
pub struct Tile {
    path: &'static str,
    status: &'static str,
    pub tone: &'static str,
    pub icon: &'static str,
    pub word: &'static str,
}

/// Tiles in the order of the page, which is also the order of [`figures`].
pub const TILES: [Tile; 5] = [
    Tile { path: "/jobs", status: "", tone: "all", icon: "jobs", word: "Total" },
    Tile { path: "/jobs", status: "pending", tone: "pending", icon: "circle", word: "Pending" },
    Tile { path: "/jobs", status: "running", tone: "running", icon: "play", word: "Running" },
    Tile { path: "/jobs", status: "done", tone: "done", icon: "check", word: "Done" },
    Tile { path: "/dead-letters", status: "", tone: "failed", icon: "cross", word: "Failed" },
];

impl Tile {
    /// Address of the list that the tile counts, of one worker_id or, if it is "", of all.
    pub fn href(&self, worker_id: &str) -> String {
        Filter { status: self.status.to_owned(), ..Filter::of_worker_id(worker_id) }.url(self.path)
    }
}

/// Number on a tile, and the note below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    pub count: String,
    pub note: String,
}

/// Figures of [`TILES`]. `minutes` are those of the last `span`, such as "1 h"; none = they are not known.
pub fn figures(metrics: &GetMetricsResponse, minutes: &[Minute], span: &str) -> [Figure; 5] {
    let figure = |n: i32, note: String| Figure { count: count(n), note };
    let within = |value, words: &str| {
        if minutes.is_empty() { String::new() } else { format!("+{}{words} in {span}", count(total(minutes, value))) }
    };
    let sessions = match metrics.sessions {
        0 => "no worker is connected".to_owned(),
        sessions => format!("{} live", plural(sessions, "session", "sessions")),
    };
    [
        figure(metrics.total, within(|it| it.submitted, " submitted")),
        figure(metrics.pending, waiting(metrics)),
        figure(metrics.running, sessions),
        figure(metrics.done, within(|it| it.done, "")),
        figure(metrics.failed, within(|it| it.failed, "")),
    ]
}

/// Note on the pending jobs: the age of the oldest runnable one, and how many are scheduled or retrying.
fn waiting(metrics: &GetMetricsResponse) -> String {
    let mut parts = vec![];
    if let Some(age) = &metrics.oldest_runnable_age {
        parts.push(format!("oldest {}", span::coarse(duration_ms(age))));
    }
    if metrics.scheduled > 0 {
        parts.push(format!("{} scheduled", count(metrics.scheduled)));
    }
    if metrics.retrying > 0 {
        parts.push(format!("{} retrying", count(metrics.retrying)));
    }
    if parts.is_empty() { "none waits".into() } else { parts.join(" · ") }
}

/// Number of dead letters for a badge, which has room for three digits; `None` when there are none.
pub fn dead_letters(metrics: &GetMetricsResponse) -> Option<String> {
    match metrics.failed {
        ..=0 => None,
        n @ 1..=999 => Some(count(n)),
        _ => Some("999+".into()),
    }
}

/// Known worker_ids: those that have jobs or sessions.
pub fn worker_ids(metrics: &GetMetricsResponse) -> Vec<String> {
    metrics.worker_ids.iter().map(|it| it.worker_id.clone()).collect()
}

/// Pause of one worker_id.
pub fn pause_of(metrics: &GetMetricsResponse, worker_id: &str) -> Option<Pause> {
    Pause::of(metrics.worker_ids.iter().find(|it| it.worker_id == worker_id)?)
}

/// Pause of a worker_id: its beginning and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    pub since: i64,
    /// Reason, which a person has written; "" = none was given.
    pub reason: String,
}

impl Pause {
    pub fn of(metrics: &WorkerIdMetrics) -> Option<Self> {
        let since = metrics.paused_at.as_ref().map(timestamp_ms)?;
        Some(Self { since, reason: metrics.pause_reason.clone() })
    }
}

/// Counts of one worker_id, as if there was no other; `None` when it has none.
pub fn of_worker_id(metrics: &GetMetricsResponse, worker_id: &str) -> Option<GetMetricsResponse> {
    let it = metrics.worker_ids.iter().find(|it| it.worker_id == worker_id)?;
    Some(GetMetricsResponse {
        total: it.total,
        pending: it.pending,
        scheduled: it.scheduled,
        retrying: it.retrying,
        running: it.running,
        done: it.done,
        failed: it.failed,
        cancelled: it.cancelled,
        oldest_runnable_age: it.oldest_runnable_age,
        sessions: it.sessions,
        failed_lately: it.failed_lately,
        worker_ids: vec![it.clone()],
        next_page_token: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::{duration, timestamp};

    use super::*;

    fn mail() -> WorkerIdMetrics {
        WorkerIdMetrics { worker_id: "mail".into(), pending: 1_234_567, ..WorkerIdMetrics::default() }
    }

    #[test]
    fn tiles_tell_the_count_and_the_last_hour() {
        let metrics = GetMetricsResponse { total: 1_234_567, done: 1_000_000, sessions: 1, ..Default::default() };
        let minutes = [Minute { submitted: 700, done: 2, ..Minute::default() }; 2];
        let all = figures(&metrics, &minutes, "1 h");
        let of = |word| &all[TILES.iter().position(|tile| tile.word == word).unwrap()];
        assert_eq!((of("Total").count.as_str(), of("Total").note.as_str()), ("1,234,567", "+1,400 submitted in 1 h"));
        assert_eq!((of("Done").count.as_str(), of("Done").note.as_str()), ("1,000,000", "+4 in 1 h"));
        assert_eq!(of("Running").note, "1 session live");
        let unknown = figures(&GetMetricsResponse::default(), &[], "1 h");
        assert_eq!((unknown[2].note.as_str(), unknown[3].note.as_str()), ("no worker is connected", ""));
    }

    #[test]
    fn pending_jobs_say_what_they_wait_for() {
        assert_eq!(waiting(&GetMetricsResponse::default()), "none waits");
        let metrics = GetMetricsResponse {
            oldest_runnable_age: Some(duration(3_540_000)),
            scheduled: 1_200,
            retrying: 3,
            ..Default::default()
        };
        assert_eq!(waiting(&metrics), "oldest 59 min · 1,200 scheduled · 3 retrying");
    }

    #[test]
    fn a_badge_counts_dead_letters_where_there_are_any() {
        assert_eq!(dead_letters(&GetMetricsResponse::default()), None);
        for (failed, badge) in [(1, "1"), (999, "999"), (1_000, "999+")] {
            assert_eq!(dead_letters(&GetMetricsResponse { failed, ..Default::default() }), Some(badge.into()));
        }
    }

    #[test]
    fn a_pause_belongs_to_its_worker_id() {
        let paused = WorkerIdMetrics {
            worker_id: "etl".into(),
            paused_at: Some(timestamp(5_000)),
            pause_reason: "maintenance".into(),
            ..WorkerIdMetrics::default()
        };
        let metrics = GetMetricsResponse { worker_ids: vec![mail(), paused], ..Default::default() };
        assert_eq!(worker_ids(&metrics), ["mail", "etl"]);
        assert_eq!(pause_of(&metrics, "etl"), Some(Pause { since: 5_000, reason: "maintenance".into() }));
        assert_eq!((pause_of(&metrics, "mail"), pause_of(&metrics, "nobody")), (None, None));
    }

    #[test]
    fn counts_of_one_worker_id_stand_alone() {
        let metrics = GetMetricsResponse { total: 9, worker_ids: vec![mail()], ..Default::default() };
        let alone = of_worker_id(&metrics, "mail").unwrap();
        assert_eq!((alone.total, alone.pending, alone.worker_ids.len()), (0, 1_234_567, 1));
        assert_eq!(of_worker_id(&metrics, "nobody"), None);
    }

    #[test]
    fn a_tile_links_the_list_that_it_counts() {
        let of = |worker_id| TILES.iter().map(|tile| tile.href(worker_id)).collect::<Vec<_>>();
        assert_eq!(of("")[1..], ["/jobs?status=pending", "/jobs?status=running", "/jobs?status=done", "/dead-letters"]);
        assert_eq!(of("a&b")[..2], ["/jobs?worker_id=a%26b", "/jobs?worker_id=a%26b&status=pending"]);
        assert_eq!(of("mail")[4], "/dead-letters?worker_id=mail");
    }
}
