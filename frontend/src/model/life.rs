//! Life of a job, to be drawn to scale: the times in which it waited, ran, or had ended, and the wait for its next
//! attempt.

use jobqueue_shared::{
    proto::v1::{Job, TimelineEvent, job::Status, timeline_event::Kind as Event},
    time::timestamp_ms,
};

use super::{span, status, timeline::ends_a_run};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Waited,
    Ran,
    /// Had ended, until a person retried it.
    Ended,
    /// Time that is still to come before the next attempt is due.
    Next,
}

/// Part of a job's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub kind: Kind,
    pub from: i64,
    pub to: i64,
    /// Class of the colour.
    pub tone: &'static str,
    /// Description, such as "Run 2 failed after 1.2 s".
    pub words: String,
}

impl Segment {
    pub fn length(&self) -> i64 {
        self.to - self.from
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Without gaps, oldest first.
    pub segments: Vec<Segment>,
    /// The whole in one sentence.
    pub words: String,
    pub from: i64,
    pub to: i64,
}

impl Life {
    /// Life of a job at the time `now`, from its events, oldest first. Without a time of submission it is empty.
    pub fn of(job: &Job, events: &[TimelineEvent], now: i64) -> Self {
        let Some(created) = job.created_at.as_ref().map(timestamp_ms) else { return Self::default() };
        let mut life = Draft { since: created, segments: Vec::new(), runs: None, ended: None };
        for event in events {
            if let Some(at) = event.at.as_ref().map(timestamp_ms) {
                life.take(event, at);
            }
        }
        life.until_now(job, now);
        let to = life.segments.last().map_or(created, |last| last.to);
        Self { words: words(&life.segments), segments: life.segments, from: created, to }
    }
}

/// A life while its events are read.
struct Draft {
    segments: Vec<Segment>,
    /// End of the last segment.
    since: i64,
    /// Number of the run that is under way.
    runs: Option<i32>,
    /// How the job had ended, if it had.
    ended: Option<Event>,
}

impl Draft {
    fn take(&mut self, event: &TimelineEvent, at: i64) {
        let kind = event.kind();
        if kind == Event::Acquired {
            self.waited(at, "pending");
            (self.runs, self.ended) = (Some(event.run_no), None);
        } else if ends_a_run(kind) {
            if self.runs.take().is_some() {
                let look = status::event(kind);
                let length = span::exact(at - self.since);
                self.push(Kind::Ran, at, look.tone, format!("Run {} {} after {length}", event.run_no, end_word(kind)));
            } else {
                // A job can be cancelled while it waits.
                self.waited(at, "pending");
            }
            self.ended = matches!(kind, Event::Completed | Event::Cancelled).then_some(kind);
        } else if kind == Event::DeadLetter {
            self.ended = Some(kind);
        } else if kind == Event::Retried {
            let was = if self.ended == Some(Event::Cancelled) { "cancelled" } else { "a dead letter" };
            let length = span::exact(at - self.since);
            self.push(Kind::Ended, at, "cancelled", format!("Was {was} for {length}, until a person retried it"));
            self.ended = None;
        }
    }

    fn until_now(&mut self, job: &Job, now: i64) {
        match job.status() {
            Status::Running if self.runs.is_some() => {
                let words = format!("Run {} for {} so far", job.run_no, span::exact(now - self.since));
                self.push(Kind::Ran, now, "running", words);
            }
            Status::Pending => {
                let due = job.run_at.as_ref().map_or(0, timestamp_ms);
                self.waited(now, "pending");
                if due > now {
                    let (tone, what) =
                        if job.run_no > 0 { ("retrying", "Next attempt") } else { ("scheduled", "First attempt") };
                    self.push(Kind::Next, due, tone, format!("{what} in {}", span::coarse(due - now)));
                }
            }
            _ => {}
        }
    }

    fn waited(&mut self, to: i64, tone: &'static str) {
        let words = format!("Waited {}", span::exact(to - self.since));
        self.push(Kind::Waited, to, tone, words);
    }

    /// Adds a segment, unless it has no length and tells nothing.
    fn push(&mut self, kind: Kind, to: i64, tone: &'static str, words: String) {
        if to > self.since || kind == Kind::Ran {
            let to = to.max(self.since);
            self.segments.push(Segment { kind, from: self.since, to, tone, words });
            self.since = to;
        }
    }
}

fn end_word(kind: Event) -> &'static str {
    match kind {
        Event::Completed => "was done",
        Event::Cancelled => "was cancelled",
        Event::Released => "was given back",
        Event::NoHandler => "had no handler",
        Event::Rescued => "lost its worker",
        Event::Snoozed => "snoozed",
        Event::AttemptTimedOut => "timed out",
        _ => "failed",
    }
}

/// Sums of a life, such as "Waited 3 min 4 s and ran 2 s in 3 runs; next attempt in 40 s."
fn words(segments: &[Segment]) -> String {
    let sum = |kind| segments.iter().filter(|it| it.kind == kind).map(Segment::length).sum::<i64>();
    let runs = segments.iter().filter(|it| it.kind == Kind::Ran).count();
    let mut words = format!("Waited {}", span::exact(sum(Kind::Waited)));
    if runs > 0 {
        let noun = if runs == 1 { "run" } else { "runs" };
        words.extend([" and ran ", &span::exact(sum(Kind::Ran)), " in ", &runs.to_string(), " ", noun]);
    }
    if segments.iter().any(|it| it.kind == Kind::Ended) {
        words.extend(["; had ended for ", &span::exact(sum(Kind::Ended)), " before a retry"]);
    }
    if let Some(next) = segments.last().filter(|it| it.kind == Kind::Next) {
        let mut chars = next.words.chars();
        let first = chars.next().map(|c| c.to_ascii_lowercase());
        words.push_str("; ");
        words.extend(first);
        words.push_str(chars.as_str());
    }
    words.push('.');
    words
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::timestamp;
    use proptest::prelude::*;

    use super::*;

    fn event(kind: Event, at: i64, run_no: i32) -> TimelineEvent {
        TimelineEvent { kind: kind.into(), at: Some(timestamp(at)), run_no, ..Default::default() }
    }

    fn job(status: Status, run_no: i32, run_at: i64) -> Job {
        let mut job = Job { created_at: Some(timestamp(0)), run_at: Some(timestamp(run_at)), run_no, ..Job::default() };
        job.set_status(status);
        job
    }

    fn shape(life: &Life) -> Vec<(Kind, i64, &'static str)> {
        life.segments.iter().map(|it| (it.kind, it.length(), it.tone)).collect()
    }

    #[test]
    fn waits_runs_and_the_next_attempt_follow_each_other() {
        let events = [
            event(Event::Submitted, 0, 0),
            event(Event::Acquired, 4_000, 1),
            event(Event::Progress, 4_500, 1),
            event(Event::AttemptFailed, 5_200, 1),
        ];
        let life = Life::of(&job(Status::Pending, 1, 50_200), &events, 10_200);
        assert_eq!(
            shape(&life),
            [
                (Kind::Waited, 4_000, "pending"),
                (Kind::Ran, 1_200, "failed"),
                (Kind::Waited, 5_000, "pending"),
                (Kind::Next, 40_000, "retrying"),
            ]
        );
        assert_eq!(life.segments[1].words, "Run 1 failed after 1.2 s");
        assert_eq!(life.words, "Waited 9 s and ran 1.2 s in 1 run; next attempt in 40 s.");
        assert_eq!((life.from, life.to), (0, 50_200));
    }

    #[test]
    fn a_running_job_runs_until_now() {
        let events = [event(Event::Submitted, 0, 0), event(Event::Acquired, 1_000, 1)];
        let life = Life::of(&job(Status::Running, 1, 0), &events, 31_000);
        assert_eq!(shape(&life), [(Kind::Waited, 1_000, "pending"), (Kind::Ran, 30_000, "running")]);
        assert_eq!(life.segments[1].words, "Run 1 for 30 s so far");
    }

    #[test]
    fn the_time_as_a_dead_letter_is_no_wait() {
        let events = [
            event(Event::Acquired, 1_000, 1),
            event(Event::AttemptFailed, 2_000, 1),
            event(Event::DeadLetter, 2_000, 1),
            event(Event::Retried, 62_000, 1),
            event(Event::Acquired, 63_000, 2),
            event(Event::Completed, 64_000, 2),
        ];
        let life = Life::of(&job(Status::Done, 2, 0), &events, 90_000);
        let kinds: Vec<_> = life.segments.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [Kind::Waited, Kind::Ran, Kind::Ended, Kind::Waited, Kind::Ran]);
        assert_eq!(life.segments[2].words, "Was a dead letter for 1 min, until a person retried it");
        assert_eq!(life.words, "Waited 2 s and ran 2 s in 2 runs; had ended for 1 min before a retry.");
        assert_eq!(life.to, 64_000, "a job that has finished does not go on");
    }

    #[test]
    fn a_scheduled_job_and_one_that_is_cancelled_have_not_run() {
        let submitted = [event(Event::Submitted, 0, 0)];
        let scheduled = Life::of(&job(Status::Pending, 0, 70_000), &submitted, 10_000);
        assert_eq!(shape(&scheduled), [(Kind::Waited, 10_000, "pending"), (Kind::Next, 60_000, "scheduled")]);
        assert_eq!(scheduled.words, "Waited 10 s; first attempt in 1 min.");
        let cancelled = [event(Event::Submitted, 0, 0), event(Event::Cancelled, 3_000, 0)];
        let life = Life::of(&job(Status::Cancelled, 0, 70_000), &cancelled, 10_000);
        assert_eq!(shape(&life), [(Kind::Waited, 3_000, "pending")]);
        assert_eq!(Life::of(&Job::default(), &cancelled, 1), Life::default());
    }

    proptest! {
        #[test]
        fn segments_have_no_gaps_and_none_runs_backwards(
            events in proptest::collection::vec((0_i32..=14, -5_000_i64..100_000, 0_i32..5), 0..30),
            status in 0_i32..=5, due in 0_i64..200_000, now in 0_i64..100_000,
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|(kind, at, run_no)| TimelineEvent { kind, at: Some(timestamp(at)), run_no, ..Default::default() })
                .collect();
            let it = Job { status, ..job(Status::Pending, 1, due) };
            let life = Life::of(&it, &events, now);
            let mut since = life.from;
            for segment in &life.segments {
                prop_assert_eq!(segment.from, since);
                prop_assert!(segment.length() >= 0);
                since = segment.to;
            }
            prop_assert_eq!(since, life.to);
        }
    }
}
