//! Stored forms of outcomes, reasons and errors: numbers, words and fingerprints.

use jobqueue_shared::state::FailureReason;
use sha2::{Digest as _, Sha256};

use crate::types::{AttemptOutcome, StopReason};

pub(crate) fn outcome_word(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::TimedOut => "timed out",
        AttemptOutcome::Lost => "lost",
        AttemptOutcome::Released => "released",
        AttemptOutcome::NoHandler => "no handler",
        AttemptOutcome::Snoozed => "snoozed",
        AttemptOutcome::Cancelled => "cancelled",
        AttemptOutcome::Refused => "refused",
        AttemptOutcome::Retried => "retried",
    }
}

pub(crate) fn outcome_from(number: i16) -> Option<AttemptOutcome> {
    use AttemptOutcome as O;
    [O::Failed, O::TimedOut, O::Lost, O::Released, O::NoHandler, O::Snoozed, O::Cancelled, O::Refused, O::Retried]
        .into_iter()
        .find(|&outcome| outcome as i16 == number)
}

pub(crate) fn failure_number(reason: FailureReason) -> i16 {
    match reason {
        FailureReason::AttemptsExhausted => 1,
        FailureReason::Permanent => 2,
        FailureReason::WorkerLost => 3,
        FailureReason::TimedOut => 4,
    }
}

pub(crate) fn failure_from(number: i16) -> FailureReason {
    match number {
        2 => FailureReason::Permanent,
        3 => FailureReason::WorkerLost,
        4 => FailureReason::TimedOut,
        _ => FailureReason::AttemptsExhausted,
    }
}

pub(crate) fn stop_reason_number(reason: StopReason) -> i16 {
    match reason {
        StopReason::Cancelled => 1,
        StopReason::TimedOut => 2,
    }
}

pub(crate) fn stop_reason_from(number: i16) -> StopReason {
    if number == 2 { StopReason::TimedOut } else { StopReason::Cancelled }
}

/// Fingerprint of an error's first line. Errors that differ only in their numbers have the same one, so that dead
/// letters can be grouped by cause.
pub(crate) fn fingerprint(error: &str) -> i64 {
    let mut hash = Sha256::new();
    let mut in_number = false;
    for character in error.lines().next().unwrap_or_default().chars() {
        let digit = character.is_ascii_digit();
        if digit && in_number {
            continue;
        }
        in_number = digit;
        let mut buffer = [0; 4];
        hash.update(if digit { "#" } else { &*character.encode_utf8(&mut buffer) });
    }
    let digest = hash.finalize();
    i64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_share_a_fingerprint() {
        assert_eq!(fingerprint("timeout after 17 ms"), fingerprint("timeout after 4 ms\nmore"));
        assert_ne!(fingerprint("timeout"), fingerprint("refused"));
    }

    #[test]
    fn outcomes_are_read_as_they_were_written() {
        for number in 1..=9 {
            assert_eq!(outcome_from(number).map(|outcome| outcome as i16), Some(number));
        }
        for reason in [
            FailureReason::AttemptsExhausted,
            FailureReason::Permanent,
            FailureReason::WorkerLost,
            FailureReason::TimedOut,
        ] {
            assert_eq!(failure_from(failure_number(reason)), reason);
        }
    }
}
