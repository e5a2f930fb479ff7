//! Random operations of the model test.

use jobqueue_shared::state::Ending;
use proptest::prelude::*;

use crate::store_fixture::HOUR_MS;

/// Operation of the model test. Indexes are taken modulo the number of sessions, leases or jobs.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Submit { jobs: Vec<Submit> },
    Acquire { session: usize, max_jobs: u32 },
    Settle { held: Vec<(usize, Say)> },
    SettleStale { stale: usize, say: Say },
    Cancel { job: usize },
    Retry { job: usize },
    Delete { job: usize },
    EndSession { session: usize },
    Lose { slots: u32, max_jobs: u32, declared: bool },
    Rescue,
    Prune,
    Fold,
}

#[derive(Clone, Debug)]
pub(crate) struct Submit {
    pub(crate) max_retries: u32,
    pub(crate) priority: u8,
    pub(crate) delayed: bool,
    /// Idempotency key, and the number of the request that uses it.
    pub(crate) key: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Say {
    Complete,
    Fail,
    FailForGood,
    Snooze,
    Release,
}

impl Say {
    pub(crate) fn ending(self) -> Ending {
        match self {
            Self::Complete => Ending::Complete,
            Self::Fail => Ending::Fail { permanent: false, retry_after_ms: None },
            Self::FailForGood => Ending::Fail { permanent: true, retry_after_ms: None },
            Self::Snooze => Ending::Snooze { delay_ms: HOUR_MS },
            Self::Release => Ending::Release { no_handler: false },
        }
    }
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        3 => Just(Say::Complete),
        3 => Just(Say::Fail),
        1 => Just(Say::FailForGood),
        1 => Just(Say::Snooze),
        1 => Just(Say::Release),
    ]
}

fn submit() -> impl Strategy<Value = Submit> {
    let key = proptest::option::weighted(0.3, (0_u8..3, 0_u8..2));
    (0_u32..4, 0_u8..3, prop::bool::weighted(0.15), key).prop_map(|(max_retries, priority, delayed, key)| Submit {
        max_retries,
        priority,
        delayed,
        key,
    })
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(submit(), 1..5).prop_map(|jobs| Op::Submit { jobs }),
        6 => (0_usize..2, 1_u32..6).prop_map(|(session, max_jobs)| Op::Acquire { session, max_jobs }),
        8 => prop::collection::vec((any::<usize>(), say()), 1..4).prop_map(|held| Op::Settle { held }),
        2 => (any::<usize>(), say()).prop_map(|(stale, say)| Op::SettleStale { stale, say }),
        2 => any::<usize>().prop_map(|job| Op::Cancel { job }),
        3 => any::<usize>().prop_map(|job| Op::Retry { job }),
        2 => any::<usize>().prop_map(|job| Op::Delete { job }),
        1 => (0_usize..2).prop_map(|session| Op::EndSession { session }),
        2 => (1_u32..3, 1_u32..5, any::<bool>())
            .prop_map(|(slots, max_jobs, declared)| Op::Lose { slots, max_jobs, declared }),
        1 => Just(Op::Rescue),
        1 => Just(Op::Prune),
        1 => Just(Op::Fold),
    ]
}
