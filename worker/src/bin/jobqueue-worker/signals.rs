//! Signals that ask a program to end.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Streams of SIGTERM, SIGINT, SIGHUP and SIGQUIT with their numbers, without those that this program was started to
/// ignore: nohup does that with SIGHUP. A signal that is listened to has no other effect.
pub(crate) fn stopping() -> io::Result<Vec<(i32, Signal)>> {
    let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    kinds
        .into_iter()
        .map(|kind| (kind.as_raw_value(), kind))
        .filter(|(number, _)| ignored & (1 << (number - 1)) == 0)
        .map(|(number, kind)| Ok((number, signal(kind)?)))
        .collect()
}

/// Set of ignored signals in /proc/self/status; bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status() {
        assert_eq!(ignored("SigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored("SigIgn:\tx\n"), 0);
        assert_eq!(ignored(""), 0);
    }
}
