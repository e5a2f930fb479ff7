//! Meaning of a command's exit status for its job.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use jobqueue_worker::{HandlerError, HandlerResult, Output};
use rustix::process::Signal;

/// Exit status of a permanent failure. It is `EX_DATAERR` of sysexits.h: the input is wrong, and will be wrong again.
const PERMANENT: i32 = 65;

/// Result of a command that ended by itself; `errors` is the end of its standard error.
pub(crate) fn verdict(status: ExitStatus, output: Output, errors: &str) -> HandlerResult {
    if status.success() {
        return Ok(output);
    }
    let text = describe(status);
    let text = if errors.is_empty() { text } else { format!("{text}: {errors}") };
    Err(if status.code() == Some(PERMANENT) { HandlerError::permanent(text) } else { HandlerError::retry(text) })
}

/// Text of an exit status for people.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        // A shell exits with 128 + n when its command died by signal n.
        (Some(code @ 129..=159), _) if signal_name(code - 128).is_some() => {
            format!("exit status {code} ({})", signal_name(code - 128).unwrap_or_default())
        }
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            signal_name(signal).map_or_else(|| format!("killed by signal {signal}"), |name| format!("killed by {name}"))
        }
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 14] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    NAMES.iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| *name)
}
