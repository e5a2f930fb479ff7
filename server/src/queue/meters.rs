//! Counters and histograms of the hot paths, each looked up once.

use jobqueue_shared::state::{Ending, State};
use jobqueue_store::{Leased, SettleAnswer};
use metrics::{Counter, Histogram, counter, histogram};

pub(crate) struct Meters {
    pub submitted: Counter,
    pub deduplicated: Counter,
    /// Time from a submit's arrival at its group commit to its commit.
    pub submit_seconds: Histogram,
    pub settle_seconds: Histogram,
    acquired: Counter,
    /// Time from the moment at which a job was runnable to its lease.
    start_seconds: Histogram,
    completed: Counter,
    failed: Counter,
    snoozed: Counter,
    released: Counter,
    dead: Counter,
    refused_complete: Counter,
    refused_fail: Counter,
    refused_snooze: Counter,
    refused_release: Counter,
    refused_progress: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let settled = |outcome: &'static str| counter!("jobqueue_settled_total", "outcome" => outcome);
        let refused = |what: &'static str| counter!("jobqueue_refused_outcomes_total", "what" => what);
        Self {
            submitted: counter!("jobqueue_submitted_total"),
            deduplicated: counter!("jobqueue_deduplicated_total"),
            submit_seconds: histogram!("jobqueue_submit_seconds"),
            settle_seconds: histogram!("jobqueue_settle_seconds"),
            acquired: counter!("jobqueue_acquired_total"),
            start_seconds: histogram!("jobqueue_start_seconds"),
            completed: settled("complete"),
            failed: settled("fail"),
            snoozed: settled("snooze"),
            released: settled("release"),
            dead: counter!("jobqueue_dead_letters_total"),
            refused_complete: refused("complete"),
            refused_fail: refused("fail"),
            refused_snooze: refused("snooze"),
            refused_release: refused("release"),
            refused_progress: refused("progress"),
        }
    }

    pub(crate) fn acquired(&self, jobs: &[Leased]) {
        self.acquired.increment(jobs.len() as u64);
        for Leased { job, .. } in jobs {
            if let Some(started_at_ms) = job.started_at_ms {
                self.start_seconds.record((started_at_ms - job.run_at_ms).max(0) as f64 / 1_000.0);
            }
        }
    }

    pub(crate) fn refused_progress(&self) {
        self.refused_progress.increment(1);
    }

    pub(crate) fn settled(&self, ending: Ending, answer: SettleAnswer) {
        let (accepted, refused) = match ending {
            Ending::Complete => (&self.completed, &self.refused_complete),
            Ending::Fail { .. } => (&self.failed, &self.refused_fail),
            Ending::Snooze { .. } => (&self.snoozed, &self.refused_snooze),
            Ending::Release { .. } => (&self.released, &self.refused_release),
            // Workers do not report these.
            Ending::Cancel | Ending::TimedOut | Ending::Lost { .. } => return,
        };
        let SettleAnswer::Accepted(state) = answer else {
            refused.increment(1);
            return;
        };
        accepted.increment(1);
        if state == State::Failed {
            self.dead.increment(1);
        }
    }
}
