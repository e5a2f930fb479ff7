//! Scan cursors: the key in the index of `ready` from which the next acquire of a worker_id scans.
//!
//! Acquires delete rows from the front of that index. While an old snapshot is held, vacuum cannot remove the dead
//! entries, and every acquire that scanned from the front would walk all of them again. A cursor holds, for each
//! priority, the whole key (run_at, id) of the last row that was taken; run_at alone would not do, for a bulk submit
//! gives one run_at to many jobs.
//!
//! Rows that come below a cursor are found in three ways: this server's own commits lower the cursor, an acquire that
//! gets fewer jobs than it asked for scans from a little below, and once a second a full scan from the front, beside
//! the acquires, lowers the cursor to the first row that it finds.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jobqueue_store::rows::job::TakenRow;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::duty_cycle::{Bounds, DutyCycle};

pub(crate) const PRIORITIES: usize = jobqueue_shared::limits::PRIORITY_LOWEST as usize + 1;
/// Key below every row.
const BOTTOM: Key = (i64::MIN, Uuid::nil());
/// Time after a row's run_at within which its insert may become visible: other servers and long transactions commit
/// late. An acquire that gets too few jobs scans that far below its cursors.
const LATE_INSERT_MS: i64 = 10_000;
/// Number of jobs taken in [`LATE_INSERT_MS`] up to which every scan starts that far below the cursor: a second scan
/// would cost more.
const QUIET_JOBS: usize = 1_000;
/// Full scans of a worker_id: one a second, and at most 1/50 of the time.
const FULL_SCANS: Bounds = Bounds { pause: Duration::from_secs(1), short: Duration::ZERO, factor: 50 };
/// Scans below the cursor: at most 1/50 of the time.
const SCANS_BELOW: Bounds = Bounds { pause: Duration::ZERO, short: Duration::ZERO, factor: 50 };
/// Maximum number of cursors. Beyond it all are forgotten, which costs one full scan for each worker_id.
const WORKER_IDS: usize = 10_000;

pub(crate) type Key = (i64, Uuid);

/// Keys from which one acquire scans: rows with a larger key than their priority's are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanStart {
    pub keys: [Key; PRIORITIES],
    /// There is no cursor yet, so that everything is scanned.
    pub full: bool,
    /// The scan starts below the cursor, or another acquire has just scanned there: too few jobs are no reason to scan
    /// there again.
    starts_below: bool,
    /// A full scan is due, and this acquire is the one that starts it.
    pub starts_full_scan: bool,
    generation: u64,
    began: Instant,
    /// The database's milliseconds.
    now: i64,
}

impl ScanStart {
    /// The keys below the cursor; `None` if this scan started there or at the front.
    pub(crate) fn below(&self) -> Option<Self> {
        (!self.full && !self.starts_below).then(|| Self {
            keys: below(self.keys, self.now),
            starts_below: true,
            ..*self
        })
    }
}

/// Keys [`LATE_INSERT_MS`] below the cursors, but not below the time that far before now: what was taken before a
/// worker_id became idle is not walked again.
fn below(keys: [Key; PRIORITIES], now: i64) -> [Key; PRIORITIES] {
    let late = now.saturating_sub(LATE_INSERT_MS);
    keys.map(
        |(run_at, id)| {
            if run_at < late { (run_at, id) } else { (late.max(run_at.saturating_sub(LATE_INSERT_MS)), Uuid::nil()) }
        },
    )
}

struct ScanCursor {
    keys: [Key; PRIORITIES],
    /// Number of times that the cursor was lowered.
    generation: u64,
    full_scans: DutyCycle,
    scans_below: DutyCycle,
    /// Start of the current window of [`LATE_INSERT_MS`], jobs taken in it, and jobs taken in the window before.
    taken: (Instant, usize, usize),
}

impl ScanCursor {
    /// Whether few jobs were taken lately.
    fn is_quiet(&self) -> bool {
        let (_, lately, before) = self.taken;
        lately + before <= QUIET_JOBS
    }

    fn low_if_quiet(&self, now: i64) -> [Key; PRIORITIES] {
        if self.is_quiet() { below(self.keys, now) } else { self.keys }
    }

    fn count(&mut self, now: Instant, taken: usize) {
        let (since, lately, before) = &mut self.taken;
        let windows = now.duration_since(*since).as_millis() / LATE_INSERT_MS as u128;
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
pub(crate) struct ScanCursors(Mutex<HashMap<String, ScanCursor>>);

impl ScanCursors {
    /// Keys from which an acquire scans. Without a worker_id, which is not known at a session's first acquire,
    /// everything.
    pub(crate) fn start(&self, worker_id: Option<&str>, now: i64) -> ScanStart {
        let mut scan_cursors = self.0.lock();
        let began = Instant::now();
        let Some(scan_cursor) = worker_id.and_then(|worker_id| scan_cursors.get_mut(worker_id)) else {
            return ScanStart {
                keys: [BOTTOM; PRIORITIES],
                full: true,
                starts_below: false,
                starts_full_scan: false,
                generation: 0,
                began,
                now,
            };
        };
        let starts_full_scan = scan_cursor.full_scans.is_due(began);
        if starts_full_scan {
            scan_cursor.full_scans.begin(began);
        }
        scan_cursor.count(began, 0);
        let starts_below = scan_cursor.is_quiet() || !scan_cursor.scans_below.is_due(began);
        let keys = scan_cursor.low_if_quiet(now);
        ScanStart { keys, full: false, starts_below, starts_full_scan, generation: scan_cursor.generation, began, now }
    }

    /// Records a scan below the cursor that began at `began` and has ended.
    pub(crate) fn scanned_below(&self, worker_id: &str, began: Instant) {
        let mut scan_cursors = self.0.lock();
        if let Some(scan_cursor) = scan_cursors.get_mut(worker_id) {
            scan_cursor.scans_below.record(began, Instant::now());
        }
    }

    /// Keys from which to ask whether there is a runnable job at all.
    pub(crate) fn shortly_before(&self, worker_id: &str, now: i64) -> [Key; PRIORITIES] {
        let scan_cursors = self.0.lock();
        scan_cursors.get(worker_id).map_or([BOTTOM; PRIORITIES], |scan_cursor| below(scan_cursor.keys, now))
    }

    /// Every worker_id with a cursor, and the keys from which to ask. Where much is taken these are the cursor itself:
    /// the next full scan is at most a moment away.
    pub(crate) fn all(&self, now: i64) -> Vec<(String, [Key; PRIORITIES])> {
        let scan_cursors = self.0.lock();
        scan_cursors.iter().map(|(worker_id, scan_cursor)| (worker_id.clone(), scan_cursor.low_if_quiet(now))).collect()
    }

    /// Records a full scan that began at `began`, and lowers the cursor to the first rows that it found: (priority,
    /// run_at, id).
    pub(crate) fn full_scan_found(&self, worker_id: &str, began: Instant, first: &[(i16, i64, Uuid)]) {
        let mut scan_cursors = self.0.lock();
        let Some(scan_cursor) = scan_cursors.get_mut(worker_id) else { return };
        scan_cursor.full_scans.record(began, Instant::now());
        for (priority, run_at, id) in first {
            scan_cursor.lower(*priority, *run_at, *id);
        }
    }

    /// Raises the cursor after a commit that took these rows, unless it was lowered since the acquire started.
    pub(crate) fn raise(&self, worker_id: &str, start: &ScanStart, taken: &[TakenRow]) {
        let mut scan_cursors = self.0.lock();
        if scan_cursors.len() >= WORKER_IDS && !scan_cursors.contains_key(worker_id) {
            scan_cursors.clear();
        }
        let scan_cursor = scan_cursors.entry(worker_id.to_owned()).or_insert_with(|| ScanCursor {
            keys: [BOTTOM; PRIORITIES],
            generation: 0,
            full_scans: DutyCycle::new(FULL_SCANS),
            scans_below: DutyCycle::new(SCANS_BELOW),
            taken: (start.began, 0, 0),
        });
        scan_cursor.count(Instant::now(), taken.len());
        if scan_cursor.generation != start.generation {
            return;
        }
        if start.full {
            scan_cursor.keys = start.keys;
            scan_cursor.full_scans.record(start.began, Instant::now());
        }
        for row in taken {
            if let Some(key) = scan_cursor.keys.get_mut(row.priority as usize) {
                *key = (*key).max((row.run_at, row.id));
            }
        }
    }

    /// Lowers the cursors after a commit that made rows ready: worker_id, priority, run_at and id of each.
    pub(crate) fn lower<'r>(&self, rows: impl IntoIterator<Item = (&'r str, i16, i64, Uuid)>) {
        let mut scan_cursors = self.0.lock();
        for (worker_id, priority, run_at, id) in rows {
            if let Some(scan_cursor) = scan_cursors.get_mut(worker_id) {
                scan_cursor.lower(priority, run_at, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_store::rows::write::ReadyRow;

    use super::*;

    const NOW: i64 = 100_000;

    fn taken(priority: i16, run_at: i64, id: u128) -> TakenRow {
        let id = Uuid::from_u128(id);
        TakenRow {
            id,
            priority,
            run_at,
            run_no: 0,
            attempts_used: 0,
            payload_bytes: 0,
            enqueued_at: 0,
            inline_job: None,
        }
    }

    /// A cursor from which much was taken lately, so that a scan starts at it.
    fn busy(scan_cursors: &ScanCursors) -> ScanStart {
        scan_cursors.0.lock().get_mut("w").unwrap().taken.1 = QUIET_JOBS + 1;
        scan_cursors.start(Some("w"), NOW)
    }

    fn ready(priority: i16, run_at: i64, id: u128) -> ReadyRow {
        ReadyRow {
            worker_id: "w".into(),
            id: Uuid::from_u128(id),
            priority,
            run_at,
            run_no: 0,
            attempts_used: 0,
            payload_bytes: 0,
            enqueued_at: 0,
            waits_for_handler: false,
            for_task: None,
            inline_job: None,
        }
    }

    #[test]
    fn a_cursor_rises_with_what_is_taken_in_each_priority() {
        let scan_cursors = ScanCursors::default();
        let start = scan_cursors.start(Some("w"), NOW);
        assert!(start.full);
        scan_cursors.raise("w", &start, &[taken(5, 10, 1), taken(5, 10, 2), taken(7, 3, 9)]);
        let start = busy(&scan_cursors);
        assert!(!start.full);
        assert_eq!(
            (start.keys[5], start.keys[7], start.keys[0]),
            ((10, Uuid::from_u128(2)), (3, Uuid::from_u128(9)), BOTTOM)
        );
        assert!(scan_cursors.start(Some("other"), NOW).full);
    }

    #[test]
    fn what_is_put_below_is_seen_by_the_next_scan() {
        let scan_cursors = ScanCursors::default();
        scan_cursors.raise("w", &scan_cursors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        scan_cursors.lower([ready(5, 10, 3), ready(5, 11, 1), ready(6, 1, 1)].iter().map(ReadyRow::key));
        assert!(busy(&scan_cursors).keys[5] < (10, Uuid::from_u128(3)));
    }

    #[test]
    fn a_scan_that_began_before_something_was_put_below_raises_nothing() {
        let scan_cursors = ScanCursors::default();
        scan_cursors.raise("w", &scan_cursors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        let start = scan_cursors.start(Some("w"), NOW);
        scan_cursors.lower([ready(5, 9, 3)].iter().map(ReadyRow::key));
        scan_cursors.raise("w", &start, &[taken(5, 12, 1)]);
        assert!(busy(&scan_cursors).keys[5] < (9, Uuid::from_u128(3)));
    }

    #[test]
    fn a_scan_from_the_bottom_finds_what_nobody_told_of() {
        let scan_cursors = ScanCursors::default();
        scan_cursors.raise("w", &scan_cursors.start(Some("w"), NOW), &[taken(5, 10, 7), taken(6, 10, 7)]);
        scan_cursors.full_scan_found("w", Instant::now(), &[(5, 4, Uuid::from_u128(1)), (6, 12, Uuid::from_u128(1))]);
        let start = busy(&scan_cursors);
        assert!(start.keys[5] < (4, Uuid::from_u128(1)));
        assert_eq!(start.keys[6], (10, Uuid::from_u128(7)), "what lies above lowers nothing");
    }

    #[test]
    fn an_expired_cursor_is_still_used_and_one_acquire_is_told_to_scan() {
        let scan_cursors = ScanCursors::default();
        scan_cursors.raise("w", &scan_cursors.start(Some("w"), NOW), &[taken(5, 10, 7)]);
        let long_ago = Instant::now().checked_sub(FULL_SCANS.pause * 2).unwrap();
        scan_cursors.full_scan_found("w", long_ago, &[]);
        // The full scan seems to have taken two seconds: its share of the time puts the next one off.
        assert!(!scan_cursors.start(Some("w"), NOW).starts_full_scan);
        scan_cursors.0.lock().get_mut("w").unwrap().full_scans.record(long_ago, long_ago);
        let (first, second) = (busy(&scan_cursors), scan_cursors.start(Some("w"), NOW));
        assert_eq!((first.starts_full_scan, first.full, first.keys[5]), (true, false, (10, Uuid::from_u128(7))));
        assert!(!second.starts_full_scan);
    }

    #[test]
    fn a_short_answer_scans_below_once() {
        let scan_cursors = ScanCursors::default();
        let full = scan_cursors.start(Some("w"), NOW);
        assert_eq!(full.below(), None);
        scan_cursors.raise("w", &full, &[taken(5, NOW - 3, 7), taken(6, NOW - LATE_INSERT_MS - 1, 7)]);
        let below = busy(&scan_cursors).below().unwrap();
        assert_eq!(below.keys[5], (NOW - LATE_INSERT_MS, Uuid::nil()));
        assert_eq!(below.keys[6], (NOW - LATE_INSERT_MS - 1, Uuid::from_u128(7)), "nothing comes so late");
        assert_eq!(below.below(), None);
        // A scan below the cursor that took a second is not repeated for a while.
        scan_cursors.scanned_below("w", Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(busy(&scan_cursors).below(), None);
        scan_cursors.0.lock().get_mut("w").unwrap().scans_below.reset();
        assert!(busy(&scan_cursors).below().is_some());
    }

    #[test]
    fn where_little_was_taken_lately_the_first_scan_begins_below() {
        let scan_cursors = ScanCursors::default();
        scan_cursors.raise("w", &scan_cursors.start(Some("w"), NOW), &[taken(5, NOW, 7)]);
        let start = scan_cursors.start(Some("w"), NOW);
        assert_eq!((start.keys[5], start.below()), ((NOW - LATE_INSERT_MS, Uuid::nil()), None));
        assert_eq!(scan_cursors.shortly_before("w", NOW), start.keys);
        assert_eq!(scan_cursors.all(NOW), [("w".to_owned(), start.keys)]);
        let many: Vec<_> = (0..=QUIET_JOBS as u128).map(|id| taken(5, NOW, id)).collect();
        scan_cursors.raise("w", &start, &many);
        assert_eq!(scan_cursors.start(Some("w"), NOW).keys[5], (NOW, Uuid::from_u128(QUIET_JOBS as u128)));
        // A clock that is behind does not make the key smaller.
        assert_eq!(scan_cursors.shortly_before("w", NOW - 5)[5], (NOW - LATE_INSERT_MS, Uuid::nil()));
        let mut locked = scan_cursors.0.lock();
        let scan_cursor = locked.get_mut("w").unwrap();
        let window = Duration::from_millis(LATE_INSERT_MS as u64);
        scan_cursor.count(scan_cursor.taken.0 + window, 3);
        assert_eq!((scan_cursor.taken.1, scan_cursor.taken.2), (3, QUIET_JOBS + 2));
        scan_cursor.count(scan_cursor.taken.0 + 3 * window, 1);
        assert_eq!((scan_cursor.taken.1, scan_cursor.taken.2), (1, 0));
    }
}
