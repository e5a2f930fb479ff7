//! Folding: sums up changes of error groups into the changes of their rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::changes::ErrorChanges;
use crate::types::ErrorGroupId;

/// Title of [`ErrorGroupId::OTHER`].
pub const OTHER_TITLE: &str = "other errors: the maximum number of groups is reached";

/// Lengths of the series' slots: a minute and an hour.
pub const STEPS: [i64; 2] = [60_000, 3_600_000];
/// Time for which slots of [`STEPS`] are kept.
pub const STEPS_KEPT_MS: [i64; 2] = [2 * 86_400_000, 90 * 86_400_000];
/// Maximum number of old slots that pruning deletes in one turn, a minute.
pub const SLOTS_PRUNED: i64 = 50_000;
/// Time after the last failed attempt for which a group without dead letters is kept.
pub const GROUPS_KEPT_MS: i64 = STEPS_KEPT_MS[1];

/// Changes of a group and worker_id by one transaction, at one time.
#[derive(Clone, Debug, FromRow)]
pub struct DeltaRow {
    pub fingerprint: i64,
    pub worker_id: String,
    pub at: i64,
    pub attempts: i32,
    pub died: i32,
    pub dead_letters: i32,
    pub task: String,
    pub title: String,
    pub error: String,
    pub job_id: Option<Uuid>,
}

/// The changes of one transaction as rows.
pub fn rows(changes: &ErrorChanges, at: i64) -> Vec<DeltaRow> {
    let row = |(id, worker_id, change): (ErrorGroupId, &str, &super::changes::ErrorChange)| DeltaRow {
        fingerprint: id.0,
        worker_id: worker_id.to_owned(),
        at,
        attempts: change.attempts,
        died: change.died,
        dead_letters: change.dead_letters,
        task: change.task.clone(),
        title: change.title.clone(),
        error: change.error.clone(),
        job_id: change.job_id,
    };
    changes.rows().map(row).collect()
}

/// Changes of a row of `error_groups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSums {
    pub task: String,
    pub title: String,
    /// Times of the first and last failed attempt; `i64::MAX` and 0 if no attempt failed.
    pub first_seen: i64,
    pub last_seen: i64,
    pub attempts: i64,
    pub dead_letters: i64,
    pub error: String,
    pub job_id: Option<Uuid>,
}

/// Changes of a row of `error_worker_ids`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerIdSums {
    pub attempts: i64,
    pub dead_letters: i64,
    pub last_seen: i64,
}

/// Changes of a row of `error_series`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSums {
    pub attempts: i64,
    pub died: i64,
}

/// Sums of changes, in the order in which rows are written everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    pub groups: BTreeMap<i64, GroupSums>,
    pub worker_ids: BTreeMap<(i64, String), WorkerIdSums>,
    /// By group, step, slot and worker_id.
    pub series: BTreeMap<(i64, i64, i64, String), SlotSums>,
}

/// Groups of some changes that have no row yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Groups to be made: an attempt has failed.
    pub new: Vec<i64>,
    /// Groups of which only dead letters went. Their dead letters were counted in [`ErrorGroupId::OTHER`].
    pub gone: Vec<i64>,
}

/// All groups of the changes.
pub fn fingerprints(rows: &[DeltaRow]) -> Vec<i64> {
    let all: BTreeSet<_> = rows.iter().map(|row| row.fingerprint).collect();
    all.into_iter().collect()
}

/// Groups of the changes that are not `known`.
pub fn missing(rows: &[DeltaRow], known: &[i64]) -> Missing {
    let known: HashSet<i64> = known.iter().copied().chain([ErrorGroupId::OTHER.0]).collect();
    let failed: HashSet<i64> = rows.iter().filter(|row| row.attempts > 0).map(|row| row.fingerprint).collect();
    let unknown = fingerprints(rows).into_iter().filter(|it| !known.contains(it));
    let (new, gone) = unknown.partition(|it| failed.contains(it));
    Missing { new, gone }
}

impl Fold {
    /// Sums up changes. Those of the groups in `to_other` are counted in [`ErrorGroupId::OTHER`].
    pub fn of(rows: &[DeltaRow], to_other: &HashSet<i64>) -> Self {
        let mut fold = Self::default();
        for row in rows {
            fold.add(row, to_other.contains(&row.fingerprint));
        }
        fold
    }

    fn add(&mut self, row: &DeltaRow, to_other: bool) {
        let fingerprint = if to_other { ErrorGroupId::OTHER.0 } else { row.fingerprint };
        let failed = row.attempts > 0;
        let group = self.groups.entry(fingerprint).or_insert_with(|| GroupSums {
            task: String::new(),
            title: String::new(),
            first_seen: i64::MAX,
            last_seen: 0,
            attempts: 0,
            dead_letters: 0,
            error: String::new(),
            job_id: None,
        });
        group.attempts += i64::from(row.attempts);
        group.dead_letters += i64::from(row.dead_letters);
        if failed {
            if fingerprint == ErrorGroupId::OTHER.0 {
                OTHER_TITLE.clone_into(&mut group.title);
            } else if group.title.is_empty() {
                row.task.clone_into(&mut group.task);
                row.title.clone_into(&mut group.title);
            }
            if row.at >= group.last_seen {
                group.last_seen = row.at;
                row.error.clone_into(&mut group.error);
                group.job_id = row.job_id;
            }
            group.first_seen = group.first_seen.min(row.at);
        }
        let worker_id = self.worker_ids.entry((fingerprint, row.worker_id.clone())).or_default();
        worker_id.attempts += i64::from(row.attempts);
        worker_id.dead_letters += i64::from(row.dead_letters);
        if failed {
            worker_id.last_seen = worker_id.last_seen.max(row.at);
            for step in STEPS {
                let slot = (fingerprint, step, row.at.div_euclid(step), row.worker_id.clone());
                let sums = self.series.entry(slot).or_default();
                sums.attempts += i64::from(row.attempts);
                sums.died += i64::from(row.died);
            }
        }
    }

    /// Moves dead letters of a new group that had been counted in [`ErrorGroupId::OTHER`] to the group.
    pub fn adopt(&mut self, fingerprint: i64, worker_id: &str, dead_letters: i64) {
        if dead_letters == 0 {
            return;
        }
        for (fingerprint, n) in [(fingerprint, dead_letters), (ErrorGroupId::OTHER.0, -dead_letters)] {
            let group = self.groups.entry(fingerprint).or_insert_with(|| GroupSums {
                task: String::new(),
                title: OTHER_TITLE.to_owned(),
                first_seen: i64::MAX,
                last_seen: 0,
                attempts: 0,
                dead_letters: 0,
                error: String::new(),
                job_id: None,
            });
            group.dead_letters += n;
            self.worker_ids.entry((fingerprint, worker_id.to_owned())).or_default().dead_letters += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(fingerprint: i64, worker_id: &str, at: i64, attempts: i32, dead_letters: i32) -> DeltaRow {
        DeltaRow {
            fingerprint,
            worker_id: worker_id.into(),
            at,
            attempts,
            died: dead_letters.max(0),
            dead_letters,
            task: "t".into(),
            title: format!("title {fingerprint}"),
            error: format!("error at {at}"),
            job_id: None,
        }
    }

    #[test]
    fn the_newest_error_is_the_sample_in_whatever_order_changes_come() {
        let rows = [row(1, "a", 200_000, 2, 1), row(1, "b", 100_000, 1, 0), row(1, "a", 300_000, 0, -1)];
        let fold = Fold::of(&rows, &HashSet::new());
        let group = &fold.groups[&1];
        assert_eq!((group.first_seen, group.last_seen, group.attempts, group.dead_letters), (100_000, 200_000, 3, 0));
        assert_eq!(group.error, "error at 200000");
        assert_eq!(
            fold.worker_ids[&(1, "a".into())],
            WorkerIdSums { attempts: 2, dead_letters: 0, last_seen: 200_000 }
        );
        assert_eq!(fold.series[&(1, 60_000, 3, "a".into())], SlotSums { attempts: 2, died: 1 });
        assert_eq!(fold.series.len(), 4, "two worker_ids, by minute and by hour");
    }

    #[test]
    fn groups_without_room_are_counted_together() {
        let rows = [row(1, "a", 1, 1, 1), row(2, "a", 2, 1, 1), row(3, "b", 3, 0, -1)];
        assert_eq!(missing(&rows, &[1]), Missing { new: vec![2], gone: vec![3] });
        let fold = Fold::of(&rows, &HashSet::from([2, 3]));
        assert_eq!(fold.groups.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(fold.groups[&0].dead_letters, 0);
        assert_eq!((fold.groups[&0].title.as_str(), fold.groups[&0].task.as_str()), (OTHER_TITLE, ""));
        assert_eq!(fold.worker_ids[&(0, "b".into())].dead_letters, -1);
    }

    #[test]
    fn a_new_group_takes_over_its_dead_letters() {
        let mut fold = Fold::of(&[row(5, "a", 1, 1, 1)], &HashSet::new());
        fold.adopt(5, "a", 3);
        fold.adopt(5, "b", 0);
        assert_eq!((fold.groups[&5].dead_letters, fold.groups[&0].dead_letters), (4, -3));
        assert_eq!(fold.worker_ids[&(0, "a".into())].dead_letters, -3);
        assert_eq!(fold.worker_ids.len(), 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_summing_up_in_parts(
            rows in prop::collection::vec((1_i64..4, "[ab]", 0_i64..9_000_000, 0_i32..3, -2_i32..3), 0..40), cut in 0_usize..40,
        ) {
            let rows: Vec<_> = rows.iter().map(|(f, w, at, n, dead)| row(*f, w, *at, *n, *dead)).collect();
            let (a, b) = rows.split_at(cut.min(rows.len()));
            let sums = |rows: &[DeltaRow]| {
                let fold = Fold::of(rows, &HashSet::new());
                [
                    fold.groups.values().map(|it| it.attempts).sum::<i64>(),
                    fold.groups.values().map(|it| it.dead_letters).sum(),
                    fold.worker_ids.values().map(|it| it.attempts).sum(),
                    fold.worker_ids.values().map(|it| it.dead_letters).sum(),
                    fold.series.iter().filter(|((_, step, ..), _)| *step == STEPS[0]).map(|(_, it)| it.attempts).sum(),
                    fold.series.iter().filter(|((_, step, ..), _)| *step == STEPS[1]).map(|(_, it)| it.attempts).sum(),
                ]
            };
            let (all, a, b) = (sums(&rows), sums(a), sums(b));
            for n in 0..all.len() {
                prop_assert_eq!(all[n], a[n] + b[n]);
            }
            prop_assert_eq!(all[0], all[2]);
            prop_assert_eq!(all[0], all[4]);
            prop_assert_eq!(all[0], all[5]);
        }
    }
}
