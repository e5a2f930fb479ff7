//! Where the next acquire of a worker_id begins to look, so that dead rows that an old snapshot pins are not walked
//! again each time.
//!
//! A floor is the whole key of the last row taken, (run_at, id), a priority. With run_at alone a bulk submit, which
//! gives one run_at to many jobs, would be walked again at every acquire. What lies below a floor is found when the
//! floor is lowered for it, when an answer comes short, or at the latest when the floor has expired: then a look
//! from the bottom runs beside the acquires, and lowers it to the first row that it finds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::store::{rows::TakenRow, writes::ReadyRow};

pub(super) const PRIORITIES: usize = jobqueue_shared::limits::PRIORITY_LOWEST as usize + 1;
/// Below every row.
const BOTTOM: Key = (i64::MIN, Uuid::nil());
/// So long after its time a row may still come: other servers and long transactions put it there. A short answer looks
/// below its floors for what is due since then.
const LATE_MS: i64 = 10_000;
/// Where no more than this was taken in that time, every look begins so far below: two looks would cost more.
const FEW: usize = 1_000;
const EXPIRES: Duration = Duration::from_secs(1);
/// Full looks, and looks below the floor, take at most a fiftieth of the time each.
const LOOK_SHARE: u32 = 50;
/// Forgetting all floors costs a full look each.
const WORKER_IDS: usize = 10_000;

pub(super) type Key = (i64, Uuid);

/// Rows with a larger key than their priority's are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub keys: [Key; PRIORITIES],
    /// Everything is looked at: there is no floor yet.
    pub full: bool,
    /// It begins below the floor, or somebody has just looked there: a short answer is not looked for there again.
    low: bool,
    /// The floor has expired; whoever is told so looks from the bottom. Nobody else is told for a while.
    pub expired: bool,
    generation: u64,
    began: Instant,
    /// The database's milliseconds.
    now: i64,
}

impl Start {
    /// The same, further down; `None` when it began there or at the bottom.
    pub(super) fn below(&self) -> Option<Self> {
        (!self.full && !self.low).then(|| Self { keys: below(self.keys, self.now), low: true, ..*self })
    }
}

/// At most so far below the floors: what was taken some time before a worker_id had nothing to do is not walked again.
fn below(keys: [Key; PRIORITIES], now: i64) -> [Key; PRIORITIES] {
    let late = now.saturating_sub(LATE_MS);
    keys.map(
        |(run_at, id)| {
            if run_at < late { (run_at, id) } else { (late.max(run_at.saturating_sub(LATE_MS)), Uuid::nil()) }
        },
    )
}

struct Floor {
    keys: [Key; PRIORITIES],
    /// Counts how often it was lowered.
    generation: u64,
    /// When everything was looked at last, and how long that took.
    looked: (Instant, Duration),
    /// When somebody looked below for a short answer, and how long that took.
    looked_below: (Instant, Duration),
    /// How many were taken since then, and in the same time before.
    taken: (Instant, usize, usize),
}

impl Floor {
    /// Little was taken lately.
    fn is_quiet(&self) -> bool {
        let (_, lately, before) = self.taken;
        lately + before <= FEW
    }

    fn low_if_quiet(&self, now: i64) -> [Key; PRIORITIES] {
        if self.is_quiet() { below(self.keys, now) } else { self.keys }
    }

    fn count(&mut self, now: Instant, taken: usize) {
        let (since, lately, before) = &mut self.taken;
        let windows = now.duration_since(*since).as_millis() / LATE_MS as u128;
        if windows > 0 {
            (*since, *before) = (now, if windows == 1 { *lately } else { 0 });
            *lately = 0;
        }
        *lately += taken;
    }

    fn lower(&mut self, priority: i16, run_at: i64, id: Uuid) {
        let Some(key) = self.keys.get_mut(priority as usize) else { return };
        if (run_at, id) <= *key {
            *key = (run_at.saturating_sub(1), Uuid::max());
            self.generation += 1;
        }
    }
}

#[derive(Default)]
pub(super) struct Floors(Mutex<HashMap<String, Floor>>);

impl Floors {
    /// `None`: whose jobs are looked for is not known yet.
    pub(super) fn start(&self, worker_id: Option<&str>, now: i64) -> Start {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let Some(floor) = worker_id.and_then(|worker_id| floors.get_mut(worker_id)) else {
            return Start {
                keys: [BOTTOM; PRIORITIES],
                full: true,
                low: false,
                expired: false,
                generation: 0,
                began,
                now,
            };
        };
        let (looked, took) = floor.looked;
        let expired = began.duration_since(looked) >= EXPIRES.max(took * LOOK_SHARE);
        if expired {
            floor.looked = (began, took);
        }
        floor.count(began, 0);
        let (at, took) = floor.looked_below;
        let low = floor.is_quiet() || began.duration_since(at) < took * LOOK_SHARE;
        let keys = floor.low_if_quiet(now);
        Start { keys, full: false, low, expired, generation: floor.generation, began, now }
    }

    /// A look below for a short answer, begun at `began`, has ended.
    pub(super) fn looked_below(&self, worker_id: &str, began: Instant) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(floor) = floors.get_mut(worker_id) {
            floor.looked_below = (Instant::now(), began.elapsed());
        }
    }

    /// Where a look begins that only asks whether there is something.
    pub(super) fn just_below(&self, worker_id: &str, now: i64) -> [Key; PRIORITIES] {
        let floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        floors.get(worker_id).map_or([BOTTOM; PRIORITIES], |floor| below(floor.keys, now))
    }

    /// The same of every worker_id that has floors; where much is taken, the floor itself: a look from the bottom is
    /// never far.
    pub(super) fn all(&self, now: i64) -> Vec<(String, [Key; PRIORITIES])> {
        let floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        floors.iter().map(|(worker_id, floor)| (worker_id.clone(), floor.low_if_quiet(now))).collect()
    }

    /// A look from the bottom, begun at `began`, found these first rows: (priority, run_at, id).
    pub(super) fn looked(&self, worker_id: &str, began: Instant, first: &[(i16, i64, Uuid)]) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(floor) = floors.get_mut(worker_id) else { return };
        floor.looked = (began, began.elapsed());
        for (priority, run_at, id) in first {
            floor.lower(*priority, *run_at, *id);
        }
    }

    /// After a commit that took these rows. Nothing is raised if something was put below meanwhile.
    pub(super) fn raise(&self, worker_id: &str, start: &Start, taken: &[TakenRow]) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if floors.len() >= WORKER_IDS && !floors.contains_key(worker_id) {
            floors.clear();
        }
        let floor = floors.entry(worker_id.to_owned()).or_insert_with(|| Floor {
            keys: [BOTTOM; PRIORITIES],
            generation: 0,
            looked: (start.began, start.began.elapsed()),
            looked_below: (start.began, Duration::ZERO),
            taken: (start.began, 0, 0),
        });
        floor.count(Instant::now(), taken.len());
        if floor.generation != start.generation {
            return;
        }
        if start.full {
            floor.keys = start.keys;
            floor.looked = (start.began, start.began.elapsed());
        }
        for row in taken {
            if let Some(key) = floor.keys.get_mut(row.priority as usize) {
                *key = (*key).max((row.run_at, row.id));
            }
        }
    }

    /// After a commit that made these rows ready.
    pub(super) fn lower(&self, rows: &[ReadyRow]) {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            if let Some(floor) = floors.get_mut(&row.worker_id) {
                floor.lower(row.priority, row.run_at, row.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 100_000;

    fn taken(priority: i16, run_at: i64, id: u128) -> TakenRow {
        let id = Uuid::from_u128(id);
        TakenRow { id, priority, run_at, run_no: 0, used: 0, payload_bytes: 0, since: 0, facts: None }
    }

    /// A floor of which much was taken lately, so that a look begins at it.
    fn busy(floors: &Floors) -> Start {
        floors.0.lock().unwrap().get_mut("w").unwrap().taken.1 = FEW + 1;
        floors.start(Some("w"), NOW)
    }

    fn ready(priority: i16, run_at: i64, id: u128) -> ReadyRow {
        ReadyRow {
            worker_id: "w".into(),
            id: Uuid::from_u128(id),
            priority,
            run_at,
            run_no: 0,
            used: 0,
            payload_bytes: 0,
            since: 0,
            waits_for_handler: false,
            for_task: None,
            facts: None,
        }
    }

    #[test]
    fn a_floor_rises_with_what_is_taken_in_each_priority() {
        let floors = Floors::default();
        let start = floors.start(Some("w"), NOW);
        assert!(start.full);
        floors.raise("w", &start, &[taken(5, 10, 1), taken(5, 10, 2), taken(7, 3, 9)]);
        let start = busy(&floors);
        assert!(!start.full);
        assert_eq!(
            (start.keys[5], start.keys[7], start.keys[0]),
            ((10, Uuid::from_u128(2)), (3, Uuid::from_u128(9)), BOTTOM)
        );
        assert!(floors.start(Some("other"), NOW).full);
    }

    #[test]
    fn what_is_put_below_is_seen_by_the_next_look() {
        let floors = Floors::default();
        floors.raise("w", &floors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        floors.lower(&[ready(5, 10, 3), ready(5, 11, 1), ready(6, 1, 1)]);
        assert!(busy(&floors).keys[5] < (10, Uuid::from_u128(3)));
    }

    #[test]
    fn a_look_that_began_before_something_was_put_below_raises_nothing() {
        let floors = Floors::default();
        floors.raise("w", &floors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        let start = floors.start(Some("w"), NOW);
        floors.lower(&[ready(5, 9, 3)]);
        floors.raise("w", &start, &[taken(5, 12, 1)]);
        assert!(busy(&floors).keys[5] < (9, Uuid::from_u128(3)));
    }

    #[test]
    fn a_look_from_the_bottom_finds_what_nobody_told_of() {
        let floors = Floors::default();
        floors.raise("w", &floors.start(Some("w"), NOW), &[taken(5, 10, 7), taken(6, 10, 7)]);
        floors.looked("w", Instant::now(), &[(5, 4, Uuid::from_u128(1)), (6, 12, Uuid::from_u128(1))]);
        let start = busy(&floors);
        assert!(start.keys[5] < (4, Uuid::from_u128(1)));
        assert_eq!(start.keys[6], (10, Uuid::from_u128(7)), "what lies above lowers nothing");
    }

    #[test]
    fn an_expired_floor_is_still_used_and_one_acquire_is_told_to_look() {
        let floors = Floors::default();
        floors.raise("w", &floors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        let long_ago = Instant::now().checked_sub(EXPIRES * 2).unwrap();
        floors.looked("w", long_ago, &[]);
        // That look seems to have taken two seconds: its share of the time is what it waits for.
        assert!(!floors.start(Some("w"), NOW).expired);
        floors.0.lock().unwrap().get_mut("w").unwrap().looked = (long_ago, Duration::ZERO);
        let (first, second) = (busy(&floors), floors.start(Some("w"), NOW));
        assert_eq!((first.expired, first.full, first.keys[5]), (true, false, (10, Uuid::from_u128(7))));
        assert!(!second.expired);
    }

    #[test]
    fn a_short_answer_looks_below_once() {
        let floors = Floors::default();
        let full = floors.start(Some("w"), NOW);
        assert_eq!(full.below(), None);
        floors.raise("w", &full, &[taken(5, NOW - 3, 7), taken(6, NOW - LATE_MS - 1, 7)]);
        let below = busy(&floors).below().unwrap();
        assert_eq!(below.keys[5], (NOW - LATE_MS, Uuid::nil()));
        assert_eq!(below.keys[6], (NOW - LATE_MS - 1, Uuid::from_u128(7)), "nothing comes so late");
        assert_eq!(below.below(), None);
        // One that took a second is not made again for a while.
        floors.looked_below("w", Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(busy(&floors).below(), None);
        floors.0.lock().unwrap().get_mut("w").unwrap().looked_below.1 = Duration::ZERO;
        assert!(busy(&floors).below().is_some());
    }

    #[test]
    fn where_little_was_taken_lately_the_first_look_begins_below() {
        let floors = Floors::default();
        floors.raise("w", &floors.start(Some("w"), NOW), &[taken(5, NOW, 7)]);
        let start = floors.start(Some("w"), NOW);
        assert_eq!((start.keys[5], start.below()), ((NOW - LATE_MS, Uuid::nil()), None));
        assert_eq!(floors.just_below("w", NOW), start.keys);
        assert_eq!(floors.all(NOW), [("w".to_owned(), start.keys)]);
        let many: Vec<_> = (0..=FEW as u128).map(|id| taken(5, NOW, id)).collect();
        floors.raise("w", &start, &many);
        assert_eq!(floors.start(Some("w"), NOW).keys[5], (NOW, Uuid::from_u128(FEW as u128)));
        // A clock that is behind makes it no smaller.
        assert_eq!(floors.just_below("w", NOW - 5)[5], (NOW - LATE_MS, Uuid::nil()));
        let mut locked = floors.0.lock().unwrap();
        let floor = locked.get_mut("w").unwrap();
        let window = Duration::from_millis(LATE_MS as u64);
        floor.count(floor.taken.0 + window, 3);
        assert_eq!((floor.taken.1, floor.taken.2), (3, FEW + 2));
        floor.count(floor.taken.0 + 3 * window, 1);
        assert_eq!((floor.taken.1, floor.taken.2), (1, 0));
    }
}
