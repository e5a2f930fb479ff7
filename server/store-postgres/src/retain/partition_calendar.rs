//! Calendar of the daily partitions of `jobs` (UTC, by the time in job ids): which days are created ahead, and from
//! when on done jobs are deleted row by row.

use std::ops::Range;

use chrono::DateTime;

const DAY_MS: i64 = 86_400_000;

/// Number of whole days that exist ahead of time: when fewer than the lower number are left, they are created up to the
/// higher.
const AHEAD: Range<i64> = 3..7;

fn day_of(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// Change of the newest partition, which has no upper bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Upper bound that the newest partition gets, if it is in use and stays.
    pub closed: Option<i64>,
    /// Days that are created in its place or after it.
    pub days: Vec<Range<i64>>,
    /// Lower bound of the new newest partition.
    pub newest_from: i64,
}

/// Whether days have to be split off the newest partition, which begins at `from`.
pub(crate) fn runs_out(from: i64, now: i64) -> bool {
    from < (day_of(now) + 1 + AHEAD.start) * DAY_MS
}

/// Splits days off the newest partition, which begins at `from`. `newest_id` is the time of the last id in it.
pub(crate) fn cut(from: i64, newest_id: Option<i64>, now: i64) -> Split {
    // Submits that are under way may use the partition until tomorrow ends.
    let by_time = (from <= now).then_some((day_of(now) + 2) * DAY_MS);
    let by_ids = newest_id.map(|ms| (day_of(ms) + 1) * DAY_MS);
    let closed = by_time.max(by_ids);
    let start = closed.unwrap_or(from);
    let days: Vec<_> = (day_of(start)..=day_of(now) + AHEAD.end).map(|day| day * DAY_MS..(day + 1) * DAY_MS).collect();
    let newest_from = days.last().map_or(start, |day| day.end);
    Split { closed, days, newest_from }
}

/// Time before which done jobs are deleted row by row.
///
/// A day is dropped as a whole after the retention of the last job that was done on it. Jobs that were done on one of
/// the days from `dropped_until` on are left for that, for a day at most. With a retention of less than a day all are
/// deleted row by row, so that they go in time.
pub(crate) fn done_before(now: i64, done_ms: i64, dropped_until: i64) -> i64 {
    let due = now - done_ms;
    if done_ms < DAY_MS { due } else { due.min(dropped_until.max((day_of(due) - 1) * DAY_MS)) }
}

/// Date as YYYYMMDD, for names of partitions.
pub(crate) fn date(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms.max(0)).unwrap_or_default().format("%Y%m%d").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: i64 = 20_000 * DAY_MS + DAY_MS / 2;

    fn at(days_from_now: i64) -> i64 {
        (20_000 + days_from_now) * DAY_MS
    }

    #[test]
    fn dates_are_written_for_names() {
        assert_eq!(date(0), "19700101");
        assert_eq!(date(at(0)), "20241004");
    }

    #[test]
    fn a_week_is_cut_off_before_the_days_run_out() {
        assert!(runs_out(at(3), NOON) && !runs_out(at(4), NOON));
        let cut = cut(at(2), None, NOON);
        assert_eq!((cut.closed, cut.newest_from), (None, at(8)));
        assert_eq!(cut.days, (2..8).map(|day| at(day)..at(day + 1)).collect::<Vec<_>>());
    }

    #[test]
    fn a_newest_partition_that_is_in_use_stays_as_it_is() {
        let unseen = cut(at(-30), Some(at(0) + 5), NOON);
        assert_eq!((unseen.closed, unseen.days.first().cloned()), (Some(at(2)), Some(at(2)..at(3))));
        let ahead = cut(at(3), Some(at(20) + 5), NOON);
        assert_eq!(ahead, Split { closed: Some(at(21)), days: Vec::new(), newest_from: at(21) });
    }

    #[test]
    fn what_was_done_waits_a_day_at_most_for_its_day_to_go() {
        const WEEK: i64 = 7 * DAY_MS;
        // The day is not over for all of its jobs; its turn has just come; it could not be dropped.
        assert_eq!(done_before(NOON, WEEK, at(-8)), at(-8));
        assert_eq!(done_before(NOON, WEEK, at(-7)), at(-7));
        assert_eq!(done_before(NOON, WEEK, at(-30)), at(-8));
        // `dropped_until` in the future, as before the first drop or with a server that keeps jobs for less time.
        assert_eq!(done_before(NOON, WEEK, at(2)), NOON - WEEK);
        assert_eq!(done_before(NOON, 1_000, at(-8)), NOON - 1_000);
    }

    proptest! {
        #[test]
        fn a_cut_leaves_no_gap_and_nothing_outside(
            from in 0..40_000_i64, ahead in proptest::option::of(0..30 * DAY_MS), now in 0..40_000 * DAY_MS,
        ) {
            let from = from * DAY_MS;
            let newest = ahead.map(|ahead| from + ahead);
            let cut = cut(from, newest, now);
            prop_assert!(newest.is_none_or(|ms| cut.closed.is_some_and(|end| ms < end)));
            let mut end = from;
            for part in cut.closed.map(|until| from..until).into_iter().chain(cut.days) {
                prop_assert!(part.start == end && part.end > part.start, "{part:?} after {end}");
                end = part.end;
            }
            prop_assert_eq!(cut.newest_from, end);
            prop_assert!(!runs_out(end, now));
        }

        #[test]
        fn nothing_goes_before_its_time(now in 0..i64::MAX / 4, kept in 0..i64::MAX / 4, until in 0..i64::MAX / 4) {
            let before = done_before(now, kept, until);
            prop_assert!(before <= now - kept);
            prop_assert!(before > now - kept - 2 * DAY_MS);
        }
    }
}
