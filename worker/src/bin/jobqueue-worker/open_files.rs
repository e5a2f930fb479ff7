//! Limit of open files, which is raised at the start, and the number of jobs that it allows.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files per command: its socket, two pipes and process, and one more for those that are just being started.
pub(crate) const BY_COMMAND: usize = 5;
/// Open files per HTTP request: its connection, and one that is kept alive or looks up a name.
pub(crate) const BY_REQUEST: usize = 2;
/// Open files that belong to no job: the connections to the server, event queues, standard streams.
const RESERVED: usize = 34;

/// Soft limit with which this process was started.
static STARTED_WITH: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one, and returns it; `None` = no limit.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let _ = STARTED_WITH.set(limit.current);
    // An error, which occurs only in a sandbox, leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// Soft limit for commands, in the form of the header for a guardian: the one with which this process was started,
/// because programs that use `select` fail with more than 1024 files.
pub(crate) fn for_commands() -> u64 {
    STARTED_WITH.get().copied().flatten().unwrap_or(u64::MAX)
}

/// Number of jobs that fit under a limit of open files; at least one.
pub(crate) fn jobs(limit: Option<u64>, by_job: usize) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit.saturating_sub(RESERVED) / by_job.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_open_files_bounds_the_jobs() {
        assert!(jobs(None, BY_COMMAND) > 1_000_000_000);
        assert_eq!(jobs(Some(64), BY_COMMAND), 6);
        assert_eq!(jobs(Some(1_048_576), BY_COMMAND), 209_708);
        assert_eq!(jobs(Some(10), BY_COMMAND), 1);
    }
}
