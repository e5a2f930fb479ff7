//! Tally of an action on many jobs: how far it has come, what failed, and its summary.

use super::number::{count, length, plural};

/// Outcome of the action for one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The job no longer exists, or is no longer in the state in which it was shown.
    Gone,
    /// The message of the failure.
    Failed(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub total: usize,
    pub done: usize,
    pub gone: usize,
    /// Jobs for which the action failed, each with its message.
    pub failed: Vec<(String, String)>,
}

impl Tally {
    pub fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    pub fn add(&mut self, id: String, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done += 1,
            Outcome::Gone => self.gone += 1,
            Outcome::Failed(message) => self.failed.push((id, message)),
        }
    }

    /// Number of jobs that have an outcome.
    pub fn judged(&self) -> usize {
        self.done + self.gone + self.failed.len()
    }

    /// Progress, such as "120 of 500".
    pub fn progress(&self) -> String {
        format!("{} of {}", count(length(self.judged())), count(length(self.total)))
    }

    /// Summary of a retry, such as "2 retried, 1 no dead letter any more" or "7 retried, 2 not: the storage is full".
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{} retried", count(length(self.done)))];
        if self.gone > 0 {
            parts.push(format!("{} any more", plural(length(self.gone), "no dead letter", "no dead letters")));
        }
        if self.judged() < self.total {
            parts.push(format!("{} left as they were", count(length(self.total - self.judged()))));
        }
        if let Some((_, message)) = self.failed.first() {
            parts.push(format!("{} not: {message}", count(length(self.failed.len()))));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_only_what_happened() {
        let mut tally = Tally::of(1_200);
        assert_eq!((tally.progress().as_str(), tally.judged()), ("0 of 1,200", 0));
        for n in 0..1_100 {
            tally.add(n.to_string(), Outcome::Done);
        }
        assert_eq!(tally.summary(), "1,100 retried, 100 left as they were");
        tally.add("a".into(), Outcome::Gone);
        tally.add("b".into(), Outcome::Failed("the storage is full".into()));
        tally.add("c".into(), Outcome::Failed("the storage is away".into()));
        assert_eq!(tally.progress(), "1,103 of 1,200");
        assert_eq!(
            tally.summary(),
            "1,100 retried, 1 no dead letter any more, 97 left as they were, 2 not: the storage is full"
        );
        let mut all = Tally::of(1);
        all.add("a".into(), Outcome::Done);
        assert_eq!(all.summary(), "1 retried");
    }
}
