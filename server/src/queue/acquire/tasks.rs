//! The tasks that a session handles, for direct hand-offs.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use jobqueue_store::handles_all;

/// Set of tasks that a session handles; by default all. Stored as hashes, because a session can list 1,000 long names.
/// If two collide, a job is leased in vain, and the worker releases it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Option<Arc<[TaskHash]>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskHash(u64);

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl TaskHash {
    pub(crate) fn of(task: &str) -> Self {
        Self(HASHER.hash_one(task))
    }
}

impl Tasks {
    /// The set for a session that lists these tasks.
    pub(crate) fn of(listed: &[String]) -> Self {
        if handles_all(listed) {
            return Self(None);
        }
        let mut hashes: Vec<_> = listed.iter().map(|task| TaskHash::of(task)).collect();
        hashes.sort_unstable();
        Self(Some(hashes.into()))
    }

    pub(crate) fn handles(&self, task: TaskHash) -> bool {
        self.0.as_ref().is_none_or(|hashes| hashes.binary_search(&task).is_ok())
    }

    /// Number of hashes; 0 if the session handles all tasks.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |hashes| hashes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_handles_what_it_lists_and_all_if_it_lists_nothing_or_a_star() {
        let handles = |listed: &[&str], task| {
            Tasks::of(&listed.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).handles(TaskHash::of(task))
        };
        assert!(handles(&["a", "b"], "b"));
        assert!(!handles(&["a", "b"], "c"));
        assert!(!handles(&["a"], ""));
        assert!(handles(&[""], ""));
        assert!(handles(&[], "c"));
        assert!(handles(&["a", "*"], "c"));
    }
}
