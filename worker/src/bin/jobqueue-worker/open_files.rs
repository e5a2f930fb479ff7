//! Limit of open files, which is raised at the start, and the number of jobs that it allows.

use std::{error::Error as StdError, io, sync::OnceLock, time::Duration};

use jobqueue_worker::HandlerError;
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Open files per command: its socket, two pipes and process, and one more for those that are just being started.
pub(crate) const BY_COMMAND: usize = 5;
/// Open files per HTTP request: its connection, and one that is kept alive or looks up a name.
pub(crate) const BY_REQUEST: usize = 2;
/// Open files that belong to no job: the connections to the server, event queues, standard streams.
const RESERVED: usize = 34;
/// Delay of a job that could not be started for want of files, processes or memory on this machine.
const PAUSE: Duration = Duration::from_secs(3);

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

/// Soft limit for commands, in the form of [`crate::guardian::Header`]: the one with which this process was started,
/// because programs that use `select` fail with more than 1024 files.
pub(crate) fn for_commands() -> u64 {
    STARTED_WITH.get().copied().flatten().unwrap_or(u64::MAX)
}

/// Number of jobs that fit under a limit of open files; at least one.
pub(crate) fn jobs(limit: Option<u64>, by_job: usize) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit.saturating_sub(RESERVED) / by_job.max(1)).max(1)
}

/// Outcome of a job that could not be started for want of files, processes or memory on this machine: a snooze, which
/// uses up no attempt. `None` for every other error.
pub(crate) fn shortage(what: &str, error: &(dyn StdError + 'static)) -> Option<HandlerError> {
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if let Some(code) = code.filter(|code| is_shortage(*code)) {
            let error = io::Error::from_raw_os_error(code);
            tracing::warn!(%error, "{what}; the job goes back and waits a moment");
            return Some(HandlerError::snooze(PAUSE, format!("{what}: {error}")));
        }
        next = error.source();
    }
    None
}

fn is_shortage(code: i32) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
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

    #[test]
    fn a_shortage_on_this_machine_is_told_from_other_failures() {
        let shortage = |code| shortage("cannot start", &io::Error::from_raw_os_error(code));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            let error = shortage(errno.raw_os_error()).unwrap();
            assert!(format!("{error:?}").contains("Snooze"), "{error:?}");
        }
        for errno in [Errno::NOENT, Errno::CONNREFUSED, Errno::ACCESS] {
            assert!(shortage(errno.raw_os_error()).is_none());
        }
    }
}
