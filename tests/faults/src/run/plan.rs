//! Plan of the nemesis: a pure function of seed, store and time.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::fault::{Fault, Kind, Store};

/// Length of a run, in seconds, below which the pauses and faults are as short as possible.
const BRISK_BELOW_S: u64 = 120;

/// A fault, and the time without faults before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub calm_ms: u64,
    pub fault: Fault,
}

/// Plan of a run: rounds in which each kind of fault happens once, in a new order each. When the time is too short for
/// one round, the least important kinds are left out.
pub fn plan(seed: u64, store: Store, seconds: u64) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(2) + u64::from(store == Store::Postgres));
    let brisk = seconds < BRISK_BELOW_S;
    let mut left_ms = seconds * 1_000;
    let mut steps = Vec::new();
    loop {
        let mut round = Vec::new();
        for kind in Kind::of(store) {
            let calm_ms = if brisk { rng.random_range(200..=600) } else { rng.random_range(1_500..=4_000) };
            round.push(Step { calm_ms, fault: Fault::random(kind, store, brisk, &mut rng) });
        }
        let first = steps.is_empty();
        if !first {
            round.shuffle(&mut rng);
        }
        let all = round.len();
        round.retain(|step| {
            let fits = step.calm_ms + step.fault.expected_ms() <= left_ms;
            if fits {
                left_ms -= step.calm_ms + step.fault.expected_ms();
            }
            fits
        });
        let whole = round.len() == all;
        if first {
            round.shuffle(&mut rng);
        }
        steps.append(&mut round);
        if !whole {
            return steps;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn kinds(steps: &[Step]) -> HashSet<Kind> {
        steps.iter().map(|step| step.fault.kind()).collect()
    }

    fn expected_ms(steps: &[Step]) -> u64 {
        steps.iter().map(|step| step.calm_ms + step.fault.expected_ms()).sum()
    }

    const STORES: [Store; 2] = [Store::Sqlite, Store::Postgres];

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        for store in STORES {
            assert_eq!(plan(7, store, 300), plan(7, store, 300));
            assert_ne!(plan(7, store, 300), plan(8, store, 300));
        }
        assert_ne!(plan(7, Store::Sqlite, 300), plan(7, Store::Postgres, 300));
    }

    #[test]
    fn a_long_run_has_every_fault_of_its_store_again_and_again() {
        for store in STORES {
            for seed in 0..20 {
                let steps = plan(seed, store, 600);
                for kind in Kind::of(store) {
                    let times = steps.iter().filter(|step| step.fault.kind() == kind).count();
                    assert!(times >= 2, "{kind:?} happens {times} times with seed {seed}");
                }
            }
        }
    }

    #[test]
    fn a_plan_keeps_its_time_and_leaves_little_of_it() {
        for store in STORES {
            for seconds in [30, 60, 119, 120, 600] {
                for seed in 0..20 {
                    let expected = expected_ms(&plan(seed, store, seconds));
                    assert!(expected <= seconds * 1_000, "{expected} ms of {seconds} s");
                    assert!(expected >= seconds * 700, "{expected} ms of {seconds} s");
                }
            }
        }
    }

    #[test]
    fn a_short_run_has_what_matters_most() {
        for seed in 0..50 {
            let found = kinds(&plan(seed, Store::Postgres, 40));
            for kind in [Kind::KillWorker, Kind::KillServer, Kind::KillPostmaster, Kind::Promote, Kind::StallWorker] {
                assert!(found.contains(&kind), "{kind:?} is missing with seed {seed}");
            }
            let steps = plan(seed, Store::Sqlite, 45);
            assert_eq!(kinds(&steps).len(), Kind::of(Store::Sqlite).len(), "{steps:?}");
        }
    }

    #[test]
    fn sqlite_is_spared_what_it_does_not_have() {
        let found = kinds(&plan(1, Store::Sqlite, 3_600));
        assert_eq!(found, Kind::of(Store::Sqlite).into_iter().collect());
        assert!(!found.contains(&Kind::Promote));
    }

    #[test]
    fn every_fault_is_of_the_kind_that_it_was_made_as() {
        let mut rng = StdRng::seed_from_u64(1);
        for kind in Kind::ALL {
            assert_eq!(Fault::random(kind, Store::Postgres, false, &mut rng).kind(), kind);
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        assert_eq!(Kind::ALL.iter().map(|kind| kind.name()).collect::<HashSet<_>>().len(), Kind::ALL.len());
        assert_eq!(Kind::ALL.iter().collect::<HashSet<_>>().len(), Kind::ALL.len());
        assert!(Kind::ALL.is_sorted(), "the order of importance is that of the names");
    }
}
