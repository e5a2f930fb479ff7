//! Shortage of files, processes or memory on this machine, for which a job is put off instead of failed.

use std::{error::Error as StdError, io, time::Duration};

use jobqueue_worker::HandlerError;
use rustix::io::Errno;

/// Delay of a job that could not be started because of a shortage.
const PAUSE: Duration = Duration::from_secs(3);

/// Snooze of a job that could not be started because of a shortage, which `error` or one of its causes tells; it uses
/// up no attempt. `None` for every other error.
pub(crate) fn snooze(what: &str, error: &(dyn StdError + 'static)) -> Option<HandlerError> {
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
    fn a_shortage_on_this_machine_is_told_from_other_failures() {
        let shortage = |code| snooze("cannot start", &io::Error::from_raw_os_error(code));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            let error = shortage(errno.raw_os_error()).unwrap();
            assert!(format!("{error:?}").contains("Snooze"), "{error:?}");
        }
        for errno in [Errno::NOENT, Errno::CONNREFUSED, Errno::ACCESS] {
            assert!(shortage(errno.raw_os_error()).is_none());
        }
    }
}
