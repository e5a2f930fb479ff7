//! Concerns of worker_ids: what is wrong, worst first, and the sentence that says so with a number, since when, and
//! what to do.

use jobqueue_shared::{
    limits::LATELY_MINUTES,
    proto::v1::{GetMetricsResponse, WorkerIdMetrics},
    time::{duration_ms, timestamp_ms},
};

use super::queue;
use crate::model::{
    filter::Filter,
    number::{count, length},
    span,
};

/// Maximum number of sentences; more are not read.
const SENTENCES: usize = 5;
/// Age of the oldest runnable job in milliseconds from which the absence of workers is a concern: a worker that is
/// replaced is away for less.
const NO_WORKER_MS: i64 = 10_000;
/// Age of the oldest runnable job in milliseconds from which it is a concern although workers are connected.
const SLOW_MS: i64 = 5 * 60_000;

/// Kind of concern, worst first: what is lost, what stands still, what is late, and what a person has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Jobs became dead letters within the last minutes.
    Failing,
    /// Jobs wait, and no worker is connected.
    NoWorker,
    /// Jobs wait for long, although workers are connected.
    Slow,
    /// Jobs wait, because the worker_id is paused.
    Paused,
}

/// Concern about one worker_id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concern {
    pub kind: Kind,
    /// Number of jobs that it is about.
    pub jobs: i32,
    /// Milliseconds for which it lasts.
    pub age: i64,
}

impl Concern {
    /// Concerns about a worker_id, worst first. `now` is the server's time.
    pub fn all(metrics: &WorkerIdMetrics, now: i64) -> Vec<Self> {
        let mut found = vec![];
        if metrics.failed_lately > 0 {
            let age = LATELY_MINUTES * 60_000;
            found.push(Self { kind: Kind::Failing, jobs: metrics.failed_lately, age });
        }
        let jobs = runnable(metrics);
        let waits = metrics.oldest_runnable_age.as_ref().map_or(0, duration_ms);
        let paused = metrics.paused_at.as_ref().map(timestamp_ms);
        let standing = match (paused, metrics.sessions) {
            (Some(since), _) => Some((Kind::Paused, now.saturating_sub(since).max(0))),
            (None, ..=0) if waits >= NO_WORKER_MS => Some((Kind::NoWorker, waits)),
            (None, 1..) if waits >= SLOW_MS => Some((Kind::Slow, waits)),
            _ => None,
        };
        found.extend(standing.filter(|_| jobs > 0).map(|(kind, age)| Self { kind, jobs, age }));
        found
    }

    /// Rank of a worker_id by its worst concern, for lists with the worst first. The number of jobs counts by its
    /// magnitude, so that rows do not change places with every job.
    pub fn rank(concerns: &[Self]) -> (u8, u32) {
        concerns.first().map_or((u8::MAX, 0), |worst| {
            let magnitude = u32::try_from(worst.jobs).ok().and_then(u32::checked_ilog10).unwrap_or(0);
            (worst.kind as u8, u32::MAX - magnitude)
        })
    }
}

/// Number of jobs that could run now.
fn runnable(metrics: &WorkerIdMetrics) -> i32 {
    metrics.pending.saturating_sub(metrics.scheduled).saturating_sub(metrics.retrying).max(0)
}

/// Action that a sentence offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Link: its words and its address.
    Link(&'static str, String),
    /// Button that resumes the worker_id.
    Resume,
}

/// Sentence about a concern. The worker_id stands between its two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub kind: Kind,
    pub worker_id: String,
    pub before: String,
    pub after: String,
    pub action: Action,
}

impl Default for Sentence {
    fn default() -> Self {
        Self::of("", Concern { kind: Kind::Failing, jobs: 0, age: 0 })
    }
}

impl Sentence {
    fn of(worker_id: &str, concern: Concern) -> Self {
        let Concern { kind, jobs, age } = concern;
        let of = |path| Filter::of_worker_id(worker_id).url(path);
        let (number, age) = (count(jobs), span::coarse(age));
        let (before, after, action) = match kind {
            Kind::Failing => {
                let link = Action::Link("See the dead letters", of("/dead-letters"));
                (String::new(), format!(": {number} failed in the last {age}"), link)
            }
            Kind::NoWorker => {
                let jobs = if jobs == 1 { "1 job of ".to_owned() } else { format!("{number} jobs of ") };
                let wait = if concern.jobs == 1 { "has waited" } else { "have waited up to" };
                let after = format!(" {wait} {age}, and no worker is connected");
                (jobs, after, Action::Link("How to start one", of("/workers")))
            }
            Kind::Slow => {
                let after = match jobs {
                    1 => format!(" has waited {age}"),
                    _ => format!(" has waited {age}; {number} wait"),
                };
                ("The oldest job of ".to_owned(), after, Action::Link("See the queue", queue::page(worker_id)))
            }
            Kind::Paused => {
                let wait = if jobs == 1 { "1 job waits".to_owned() } else { format!("{number} jobs wait") };
                (String::new(), format!(" has been paused for {age}; {wait}"), Action::Resume)
            }
        };
        Self { kind, worker_id: worker_id.to_owned(), before, after, action }
    }

    /// Sentences about one worker_id, worst first.
    pub fn all(metrics: &WorkerIdMetrics, now: i64) -> Vec<Self> {
        Concern::all(metrics, now).into_iter().map(|concern| Self::of(&metrics.worker_id, concern)).collect()
    }

    /// Key by which the sentence is known in a list.
    pub fn key(&self) -> String {
        format!("{:?} {}", self.kind, self.worker_id)
    }

    /// Icon and colours of the kind.
    pub fn look(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Failing => ("cross", "failed"),
            Kind::NoWorker => ("plugs", "retrying"),
            Kind::Slow => ("timer", "retrying"),
            Kind::Paused => ("pause", "retrying"),
        }
    }
}

/// Concerns: states of queues that need attention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// The worst concerns, worst first.
    pub sentences: Vec<Sentence>,
    /// Note on those that are left out; "" = none is.
    pub more: String,
}

impl Attention {
    pub fn of(metrics: &GetMetricsResponse, now: i64) -> Self {
        let mut found: Vec<(&str, Concern)> = metrics
            .worker_ids
            .iter()
            .flat_map(|it| Concern::all(it, now).into_iter().map(|concern| (it.worker_id.as_str(), concern)))
            .collect();
        found.sort_by(|(a_id, a), (b_id, b)| (a.kind, b.jobs, a_id).cmp(&(b.kind, a.jobs, b_id)));
        let left_out = found.len().saturating_sub(SENTENCES);
        let more = if left_out > 0 {
            format!("{} more in the list of queues", count(length(left_out)))
        } else {
            String::new()
        };
        let sentences = found.into_iter().take(SENTENCES).map(|(id, concern)| Sentence::of(id, concern)).collect();
        Self { sentences, more }
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::{duration, timestamp};
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 10_000_000_000;

    fn quiet(worker_id: &str) -> WorkerIdMetrics {
        WorkerIdMetrics { worker_id: worker_id.into(), sessions: 1, ..WorkerIdMetrics::default() }
    }

    fn waiting(worker_id: &str, pending: i32, age_ms: i64) -> WorkerIdMetrics {
        WorkerIdMetrics { pending, oldest_runnable_age: Some(duration(age_ms)), ..quiet(worker_id) }
    }

    fn words(metrics: &WorkerIdMetrics) -> Vec<String> {
        let text = |it: Sentence| format!("{}{}{}", it.before, it.worker_id, it.after);
        Sentence::all(metrics, NOW).into_iter().map(text).collect()
    }

    fn alone(metrics: WorkerIdMetrics) -> WorkerIdMetrics {
        WorkerIdMetrics { sessions: 0, ..metrics }
    }

    fn paused(metrics: WorkerIdMetrics) -> WorkerIdMetrics {
        WorkerIdMetrics { paused_at: Some(timestamp(NOW - 29 * 60_000)), ..metrics }
    }

    #[test]
    fn each_concern_is_said_with_its_number_and_its_time() {
        for (metrics, said) in [
            (WorkerIdMetrics { failed_lately: 1_340, ..quiet("mail") }, "mail: 1,340 failed in the last 10 min"),
            (alone(waiting("x", 141, 7_200_000)), "141 jobs of x have waited up to 2 h, and no worker is connected"),
            (alone(waiting("x", 1, 20_000)), "1 job of x has waited 20 s, and no worker is connected"),
            (waiting("y", 1, 7_200_000), "The oldest job of y has waited 2 h"),
            (waiting("y", 12, 7_200_000), "The oldest job of y has waited 2 h; 12 wait"),
            (paused(waiting("etl", 3_000, 1_000)), "etl has been paused for 29 min; 3,000 jobs wait"),
            (paused(alone(waiting("etl", 1, 7_200_000))), "etl has been paused for 29 min; 1 job waits"),
        ] {
            assert_eq!(words(&metrics), [said]);
        }
    }

    #[test]
    fn what_is_in_order_is_not_said() {
        for metrics in [
            quiet("w"),
            WorkerIdMetrics { failed: 9, done: 9, ..quiet("w") },
            waiting("w", 500, SLOW_MS - 1),
            alone(waiting("w", 500, NO_WORKER_MS - 1)),
            alone(WorkerIdMetrics { pending: 7, scheduled: 4, retrying: 3, ..quiet("w") }),
            paused(quiet("w")),
        ] {
            assert_eq!(words(&metrics), Vec::<String>::new(), "{metrics:?}");
        }
    }

    #[test]
    fn each_sentence_leads_to_what_helps() {
        let action = |metrics: &WorkerIdMetrics| Sentence::all(metrics, NOW).remove(0).action;
        let link = |word, href: &str| Action::Link(word, href.into());
        assert_eq!(
            action(&WorkerIdMetrics { failed_lately: 1, ..quiet("a&b") }),
            link("See the dead letters", "/dead-letters?worker_id=a%26b")
        );
        assert_eq!(action(&alone(waiting("x", 1, 60_000))), link("How to start one", "/workers?worker_id=x"));
        assert_eq!(action(&waiting("a/b", 1, SLOW_MS)), link("See the queue", "/queues/a~2Fb"));
        assert_eq!(action(&paused(waiting("etl", 1, 0))), Action::Resume);
    }

    #[test]
    fn the_worst_is_said_first_and_five_are_enough() {
        let mut worker_ids: Vec<_> =
            (0..7).map(|n| WorkerIdMetrics { failed_lately: n, ..quiet(&format!("f{n}")) }).collect();
        worker_ids.push(alone(waiting("lonely", 100_000, 60_000)));
        worker_ids.push(paused(waiting("etl", 100_000, 60_000)));
        let attention = Attention::of(&GetMetricsResponse { worker_ids, ..Default::default() }, NOW);
        let order: Vec<_> = attention.sentences.iter().map(|it| it.worker_id.as_str()).collect();
        assert_eq!(order, ["f6", "f5", "f4", "f3", "f2"]);
        assert_eq!(attention.more, "3 more in the list of queues");
        let both = paused(WorkerIdMetrics { failed_lately: 2, ..waiting("both", 5, 60_000) });
        let worker_ids =
            vec![paused(waiting("etl", 9, 0)), waiting("slow", 2, SLOW_MS), alone(waiting("x", 1, 60_000)), both];
        let attention = Attention::of(&GetMetricsResponse { worker_ids, ..Default::default() }, NOW);
        let order: Vec<_> = attention.sentences.iter().map(|it| (it.kind, it.worker_id.as_str())).collect();
        assert_eq!(
            order,
            [
                (Kind::Failing, "both"),
                (Kind::NoWorker, "x"),
                (Kind::Slow, "slow"),
                (Kind::Paused, "etl"),
                (Kind::Paused, "both")
            ]
        );
        assert_eq!(
            (attention.more.as_str(), Attention::of(&GetMetricsResponse::default(), NOW)),
            ("", Attention::default())
        );
    }

    proptest! {
        #[test]
        fn any_counts_can_be_said(
            pending: i32, scheduled: i32, retrying: i32, failed_lately: i32, sessions: i32,
            age in proptest::option::of(any::<i64>()), paused in proptest::option::of(any::<i64>()), now: i64,
        ) {
            let metrics = WorkerIdMetrics {
                worker_id: "w".into(), pending, scheduled, retrying, failed_lately, sessions,
                oldest_runnable_age: age.map(duration), paused_at: paused.map(timestamp),
                ..WorkerIdMetrics::default()
            };
            let concerns = Concern::all(&metrics, now);
            prop_assert!(concerns.len() <= 2 && concerns.is_sorted_by_key(|it| it.kind));
            prop_assert!(concerns.iter().all(|it| it.jobs > 0));
            prop_assert_eq!(Concern::rank(&concerns) == (u8::MAX, 0), concerns.is_empty());
            prop_assert!(Sentence::all(&metrics, now).iter().all(|it| it.after.len() > 5));
        }
    }
}
