//! State machine of a job: the transitions, as one pure function that both stores use.

use num_enum::{IntoPrimitive, TryFromPrimitive};
use serde::Serialize;

use crate::{limits, retry::RetryPolicy};

/// State of a job. A failed job is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Pending,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Name of the state in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether only an operator moves a job out of this state.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Whether `RetryJob` accepts a job in this state.
    pub fn can_retry(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled)
    }

    /// Whether `CancelJob` accepts a job in this state.
    pub fn can_cancel(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// Reason for which a job became a dead letter. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoPrimitive, TryFromPrimitive, Serialize)]
#[repr(i16)]
pub enum FailureReason {
    AttemptsExhausted = 1,
    Permanent = 2,
    WorkerLost = 3,
    TimedOut = 4,
}

/// Ending of an attempt, reported by its worker or decided by an operator or the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    Fail {
        permanent: bool,
        retry_after_ms: Option<i64>,
    },
    Snooze {
        delay_ms: i64,
    },
    /// The worker released the job; `no_handler` if it has no handler for the task.
    Release {
        no_handler: bool,
    },
    Cancel,
    TimedOut,
    /// The session was lost. Only a started attempt is charged.
    Lost {
        started: bool,
    },
}

/// Properties of an attempt and its job that decide what happens at its end.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Number of times that the job was leased, this one included.
    pub run_no: u32,
    /// Number of attempts used, this one included.
    pub attempts_used: u32,
    pub max_retries: u32,
    pub retry: RetryPolicy,
}

/// State that the job moves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    Pending { run_at_ms: i64, attempts_used: u32, waits_for_handler: bool },
    Failed { reason: FailureReason },
    Cancelled,
}

impl Next {
    pub fn state(self) -> State {
        match self {
            Self::Done => State::Done,
            Self::Pending { .. } => State::Pending,
            Self::Failed { .. } => State::Failed,
            Self::Cancelled => State::Cancelled,
        }
    }
}

/// Number of attempts that `max_retries` allows: 0 means one.
pub fn attempts_allowed(max_retries: u32) -> u32 {
    max_retries.max(1)
}

/// Decides where a running job moves when its attempt ends at `now_ms`. `random` is from 0 to 1.
pub fn next(attempt: Attempt, ending: Ending, now_ms: i64, random: f64) -> Next {
    let returned = attempt.attempts_used.saturating_sub(1);
    let again = |delay_ms: i64, attempts_used| Next::Pending {
        run_at_ms: now_ms.saturating_add(delay_ms.clamp(0, 2 * limits::DELAY_MS)),
        attempts_used,
        waits_for_handler: false,
    };
    let charge = |reason, delay_ms| {
        if attempt.attempts_used >= attempts_allowed(attempt.max_retries) {
            Next::Failed { reason }
        } else {
            again(delay_ms, attempt.attempts_used)
        }
    };
    let backoff = || attempt.retry.delay_ms(attempt.attempts_used, random);
    match ending {
        Ending::Complete => Next::Done,
        Ending::Cancel => Next::Cancelled,
        Ending::Fail { permanent: true, .. } => Next::Failed { reason: FailureReason::Permanent },
        Ending::Fail { retry_after_ms, .. } => {
            charge(FailureReason::AttemptsExhausted, retry_after_ms.unwrap_or_else(backoff))
        }
        Ending::TimedOut => charge(FailureReason::TimedOut, backoff()),
        // A first loss is most likely the worker's fault, a second one the job's: only that one is delayed by the retry
        // policy.
        Ending::Lost { started: true } => charge(
            FailureReason::WorkerLost,
            if attempt.attempts_used <= 1 { (random.clamp(0.0, 1.0) * 1_000.0) as i64 } else { backoff() },
        ),
        Ending::Lost { started: false } | Ending::Release { no_handler: false } => again(0, returned),
        Ending::Snooze { delay_ms } => again(delay_ms, returned),
        Ending::Release { no_handler: true } => {
            // Leases that used no attempt are releases and the like; the delay grows with their number.
            let given_back = attempt.run_no.saturating_sub(returned);
            let delay = RetryPolicy { initial_ms: 1_000, factor: 2.0, max_ms: 60_000, jitter: 0.2 };
            Next::Pending {
                run_at_ms: now_ms.saturating_add(delay.delay_ms(given_back, random)),
                attempts_used: returned,
                waits_for_handler: true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(attempts_used: u32, max_retries: u32) -> Attempt {
        Attempt { run_no: attempts_used, attempts_used, max_retries, retry: RetryPolicy::default() }
    }

    #[test]
    fn max_retries_is_the_number_of_attempts() {
        for (max_retries, last) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
            let fail = Ending::Fail { permanent: false, retry_after_ms: None };
            for attempts_used in 1..last {
                assert_eq!(next(attempt(attempts_used, max_retries), fail, 0, 0.5).state(), State::Pending);
            }
            assert_eq!(
                next(attempt(last, max_retries), fail, 0, 0.5),
                Next::Failed { reason: FailureReason::AttemptsExhausted }
            );
        }
    }

    #[test]
    fn a_first_lost_lease_goes_back_within_a_second_and_later_ones_back_off() {
        let lost = Ending::Lost { started: true };
        let Next::Pending { run_at_ms, .. } = next(attempt(1, 3), lost, 0, 1.0) else { panic!() };
        assert_eq!(run_at_ms, 1_000);
        let Next::Pending { run_at_ms, .. } = next(attempt(2, 3), lost, 0, 0.5) else { panic!() };
        assert_eq!(run_at_ms, 10_000);
        assert_eq!(next(attempt(3, 3), lost, 0, 0.5), Next::Failed { reason: FailureReason::WorkerLost });
    }

    #[test]
    fn an_unknown_task_waits_longer_each_time_and_is_never_charged() {
        let mut last = 0;
        for run_no in 1..=8 {
            let attempt = Attempt { run_no, ..attempt(1, 1) };
            let Next::Pending { run_at_ms, attempts_used, waits_for_handler } =
                next(attempt, Ending::Release { no_handler: true }, 0, 0.5)
            else {
                panic!()
            };
            assert_eq!((attempts_used, waits_for_handler), (0, true));
            assert!(run_at_ms > last || run_at_ms == 60_000, "{run_at_ms}");
            last = run_at_ms;
        }
    }

    fn endings() -> impl Strategy<Value = Ending> {
        let delay = 0..=limits::DELAY_MS;
        prop_oneof![
            Just(Ending::Complete),
            (any::<bool>(), proptest::option::of(delay.clone()))
                .prop_map(|(permanent, retry_after_ms)| Ending::Fail { permanent, retry_after_ms }),
            delay.prop_map(|delay_ms| Ending::Snooze { delay_ms }),
            any::<bool>().prop_map(|no_handler| Ending::Release { no_handler }),
            Just(Ending::Cancel),
            Just(Ending::TimedOut),
            any::<bool>().prop_map(|started| Ending::Lost { started }),
        ]
    }

    proptest! {
        #[test]
        fn no_ending_exceeds_the_budget_or_runs_in_the_past(
            ending in endings(), attempts_used in 1_u32..=101, max_retries in 0_u32..=100, given_back in 0_u32..1_000,
            random in 0.0..=1.0, now in 0_i64..4_000_000_000_000,
        ) {
            let attempt = Attempt { run_no: attempts_used + given_back, attempts_used, max_retries, retry: RetryPolicy::default() };
            if let Next::Pending { run_at_ms, attempts_used: left, .. } = next(attempt, ending, now, random) {
                prop_assert!(run_at_ms >= now);
                prop_assert!(left <= attempts_used);
                if left == attempts_used {
                    prop_assert!(left < attempts_allowed(max_retries), "no attempt would be left");
                }
            }
        }

        #[test]
        fn what_gives_the_attempt_back_never_fails_a_job(
            attempts_used in 1_u32..=101, max_retries in 0_u32..=100, no_handler: bool, delay_ms in 0_i64..1_000_000,
        ) {
            for ending in [
                Ending::Release { no_handler }, Ending::Snooze { delay_ms }, Ending::Lost { started: false },
            ] {
                prop_assert_eq!(next(attempt(attempts_used, max_retries), ending, 0, 0.5).state(), State::Pending);
            }
        }
    }
}
