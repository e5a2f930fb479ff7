//! Changes of error groups by one transaction.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::title::Grouped;
use crate::types::ErrorGroupId;

/// Changes of error groups, by group and worker_id.
#[derive(Clone, Debug, Default)]
pub struct ErrorChanges(BTreeMap<(ErrorGroupId, String), ErrorChange>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorChange {
    /// Attempts that failed.
    pub attempts: i32,
    /// Jobs that became dead letters.
    pub died: i32,
    /// Change of the number of dead letters: those that died less those that were retried, deleted or pruned.
    pub dead_letters: i32,
    /// Task, title and newest error; empty if no attempt failed.
    pub task: String,
    pub title: String,
    pub error: String,
    pub job_id: Option<Uuid>,
}

impl ErrorChanges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rows(&self) -> impl Iterator<Item = (ErrorGroupId, &str, &ErrorChange)> {
        self.0.iter().map(|((id, worker_id), change)| (*id, worker_id.as_str(), change))
    }

    /// Counts an attempt that failed.
    pub(crate) fn failed(
        &mut self,
        group: Grouped,
        worker_id: &str,
        task: &str,
        error: &str,
        job_id: Uuid,
        died: bool,
    ) {
        let change = self.0.entry((group.id, worker_id.to_owned())).or_default();
        change.attempts += 1;
        change.died += i32::from(died);
        change.dead_letters += i32::from(died);
        if change.title.is_empty() {
            task.clone_into(&mut change.task);
            change.title = group.title;
        }
        error.clone_into(&mut change.error);
        change.job_id = Some(job_id);
    }

    /// Counts a dead letter that was retried, deleted or pruned.
    pub fn dead_letter_gone(&mut self, id: ErrorGroupId, worker_id: &str) {
        self.0.entry((id, worker_id.to_owned())).or_default().dead_letters -= 1;
    }
}
